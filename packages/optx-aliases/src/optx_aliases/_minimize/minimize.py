"""Minimizing a function with any optimizer, within one compiled loop.

The loop stops where (SciPy's criteria, so that tolerances mean the same)

max |P(x − g) − x| ≤ gtol                            P projects onto the bounds; without them max |g|
|f − f_next| ≤ ftol · max(|f|, |f_next|, 1)
max |x − x_next| ≤ xtol · max(1, max |x|)            if xtol > 0

or where it can do no more; `MinimizeStatus` says which. Without bounds the default is `lbfgs()`, with
bounds L-BFGS-B (`_lbfgsb.py` has the papers); an optimizer without a line search that is given together
with bounds is projected onto them after each step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optx_aliases._line_search.lbfgs import lbfgs
from optx_aliases._minimize.bounds import as_bounds, project, projected_gradient
from optx_aliases._minimize.methods import Box, Method, Step, with_optimizer
from optx_aliases._minimize.result import MinimizeResult, MinimizeStatus
from optx_core import PyTree, Scalar, tree
from optx_core.build import check_number, check_transformation_like


class _Problem(NamedTuple):
    """What is the same for each call of a compiled program."""

    fun: Callable[..., Any]
    optimizer: Any
    has_aux: bool
    memory_size: int


class _Carry(NamedTuple):
    step: Step
    steps: jax.Array
    evaluations: jax.Array
    failures: jax.Array  # in a row
    status: jax.Array


def minimize(
    fun: Callable[..., Any],
    x0: PyTree,
    optimizer: Any = None,
    *,
    args: tuple[Any, ...] = (),
    has_aux: bool = False,
    bounds: tuple[PyTree, PyTree] | None = None,
    gtol: Scalar = 1e-5,
    ftol: Scalar | None = None,
    xtol: Scalar = 0.0,
    max_steps: int | jax.Array = 1000,
    memory_size: int = 10,
) -> MinimizeResult:
    """Minimizes a function from a starting point, compiled as one loop.

    Works within `jit` and `vmap`. A second call with the same function (the same object), optimizer
    and shapes does not compile again, whatever the numbers.

    Args:
      fun: `fun(x, *args)` returns a real scalar; with `has_aux` the pair of it and anything else made of
        arrays.
      x0: where to start: a tree of arrays. None and integer leaves are passed on as they are.
      optimizer: any transformation. By default `lbfgs()`, or L-BFGS-B where there are bounds. One that
        needs the loss (a line search, Polyak's step size) is given it.
      args: further arguments of `fun`, trees of arrays: data, say.
      has_aux: whether `fun` returns auxiliary output. It is evaluated once more at the end for that.
      bounds: `(lower, upper)`, each a number, None for no bound, or a tree like `x0` of numbers or
        arrays of x0's shapes. `x0` is moved within them.
      gtol: the largest entry of the (projected) gradient at which to stop; at least 0.
      ftol: the relative change of the value at which to stop, at least 0. By default 2.2e-9 (SciPy's), or
        twice the rounding unit if that is more, with a line search; 0, which is never, without one:
        there the value may rise as well as fall.
      xtol: the relative change of x at which to stop; 0 for never.
      max_steps: the most steps of the optimizer.
      memory_size: how many steps the default methods remember.

    Returns:
      A `MinimizeResult`: `x`, `value`, `grad`, `aux`, `status` with `success` and `message`, the numbers of
      steps and evaluations, the optimizer's `state`. `x` is the last point with a finite value.

    Raises:
      ValueError: if bounds do not fit `x0`, exclude each other, are given for complex `x0` or together with
        a line search; if a tolerance is negative.
      TypeError: if `fun` is no function or `optimizer` no transformation.

    References: Liu, Nocedal, "On the limited memory BFGS method for large scale optimization", 1989; Byrd,
    Lu, Nocedal, Zhu, "A Limited Memory Algorithm for Bound Constrained Optimization", 1995.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import minimize
      >>> def rosenbrock(p):
      ...     return (1 - p["x"]) ** 2 + 100 * (p["y"] - p["x"] ** 2) ** 2
      >>> result = minimize(rosenbrock, {"x": jnp.array(-1.0), "y": jnp.array(1.0)})
      >>> bool(result.success), result.message.split(":")[0]
      (True, 'converged')
      >>> round(float(result.x["x"]), 2)
      1.0
      >>> boxed = minimize(lambda x: jnp.sum((x - 2.0) ** 2), jnp.zeros(3), bounds=(0.0, 1.0))
      >>> boxed.x
      Array([1., 1., 1.], dtype=float32)
    """
    where = "minimize"
    if not callable(fun):
        raise TypeError(f"{where}: fun must be a function, not {fun!r}")
    if optimizer is not None:
        check_transformation_like(where, optimizer)
    check_number(where, low=0, gtol=gtol, ftol=ftol, xtol=xtol, max_steps=max_steps)
    x0 = jax.tree.map(jnp.asarray, x0)
    if not _numbers(x0):
        raise ValueError(f"{where}: x0 has no array of floating point to minimize over")
    box = None if bounds is None else as_bounds(bounds, x0)
    if box is None and optimizer is None:
        optimizer = lbfgs(memory_size=memory_size)
    problem = _Problem(_hashable(fun), _hashable(optimizer), has_aux, memory_size)
    numbers = {"gtol": gtol, "ftol": ftol, "xtol": xtol, "max_steps": max_steps}
    return _run(problem, x0, tuple(args), box, numbers)


@functools.partial(jax.jit, static_argnums=0)
def _run(
    problem: _Problem,
    x0: PyTree,
    args: tuple[Any, ...],
    box: tuple[PyTree, PyTree] | None,
    numbers: dict[str, Any],
) -> MinimizeResult:
    def value_fn(x: PyTree) -> jax.Array:
        made = problem.fun(x, *args)
        return made[0] if problem.has_aux else made

    method: Method
    if problem.optimizer is None:
        assert box is not None  # noqa: S101 (minimize has seen to it)
        method = Box(value_fn, x0, box, problem.memory_size)
    else:
        method = with_optimizer(problem.optimizer, value_fn, x0, box)
    x0 = project(x0, box)
    first = method.first(x0)
    real = first.value.dtype
    limits: dict[str, Any] = {
        name: None if limit is None else jnp.asarray(limit).astype(real)
        for name, limit in numbers.items()
        if name != "max_steps"
    }
    if limits["ftol"] is None:
        rounding = max(2.2e-9, 2 * float(jnp.finfo(real).eps))
        limits["ftol"] = jnp.asarray(rounding if method.descends else -1.0, real)
    elif not method.descends:
        limits["ftol"] = jnp.where(limits["ftol"] > 0, limits["ftol"], -1)
    zero = jnp.zeros((), jnp.int32)

    def is_flat(step: Step) -> jax.Array:
        return projected_gradient(step.x, step.grad, box) <= limits["gtol"]

    def start() -> _Carry:
        status = jnp.where(
            ~_is_finite(first),
            MinimizeStatus.NOT_FINITE,
            jnp.where(is_flat(first), MinimizeStatus.GRADIENT, MinimizeStatus.RUNNING),
        )
        return _Carry(first, zero, zero + 1, zero, status.astype(jnp.int32))

    def body(carry: _Carry) -> _Carry:
        old = carry.step
        new = method.step(old)
        steps = carry.steps + 1
        failures = jnp.where(new.failed, carry.failures + 1, 0)
        finite = _is_finite(new)
        change = jnp.abs(old.value - new.value)
        size = jnp.maximum(jnp.maximum(jnp.abs(old.value), jnp.abs(new.value)), 1)
        moved = tree.norm(_difference(new.x, old.x), jnp.inf).astype(real)
        span = jnp.maximum(tree.norm(_numbers(new.x), jnp.inf).astype(real), 1)
        moves = ~new.failed
        small = (limits["xtol"] > 0) & (moved <= limits["xtol"] * span)
        status = jnp.asarray(MinimizeStatus.RUNNING, jnp.int32)
        for holds, why in (  # what comes later has precedence
            (steps >= numbers["max_steps"], MinimizeStatus.MAX_STEPS),
            (failures > 1, MinimizeStatus.NO_DECREASE),
            (moves & small, MinimizeStatus.PARAMS),
            (moves & (change <= limits["ftol"] * size), MinimizeStatus.VALUE),
            (is_flat(new), MinimizeStatus.GRADIENT),
            (~finite, MinimizeStatus.NOT_FINITE),
        ):
            status = jnp.where(holds, jnp.asarray(why, jnp.int32), status)
        x, value, grad = jax.tree.map(
            lambda a, b: jnp.where(finite, a, b),
            (new.x, new.value, new.grad),
            (old.x, old.value, old.grad),
        )
        step = Step(x, value, grad, new.state, new.evaluations, new.failed)
        evaluations = carry.evaluations + new.evaluations
        return _Carry(step, steps, evaluations, failures, status)

    def unfinished(carry: _Carry) -> jax.Array:
        running = carry.status == MinimizeStatus.RUNNING
        return running & (carry.steps < numbers["max_steps"])

    last = lax.while_loop(unfinished, body, start())
    status = jnp.where(
        last.status == MinimizeStatus.RUNNING,
        jnp.asarray(MinimizeStatus.MAX_STEPS, jnp.int32),
        last.status,
    )
    aux = problem.fun(last.step.x, *args)[1] if problem.has_aux else None
    return MinimizeResult(
        last.step.x,
        last.step.value,
        last.step.grad,
        aux,
        status,
        last.steps,
        last.evaluations + (1 if problem.has_aux else 0),
        last.step.state,
    )


def _is_finite(step: Step) -> jax.Array:
    size = tree.norm(_numbers(step.grad), jnp.inf)
    return jnp.isfinite(step.value) & jnp.isfinite(size)


def _numbers(x: PyTree) -> list[Any]:
    """The leaves that are minimized over: those of floating point."""
    return [leaf for leaf in jax.tree.leaves(x) if jnp.issubdtype(leaf.dtype, jnp.inexact)]


def _difference(x: PyTree, y: PyTree) -> list[Any]:
    return [a - b for a, b in zip(_numbers(x), _numbers(y), strict=True)]


class _ById:
    """A function, or an optimizer, that cannot be hashed: compared by identity."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __call__(self, *args: Any) -> Any:
        return self.held(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.held, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and self.held is other.held

    def __hash__(self) -> int:
        return id(self.held)


def _hashable(x: Any) -> Any:
    try:
        hash(x)
    except TypeError:
        return _ById(x)
    return x
