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
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from optx_core import PyTree, Scalar, build, tree


class Point(NamedTuple):
    """A point on the line: η, φ(η) and φ'(η), scalars."""

    step: Array
    value: Array
    slope: Array


class Search(NamedTuple):
    """A search.

    Attributes:
      number: the number of trials, of one evaluation each, int32.
      trial: the step to try next.
      low: the best end of the interval; before an interval is known, the last trial.
      high: the other end.
      bracketed: whether an interval is known.
      done: whether the search is over.
      best: the lowest trial with a sufficient decrease, or the start.
      grad: the gradient there.
      errors: of the last trial in the decrease and in the curvature; 0 where the condition holds.
    """

    number: Array
    trial: Array
    low: Point
    high: Point
    bracketed: Array
    done: Array
    best: Point
    grad: PyTree
    errors: tuple[Array, Array]


def strong_wolfe(
    at: Callable[[Array], tuple[Array, Array, PyTree]],
    value: Array,
    slope: Array,
    grad: PyTree,
    guess: Array,
    *,
    max_steps: Scalar,
    max_step: Scalar = jnp.inf,
    tol: Scalar = 0.0,
    increase_factor: Scalar = 2.0,
    slope_rtol: Scalar = 1e-4,
    curv_rtol: Scalar = 0.9,
    approx_dec_rtol: Scalar | None = 1e-6,
    precision: Scalar = 1e-5,
) -> Search:
    """Searches for a step along a line.

    Args:
      at: `at(η)` returns φ(η), φ'(η) and the gradient (a tree like `grad`).
      value: φ(0).
      slope: φ'(0). If it is positive or NaN, the line does not descend and nothing is tried.
      grad: the gradient at 0.
      guess: the first trial.
      max_steps: the most trials.
      max_step: the longest step tried.
      tol: the error allowed in both conditions.
      increase_factor: the growth of trials until an interval is known.
      slope_rtol: c₁.
      curv_rtol: c₂.
      approx_dec_rtol: c₃, or None for the plain decrease only.
      precision: the width below which an interval is not divided further.

    Returns:
      The search at its end. `best` is the first trial that satisfies the conditions; otherwise the lowest
      one with a sufficient decrease; otherwise the start.
    """
    real = value.dtype
    numbers = (max_step, tol, increase_factor, slope_rtol, curv_rtol, precision)
    longest, allowed, growth, c1, c2, narrow = (jnp.asarray(x).astype(real) for x in numbers)
    most = jnp.asarray(max_steps).astype(jnp.int32)
    start = Point(jnp.zeros((), real), value, slope)
    descends = (slope <= 0) & jnp.isfinite(slope)

    def errors_of(point: Point) -> tuple[Array, Array]:
        decrease = point.value - (value + c1 * point.step * slope)
        if approx_dec_rtol is not None:
            c3 = jnp.asarray(approx_dec_rtol).astype(real)
            by_slope = point.slope - (2 * c1 - 1) * slope
            rise = point.value - (value + c3 * jnp.abs(value))
            decrease = jnp.minimum(decrease, jnp.maximum(by_slope, rise))
        return decrease, jnp.abs(point.slope) - c2 * jnp.abs(slope)

    def body(search: Search) -> Search:
        value_there, slope_there, grad_there = at(search.trial)
        finite = jnp.isfinite(value_there) & jnp.isfinite(slope_there)
        point = Point(search.trial, jnp.where(finite, value_there, jnp.inf), slope_there)
        decrease, curvature = (
            jnp.where(finite, jnp.maximum(error, 0), jnp.inf) for error in errors_of(point)
        )
        too_high = (decrease > allowed) | ~finite
        accepted = ~too_high & (curvature <= allowed)

        # The new ends of the interval.
        low, high, known = search.low, search.high, search.bracketed
        worse = too_high | ((point.value >= low.value) & (known | (search.number > 0)))
        turned = point.slope * jnp.where(known, high.step - low.step, 1) >= 0
        new_low = tree.where(worse, low, point)
        new_high = tree.where(worse, point, tree.where(turned, low, high))
        discarded = tree.where(worse | turned, high, low)
        bracketed = known | worse | turned

        longer = jnp.minimum(point.step * growth, longest)
        between = _interpolate(new_low, new_high, discarded, known)
        is_best = (search.best.step == 0) | (point.value < search.best.value) | accepted
        best, best_grad = tree.where(
            ~too_high & is_best, (point, grad_there), (search.best, search.grad)
        )
        settled = bracketed & (jnp.abs(new_high.step - new_low.step) <= narrow) & (best.step > 0)
        at_limit = ~bracketed & (point.step >= longest)
        number = search.number + 1
        done = accepted | settled | at_limit | (number >= most)
        trial = jnp.where(bracketed, between, longer)
        return Search(
            number,
            trial,
            new_low,
            new_high,
            bracketed,
            done,
            best,
            best_grad,
            (decrease, curvature),
        )

    error = jnp.where(descends, jnp.zeros((), real), jnp.inf)
    first = Search(
        jnp.zeros((), jnp.int32),
        jnp.minimum(guess, longest),
        start,
        start,
        jnp.zeros((), bool),
        ~descends,
        start,
        grad,
        (error, error),
    )
    return lax.while_loop(lambda search: ~search.done, body, build.loop_carry(body, first))


def _interpolate(low: Point, high: Point, old: Point, use_cubic: Array) -> Array:
    """The next trial between two ends."""
    left, right = jnp.minimum(low.step, high.step), jnp.maximum(low.step, high.step)
    width = right - left

    def inside(x: Array, margin: float) -> Array:
        return jnp.isfinite(x) & (x >= left + margin * width) & (x <= right - margin * width)

    cubic, parabola = _cubic_minimum(low, high, old), _parabola_minimum(low, high)
    middle = jnp.where(inside(parabola, 0.1), parabola, low.step + (high.step - low.step) / 2)
    return jnp.where(use_cubic & inside(cubic, 0.2), cubic, middle)


def _parabola_minimum(a: Point, b: Point) -> Array:
    """The minimizer of the parabola through a (value and slope) and b (value); NaN or inf for none."""
    d = b.step - a.step
    return a.step - a.slope * d * d / (2 * (b.value - a.value - a.slope * d))


def _cubic_minimum(a: Point, b: Point, c: Point) -> Array:
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
