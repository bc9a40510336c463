"""The ways in which `minimize` takes a step: an optimizer's update, or L-BFGS-B."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from optx_aliases._line_search.line import scalar
from optx_aliases._line_search.value_and_grad_from_state import search_states
from optx_aliases._minimize.bounds import Bounds, project
from optx_aliases._minimize.lbfgsb import box_step, no_pairs
from optx_aliases._transforms.whole_tree import real_dtype_of
from optx_core import OptState, PyTree, apply_updates, with_extra_args_support


class Step(NamedTuple):
    """Where a step led.

    Attributes:
      x: the point, like x0.
      value: the function there, scalar.
      grad: its gradient there as `jax.grad` gives it, like x0; zeros of float32 for integer leaves.
      state: the method's state.
      evaluations: how often the function was evaluated on the way, int32.
      failed: whether a line search found nothing lower, and x did not move.
    """

    x: PyTree
    value: jax.Array
    grad: PyTree
    state: OptState
    evaluations: jax.Array
    failed: jax.Array


class Method(Protocol):
    """A way to take steps; `descends` where the value never rises."""

    descends: bool

    def first(self, x: PyTree) -> Step:
        """Value and gradient at the start, and the first state."""

    def step(self, old: Step) -> Step:
        """The next step."""


class _Evaluated:
    """A function with its gradient, of one dtype, 0 where an integer has none."""

    def __init__(self, value_fn: Callable[[PyTree], jax.Array], x: PyTree) -> None:
        self.value_fn = value_fn
        self.real = real_dtype_of(x)

    def value(self, x: PyTree) -> jax.Array:
        return scalar("minimize", self.value_fn(x), self.real)

    def value_and_grad(self, x: PyTree) -> tuple[jax.Array, PyTree]:
        value, grad = jax.value_and_grad(self.value, allow_int=True)(x)
        return value, jax.tree.map(_number, grad)


class _Optimizer:
    """Any transformation."""

    def __init__(
        self,
        optimizer: Any,
        value_fn: Callable[[PyTree], jax.Array],
        x: PyTree,
        box: Bounds | None,
        *,
        searches: bool,
    ) -> None:
        self.optimizer = optimizer
        self.fun = _Evaluated(value_fn, x)
        self.box = box
        self.descends = searches

    def first(self, x: PyTree) -> Step:
        value, grad = self.fun.value_and_grad(x)
        state = self.optimizer.init(x)
        return Step(x, value, grad, state, jnp.ones((), jnp.int32), jnp.zeros((), bool))

    def step(self, old: Step) -> Step:
        def present(convert: Callable[[Any], Any]) -> PyTree:
            return jax.tree.map(
                lambda a, g: convert(g) if jnp.issubdtype(a.dtype, jnp.inexact) else None,
                old.x,
                old.grad,
            )

        def grad_fn(x: PyTree, *_: Any) -> PyTree:
            return self.fun.value_and_grad(x)[1]

        updates, state = self.optimizer.update(
            present(jnp.conj),
            old.state,
            old.x,
            value=old.value,
            grad=present(lambda g: g),
            value_fn=self.fun.value,
            grad_fn=grad_fn,
        )
        x = project(apply_updates(old.x, updates), self.box)
        if self.descends:
            (search,) = search_states(state)
            value = search.value.astype(old.value.dtype)
            grad = jax.tree.map(
                lambda a, g, s: s.astype(g.dtype) if jnp.issubdtype(a.dtype, jnp.inexact) else g,
                old.x,
                old.grad,
                search.grad,
            )
            count = search.info.num_linesearch_steps.astype(jnp.int32)
            return Step(x, value, grad, state, count, search.learning_rate == 0)
        value, grad = self.fun.value_and_grad(x)
        return Step(x, value, grad, state, jnp.ones((), jnp.int32), jnp.zeros((), bool))


def with_optimizer(
    optimizer: Any, value_fn: Callable[[PyTree], jax.Array], x: PyTree, box: Bounds | None
) -> Method:
    """The method of an optimizer.

    Raises:
      ValueError: if it searches along lines and there are bounds, which lines leave.
    """
    optimizer = with_extra_args_support(optimizer)
    found = search_states(jax.eval_shape(optimizer.init, x))
    if found and box is not None:
        raise ValueError(
            "minimize: a line search knows no bounds; leave optimizer=None for L-BFGS-B, or take an "
            "optimizer without a search, which is projected onto the bounds"
        )
    searches = len(found) == 1 and found[0].grad is not None
    return _Optimizer(optimizer, value_fn, x, box, searches=searches)


class Box:
    """L-BFGS-B on all real leaves of x as one vector."""

    descends = True

    def __init__(
        self,
        value_fn: Callable[[PyTree], jax.Array],
        x: PyTree,
        box: Bounds,
        memory_size: int,
    ) -> None:
        self.fun = _Evaluated(value_fn, x)
        self.memory_size = memory_size
        self.leaves: list[Any] = jax.tree.leaves(x)
        self.structure: Any = jax.tree.structure(x)
        self.lower, self.upper = map(self.vector, box)

    def vector(self, tree: PyTree) -> jax.Array:
        """A tree like x as one vector."""
        parts = [
            leaf.reshape(-1).astype(self.fun.real)
            for like, leaf in zip(self.leaves, jax.tree.leaves(tree), strict=True)
            if jnp.issubdtype(like.dtype, jnp.inexact)
        ]
        return jnp.concatenate([*parts, jnp.zeros(0, self.fun.real)])

    def tree(self, vector: jax.Array, like: PyTree) -> PyTree:
        """The vector as a tree; integer leaves are those of `like`."""
        made, start = [], 0
        for leaf in jax.tree.leaves(like):
            if not jnp.issubdtype(leaf.dtype, jnp.inexact):
                made.append(leaf)
                continue
            part = vector[start : start + leaf.size]
            made.append(part.reshape(leaf.shape).astype(leaf.dtype))
            start += leaf.size
        return self.structure.unflatten(made)

    def first(self, x: PyTree) -> Step:
        """Value and gradient at the start, and an empty memory."""
        value, grad = self.fun.value_and_grad(x)
        state = no_pairs(self.memory_size, self.vector(x))
        return Step(x, value, grad, state, jnp.ones((), jnp.int32), jnp.zeros((), bool))

    def step(self, old: Step) -> Step:
        """The next step."""

        def evaluate(vector: jax.Array) -> tuple[jax.Array, jax.Array]:
            value, grad = self.fun.value_and_grad(self.tree(vector, old.x))
            return value, self.vector(grad)

        made = box_step(
            evaluate,
            self.vector(old.x),
            old.value,
            self.vector(old.grad),
            old.state,
            self.lower,
            self.upper,
        )
        grad = jax.tree.map(
            lambda a, new, was: new if jnp.issubdtype(a.dtype, jnp.inexact) else was,
            old.x,
            self.tree(made.grad, old.x),
            old.grad,
        )
        x = self.tree(made.x, old.x)
        return Step(x, made.value, grad, made.pairs, made.evaluations, made.failed)


def _number(g: Any) -> jax.Array:
    return jnp.zeros(g.shape, jnp.float32) if g.dtype == jax.dtypes.float0 else g
