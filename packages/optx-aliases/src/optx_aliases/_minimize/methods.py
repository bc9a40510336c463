"""The methods of `minimize`: an optimizer's update, L-BFGS-B, or dense BFGS."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from optx_aliases._line_search.line import has_complex, scalar, search_states
from optx_aliases._minimize.bfgs import bfgs_step, first_estimate
from optx_aliases._minimize.bounds import Bounds, project
from optx_aliases._minimize.lbfgsb import box_step, no_pairs
from optx_aliases._minimize.step import Step
from optx_aliases._transforms.scalars import scalar_dtype
from optx_core import OptState, PyTree, apply_updates, tree, with_extra_args_support


class Method(NamedTuple):
    """A method.

    Attributes:
      descends: whether the value never rises.
      init: returns the first state for a point.
      step: returns the next step after one.
    """

    descends: bool
    init: Callable[[PyTree], OptState]
    step: Callable[[Step], Step]


class Function:
    """A function of a tree x and its gradient, with values of one dtype."""

    def __init__(self, fun: Callable[[PyTree], Array], x: PyTree) -> None:
        self.real = scalar_dtype(x)
        self.value = lambda x: scalar("minimize", fun(x), self.real)
        self.value_and_grad = jax.value_and_grad(self.value)

    def at(self, x: PyTree, state: OptState) -> Step:
        """The step to a point, for one evaluation."""
        value, grad = self.value_and_grad(x)
        return Step(x, value, grad, state, jnp.ones((), jnp.int32), jnp.zeros((), bool))


def with_optimizer(optimizer: Any, fun: Function, x: PyTree, box: Bounds | None) -> Method:
    """The method of an optimizer.

    Raises:
      ValueError: if it searches along lines, which leave the bounds.
    """
    optimizer = with_extra_args_support(optimizer)
    searches = search_states(jax.eval_shape(optimizer.init, x))
    if searches and box is not None:
        raise ValueError(
            "minimize: a line search ignores bounds; leave optimizer=None for L-BFGS-B, or take an "
            "optimizer without a search, whose steps are projected onto the bounds"
        )
    descends = len(searches) == 1 and searches[0].grad is not None

    def step(old: Step) -> Step:
        updates, state = optimizer.update(
            tree.conj(old.grad),
            old.state,
            old.x,
            value=old.value,
            grad=old.grad,
            value_fn=fun.value,
            grad_fn=lambda x, *_: fun.value_and_grad(x)[1],
        )
        x = project(apply_updates(old.x, updates), box)
        if not descends:
            return fun.at(x, state)
        (search,) = search_states(state)
        value, grad = tree.cast_like((search.value, search.grad), (old.value, old.grad))
        # A line search evaluates complex gradients once more.
        count = search.info.num_linesearch_steps.astype(jnp.int32) + int(has_complex(x))
        return Step(x, value, grad, state, count, search.learning_rate == 0)

    return Method(descends, optimizer.init, step)


def within_box(fun: Function, x: PyTree, box: Bounds, memory_size: int) -> Method:
    """L-BFGS-B."""
    lower, upper = (_vector(bound, fun.real) for bound in box)
    advance = functools.partial(box_step, lower=lower, upper=upper)
    return _on_vector(fun, x, functools.partial(no_pairs, memory_size), advance)


def dense(fun: Function, x: PyTree) -> Method:
    """BFGS."""
    return _on_vector(fun, x, first_estimate, bfgs_step)


def _on_vector(fun: Function, x: PyTree, init: Any, advance: Callable[..., Step]) -> Method:
    """A method on all arrays of x as one vector."""
    unravel = ravel_pytree(tree.cast(x, fun.real))[1]

    def like_x(vector: Array) -> PyTree:
        return tree.cast_like(unravel(vector), x)

    def evaluate(vector: Array) -> tuple[Array, Array]:
        value, grad = fun.value_and_grad(like_x(vector))
        return value, _vector(grad, fun.real)

    def step(old: Step) -> Step:
        new = advance(
            evaluate, old._replace(x=_vector(old.x, fun.real), grad=_vector(old.grad, fun.real))
        )
        return new._replace(x=like_x(new.x), grad=like_x(new.grad))

    return Method(True, lambda x: init(_vector(x, fun.real)), step)


def _vector(arrays: PyTree, real: Any) -> Array:
    return ravel_pytree(tree.cast(arrays, real))[0]
