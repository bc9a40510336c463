"""Every optimizer of the package, by one table of rows.

A row holds how to make the optimizer, a NumPy transcription of the paper's update for one array
(`reference(p, grads) -> p`, run in double precision), and options of the conformance check.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases
from optx_core import GradientTransformation, apply_updates
from optx_core.testing import check_transformation


def sgd(p, grads, lr=0.1, momentum=0.0, nesterov=False):
    t = np.zeros_like(p)
    for g in grads:
        g = g(p)
        t = g + momentum * t
        p = p - lr * (g + momentum * t if nesterov else t)
    return p


def adam(p, grads, lr=0.01, b1=0.9, b2=0.999, eps=1e-8, wd=0.0, nesterov=False):
    m = v = np.zeros_like(p)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        m_hat = m / (1 - b1**t)
        if nesterov:
            m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        p = p - lr * (m_hat / (np.sqrt(v / (1 - b2**t)) + eps) + wd * p)
    return p


def rmsprop(p, grads, lr=0.01, decay=0.9, eps=1e-8, centered=False, momentum=0.0, corrected=False):
    m = v = s = np.zeros_like(p)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        m = decay * m + (1 - decay) * g
        v = decay * v + (1 - decay) * g * g
        c = 1 - decay**t if corrected else 1.0
        variance = v / c - (m / c) ** 2 if centered else v / c
        s = -lr * g / np.sqrt(variance + eps) + momentum * s
        p = p + s
    return p


@dataclasses.dataclass(frozen=True)
class Row:
    make: Callable[[], GradientTransformation]
    reference: Callable
    options: dict = dataclasses.field(default_factory=dict)


ROWS = {
    "sgd": Row(lambda: optx_aliases.sgd(0.1), sgd),
    "sgd, momentum": Row(lambda: optx_aliases.sgd(0.1, 0.9), lambda p, g: sgd(p, g, momentum=0.9)),
    "sgd, Nesterov": Row(
        lambda: optx_aliases.sgd(0.1, 0.9, nesterov=True),
        lambda p, g: sgd(p, g, momentum=0.9, nesterov=True),
    ),
    "adam": Row(lambda: optx_aliases.adam(0.01), adam),
    "adam, Nesterov": Row(
        lambda: optx_aliases.adam(0.01, nesterov=True), lambda p, g: adam(p, g, nesterov=True)
    ),
    "adamw": Row(
        lambda: optx_aliases.adamw(0.01, weight_decay=0.1), lambda p, g: adam(p, g, wd=0.1)
    ),
    "rmsprop": Row(lambda: optx_aliases.rmsprop(0.01), rmsprop),
    "rmsprop, corrected": Row(
        lambda: optx_aliases.rmsprop(0.01, bias_correction=True),
        lambda p, g: rmsprop(p, g, corrected=True),
    ),
    "rmsprop, centered, momentum": Row(
        lambda: optx_aliases.rmsprop(0.01, centered=True, momentum=0.9, eps=1e-4),
        lambda p, g: rmsprop(p, g, centered=True, momentum=0.9, eps=1e-4),
        # At the first step the variance of a single gradient is smaller than eps allows for.
    ),
}
PARTS = {"scale_by_adam": "adam", "scale_by_rms": "rmsprop", "scale_by_stddev": "rmsprop, centered"}


def test_every_optimizer_has_a_row():
    functions = {
        name
        for name in optx_aliases.__all__
        if callable(getattr(optx_aliases, name))
        and not isinstance(getattr(optx_aliases, name), type)
    }
    rows = {name.split(",")[0] for name in ROWS}
    assert {name for name in functions if name not in PARTS} == rows
    assert all(any(row.startswith(whole) for row in ROWS) for whole in PARTS.values())


@pytest.mark.parametrize("name", ROWS)
def test_an_optimizer_keeps_every_promise(name):
    check_transformation(ROWS[name].make(), **ROWS[name].options)


P0 = np.array([[0.5, -1.5, 2.0], [1e-3, 0.0, -0.25]])


def gradients(steps):
    """Gradients of a crooked quadratic with a wobble, as functions of the parameters."""
    scales = np.linspace(0.1, 3.0, P0.size).reshape(P0.shape)
    return [lambda p, k=k: scales * p + 0.3 * np.sin(k + p) for k in range(steps)]


@pytest.mark.parametrize("name", ROWS)
def test_25_steps_are_those_of_the_paper(name, x64):
    row, grads = ROWS[name], gradients(25)
    expected = row.reference(P0, grads)
    tx, p = row.make(), jnp.asarray(P0)
    update = jax.jit(tx.update)
    state = tx.init(p)
    for g in grads:
        updates, state = update(jnp.asarray(g(np.asarray(p))), state, p)
        p = apply_updates(p, updates)
    np.testing.assert_allclose(p, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ROWS)
def test_it_finds_the_bottom_of_a_quadratic(name):
    row = ROWS[name]
    tx, p = row.make(), jnp.asarray([1.0, -0.5, 0.25])
    curvature = jnp.asarray([1.0, 0.3, 2.0])

    def loss(p):
        return 0.5 * jnp.sum(curvature * p * p)

    def step(carry, _):
        p, state = carry
        updates, state = tx.update(jax.grad(loss)(p), state, p)
        return (apply_updates(p, updates), state), None

    (last, _), _ = jax.lax.scan(step, (p, tx.init(p)), length=600)
    assert loss(last) < 1e-3 * loss(p)


@pytest.mark.parametrize("name", ROWS)
def test_a_large_gradient_after_ten_zero_ones_moves_by_a_finite_amount(name):
    tx, p = ROWS[name].make(), jnp.ones(3)
    state = tx.init(p)
    for _ in range(10):
        _, state = tx.update(jnp.zeros(3), state, p)
    updates, _ = tx.update(jnp.full(3, 1e15), state, p)
    assert bool(jnp.all(jnp.isfinite(updates)))


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
