"""Special functions that stay accurate at large parameters, where differences of log Γ cancel.

log Γ(a) = (a − ½)·log a − a + ½·log 2π + δ(a),   δ(a) = 1/(12a) − 1/(360a³) + …  (Stirling)
φ(l) = eˡ − 1 − l,                                 about l²/2 near 0

The log-density of log t for t ~ Gamma(a, 1) is then a sum of small terms, with l = log(t/a):

a·log t − t − log Γ(a) = −a·φ(l) + ½·log(a/2π) − δ(a)

All functions have derivatives of every order.

References: Loader, "Fast and Accurate Computation of Binomial Probabilities", 2000, for the saddle-point
form; DLMF 5.11.1 and 5.11.13 for the series.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy import special

# Coefficients of a^(−1), a^(−3), …
_STIRLING = (
    1 / 12,
    -1 / 360,
    1 / 1260,
    -1 / 1680,
    1 / 1188,
    -691 / 360360,
    1 / 156,
    -3617 / 122400,
)
_HALF_STEP = (-1 / 8, 1 / 192, -1 / 640, 17 / 14336, -31 / 18432, 691 / 180224, -5461 / 425984)


def _odd_series(coefficients: tuple[float, ...], a: jax.Array) -> jax.Array:
    """Σ_k c_k·a^(−2k−1)."""
    inverse = 1 / a
    square, total = inverse * inverse, jnp.zeros_like(a)
    for c in reversed(coefficients):
        total = total * square + c
    return total * inverse


def _split(a: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Whether to use the series, a where they are not used, and a where they are; harmless elsewhere."""
    enough = 3 if jnp.finfo(a.dtype).bits <= 32 else 10  # the error is below the resolution
    large = a > enough
    return large, jnp.where(large, 1, a), jnp.where(large, a, 2 * enough)


def stirling_error(a: jax.Array) -> jax.Array:
    """δ(a) = log Γ(a) − (a − ½)·log a + a − ½·log 2π, for a > 0."""
    large, small, far = _split(a)
    near = special.gammaln(small) - (small - 0.5) * jnp.log(small) + small
    return jnp.where(large, _odd_series(_STIRLING, far), near - 0.5 * math.log(2 * math.pi))


def log_minus_digamma(a: jax.Array) -> jax.Array:
    """The difference log a − ψ(a), about 1/(2a) for large a."""
    large, small, far = _split(a)
    slopes = tuple((2 * k + 1) * c for k, c in enumerate(_STIRLING))
    series = (0.5 + _odd_series(slopes, far)) / far
    return jnp.where(large, series, jnp.log(small) - special.digamma(small))


def half_step(a: jax.Array) -> jax.Array:
    """The difference log Γ(a + ½) − log Γ(a) − ½·log a, for a > 0."""
    large, small, far = _split(a)
    near = special.gammaln(small + 0.5) - special.gammaln(small) - 0.5 * jnp.log(small)
    return jnp.where(large, _odd_series(_HALF_STEP, far), near)


@jax.custom_jvp
def phi(l: jax.Array) -> jax.Array:
    """eˡ − 1 − l, exact near 0."""
    near = jnp.abs(l) < 0.5
    s = jnp.where(near, l, 0)
    total = jnp.zeros_like(s)
    for k in range(14, -1, -1):
        total = total * s + 1 / math.factorial(k + 2)
    return jnp.where(near, s * s * total, jnp.expm1(l) - l)


@phi.defjvp
def _phi_jvp(primals: Any, tangents: Any) -> Any:
    (l,), (dot,) = primals, tangents
    return phi(l), jnp.expm1(l) * dot


@jax.custom_jvp
def log_ratio(x: jax.Array, y: jax.Array) -> jax.Array:
    """The logarithm of x/y, for positive numbers of one shape; exact where they are close."""
    near = (x > 0.5 * y) & (x < 2 * y)
    close = jnp.log1p(jnp.where(near, x - y, 0) / jnp.where(near, y, 1))
    return jnp.where(near, close, jnp.log(x) - jnp.log(y))


@log_ratio.defjvp
def _log_ratio_jvp(primals: Any, tangents: Any) -> Any:
    (x, y), (x_dot, y_dot) = primals, tangents
    return log_ratio(x, y), x_dot / x - y_dot / y


@jax.custom_jvp
def quotient(x: jax.Array, y: jax.Array) -> jax.Array:
    """x/y, whose derivative in y is −(x/y)/y: y² does not underflow."""
    return x / y


@quotient.defjvp
def _quotient_jvp(primals: Any, tangents: Any) -> Any:
    (x, y), (x_dot, y_dot) = primals, tangents
    q = quotient(x, y)
    return q, (x_dot - q * y_dot) / y


@jax.custom_jvp
def log_density_of_log_gamma(a: jax.Array, l: jax.Array, log_t: jax.Array) -> jax.Array:
    """a·log t − t − log Γ(a), the log-density of log t for t ~ Gamma(a, 1).

    Args:
      a: the concentration.
      l: log(t/a), for the value.
      log_t: log t, for the derivative only: through l, large terms would cancel.
    """
    del log_t
    return 0.5 * jnp.log(a / (2 * math.pi)) - stirling_error(a) - a * phi(l)


@log_density_of_log_gamma.defjvp
def _log_density_jvp(primals: Any, tangents: Any) -> Any:
    (a, l, log_t), (a_dot, _, log_t_dot) = primals, tangents
    slope = (l + log_minus_digamma(a)) * a_dot - a * jnp.expm1(l) * log_t_dot
    return log_density_of_log_gamma(a, l, log_t), slope


def log1p_of_square(x: jax.Array) -> jax.Array:
    """The logarithm of 1 + x², also where x² overflows."""
    far = jnp.abs(x) > 1e9
    near = jnp.log1p(jnp.square(jnp.where(far, 0, x)))
    return jnp.where(far, 2 * jnp.log(jnp.abs(jnp.where(far, x, 1))), near)


# Gauss–Legendre nodes for ∫₀¹ dt/(1 + st): exact in float64 for 0 ≤ s ≤ ½, with all its derivatives.
_NODES = tuple(
    (0.5 * (1 + x), 0.5 * w)
    for x, w in (
        (-0.9602898564975363, 0.10122853629037626),
        (-0.7966664774136267, 0.22238103445337448),
        (-0.525532409916329, 0.31370664587788727),
        (-0.1834346424956498, 0.362683783378362),
        (0.1834346424956498, 0.362683783378362),
        (0.525532409916329, 0.31370664587788727),
        (0.7966664774136267, 0.22238103445337448),
        (0.9602898564975363, 0.10122853629037626),
    )
)


def log1p_over(s: jax.Array) -> jax.Array:
    """The quotient log(1 + s)/s for s ≥ 0, with derivatives that are exact near 0."""
    near = s < 0.5
    small, large = jnp.where(near, s, 0), jnp.where(near, 1, s)
    series = jnp.zeros_like(s)
    for node, weight in _NODES:
        series = series + weight / (1 + node * small)
    return jnp.where(near, series, jnp.log1p(large) / large)


@jax.custom_jvp
def exp_inside(l: jax.Array) -> jax.Array:
    """eˡ, clipped to positive finite numbers.

    The derivative is the number returned, so that log(exp_inside(l)) has the derivative 1 also where eˡ
    underflows. The upper limit is below the largest number, so that products with the derivative are finite.
    """
    info = jnp.finfo(l.dtype)
    high = math.log(float(info.max)) - 23
    return jnp.maximum(jnp.exp(jnp.minimum(l, high)), info.tiny)


@exp_inside.defjvp
def _exp_inside_jvp(primals: Any, tangents: Any) -> Any:
    (l,), (dot,) = primals, tangents
    x = exp_inside(l)
    return x, x * dot


@jax.custom_jvp
def sigmoid_inside(d: jax.Array) -> jax.Array:
    """σ(d), clipped to numbers strictly between 0 and 1; see `exp_inside`."""
    info = jnp.finfo(d.dtype)
    return jnp.clip(jax.nn.sigmoid(d), info.tiny, 1 - float(info.epsneg))


@sigmoid_inside.defjvp
def _sigmoid_inside_jvp(primals: Any, tangents: Any) -> Any:
    (d,), (dot,) = primals, tangents
    x = sigmoid_inside(d)
    return x, x * (1 - x) * dot
