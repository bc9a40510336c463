"""Gamma variates in log-space: their distribution function, its inverse, its implicit derivative.

c = log(x/a),  x ~ Gamma(a, 1),   q its density:  log q(c) = −a·φ(c) + ½·log(a/2π) − δ(a)   (see `_special`)

At a fixed level F(c; a) = u the variate moves by dc/da = −∂ₐF/q. With ∂ₐ log q = κ − φ(c), κ = log a − ψ(a),

dc/da = −∫₀^∞ (κ − φ(c − s))·q(c − s)/q(c) ds = ∫₀^∞ (κ − φ(c + s))·q(c + s)/q(c) ds

The integral over the lighter tail has no cancellation. The ratio of densities is log-concave: scaled to
the length over which it decays by a factor of e, fixed double-exponential nodes suit every a. With 1
instead of κ − φ, the same nodes integrate the tails themselves. Below x = 1, where the decay may be slow,
Kummer's series is used, whose terms are all positive:

F = xᵃ e⁻ˣ S/Γ(a + 1),  S = Σ_k xᵏ/((a + 1)⋯(a + k)),  dc/da = −[(y − ψ(a + 1))·S + ∂ₐS + 1]/a,  y = log x

where k counts the terms, Γ is the gamma function, ψ its logarithmic derivative, δ(a) Stirling's remainder
and π the number.

References: Figurnov, Mohamed, Mnih, "Implicit Reparameterization Gradients", 2018, equation 5;
DLMF 8.7.1 for the series; Temme, "Asymptotic inversion of incomplete gamma functions", 1992, for large a;
Takahasi, Mori, "Double exponential formulas for numerical integration", 1974, for the nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy import special

from optx_core.build import common_real_dtype
from optx_estimators._errors import SecondDerivativeError
from optx_estimators._special import log_density_of_log_gamma, log_minus_digamma, phi

_TERMS = 20  # 1/20! is below the resolution of float64
_STEPS = 7  # Newton steps, from a start with an error of a few percent

Integrand = Callable[[jax.Array], jax.Array]


def _nodes(dtype: Any) -> np.ndarray:
    """Nodes r and weights w for integrals over (0, ∞) of functions that decay at least as e^(−r)."""
    low, high, n = (-2.75, 3.0, 22) if jnp.finfo(dtype).bits <= 32 else (-3.6, 3.75, 64)
    t = np.linspace(low, high, n)
    r = np.exp(t - np.exp(-t))
    return np.stack([r, r * (1 + np.exp(-t)) * (t[1] - t[0])])


def _tail(c: jax.Array, a: jax.Array, lower: jax.Array, weight: Integrand) -> jax.Array:
    """∫₀^∞ weight(c ∓ s)·q(c ∓ s)/q(c) ds, over the lower tail where `lower`, else over the upper."""
    side = jnp.where(lower, -1, 1).astype(c.dtype)
    x = a * jnp.exp(c)
    slope = jnp.maximum(side * a * jnp.expm1(c), 0)
    length = 2 / (slope + jnp.sqrt(jnp.square(slope) + 2 * x))
    r, w = jnp.asarray(_nodes(c.dtype), c.dtype)

    def add(i: int, total: jax.Array) -> jax.Array:
        # Upwards q decays as exp(−x·eˢ), so the nodes are those of eˢ − 1.
        step = length * r[i]
        s = jnp.where(lower, -step, jnp.log1p(step))
        fall = a * s * jnp.expm1(c) + x * phi(s)
        return total + w[i] * weight(c + s) * jnp.exp(-fall) / jnp.where(lower, 1, 1 + step)

    return length * lax.fori_loop(0, r.shape[0], add, jnp.zeros_like(c))


def _series(y: jax.Array, a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """S and ∂ₐS, for y < 0."""
    x = jnp.exp(y)
    term, harmonic = jnp.ones_like(x), jnp.zeros_like(x)
    S, S_a = jnp.ones_like(x), jnp.zeros_like(x)
    for k in range(1, _TERMS):
        term = term * x / (a + k)
        harmonic = harmonic + 1 / (a + k)
        S = S + term
        S_a = S_a - term * harmonic
    return S, S_a


def _regions(c: jax.Array, a: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Where the series is used, its y, where the lower tail is the lighter one, and c for the tails."""
    log_a = jnp.log(a)
    y = c + log_a
    small = y < 0
    return small, jnp.where(small, y, -1), c < 0, jnp.where(small, jnp.maximum(0, -log_a), c)


def rate_of_change(c: jax.Array, a: jax.Array) -> jax.Array:
    """dc/da at a fixed level of the distribution function."""
    small, y, lower, far = _regions(c, a)
    S, S_a = _series(y, a)
    below = -((y - special.digamma(a + 1)) * S + S_a + 1) / a
    kappa = log_minus_digamma(a)
    lower = lower & ~small
    integral = _tail(far, a, lower, lambda t: kappa - phi(t))
    return jnp.where(small, below, jnp.where(lower, -integral, integral))


def _log_tail(c: jax.Array, a: jax.Array, lower: jax.Array) -> jax.Array:
    """The logarithm of F(c) where `lower`, else of 1 − F(c)."""
    small, y, _, far = _regions(c, a)
    below = a * y - jnp.exp(y) - special.gammaln(a + 1) + jnp.log(_series(y, a)[0])
    far = jnp.where(lower, far, c)
    tail = log_density_of_log_gamma(a, far, far) + jnp.log(_tail(far, a, lower, jnp.ones_like))
    return jnp.where(lower & small, below, tail)


def _of_normal(z: jax.Array, a: jax.Array) -> jax.Array:
    """The c at the level of a standard normal z, for large a, with an error of order a^(−5/2)."""
    eta = z / jnp.sqrt(a)
    eta = eta + (-1 / 3 + eta / 36 + 7 * eta * eta / 1620) / a
    series = -1 / 6 + eta * (1 / 36 + eta * (-1 / 270 + eta * (1 / 4320 + eta / 17010)))
    return eta + eta * eta * series


def centred_log_gamma_of_uniform(u: jax.Array, a: jax.Array) -> jax.Array:
    """The c with F(c; a) = u, by Newton's method on log F or log(1 − F).

    Both logarithms are concave, so the iterates approach the root from one side.
    """
    log_a = jnp.log(a)
    log_u, log_rest = jnp.log(u), jnp.log1p(-u)
    middle = jnp.maximum(0, -log_a)  # x = max(a, 1)
    lower = log_rest > _log_tail(middle, a, jnp.zeros_like(u, dtype=bool))
    target = jnp.where(lower, log_u, log_rest)
    # Start from Wilson and Hilferty, or from a bound: F ≤ xᵃ/Γ(a + 1), and Exp(1) for a < 1.
    bound = (log_u + special.gammaln(a + 1)) / a - log_a
    cube = 1 - 1 / (9 * a) + special.ndtri(u) / (3 * jnp.sqrt(a))
    start = jnp.where(cube > 0.3, 3 * jnp.log(jnp.maximum(cube, 0.3)), bound)
    small = a < 1
    start = jnp.where(small & lower, bound, start)
    start = jnp.where(small & ~lower, jnp.log(-log_rest) - log_a, start)
    side = jnp.where(lower, 1, -1).astype(u.dtype)

    def step(_: int, c: jax.Array) -> jax.Array:
        log_tail = _log_tail(c, a, lower)
        inverse_hazard = jnp.exp(log_tail - log_density_of_log_gamma(a, c, c))
        return c - side * (log_tail - target) * inverse_hazard

    return lax.fori_loop(0, _STEPS, step, start)


def draw_centred_log_gamma(key: jax.Array, a: jax.Array, n: int) -> jax.Array:
    """Draws n samples of c; the shape of a follows the leading axis."""
    a = jnp.broadcast_to(lax.stop_gradient(a)[None], (n, *a.shape))
    key_gamma, key_normal = jax.random.split(key)
    # At large a, log x has too few digits for c, whose spread falls as 1/√a.
    large = 1e4 if jnp.finfo(a.dtype).bits <= 32 else 1e7
    moderate = jnp.minimum(a, large)
    y = jax.random.loggamma(key_gamma, moderate, a.shape, a.dtype)
    z = jax.random.normal(key_normal, a.shape, a.dtype)
    return jnp.where(a > large, _of_normal(z, jnp.maximum(a, large)), y - jnp.log(moderate))


@jax.custom_jvp
def _sealed(c: jax.Array, a: jax.Array) -> jax.Array:
    return rate_of_change(c, a)


def _refuse(primals: Any, tangents: Any) -> Any:
    del primals, tangents
    raise SecondDerivativeError(
        "implicit reparameterization of Gamma, Beta, Dirichlet and StudentT gives first derivatives "
        "only; for higher orders use score_function()"
    )


_sealed.defjvp(_refuse)


@jax.custom_jvp
def follow_concentration(c: jax.Array, a: jax.Array) -> jax.Array:
    """The c that was drawn with concentration a, as a function of a."""
    del a
    return c


@follow_concentration.defjvp
def _follow(primals: Any, tangents: Any) -> Any:
    c, a = primals
    c_dot, a_dot = tangents
    return c, c_dot + _sealed(c, a) * a_dot


def implicit_log_gamma(
    key: jax.Array, concentration: Any, shape: tuple[int, ...] | None = None
) -> jax.Array:
    """The logarithm of Gamma variates, differentiable with respect to the concentration.

    The derivative is exact where the variate itself underflows, and at large concentrations:
    E log x has the derivative ψ′(a) from a = 0.001 to 1e9.

    Args:
      key: a PRNG key.
      concentration: a > 0, of any shape.
      shape: the shape of the result, which must end in the shape of `concentration`; that shape by
        default.

    Returns:
      log x with x ~ Gamma(a, 1), in at least float32.

    Raises:
      ValueError: if `shape` does not end in the shape of `concentration`.
      SecondDerivativeError: if differentiated twice.

    Example:
      >>> import jax
      >>> from optx_estimators import implicit_log_gamma
      >>> def mean(a):
      ...     return implicit_log_gamma(jax.random.key(0), a, (100_000,)).mean()
      >>> grad = jax.grad(mean)(0.01)   # ψ′(0.01) = 10001.6
      >>> bool(abs(grad / 10001.6 - 1) < 0.02)
      True
    """
    a = jnp.asarray(concentration)
    a = a.astype(common_real_dtype(a.dtype))
    shape = a.shape if shape is None else tuple(shape)
    extra = len(shape) - a.ndim
    if extra < 0 or shape[extra:] != a.shape:
        raise ValueError(
            f"implicit_log_gamma: shape {shape} must end in the concentration's shape {a.shape}"
        )
    spread = jnp.broadcast_to(jnp.expand_dims(a, tuple(range(extra))), shape)
    c = draw_centred_log_gamma(key, spread, 1)[0]
    return follow_concentration(lax.stop_gradient(c), spread) + jnp.log(spread)
