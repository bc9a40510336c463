"""BFGS: one step of the quasi-Newton method with a dense estimate of the inverse Hessian, on a vector.

d = −H·g,   x ← x + η·d by a strong Wolfe search,   s = η·d,   y = the change of g,   ρ = 1 / ⟨s, y⟩

H ← (I − ρ·s·yᵀ)·H·(I − ρ·y·sᵀ) + ρ·s·sᵀ

The first H is the identity; before its first update it is scaled by ⟨s, y⟩ / ⟨y, y⟩. A pair whose curvature
⟨s, y⟩ is not positive beyond rounding is not used; a failed search resets H.

Reference: Nocedal, Wright, "Numerical Optimization", 2006, algorithm 6.1 and equation 6.20.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from optx_aliases._line_search.zoom import strong_wolfe, tolerances
from optx_aliases._minimize.lbfgsb import SEARCH


class Estimate(NamedTuple):
    """The estimate of the inverse Hessian.

    Attributes:
      inverse: H, (n, n).
      first: whether it is the identity still, boolean scalar.
    """

    inverse: Array
    first: Array


class DenseStep(NamedTuple):
    """The result of one step.

    Attributes:
      x: the new point, (n,).
      value: the function there.
      grad: its gradient there, (n,).
      estimate: the new estimate.
      evaluations: the number of evaluations of value and gradient, int32.
      failed: whether the search found no lower point; x stays.
    """

    x: Array
    value: Array
    grad: Array
    estimate: Estimate
    evaluations: Array
    failed: Array


def first_estimate(x: Array) -> Estimate:
    """The identity."""
    return Estimate(jnp.eye(x.size, dtype=x.dtype), jnp.ones((), bool))


def bfgs_step(
    evaluate: Callable[[Array], tuple[Array, Array]],
    x: Array,
    value: Array,
    grad: Array,
    estimate: Estimate,
    max_linesearch_steps: int = 20,
) -> DenseStep:
    """One step of BFGS.

    Args:
      evaluate: returns value and gradient at a point.
      x: the current point, (n,).
      value: the function there.
      grad: its gradient there, (n,).
      estimate: the estimate of the inverse Hessian.
      max_linesearch_steps: the most evaluations.

    Returns:
      A `DenseStep`.
    """
    direction = -_product(estimate.inverse, grad)
    size = jnp.sqrt(jnp.sum(direction * direction))

    def at(step: Array) -> tuple[Array, Array, Array]:
        new_value, gradient = evaluate(x + step * direction)
        return new_value, jnp.sum(gradient * direction), gradient

    result = strong_wolfe(
        at,
        value,
        jnp.sum(direction * grad),
        grad,
        jnp.where(estimate.first, 1 / jnp.maximum(size, 1), 1),
        tolerances(
            x.dtype, max_steps=max_linesearch_steps, max_step=jnp.inf, slope_rtol=1e-4, **SEARCH
        ),
    )
    failed = result.step == 0
    new = jnp.where(failed, x, x + result.step * direction)
    new_estimate = _renewed(estimate, new - x, result.grad - grad, failed)
    return DenseStep(new, result.value, result.grad, new_estimate, result.num_steps, failed)


def _renewed(estimate: Estimate, s: Array, y: Array, failed: Array) -> Estimate:
    """H after the pair (s, y)."""
    h, first = estimate
    sy, yy = jnp.sum(s * y), jnp.sum(y * y)
    floor = jnp.finfo(s.dtype).eps * jnp.sqrt(jnp.sum(s * s)) * jnp.sqrt(yy)
    useful = (sy > floor) & (sy > jnp.finfo(s.dtype).tiny) & jnp.isfinite(floor)
    rho = 1 / jnp.where(useful, sy, 1)
    h = jnp.where(first & useful, sy / jnp.where(yy > 0, yy, 1), 1) * h
    hy = _product(h, y)
    outer = rho * s[:, None] * hy[None]
    bend = (1 + rho * jnp.sum(y * hy)) * rho
    new = h - outer - outer.T + bend * s[:, None] * s[None]
    start = first_estimate(s)
    inverse = jnp.where(useful, new, h)
    return Estimate(jnp.where(failed, start.inverse, inverse), failed | (first & ~useful))


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
