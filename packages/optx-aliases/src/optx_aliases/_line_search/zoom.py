"""The strong Wolfe search in one dimension: bracket, then zoom.

φ(η) ≤ φ(0) + c₁·η·φ'(0)        sufficient decrease (Armijo)
|φ'(η)| ≤ c₂·|φ'(0)|            small curvature

Trials grow by a factor until an interval holds a step that satisfies both; the interval shrinks around
the minimizer of the cubic through its ends (value and slope at the low end, values at the high end and
at the end last given up), of the parabola where the cubic's lies too near an end, or its middle. Where
values no longer tell (φ(η) ≤ φ(0) + c₃·|φ(0)|), the slope stands in for the decrease:
φ'(η) ≤ (2c₁ − 1)·φ'(0). A trial whose value or slope is not finite counts as too high, so the search
steps back from it.

References: Nocedal, Wright, "Numerical Optimization", 2006, algorithms 3.5 and 3.6 and section 3.5 on
interpolation; Hager, Zhang, "Algorithm 851: CG_DESCENT", 2006, section 2 (approximate Wolfe conditions).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optx_core import PyTree


class Tolerances(NamedTuple):
    """What a step must satisfy, and how the search goes about it; scalars of φ's dtype.

    Attributes:
      max_steps: the most trials, int32.
      max_step: the longest step tried.
      tol: ε, by how much both conditions may be missed.
      increase_factor: by what a trial grows while no interval is known.
      slope_rtol: c₁.
      curv_rtol: c₂.
      approx_dec_rtol: c₃, or None for the plain decrease only.
      precision: the width of an interval that is not worth halving any more.
    """

    max_steps: jax.Array
    max_step: jax.Array
    tol: jax.Array
    increase_factor: jax.Array
    slope_rtol: jax.Array
    curv_rtol: jax.Array
    approx_dec_rtol: jax.Array | None
    precision: jax.Array


class Found(NamedTuple):
    """What a search came to.

    Attributes:
      step: η; 0 where no step was found that decreases the value.
      value: φ(η).
      grad: the gradient there.
      num_steps: the number of trials, each of them one evaluation, int32.
      decrease_error: by how much the decrease is missed at the last trial; 0 where it holds.
      curvature_error: likewise for the curvature.
    """

    step: jax.Array
    value: jax.Array
    grad: PyTree
    num_steps: jax.Array
    decrease_error: jax.Array
    curvature_error: jax.Array


class _Point(NamedTuple):
    step: jax.Array
    value: jax.Array
    slope: jax.Array


class _Search(NamedTuple):
    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    trial: jax.Array  # the step to try next
    low: _Point  # the best end; before an interval is known, the last trial
    high: _Point
    old: _Point  # the end last given up, for the cubic
    refined: jax.Array  # whether an end was given up
    bracketed: jax.Array
    accepted: jax.Array
    done: jax.Array
    best: _Point  # the lowest trial with a sufficient decrease
    grad: PyTree  # the gradient there
    decrease_error: jax.Array
    curvature_error: jax.Array


def strong_wolfe(
    at: Callable[[jax.Array], tuple[jax.Array, jax.Array, PyTree]],
    value: jax.Array,
    slope: jax.Array,
    grad: PyTree,
    guess: jax.Array,
    given: Tolerances,
) -> Found:
    """Searches a step along a line.

    Args:
      at: gives φ(η), φ'(η) and the gradient (a tree like `grad`).
      value: φ(0).
      slope: φ'(0). Where it is positive or NaN nothing is tried: that is no direction of descent.
      grad: the gradient at 0.
      guess: the first trial.
      given: the conditions.

    Returns:
      The first trial that satisfies the conditions; failing that, the lowest one with a sufficient
      decrease; failing that too, the step 0.
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

        # Where the interval's ends move to.
        worse = too_high | ((point.value >= low.value) & (search.bracketed | (search.count > 0)))
        turned = jnp.where(
            search.bracketed, point.slope * (high.step - low.step) >= 0, point.slope >= 0
        )
        new_low = _where(worse, low, point)
        new_high = _where(worse, point, _where(turned, low, high))
        bracketed = search.bracketed | worse | turned
        given_up = _where(worse | turned, high, low)

        longer = jnp.minimum(point.step * given.increase_factor, given.max_step)
        between = _interpolate(new_low, new_high, given_up, search.bracketed)
        better = ~too_high & (
            (search.best.step == 0) | (point.value < search.best.value) | accepted
        )
        best = _where(better, point, search.best)
        width = jnp.abs(new_high.step - new_low.step)
        settled = bracketed & (width <= given.precision) & (best.step > 0)
        at_limit = ~bracketed & (point.step >= given.max_step)
        count = search.count + 1
        return _Search(
            count,
            jnp.where(bracketed, between, longer),
            new_low,
            new_high,
            given_up,
            search.bracketed,
            bracketed,
            accepted,
            accepted | settled | at_limit | (count >= given.max_steps),
            best,
            jax.tree.map(lambda new, old: jnp.where(better, new, old), point_grad, search.grad),
            decrease,
            curvature,
        )

    last = lax.while_loop(lambda search: ~search.done, body, first)
    return Found(
        last.best.step,
        last.best.value,
        last.grad,
        last.count,
        last.decrease_error,
        last.curvature_error,
    )


def _errors(
    point: _Point, start: _Point, given: Tolerances, finite: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """By how much a trial misses the decrease and the curvature."""
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


def _interpolate(low: _Point, high: _Point, old: _Point, use_cubic: jax.Array) -> jax.Array:
    """The next trial between two ends."""
    left, right = jnp.minimum(low.step, high.step), jnp.maximum(low.step, high.step)
    width = right - left

    def inside(x: jax.Array, margin: float) -> jax.Array:
        return jnp.isfinite(x) & (x >= left + margin * width) & (x <= right - margin * width)

    cubic, parabola = _cubic_minimum(low, high, old), _parabola_minimum(low, high)
    middle = jnp.where(inside(parabola, 0.1), parabola, low.step + (high.step - low.step) / 2)
    return jnp.where(use_cubic & inside(cubic, 0.2), cubic, middle)


def _parabola_minimum(a: _Point, b: _Point) -> jax.Array:
    """Where the parabola through a (value and slope) and b (value) is least; NaN or inf for none."""
    d = b.step - a.step
    return a.step - a.slope * d * d / (2 * (b.value - a.value - a.slope * d))


def _cubic_minimum(a: _Point, b: _Point, c: _Point) -> jax.Array:
    """Where the cubic through a (value and slope), b and c (values) has its minimum; NaN for none."""
    x, y = b.step - a.step, c.step - a.step
    u = (b.value - a.value - a.slope * x) / (x * x)
    v = (c.value - a.value - a.slope * y) / (y * y)
    # value = a.value + a.slope·d + k₂·d² + k₃·d³ at the distance d from a
    k3 = (u - v) / (x - y)
    k2 = u - k3 * x
    root = jnp.sqrt(k2 * k2 - 3 * k3 * a.slope)
    # The same zero of the slope in two forms; in each the other's numbers could cancel.
    return a.step + jnp.where(k2 > 0, -a.slope / (k2 + root), (root - k2) / (3 * k3))


def _where(condition: jax.Array, x: _Point, y: _Point) -> _Point:
    return _Point(*(jnp.where(condition, a, b) for a, b in zip(x, y, strict=True)))


def tolerances(real: Any, **numbers: Any) -> Tolerances:
    """`Tolerances` of a dtype, from numbers of any."""
    made: dict[str, Any] = {
        name: x if x is None else jnp.asarray(x).astype(jnp.int32 if name == "max_steps" else real)
        for name, x in numbers.items()
    }
    return Tolerances(**made)
