"""Minimizing a function with any optimizer, within one compiled loop.

The loop stops if

max |P(x − g) − x| ≤ gtol                            P projects onto the bounds; without them max |g|
|f − f_next| ≤ ftol · max(|f|, |f_next|, min(1, |f(x0)|))
max |x − x_next| ≤ xtol · max(1, max |x|)            if xtol > 0

or if it cannot go on; `MinimizeStatus` has the reasons. These are SciPy's criteria, and for a value or a
gradient below 1 at x0 they scale with it, so that a small loss converges as far as a large one. With a
line search the second one must hold while three steps in a row make no progress beyond ftol, since one
alone may be short; eight such steps suffice, since rounding makes a value rise and fall. After two failed
searches in a row the value has converged if the gradient is small,

max |P(x − g) − x| · max(1, max |x|) ≤ ∛eps · max(|f|, min(1, |f(x0)|))

Without bounds the default is `lbfgs()`, with bounds L-BFGS-B (`lbfgsb.py` has the papers); the steps of an
optimizer without a line search are projected onto the bounds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from optx_aliases import lbfgs
from optx_aliases._line_search.line import has_complex
from optx_aliases._minimize.bounds import (
    Bounds,
    as_bounds,
    falls_freely,
    project,
    projected_gradient,
)
from optx_aliases._minimize.methods import Box, Dense, Method, Step, with_optimizer
from optx_aliases._minimize.result import MinimizeResult, MinimizeStatus
from optx_core import PyTree, Scalar, build, tree

_GTOL = 1e-5
_FTOL = 2.2e-9  # SciPy's
# Steps without progress beyond ftol: one alone may be short; more may rise and fall by rounding.
_SETTLED, _IDLE = 3, 8
# The value is unbounded below −1e20, or below −1e6 where the gradient stays the same, in units of the first.
_BOTTOM, _LINEAR_BOTTOM, _LINEAR = 1e20, 1e6, 1e-3


class _Problem(NamedTuple):
    """The static arguments of a compiled program."""

    fun: Callable[..., Any]
    optimizer: Any
    has_aux: bool
    memory_size: int


class _Carry(NamedTuple):
    step: Step
    steps: Array
    evaluations: Array
    failures: Array  # in a row
    lowest: Array  # value so far
    idle: Array  # steps since it fell by more than ftol
    status: Array


def minimize(
    fun: Callable[..., Any],
    x0: PyTree,
    optimizer: Any | Literal["bfgs"] = None,
    *,
    args: tuple[Any, ...] = (),
    has_aux: bool = False,
    bounds: tuple[PyTree, PyTree] | None = None,
    gtol: Scalar | None = None,
    ftol: Scalar | None = None,
    xtol: Scalar = 0.0,
    max_steps: int | Array = 1000,
    memory_size: int = 10,
) -> MinimizeResult:
    """Minimizes a function from a starting point, compiled as one loop.

    Works within `jit` and `vmap`. A second call with the same function (the same object), optimizer
    and shapes does not compile again, even with other numbers.

    Args:
      fun: `fun(x, *args)` returns a real scalar; with `has_aux` a pair of it and a tree of arrays.
      x0: the starting point, a tree of arrays. None and integer leaves are passed on as they are.
      optimizer: any transformation. By default `lbfgs()`, or L-BFGS-B with bounds. The loop passes the loss
        to those that need it (a line search, Polyak's step size). "bfgs" keeps a dense estimate of the
        inverse Hessian, n² numbers for n entries of x0, which often gets further on ill-conditioned
        functions of up to some hundred variables.
      args: further arguments of `fun`, trees of arrays: data, say.
      has_aux: whether `fun` returns auxiliary output, for which it is evaluated once more at the end.
      bounds: `(lower, upper)`, each a number, None for no bound, or a tree like `x0` of numbers or
        arrays of x0's shapes. `x0` is projected onto them.
      gtol: stop if no entry of the (projected) gradient is larger, at least 0. By default 1e-5, times the
        largest entry at `x0` if that is below 1.
      ftol: stop if the relative change of the value is not larger, with a line search three times in a row;
        at least 0. By default with a line search 2.2e-9 (SciPy's), or twice the machine epsilon if that is
        larger; without one 0, which never stops, since the value may rise as well as fall. Values below 1 are
        measured against the first one.
      xtol: stop if the relative change of x is not larger; 0 never stops.
      max_steps: the most steps of the optimizer.
      memory_size: the number of steps that the default methods keep, at least 1.

    Returns:
      A `MinimizeResult`: `x`, `value`, `grad`, `aux`, `status` with `success` and `message`, the numbers of
      steps and evaluations, the optimizer's `state`. `x` is the last point with a finite value.

    Raises:
      ValueError: if bounds do not fit `x0`, exclude each other, or come with complex `x0`, a line search or
        "bfgs"; if "bfgs" gets complex `x0`; if a tolerance is negative.
      TypeError: if `fun` is not a function or `optimizer` not a transformation.

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
    if optimizer is not None and optimizer != "bfgs":
        build.check_transformation_like(where, optimizer)
    build.check_number(where, low=0, gtol=gtol, ftol=ftol, xtol=xtol, max_steps=max_steps)
    x0 = jax.tree.map(jnp.asarray, x0)
    if not _numbers(x0):
        raise ValueError(f"{where}: x0 has no floating-point array to minimize over")
    if isinstance(memory_size, bool) or not isinstance(memory_size, int) or memory_size < 1:
        raise ValueError(f"{where}: memory_size must be an int of at least 1, not {memory_size!r}")
    if optimizer == "bfgs" and (bounds is not None or has_complex(x0)):
        raise ValueError(
            f'{where}: "bfgs" takes real x0 without bounds; leave optimizer=None, which takes both'
        )
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
    def value_fn(x: PyTree) -> Array:
        output = problem.fun(x, *args)
        return output[0] if problem.has_aux else output

    method: Method
    if problem.optimizer is None:
        assert box is not None  # noqa: S101 (minimize has checked it)
        method = Box(value_fn, x0, box, problem.memory_size)
    elif problem.optimizer == "bfgs":
        method = Dense(value_fn, x0)
    else:
        method = with_optimizer(problem.optimizer, value_fn, x0, box)
    x0 = project(x0, box)
    first = method.first(x0)
    limits = _limits(numbers, first, box, descends=method.descends)
    eps = jnp.finfo(first.value.dtype).eps
    # What values and gradients below 1 are measured against.
    unit = jnp.minimum(jnp.abs(first.value), 1)
    depth = jnp.maximum(jnp.abs(first.value), 1)
    zero = jnp.zeros((), jnp.int32)

    def is_flat(step: Step) -> Array:
        return projected_gradient(step.x, step.grad, box) <= limits["gtol"]

    def start() -> _Carry:
        status = jnp.where(
            ~_is_finite(first),
            MinimizeStatus.NOT_FINITE,
            jnp.where(is_flat(first), MinimizeStatus.GRADIENT, MinimizeStatus.RUNNING),
        )
        return _Carry(first, zero, zero + 1, zero, first.value, zero, status.astype(jnp.int32))

    def body(carry: _Carry) -> _Carry:
        old = carry.step
        new = method.step(old)
        steps = carry.steps + 1
        failures = jnp.where(new.failed, carry.failures + 1, 0)
        finite = _is_finite(new)
        change = jnp.abs(old.value - new.value)
        size = jnp.maximum(jnp.maximum(jnp.abs(old.value), jnp.abs(new.value)), unit)
        moved = _largest(_difference(new.x, old.x)).astype(size.dtype)
        span = jnp.maximum(_largest(_numbers(new.x)).astype(size.dtype), 1)
        falls = new.value < carry.lowest - limits["ftol"] * size
        idle = jnp.where(falls, 0, carry.idle + 1)
        moves = ~new.failed
        settled = ~jnp.asarray(method.descends) | (idle >= _SETTLED)
        small = (limits["xtol"] > 0) & (moved <= limits["xtol"] * span)
        bent = _largest(_difference(new.grad, old.grad))
        linear = falls_freely(new.grad, box) & (bent <= _LINEAR * _largest(_numbers(new.grad)))
        low = (new.value < -_BOTTOM * depth) | (linear & (new.value < -_LINEAR_BOTTOM * depth))
        at_rounding = projected_gradient(new.x, new.grad, box) * span <= eps ** (1 / 3) * size
        status = jnp.asarray(MinimizeStatus.RUNNING, jnp.int32)
        for holds, why in (  # later ones have precedence
            (steps >= numbers["max_steps"], MinimizeStatus.MAX_STEPS),
            (failures > 1, MinimizeStatus.NO_DECREASE),
            ((failures > 1) & at_rounding, MinimizeStatus.VALUE),
            (method.descends & (idle >= _IDLE), MinimizeStatus.VALUE),
            (moves & small, MinimizeStatus.PARAMS),
            (moves & settled & (change <= limits["ftol"] * size), MinimizeStatus.VALUE),
            (is_flat(new), MinimizeStatus.GRADIENT),
            (moves & low, MinimizeStatus.UNBOUNDED),
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
        lowest = jnp.minimum(carry.lowest, value)
        return _Carry(step, steps, evaluations, failures, lowest, idle, status)

    def unfinished(carry: _Carry) -> Array:
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


def _limits(
    numbers: dict[str, Any], first: Step, box: Bounds | None, *, descends: bool
) -> dict[str, Array]:
    """The tolerances in the dtype of the value."""
    real = first.value.dtype
    gtol, ftol = numbers["gtol"], numbers["ftol"]
    if gtol is None:
        gtol = _GTOL * jnp.minimum(projected_gradient(first.x, first.grad, box), 1)
    if ftol is None:
        ftol = max(_FTOL, 2 * float(jnp.finfo(real).eps)) if descends else -1.0
    elif not descends:
        ftol = jnp.where(jnp.asarray(ftol) > 0, ftol, -1)
    given = {"gtol": gtol, "ftol": ftol, "xtol": numbers["xtol"]}
    return {name: jnp.asarray(limit).astype(real) for name, limit in given.items()}


def _is_finite(step: Step) -> Array:
    return jnp.isfinite(step.value) & jnp.isfinite(_largest(_numbers(step.grad)))


def _largest(arrays: list[Any]) -> Array:
    """The largest absolute value."""
    return tree.norm(arrays, jnp.inf)


def _numbers(x: PyTree) -> list[Any]:
    """The leaves that are minimized over, of floating point."""
    return [leaf for leaf in jax.tree.leaves(x) if jnp.issubdtype(leaf.dtype, jnp.inexact)]


def _difference(x: PyTree, y: PyTree) -> list[Any]:
    return [a - b for a, b in zip(_numbers(x), _numbers(y), strict=True)]


class _ById:
    """A function or an optimizer without a hash, compared by identity."""

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
