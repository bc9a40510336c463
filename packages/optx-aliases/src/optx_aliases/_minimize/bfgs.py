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

from optx_aliases._line_search.line import inverse_curvature
from optx_aliases._minimize.step import Step, nonzero, searched


class Estimate(NamedTuple):
    """The estimate of the inverse Hessian.

    Attributes:
      inverse: H, (n, n).
      first: whether it is the identity still, boolean scalar.
    """

    inverse: Array
    first: Array


def first_estimate(x: Array) -> Estimate:
    """The identity."""
    return Estimate(jnp.eye(x.size, dtype=x.dtype), jnp.ones((), bool))


def bfgs_step(evaluate: Callable[[Array], tuple[Array, Array]], old: Step) -> Step:
    """One step of BFGS.

    Args:
      evaluate: returns value and gradient at a point.
      old: the last step; x and the gradient are vectors (n,), the state is an `Estimate`.

    Returns:
      The next one.
    """
    direction = -_product(old.state.inverse, old.grad)
    size = jnp.sqrt(jnp.sum(direction * direction))

    def renew(s: Array, y: Array, failed: Array) -> Estimate:
        return _renewed(old.state, s, y, failed)

    guess = jnp.where(old.state.first, 1 / jnp.maximum(size, 1), 1)
    return searched(evaluate, old, lambda step: old.x + step * direction, direction, guess, renew)


def _renewed(estimate: Estimate, s: Array, y: Array, failed: Array) -> Estimate:
    """H after the pair (s, y)."""
    h, first = estimate
    sy, ss, yy = jnp.sum(s * y), jnp.sum(s * s), jnp.sum(y * y)
    rho = inverse_curvature(sy, ss, yy)
    useful = rho > 0
    h = jnp.where(first & useful, sy / nonzero(yy), 1) * h
    hy = _product(h, y)
    outer = rho * s[:, None] * hy[None]
    bend = (1 + rho * jnp.sum(y * hy)) * rho
    new = h - outer - outer.T + bend * s[:, None] * s[None]
    inverse = jnp.where(useful, new, h)
    start = first_estimate(s)
    return Estimate(jnp.where(failed, start.inverse, inverse), failed | (first & ~useful))


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
