"""A step of `minimize`, and the strong Wolfe search of the methods that work on a vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._line_search.zoom import strong_wolfe
from optx_core import PyTree, Scalar


class Step(NamedTuple):
    """The result of a step.

    Attributes:
      x: the point.
      value: the function there, scalar.
      grad: its gradient there as `jax.grad` returns it, like x.
      state: the state of the method.
      evaluations: the number of evaluations of the function in this step, int32.
      failed: whether a line search found no lower value; x stays.
    """

    x: PyTree
    value: Array
    grad: PyTree
    state: Any
    evaluations: Array
    failed: Array


def searched(
    evaluate: Callable[[Array], tuple[Array, Array]],
    old: Step,
    point: Callable[[Array], Array],
    direction: Array,
    guess: Array,
    renew: Callable[[Array, Array, Array], Any],
    **numbers: Scalar,
) -> Step:
    """The step to the end of a strong Wolfe search with at most 20 trials.

    Args:
      evaluate: returns value and gradient at a point, a vector.
      old: the last step.
      point: the point of the line for η.
      direction: its derivative.
      guess: the first η.
      renew: returns the new state, given the step s, the change y of the gradient, and whether the search
        failed.
      **numbers: of `strong_wolfe`.
    """

    def at(step: Array) -> tuple[Array, Array, Array]:
        value, grad = evaluate(point(step))
        return value, jnp.sum(grad * direction), grad

    slope = jnp.sum(direction * old.grad)
    search = strong_wolfe(at, old.value, slope, old.grad, guess, max_steps=20, **numbers)
    step, value, _ = search.best
    failed = step == 0
    x = jnp.where(failed, old.x, point(step))
    state = renew(x - old.x, search.grad - old.grad, failed)
    return Step(x, value, search.grad, state, search.number, failed)


def nonzero(x: Array) -> Array:
    """A divisor: x, and 1 for 0."""
    return jnp.where(x == 0, 1, x)


def ratio_to_bounds(x: Array, v: Array, lower: Array, upper: Array) -> Array:
    """The longest t for which x + t·v stays within the bounds; inf for none."""
    room = jnp.where(v > 0, upper - x, lower - x)
    return jnp.min(jnp.where(v == 0, jnp.inf, room / nonzero(v)), initial=jnp.inf)
