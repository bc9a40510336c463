"""AdEMAMix's schedules and dtypes, ADOPT's clip and its first step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases


def test_alpha_grows_linearly_and_b3s_half_life_evenly(x64):
    alpha = optx_aliases.ademamix_alpha_schedule(8.0, 100)
    counts = np.array([0, 24, 49, 99, 100, 10**6])
    expected = 8.0 * np.minimum(counts + 1, 100) / 100
    np.testing.assert_allclose([alpha(c) for c in counts], expected)
    b3 = optx_aliases.ademamix_b3_schedule(0.9999, 100, b_start=0.9)
    made = np.array([float(b3(c)) for c in counts])
    # The number of steps in which the weight of a gradient halves is linear in the step.
    half = np.log(0.5) / np.log(made)
    ends = np.log(0.5) / np.log([0.9, 0.9999])
    part = np.minimum(counts + 1, 100) / 100
    np.testing.assert_allclose(half, ends[0] + part * (ends[1] - ends[0]), rtol=1e-9)


def test_schedules_print_compare_and_travel_through_jit():
    make = optx_aliases.ademamix_b3_schedule
    assert make(0.999, 10) == make(0.999, 10) != make(0.999, 11)
    assert repr(make(0.999, 10)) == "ademamix_b3_schedule(b3=0.999, warmup_steps=10, b_start=0.9)"
    assert jax.jit(make(0.999, 10))(jnp.asarray(9)).dtype == jnp.float32


def test_the_schedules_are_evaluated_at_count_m2_and_the_state_is_the_plain_one():
    seen = []

    def alpha(count):
        jax.debug.callback(lambda c: seen.append(int(c)), count)
        return 1.0

    tx, p = optx_aliases.scale_by_ademamix(alpha=alpha), jnp.ones(1)
    state = tx.init(p)
    for _ in range(3):
        _, state = tx.update(p, state)
    jax.effects_barrier()
    assert seen == [0, 1, 2]
    assert type(state).__name__ == "ScaleByAdemamixState"
    assert int(state.count_m2) == 3


def test_moments_have_the_dtypes_one_asks_for():
    state = optx_aliases.scale_by_ademamix(mu_dtype=jnp.bfloat16).init(jnp.ones(2))
    assert (state.m1.dtype, state.m2.dtype, state.nu.dtype) == (
        jnp.bfloat16,
        jnp.bfloat16,
        jnp.float32,
    )


def test_adopt_only_measures_at_its_first_step():
    tx = optx_aliases.scale_by_adopt()
    g = jnp.asarray([3.0, 0.0, jnp.inf])
    updates, state = tx.update(g, tx.init(g))
    np.testing.assert_array_equal(updates, 0.0)
    np.testing.assert_allclose(state.nu[:2], [9.0, 0.0])
    assert 1e36 < float(state.nu[2]) < 1e37  # the square of the largest entry that counts


@pytest.mark.parametrize("jump", [1e-6, 1.0, 1e3, 1e6, 1e12])
def test_the_old_mean_square_is_taken_back_exactly_enough(jump):
    """A gradient `jump` times the usual: clipped or not, the update is the one with the old v kept."""
    tx, g = optx_aliases.scale_by_adopt(b1=0.0), jnp.asarray([0.5, 1.0, 2.0])
    state = tx.init(g)
    for _ in range(20):
        _, state = tx.update(g, state)
    v = np.asarray(state.nu, np.float64)
    updates, _ = tx.update(jump * g, state)
    expected = np.clip(jump * np.asarray(g) / np.sqrt(v), -(20**0.25), 20**0.25)
    np.testing.assert_allclose(updates, expected, rtol=2e-5)


def test_an_entry_that_was_always_zero_moves_by_the_clip():
    tx, g = optx_aliases.scale_by_adopt(b1=0.0), jnp.asarray([0.0])
    state = tx.init(g)
    for _ in range(16):
        _, state = tx.update(g, state)
    updates, _ = tx.update(jnp.asarray([1.0]), state)
    np.testing.assert_allclose(updates, 2.0, rtol=1e-6)


def test_complex_quotients_are_clipped_by_their_size():
    tx, g = optx_aliases.scale_by_adopt(b1=0.0), jnp.asarray([3.0 + 4.0j])
    _, state = tx.update(g, tx.init(g))
    updates, _ = tx.update(100 * g, state)
    np.testing.assert_allclose(updates, [0.6 + 0.8j], rtol=1e-5)


def test_without_clipping_b2_may_be_zero():
    tx, g = optx_aliases.scale_by_adopt(b1=0.0, b2=0.0, use_clipping=False), jnp.asarray([2.0])
    _, state = tx.update(g, tx.init(g))
    np.testing.assert_allclose(tx.update(3 * g, state)[0], 3.0)
    with pytest.raises(ValueError, match="b2 must be greater than 0"):
        optx_aliases.adopt(0.1, b2=0.0)
