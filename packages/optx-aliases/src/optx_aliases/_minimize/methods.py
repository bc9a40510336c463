"""The methods of `minimize`: an optimizer's update, L-BFGS-B, or dense BFGS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from optx_aliases._line_search.line import has_complex, scalar, search_states
from optx_aliases._minimize.bfgs import bfgs_step, first_estimate
from optx_aliases._minimize.bounds import Bounds, project
from optx_aliases._minimize.lbfgsb import box_step, no_pairs
from optx_aliases._transforms.scalars import scalar_dtype
from optx_core import OptState, PyTree, apply_updates, with_extra_args_support


class Step(NamedTuple):
    """The result of a step.

    Attributes:
      x: the point, like x0.
      value: the function there, scalar.
      grad: its gradient there as `jax.grad` returns it, like x0; zeros of float32 for integer leaves.
      state: the state of the method.
      evaluations: the number of evaluations of the function in this step, int32.
      failed: whether a line search found no lower value; x stays.
    """

    x: PyTree
    value: Array
    grad: PyTree
    state: OptState
    evaluations: Array
    failed: Array


class Method(Protocol):
    """A method; `descends` if the value never rises."""

    descends: bool

    def first(self, x: PyTree) -> Step:
        """Value and gradient at the start, and the first state."""

    def step(self, old: Step) -> Step:
        """The next step."""


class _Evaluated:
    """A function with its gradient in one dtype; 0 for integer leaves."""

    def __init__(self, value_fn: Callable[[PyTree], Array], x: PyTree) -> None:
        self.value_fn = value_fn
        self.real = scalar_dtype(x)

    def value(self, x: PyTree) -> Array:
        return scalar("minimize", self.value_fn(x), self.real)

    def value_and_grad(self, x: PyTree) -> tuple[Array, PyTree]:
        value, grad = jax.value_and_grad(self.value, allow_int=True)(x)
        return value, jax.tree.map(_number, grad)


class _Optimizer:
    """The updates of a transformation."""

    def __init__(
        self,
        optimizer: Any,
        value_fn: Callable[[PyTree], Array],
        x: PyTree,
        box: Bounds | None,
        *,
        searches: bool,
    ) -> None:
        self.optimizer = optimizer
        self.fun = _Evaluated(value_fn, x)
        self.box = box
        self.descends = searches
        self.extra = int(has_complex(x))  # a line search evaluates complex gradients once more

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
            count = search.info.num_linesearch_steps.astype(jnp.int32) + self.extra
            return Step(x, value, grad, state, count, search.learning_rate == 0)
        value, grad = self.fun.value_and_grad(x)
        return Step(x, value, grad, state, jnp.ones((), jnp.int32), jnp.zeros((), bool))


def with_optimizer(
    optimizer: Any, value_fn: Callable[[PyTree], Array], x: PyTree, box: Bounds | None
) -> Method:
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
    return _Optimizer(optimizer, value_fn, x, box, searches=descends)


class _OnVector:
    """A method on all real leaves of x as one vector."""

    descends = True

    def __init__(self, value_fn: Callable[[PyTree], Array], x: PyTree) -> None:
        self.fun = _Evaluated(value_fn, x)
        self.leaves: list[Any] = jax.tree.leaves(x)
        self.structure: Any = jax.tree.structure(x)

    def vector(self, tree: PyTree) -> Array:
        """A tree like x as one vector."""
        parts = [
            leaf.reshape(-1).astype(self.fun.real)
            for like, leaf in zip(self.leaves, jax.tree.leaves(tree), strict=True)
            if jnp.issubdtype(like.dtype, jnp.inexact)
        ]
        return jnp.concatenate([*parts, jnp.zeros(0, self.fun.real)])

    def tree(self, vector: Array, like: PyTree) -> PyTree:
        """The vector as a tree; integer leaves are those of `like`."""
        leaves, start = [], 0
        for leaf in jax.tree.leaves(like):
            if not jnp.issubdtype(leaf.dtype, jnp.inexact):
                leaves.append(leaf)
                continue
            part = vector[start : start + leaf.size]
            leaves.append(part.reshape(leaf.shape).astype(leaf.dtype))
            start += leaf.size
        return self.structure.unflatten(leaves)

    def first(self, x: PyTree) -> Step:
        """Value and gradient at the start, and the first state."""
        value, grad = self.fun.value_and_grad(x)
        state = self.first_state(self.vector(x))
        return Step(x, value, grad, state, jnp.ones((), jnp.int32), jnp.zeros((), bool))

    def step(self, old: Step) -> Step:
        """The next step."""

        def evaluate(vector: Array) -> tuple[Array, Array]:
            value, grad = self.fun.value_and_grad(self.tree(vector, old.x))
            return value, self.vector(grad)

        x, value, vector, *rest = self.advance(
            evaluate, self.vector(old.x), old.value, self.vector(old.grad), old.state
        )
        grad = jax.tree.map(
            lambda a, new, was: new if jnp.issubdtype(a.dtype, jnp.inexact) else was,
            old.x,
            self.tree(vector, old.x),
            old.grad,
        )
        return Step(self.tree(x, old.x), value, grad, *rest)

    def first_state(self, x: Array) -> OptState:
        """The state at the start."""
        raise NotImplementedError

    def advance(self, evaluate: Any, x: Array, value: Array, grad: Array, state: Any) -> Any:
        """The fields of a `Step`, with vectors for trees."""
        raise NotImplementedError


class Box(_OnVector):
    """L-BFGS-B."""

    def __init__(
        self, value_fn: Callable[[PyTree], Array], x: PyTree, box: Bounds, memory_size: int
    ) -> None:
        super().__init__(value_fn, x)
        self.memory_size = memory_size
        self.lower, self.upper = map(self.vector, box)

    def first_state(self, x: Array) -> OptState:
        """An empty memory."""
        return no_pairs(self.memory_size, x)

    def advance(self, evaluate: Any, x: Array, value: Array, grad: Array, state: Any) -> Any:
        """One step of L-BFGS-B."""
        return box_step(evaluate, x, value, grad, state, self.lower, self.upper)


class Dense(_OnVector):
    """BFGS."""

    def first_state(self, x: Array) -> OptState:
        """The first estimate of the inverse Hessian."""
        return first_estimate(x)

    def advance(self, evaluate: Any, x: Array, value: Array, grad: Array, state: Any) -> Any:
        """One step of BFGS."""
        return bfgs_step(evaluate, x, value, grad, state)


def _number(g: Any) -> Array:
    return jnp.zeros(g.shape, jnp.float32) if g.dtype == jax.dtypes.float0 else g
