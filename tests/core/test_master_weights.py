"""Masters of 24 bits: a bfloat16 parameter and an int8 of what it rounds off."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import (
    apply_updates,
    chain,
    clip_by_global_norm,
    ema,
    master_weights,
    multi_steps,
    scale,
    set_to_zero,
    stateless,
    trace,
)

TINY = 2.0**-126  # the least normal number


def in_24_bits(x):
    """A float32 rounded to 24 bits, the bfloat16 nearest to that, and the error of the latter."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.int64)
    sign, magnitude = bits >> 31 << 31, bits & 0x7FFF_FFFF
    fine = (magnitude + 128) // 256
    coarse = (fine + 128) // 256
    wide = [(sign + m).astype(np.uint32).view(np.float32) for m in (fine * 256, coarse * 65536)]
    return *wide, fine - 256 * coarse


def moved_to(masters, start):
    """Parameters and state after one update that moves float32 masters from `start` to given values."""
    start = jnp.asarray(start, jnp.bfloat16)
    new = jnp.asarray(masters, jnp.float32)
    tx = master_weights(stateless(lambda updates, params: new - params), bits=24)
    updates, state = tx.update(start, tx.init(start), start)
    return apply_updates(start, updates), state


def master_of(params, state):
    """The masters, as the optimizer inside sees them."""
    seen = []
    reader = stateless(lambda updates, params: seen.append(params) or updates)
    master_weights(reader, bits=24).update(
        params, state._replace(inner_state=reader.init(None)), params
    )
    return np.asarray(seen[0])


def adversarial():
    near_one = [1, 1 - 2**-8, 1 - 2**-9, 1 - 2**-16, 1 - 2**-17, 1 + 2**-16, 1 + 2**-8, 1.5]
    powers = [-100, -65, -9, -1, 0, 1, 8, 64, 100]
    edges = [sign * x * 2.0**k for sign in (-1, 1) for x in near_one for k in powers]
    any_bits = np.random.default_rng(0).integers(0, 2**32, 20_000, dtype=np.uint32)
    values = np.concatenate([np.asarray(edges, np.float32), any_bits.view(np.float32)])
    # Within 2¹⁶ of the least normal number differences of parameters are denormal, and XLA flushes them.
    return values[(np.abs(values) > 2**16 * TINY) & (np.abs(values) < 3.38e38)]


def test_masters_are_rebuilt_bit_by_bit_at_powers_of_two_and_everywhere_else():
    values = adversarial()
    fine, coarse, error = in_24_bits(values)
    params, state = moved_to(values, np.zeros_like(values))
    np.testing.assert_array_equal(np.asarray(params, np.float32), coarse)
    np.testing.assert_array_equal(state.error, error)
    np.testing.assert_array_equal(master_of(params, state).view(np.uint32), fine.view(np.uint32))
    assert (np.abs(fine - values) <= 2.0**-16 * np.abs(values)).all()
    nearest = np.asarray(jnp.asarray(fine).astype(jnp.bfloat16), np.float32)
    tie = np.abs(error) == 128  # rounded away from zero, by `astype` to even
    assert tie.any()
    np.testing.assert_array_equal(coarse[~tie], nearest[~tie])


def test_masters_are_rebuilt_when_p_plus_u_is_rounded():
    # 1 + (2⁻⁴⁰ − 1) is 0 in float32: the error belongs to the parameter that `apply_updates` yields.
    params, state = moved_to([2.0**-40, -(2.0**-40)], [1.0, 3.0])
    np.testing.assert_array_equal(np.asarray(params, np.float32), 0)
    assert np.abs(master_of(params, state)).max() < TINY


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (0.0, 0),
        (-0.0, 0),
        (np.inf, np.inf),
        (-np.inf, -np.inf),
        (np.nan, np.nan),
        (3.4028235e38, np.inf),
        (1e-45, 0),
        (2.0**-133, 0),
        (-(2.0**-127), 0),
    ],
)
def test_the_ends_of_the_range_are_kept_and_errors_there_are_dropped(value, stored):
    params, state = moved_to([value], [0.0])
    np.testing.assert_allclose(np.asarray(params, np.float32), stored, atol=TINY)
    for e in (int(state.error[0]), -128, 127):  # a parameter may be set by hand, its error stays
        other = state._replace(error=jnp.full(1, e, jnp.int8))
        np.testing.assert_allclose(master_of(params, other), stored, atol=TINY)


def test_steps_below_the_precision_of_bfloat16_add_up_and_a_missing_gradient_moves_nothing():
    tx = master_weights(chain(trace(0.9), scale(-1e-4)), bits=24)
    params = {"w": jnp.ones(3, jnp.bfloat16), "b": jnp.ones(2), "n": None, "k": jnp.arange(2)}
    state, exact, velocity = tx.init(params), 1.0, 0.0
    assert [state.error[name] for name in "bnk"] == [None] * 3
    assert state.error["w"].dtype == jnp.int8
    update = jax.jit(tx.update)
    for step in range(300):
        g = float(jnp.bfloat16(np.cos(step / 20) + 1))
        velocity = 0.9 * velocity + g
        exact = exact - 1e-4 * velocity
        grads = {"w": jnp.full(3, g, jnp.bfloat16), "b": jnp.full(2, g), "n": None, "k": None}
        updates, state = update(grads, state, params)
        params = apply_updates(params, updates)
    np.testing.assert_allclose(params["b"], exact, rtol=1e-5)  # float32 is its own master
    np.testing.assert_allclose(master_of(params["w"], state._replace(error=state.error["w"])), exact, rtol=1e-4)  # fmt: skip
    np.testing.assert_allclose(np.asarray(params["w"], np.float32), exact, rtol=2.0**-8)
    updates, after = tx.update({**grads, "w": None}, state, params)
    assert updates["w"] is None
    chex.assert_trees_all_equal(after.error, state.error)


def test_a_zero_update_keeps_the_masters_to_the_last_bit():
    params, state = moved_to(adversarial(), np.zeros_like(adversarial()))
    tx = master_weights(set_to_zero(), bits=24)
    before = master_of(params, state)
    updates, state = tx.update(params, state._replace(inner_state=tx.init(params).inner_state), params)  # fmt: skip
    np.testing.assert_array_equal(np.asarray(updates), 0)
    np.testing.assert_array_equal(master_of(params, state), before)


def losses(tx, steps=600):
    """The loss over the course of training a small network with bfloat16 parameters."""
    rng = np.random.default_rng(0)
    normal = lambda *shape, size=1.0: jnp.asarray(size * rng.normal(size=shape), jnp.float32)
    x, a, b = normal(128, 16), normal(16, 24, size=0.25), normal(24, 4, size=0.2)
    y = jnp.tanh(x @ a) @ b + normal(128, 4, size=0.3)
    params = {"a": normal(16, 24, size=0.25), "b": normal(24, 4, size=0.2)}
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)

    def loss(params, rows=slice(None)):
        out = jnp.tanh(x[rows].astype(jnp.bfloat16) @ params["a"]) @ params["b"]
        return jnp.mean((out.astype(jnp.float32) - y[rows]) ** 2)

    def step(carry, rows):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params, rows), state, params)
        params = apply_updates(params, updates)
        return (params, state), loss(params)

    rows = jnp.asarray(rng.integers(0, 128, (steps, 32)))
    return jax.jit(lambda carry: jax.lax.scan(step, carry, rows)[1])((params, tx.init(params)))


@pytest.mark.parametrize("learning_rate", [3e-2, 3e-3])
def test_losses_follow_those_of_float32_masters_within_three_thousandths(learning_rate):
    optimizer = chain(clip_by_global_norm(1.0), trace(0.9), scale(-learning_rate))
    float32 = losses(master_weights(optimizer))
    np.testing.assert_allclose(losses(master_weights(optimizer, bits=24)), float32, rtol=3e-3)
    # Without masters, small steps are lost.
    assert np.abs(losses(optimizer) / float32 - 1).max() > 3e-2


@pytest.mark.parametrize("inner", [scale(-0.1), chain(trace(0.9), ema(0.9)), multi_steps(scale(-1.0), 2)])  # fmt: skip
def test_the_state_holds_one_byte_of_each_parameter_besides_the_optimizers_own(inner):
    params = {"w": jax.ShapeDtypeStruct((256, 256), jnp.bfloat16)}
    tx = master_weights(inner, bits=24)
    state = jax.eval_shape(tx.init, params)
    own = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state.inner_state))
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    assert held == own + 256 * 256


def test_no_master_is_written_out_between_updates_and_the_program_needs_little_memory():
    n = 512 * 512
    params = {"w": jax.ShapeDtypeStruct((512, 512), jnp.bfloat16)}
    tx = master_weights(chain(trace(0.9), ema(0.9), scale(-0.1)), bits=24)

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return apply_updates(params, updates), state

    state = jax.eval_shape(tx.init, params)
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params).compile()
    # XLA:CPU has a pass for each output and may keep what two share: a float32 and the bfloat16.
    # Programs for accelerators have one pass and keep nothing (benchmarks/RESULTS_aliases_ahead.md).
    assert compiled.memory_analysis().temp_size_in_bytes <= 6.01 * n


@pytest.mark.parametrize(
    ("params", "bits", "message"),
    [
        (None, 16, "master_weights: bits must be 24 or 32, not 16"),
        (jnp.ones(2, jnp.float16), 24, r"params\['w'\] is float16, .* use bits=32"),
    ],
)
def test_what_24_bits_are_not_for_is_refused(params, bits, message):
    with pytest.raises(ValueError, match=message):
        master_weights(scale(-1.0), bits).init({"w": params})
    with pytest.raises(ValueError, match="master_weights needs the parameters"):
        master_weights(scale(-1.0), 24).update(jnp.ones(1), ((), ()))
