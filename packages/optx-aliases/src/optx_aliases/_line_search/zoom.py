"""The strong Wolfe search in one dimension: bracket, then zoom.

φ(η) ≤ φ(0) + c₁·η·φ'(0)        sufficient decrease (Armijo)
|φ'(η)| ≤ c₂·|φ'(0)|            small curvature

Trials grow by a factor until an interval holds a step that satisfies both; the interval shrinks around
the minimizer of the cubic through its ends (value and slope at the low end, values at the high end and
at the end last discarded), of the parabola where the cubic's lies too near an end, or its middle. Where
values are equal up to rounding (φ(η) ≤ φ(0) + c₃·|φ(0)|), the slope replaces the decrease:
φ'(η) ≤ (2c₁ − 1)·φ'(0). A trial with a value or slope that is not finite counts as too high, so that the
search steps back from it.

References: Nocedal, Wright, "Numerical Optimization", 2006, algorithms 3.5 and 3.6 and section 3.5 on
interpolation; Hager, Zhang, "Algorithm 851: CG_DESCENT", 2006, section 2 (approximate Wolfe conditions).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from optx_aliases._transforms.varying import varying_like
from optx_core import PyTree


class Tolerances(NamedTuple):
    """The conditions on a step and the numbers of the search; scalars of φ's dtype.

    Attributes:
      max_steps: the most trials, int32.
      max_step: the longest step tried.
      tol: the error allowed in both conditions.
      increase_factor: the growth of trials until an interval is known.
      slope_rtol: c₁.
      curv_rtol: c₂.
      approx_dec_rtol: c₃, or None for the plain decrease only.
      precision: the width below which an interval is not divided further.
    """

    max_steps: Array
    max_step: Array
    tol: Array
    increase_factor: Array
    slope_rtol: Array
    curv_rtol: Array
    approx_dec_rtol: Array | None
    precision: Array


class SearchResult(NamedTuple):
    """The result of a search.

    Attributes:
      step: η; 0 if no step decreases the value.
      value: φ(η).
      grad: the gradient there.
      num_steps: the number of trials, of one evaluation each, int32.
      decrease_error: the error in the decrease at the last trial; 0 if it is sufficient.
      curvature_error: likewise for the curvature.
    """

    step: Array
    value: Array
    grad: PyTree
    num_steps: Array
    decrease_error: Array
    curvature_error: Array


class _Point(NamedTuple):
    step: Array
    value: Array
    slope: Array


class _Search(NamedTuple):
    number: Array  # of trials
    trial: Array  # the step to try next
    low: _Point  # the best end; before an interval is known, the last trial
    high: _Point
    old: _Point  # the end last discarded, for the cubic
    refined: Array  # whether an end was discarded
    bracketed: Array
    accepted: Array
    done: Array
    best: _Point  # the lowest trial with a sufficient decrease
    grad: PyTree  # the gradient there
    decrease_error: Array
    curvature_error: Array


def strong_wolfe(
    at: Callable[[Array], tuple[Array, Array, PyTree]],
    value: Array,
    slope: Array,
    grad: PyTree,
    guess: Array,
    given: Tolerances,
) -> SearchResult:
    """Searches for a step along a line.

    Args:
      at: `at(η)` returns φ(η), φ'(η) and the gradient (a tree like `grad`).
      value: φ(0).
      slope: φ'(0). If it is positive or NaN, the line does not descend and nothing is tried.
      grad: the gradient at 0.
      guess: the first trial.
      given: the conditions.

    Returns:
      The first trial that satisfies the conditions; otherwise the lowest one with a sufficient
      decrease; otherwise the step 0.
    """
    real = value.dtype
    zero, never = jnp.zeros((), real), jnp.zeros((), bool)
    infinite = jnp.full((), jnp.inf, real)
    start = _Point(zero, value, slope)
    descends = (slope <= 0) & jnp.isfinite(slope)
    first = _Search(
        jnp.zeros((), jnp.int32),
        jnp.minimum(guess, given.max_step),
        start,
        start,
        start,
        never,
        never,
        never,
        ~descends,
        start,
        grad,
        jnp.where(descends, zero, infinite),
        jnp.where(descends, zero, infinite),
    )

    def body(search: _Search) -> _Search:
        point_value, point_slope, point_grad = at(search.trial)
        finite = jnp.isfinite(point_value) & jnp.isfinite(point_slope)
        point = _Point(search.trial, jnp.where(finite, point_value, jnp.inf), point_slope)
        decrease, curvature = _errors(point, start, given, finite)
        steep, low, high = curvature > given.tol, search.low, search.high
        too_high = (decrease > given.tol) | ~finite
        accepted = ~too_high & ~steep

        # The new ends of the interval.
        worse = too_high | ((point.value >= low.value) & (search.bracketed | (search.number > 0)))
        turned = jnp.where(
            search.bracketed, point.slope * (high.step - low.step) >= 0, point.slope >= 0
        )
        new_low = _where(worse, low, point)
        new_high = _where(worse, point, _where(turned, low, high))
        bracketed = search.bracketed | worse | turned
        discarded = _where(worse | turned, high, low)

        longer = jnp.minimum(point.step * given.increase_factor, given.max_step)
        between = _interpolate(new_low, new_high, discarded, search.bracketed)
        better = ~too_high & (
            (search.best.step == 0) | (point.value < search.best.value) | accepted
        )
        best = _where(better, point, search.best)
        width = jnp.abs(new_high.step - new_low.step)
        settled = bracketed & (width <= given.precision) & (best.step > 0)
        at_limit = ~bracketed & (point.step >= given.max_step)
        number = search.number + 1
        return _Search(
            number,
            jnp.where(bracketed, between, longer),
            new_low,
            new_high,
            discarded,
            search.bracketed,
            bracketed,
            accepted,
            accepted | settled | at_limit | (number >= given.max_steps),
            best,
            jax.tree.map(lambda new, old: jnp.where(better, new, old), point_grad, search.grad),
            decrease,
            curvature,
        )

    first = varying_like(first, value, slope, guess, grad)
    last = lax.while_loop(lambda search: ~search.done, body, first)
    return SearchResult(
        last.best.step,
        last.best.value,
        last.grad,
        last.number,
        last.decrease_error,
        last.curvature_error,
    )


def _errors(point: _Point, start: _Point, given: Tolerances, finite: Array) -> tuple[Array, Array]:
    """The errors of a trial in the decrease and in the curvature."""
    decrease = point.value - (start.value + given.slope_rtol * point.step * start.slope)
    if given.approx_dec_rtol is not None:
        by_slope = point.slope - (2 * given.slope_rtol - 1) * start.slope
        rise = point.value - (start.value + given.approx_dec_rtol * jnp.abs(start.value))
        decrease = jnp.minimum(decrease, jnp.maximum(by_slope, rise))
    curvature = jnp.abs(point.slope) - given.curv_rtol * jnp.abs(start.slope)
    bad = jnp.asarray(jnp.inf, point.value.dtype)
    return (
        jnp.where(finite, jnp.maximum(decrease, 0), bad),
        jnp.where(finite, jnp.maximum(curvature, 0), bad),
    )


def _interpolate(low: _Point, high: _Point, old: _Point, use_cubic: Array) -> Array:
    """The next trial between two ends."""
    left, right = jnp.minimum(low.step, high.step), jnp.maximum(low.step, high.step)
    width = right - left

    def inside(x: Array, margin: float) -> Array:
        return jnp.isfinite(x) & (x >= left + margin * width) & (x <= right - margin * width)

    cubic, parabola = _cubic_minimum(low, high, old), _parabola_minimum(low, high)
    middle = jnp.where(inside(parabola, 0.1), parabola, low.step + (high.step - low.step) / 2)
    return jnp.where(use_cubic & inside(cubic, 0.2), cubic, middle)


def _parabola_minimum(a: _Point, b: _Point) -> Array:
    """The minimizer of the parabola through a (value and slope) and b (value); NaN or inf for none."""
    d = b.step - a.step
    return a.step - a.slope * d * d / (2 * (b.value - a.value - a.slope * d))


def _cubic_minimum(a: _Point, b: _Point, c: _Point) -> Array:
    """The minimizer of the cubic through a (value and slope), b and c (values); NaN for none."""
    x, y = b.step - a.step, c.step - a.step
    u = (b.value - a.value - a.slope * x) / (x * x)
    v = (c.value - a.value - a.slope * y) / (y * y)
    # value = a.value + a.slope·d + k₂·d² + k₃·d³ at the distance d from a
    k3 = (u - v) / (x - y)
    k2 = u - k3 * x
    root = jnp.sqrt(k2 * k2 - 3 * k3 * a.slope)
    # The same zero of the slope in two forms, to avoid cancellation.
    return a.step + jnp.where(k2 > 0, -a.slope / (k2 + root), (root - k2) / (3 * k3))


def _where(condition: Array, x: _Point, y: _Point) -> _Point:
    return _Point(*(jnp.where(condition, a, b) for a, b in zip(x, y, strict=True)))


def tolerances(real: Any, **numbers: Any) -> Tolerances:
    """`Tolerances` in a dtype."""
    converted: dict[str, Any] = {
        name: x if x is None else jnp.asarray(x).astype(jnp.int32 if name == "max_steps" else real)
        for name, x in numbers.items()
    }
    return Tolerances(**converted)
