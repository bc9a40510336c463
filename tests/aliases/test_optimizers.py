"""Every optimizer of the package, by one table of rows.

`optimizer_rows` holds the rows; what is special to one optimizer has a test file of its own.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimizer_rows import NO_OPTIMIZERS, ROWS

import optx_aliases
from optx_core import apply_updates
from optx_core.testing import check_transformation


def test_every_public_function_is_in_the_table():
    functions = {n for n in optx_aliases.__all__ if inspect.isfunction(getattr(optx_aliases, n))}
    rows = {name.split(",")[0] for name in ROWS}
    parts = {part for row in ROWS.values() for part in row.parts}
    assert rows | parts | NO_OPTIMIZERS == functions
    assert all(part.startswith("scale_by_") for part in parts)


@pytest.mark.parametrize("name", ROWS)
def test_an_optimizer_keeps_every_promise(name):
    row = ROWS[name]
    check_transformation(row.make(), extra_args=row.extra_args, **row.options)


P0 = np.array([[0.5, -1.5, 2.0], [1e-3, 0.0, -0.25]])


def gradients(steps):
    """Gradients of a crooked quadratic with a wobble, as functions of the parameters."""
    scales = np.linspace(0.1, 3.0, P0.size).reshape(P0.shape)
    return [lambda p, k=k: scales * p + 0.3 * np.sin(k + p) for k in range(steps)]


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.paper])
def test_25_steps_are_those_of_the_paper(name, x64):
    row, grads = ROWS[name], gradients(25)
    expected = row.paper(P0, grads)
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
