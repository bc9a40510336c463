"""Complex parameters take the steps of pairs of real ones wherever slopes, norms or products of trees decide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_aliases import (
    dadapt_adamw,
    dadapt_sgd,
    dog,
    dowg,
    lbfgs,
    mechanize,
    minimize,
    momo,
    momo_adam,
    polyak_sgd,
    prodigy,
    scale_by_backtracking_linesearch,
    scale_by_distance_over_gradients,
    scale_by_zoom_linesearch,
    sgd,
    value_and_grad_from_state,
)
from optx_core import apply_updates, chain

RNG = np.random.default_rng(0)
A = RNG.normal(size=(3, 2)) + 1j * RNG.normal(size=(3, 2))
LOSSES = {
    "sum |z|^2": lambda z: jnp.sum(jnp.abs(z) ** 2),
    "sum |Az|^1.5": lambda z: jnp.sum(jnp.abs(A @ z) ** 1.5),
    "Rosenbrock": lambda z: jnp.abs(1 - z[0]) ** 2 + 100 * jnp.abs(z[1] - z[0] ** 2) ** 2,
}
SEARCHES = {
    "lbfgs": lbfgs,
    "zoom": lambda: chain(sgd(1.0), scale_by_zoom_linesearch(15)),
    "backtracking": lambda: chain(
        sgd(1.0), scale_by_backtracking_linesearch(30, slope_rtol=0.1, store_grad=True)
    ),
    "backtracking, no gradient": lambda: chain(
        sgd(1.0), scale_by_backtracking_linesearch(30, slope_rtol=0.1)
    ),
}
START = np.array([1 - 1j, 1j])
PARTS = np.stack([START.real, START.imag])


def of_parts(loss):
    return lambda p: loss(jax.lax.complex(p[0], p[1]))


def path(tx, loss, p, grad_of, count, stored=False):
    """The points that an optimizer visits; `grad_of` makes the argument `grad` of the gradient."""
    value_and_grad = value_and_grad_from_state(loss)

    @jax.jit
    def step(p, state):
        value, grad = value_and_grad(p, state=state) if stored else jax.value_and_grad(loss)(p)
        given = {"value": value, "grad": grad_of(grad), "value_fn": loss}
        updates, state = tx.update(jnp.conj(grad), state, p, **given)
        return apply_updates(p, updates), state

    state, points = tx.init(p), []
    for _ in range(count):
        p, state = step(p, state)
        points.append(np.asarray(p))
    return np.stack(points)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_line_search_takes_the_gradient_and_its_conjugate(name, loss, x64):
    fun, make = LOSSES[loss], SEARCHES[name]
    stored = name != "backtracking, no gradient"
    parts = path(make(), of_parts(fun), jnp.asarray(PARTS), lambda g: g, 6, stored)
    expected = parts[:, 0] + 1j * parts[:, 1]
    assert np.abs(expected[-1] - START).max() > 0.1  # it moves
    for grad_of in (lambda g: g, jnp.conj):
        points = path(make(), fun, jnp.asarray(START), grad_of, 6, stored)
        np.testing.assert_allclose(points, expected, rtol=1e-6, atol=1e-9)


# Norms and inner products of a complex tree are those of its parts.
BY_SUMS = {
    "dog": dog,
    "dowg": dowg,
    "L-DoG": lambda: scale_by_distance_over_gradients(1e-2, param_dtype=None, global_scale=-1.0),
    "dadapt_sgd": lambda: dadapt_sgd(momentum=0.5),
    "momo": lambda: momo(0.1, weight_decay=0.01, adapt_lower_bound=True),
    "mechanize": lambda: mechanize(sgd(1.0)),
    "polyak_sgd": lambda: polyak_sgd(eps=0.1),
}
# What divides entry by entry sees |z|, so that it commutes with a rotation instead.
BY_ENTRIES = {
    "prodigy": lambda: prodigy(weight_decay=0.01),
    "dadapt_adamw": lambda: dadapt_adamw(weight_decay=0.01),
    "momo_adam": lambda: momo_adam(0.1, weight_decay=0.01, adapt_lower_bound=True),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", BY_SUMS)
def test_sums_over_a_complex_tree_are_those_over_its_parts(name, x64):
    fun, make = LOSSES["Rosenbrock"], BY_SUMS[name]
    points = path(make(), fun, jnp.asarray(START), lambda g: g, 30)
    parts = path(make(), of_parts(fun), jnp.asarray(PARTS), lambda g: g, 30)
    np.testing.assert_allclose(points, parts[:, 0] + 1j * parts[:, 1], rtol=1e-8)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", {**BY_SUMS, **BY_ENTRIES})
def test_steps_turn_with_the_parameters(name, x64):
    make, turn = {**BY_SUMS, **BY_ENTRIES}[name], np.exp(0.7j)
    start, goal, weights = np.array([1.0, 2.0]), np.array([0.5, -2.0]), np.array([1.0, 5.0])

    def bowl(goal):
        return lambda p: jnp.sum(weights * jnp.abs(p - goal) ** 2)

    real = path(make(), bowl(goal), jnp.asarray(start), lambda g: g, 30)
    points = path(make(), bowl(turn * goal), jnp.asarray(turn * start), lambda g: g, 30)
    np.testing.assert_allclose(points, turn * real, rtol=1e-8)


def test_minimize_counts_each_evaluation_of_a_complex_function():
    count = []

    def counted(z):
        jax.debug.callback(lambda: count.append(1))
        return jnp.sum(jnp.abs(z - (1 + 2j)) ** 4)

    result = minimize(counted, jnp.array([0.3 - 1j, 2j]))
    jax.effects_barrier()
    assert bool(result.success)
    assert len(count) == int(result.num_evaluations)
