"""Adam's dtypes, its record, its learning rates; numbers that cannot work."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases


def test_nu_is_right_after_3000_constant_gradients_in_bf16():
    tx = optx_aliases.scale_by_adam()
    p = jnp.zeros(2, jnp.bfloat16)
    g = jnp.full(2, 0.01, jnp.bfloat16)
    state, _ = jax.lax.scan(lambda s, _: (tx.update(g, s, p)[1], None), tx.init(p), length=3000)
    exact = float(g[0]) ** 2 * (1 - 0.999**3000)
    np.testing.assert_allclose(state.nu, exact, rtol=1e-4)
    updates, _ = tx.update(g, state, p)
    np.testing.assert_allclose(updates.astype(float), 1.0, rtol=1e-2)


def test_every_slot_of_adam_has_the_dtype_one_asks_for():
    tx = optx_aliases.adam(1e-3, mu_dtype=jnp.bfloat16, nu_dtype=jnp.float16)
    state = tx.init(jnp.ones(2))[0]
    assert (state.mu.dtype, state.nu.dtype) == (jnp.bfloat16, jnp.float16)
    assert optx_aliases.adam(1e-3).init(jnp.ones(2, jnp.bfloat16))[0].nu.dtype == jnp.float32


def test_the_second_moment_of_complex_parameters_is_real():
    state = optx_aliases.adam(1e-3).init(jnp.ones(2, jnp.complex64))[0]
    assert (state.mu.dtype, state.nu.dtype) == (jnp.complex64, jnp.float32)


def test_adam_prints_equals_hashes_and_is_traced_once_for_equal_ones():
    adam = optx_aliases.adam
    assert repr(adam(1e-3)).startswith("adam(learning_rate=0.001, b1=0.9, b2=0.999")
    assert adam(1e-3) == adam(learning_rate=1e-3)
    assert adam(1e-3) != adam(2e-3)
    traced = []

    def step(tx, g):
        traced.append(tx)
        return tx.update(g, tx.init(g))[0]

    for _ in range(3):
        jax.jit(step, static_argnums=0)(adam(1e-3), jnp.ones(2))
    assert len(traced) == 1


def test_learning_rates_can_be_batched():
    def first(rate):
        tx = optx_aliases.adamw(rate, weight_decay=0.0)
        return tx.update(jnp.ones(1), tx.init(jnp.ones(1)), jnp.ones(1))[0]

    made = jax.vmap(first)(jnp.array([0.1, 0.2, 0.4]))
    np.testing.assert_allclose(made[:, 0], [-0.1, -0.2, -0.4], rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optx_aliases.adam(1e-3, b1=1.0), "scale_by_adam: b1 must be less than 1, not 1.0"),
        (lambda: optx_aliases.adam(1e-3, b2=-0.1), "b2 must be at least 0"),
        (lambda: optx_aliases.adam(1e-3, eps=-1e-8), "eps must be at least 0"),
        (lambda: optx_aliases.adam(float("nan")), "learning_rate must be a number"),
        (lambda: optx_aliases.sgd(1e-3, nesterov=True), "nesterov=True needs a momentum"),
        (lambda: optx_aliases.rmsprop(1e-3, decay=2.0), "scale_by_rms: decay must be less than 1"),
        (lambda: optx_aliases.adamw(1e-3, weight_decay=-1.0), "weight_decay must be at least 0"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_built(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("other", ["amsgrad", "adagrad", "rmsprop"])
@pytest.mark.parametrize("name", ["adam", "yogi", "adabelief"])
def test_the_state_of_another_optimizer_is_refused_by_name(name, other):
    tx, p = getattr(optx_aliases, name)(0.1), jnp.ones(2)
    state = getattr(optx_aliases, other)(0.1).init(p)
    with pytest.raises((TypeError, ValueError), match=f"{name}: .*another (transformation|chain)"):
        tx.update(p, state, p)
    with pytest.raises((TypeError, ValueError), match=f"{other}: .*another (transformation|chain)"):
        getattr(optx_aliases, other)(0.1).update(p, tx.init(p), p)
