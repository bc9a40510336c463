"""Minimizing a function with any optimizer, within one compiled loop.

With g the gradient at x, and f_next, x_next what follows f and x, the loop stops if

max |P(x − g) − x| ≤ gtol                            without bounds max |g|
|f − f_next| ≤ ftol · max(|f|, |f_next|, min(1, |f(x0)|))       without bounds min(1, |f(x0)|) / 100
max |x − x_next| ≤ xtol · max(1, max |x|)            if xtol > 0

where P projects onto the bounds, or if it cannot go on; `MinimizeStatus` has the reasons. These are SciPy's
criteria, and for a value or a gradient below 1 at x0 they scale with it, so that a small loss converges as
far as a large one. With a line search the second one must hold while three steps in a row make no progress
beyond ftol, since one alone may be short; eight such steps suffice, since rounding makes a value rise and
fall. After two failed searches in a row the value has converged if the gradient is small,

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
from optx_aliases._minimize.methods import Function, dense, with_optimizer, within_box
from optx_aliases._minimize.result import MinimizeResult, MinimizeStatus
from optx_aliases._minimize.step import Step
from optx_core import PyTree, Scalar, build, tree

_GTOL = 1e-5
_FTOL = 2.2e-9  # SciPy's
# Steps without progress beyond ftol: one alone may be short; more may rise and fall by rounding.
_SETTLED, _IDLE = 3, 8
# Without bounds values near 0 are measured against this part of the first one: 1e-5 is small, not 0.
_SMALL = 1e-2
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
        larger; without one 0, which never stops, since the value may rise as well as fall. Values near 0 are
        measured against the first one, or 1; without bounds, against a hundredth of it.
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
    if not jax.tree.leaves(_numbers(x0)):
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
    def whole(x: PyTree) -> PyTree:
        """x with the integer leaves of x0."""
        return jax.tree.map(lambda a, b: b if a is None else a, x, x0, is_leaf=_is_none)

    def value_fn(x: PyTree) -> Array:
        output = problem.fun(whole(x), *args)
        return output[0] if problem.has_aux else output

    x = project(_numbers(x0), box)
    fun = Function(value_fn, x)
    if problem.optimizer is None:
        assert box is not None  # noqa: S101 (minimize has checked it)
        method = within_box(fun, x, box, problem.memory_size)
    elif problem.optimizer == "bfgs":
        method = dense(fun, x)
    else:
        method = with_optimizer(problem.optimizer, fun, x, box)
    first = fun.at(x, method.init(x))
    gtol, ftol, xtol = _tolerances(numbers, first, box, descends=method.descends)
    # What values and gradients below 1 are measured against.
    unit, depth = jnp.minimum(jnp.abs(first.value), 1), jnp.maximum(jnp.abs(first.value), 1)

    def stopped(step: Step, steps: Array) -> list[tuple[Array, MinimizeStatus]]:
        """Reasons to stop at a point, whatever led there."""
        return [
            (~_is_finite(step), MinimizeStatus.NOT_FINITE),
            (projected_gradient(step.x, step.grad, box) <= gtol, MinimizeStatus.GRADIENT),
            (steps >= numbers["max_steps"], MinimizeStatus.MAX_STEPS),
        ]

    def body(carry: _Carry) -> _Carry:
        old, new, steps = carry.step, method.step(carry.step), carry.steps + 1
        failures = jnp.where(new.failed, carry.failures + 1, 0)
        change = jnp.abs(old.value - new.value)
        highest = jnp.maximum(jnp.abs(old.value), jnp.abs(new.value))
        size = jnp.maximum(highest, unit if box else _SMALL * unit)
        span = jnp.maximum(_largest(new.x, size), 1)
        idle = jnp.where(new.value < carry.lowest - ftol * size, 0, carry.idle + 1)
        settled = ~jnp.asarray(method.descends) | (idle >= _SETTLED)
        small = (xtol > 0) & (_largest(tree.sub(new.x, old.x), size) <= xtol * span)
        bend, slope = _largest(tree.sub(new.grad, old.grad), size), _largest(new.grad, size)
        linear = falls_freely(new.grad, box) & (bend <= _LINEAR * slope)
        low = (new.value < -_BOTTOM * depth) | (linear & (new.value < -_LINEAR_BOTTOM * depth))
        rounding = jnp.finfo(size.dtype).eps ** (1 / 3) * jnp.maximum(highest, unit)
        at_rounding = projected_gradient(new.x, new.grad, box) * span <= rounding
        not_finite, flat, at_limit = stopped(new, steps)
        status = _first_of(
            not_finite,
            (~new.failed & low, MinimizeStatus.UNBOUNDED),
            flat,
            (~new.failed & settled & (change <= ftol * size), MinimizeStatus.VALUE),
            (~new.failed & small, MinimizeStatus.PARAMS),
            (method.descends & (idle >= _IDLE), MinimizeStatus.VALUE),
            ((failures > 1) & at_rounding, MinimizeStatus.VALUE),
            (failures > 1, MinimizeStatus.NO_DECREASE),
            at_limit,
        )
        x, value, grad = tree.where(_is_finite(new), new[:3], old[:3])
        return _Carry(
            new._replace(x=x, value=value, grad=grad),
            steps,
            carry.evaluations + new.evaluations,
            failures,
            jnp.minimum(carry.lowest, value),
            idle,
            status,
        )

    zero = jnp.zeros((), jnp.int32)
    status = _first_of(*stopped(first, zero))
    last = lax.while_loop(
        lambda carry: carry.status == MinimizeStatus.RUNNING,
        body,
        _Carry(first, zero, first.evaluations, zero, first.value, zero, status),
    )
    x = whole(last.step.x)
    return MinimizeResult(
        x,
        last.step.value,
        jax.tree.map(
            lambda g, a: jnp.zeros(a.shape, jnp.float32) if g is None and a is not None else g,
            last.step.grad,
            x0,
            is_leaf=_is_none,
        ),
        problem.fun(x, *args)[1] if problem.has_aux else None,
        last.status,
        last.steps,
        last.evaluations + int(problem.has_aux),
        last.step.state,
    )


def _tolerances(
    numbers: dict[str, Any], first: Step, box: Bounds | None, *, descends: bool
) -> list[Array]:
    """gtol, ftol and xtol in the dtype of the value."""
    gtol, ftol, real = numbers["gtol"], numbers["ftol"], first.value.dtype
    if gtol is None:
        gtol = _GTOL * jnp.minimum(projected_gradient(first.x, first.grad, box), 1)
    if ftol is None:
        ftol = max(_FTOL, 2 * float(jnp.finfo(real).eps)) if descends else 0.0
    if not descends:
        ftol = jnp.where(jnp.asarray(ftol) > 0, ftol, -1)
    return [jnp.asarray(limit).astype(real) for limit in (gtol, ftol, numbers["xtol"])]


def _first_of(*cases: tuple[Array, MinimizeStatus]) -> Array:
    """The status of the first case that holds."""
    holds, statuses = zip(*cases, strict=True)
    codes = [jnp.asarray(status, jnp.int32) for status in statuses]
    return jnp.select(holds, codes, jnp.asarray(MinimizeStatus.RUNNING, jnp.int32))


def _is_finite(step: Step) -> Array:
    return jnp.isfinite(step.value) & jnp.isfinite(_largest(step.grad, step.value))


def _largest(arrays: PyTree, like: Array) -> Array:
    """The largest absolute value, in the dtype of another scalar."""
    return tree.norm(arrays, jnp.inf).astype(like.dtype)


def _numbers(x: PyTree) -> PyTree:
    """The leaves that are minimized over, of floating point; None for the others."""
    return jax.tree.map(lambda a: a if build.is_inexact(a) else None, x)


def _is_none(x: Any) -> bool:
    return x is None


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
