"""Gamma variates that move with their concentration, in log-space, by implicit differentiation.

y = log x,  x ~ Gamma(a, 1).  The level F(y; a) = u held fixed gives dy/da = −∂ₐF / ∂ᵧF.

With F = xᵃ e⁻ˣ S/Γ(a + 1),  S = Σ_k xᵏ / ((a + 1)⋯(a + k))  (Kummer's series, all terms positive),

dy/da = −[(y − ψ(a + 1))·S + ∂ₐS] / a,   ∂ₐS = −Σ_k xᵏ / ((a + 1)⋯(a + k)) · Σ_{j≤k} 1/(a + j)

which for x → 0 is (ψ(a + 1) − y)/a, exact where x itself is 0 in floating point. It serves where x < 1;
above, where xᵃ is no trouble, `jax.lax.random_gamma_grad` does.

References: Figurnov, Mohamed, Mnih, "Implicit Reparameterization Gradients", 2018, equation 5;
DLMF 8.7.1 for the series.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy import special

from optx_core.build import common_real_dtype
from optx_estimators._errors import SecondDerivativeError

_TERMS = 20  # 1/20! is below the resolution of float64


def _rate_of_change(y: jax.Array, a: jax.Array) -> jax.Array:
    """dy/da at a fixed level of the distribution function."""
    small = y < 0
    x = jnp.exp(jnp.where(small, y, 0))
    term, harmonic = jnp.ones_like(x), jnp.zeros_like(x)
    S, S_a = jnp.ones_like(x), jnp.zeros_like(x)
    for k in range(1, _TERMS):
        term = term * x / (a + k)
        harmonic = harmonic + 1 / (a + k)
        S = S + term
        S_a = S_a - term * harmonic
    series = -((y - special.digamma(a + 1)) * S + S_a) / a
    large_x = jnp.exp(jnp.where(small, 0, y))
    return jnp.where(small, series, lax.random_gamma_grad(a, large_x) / large_x)


@jax.custom_jvp
def _sealed(y: jax.Array, a: jax.Array) -> jax.Array:
    return _rate_of_change(y, a)


def _refuse(primals: Any, tangents: Any) -> Any:
    del primals, tangents
    raise SecondDerivativeError(
        "implicit reparameterization of Gamma, Beta and Dirichlet gives first derivatives only; "
        "for higher orders use score_function()"
    )


_sealed.defjvp(_refuse)


@jax.custom_jvp
def follow_concentration(y: jax.Array, a: jax.Array) -> jax.Array:
    """Log x as drawn with concentration a, now a function of a."""
    del a
    return y


@follow_concentration.defjvp
def _follow(primals: Any, tangents: Any) -> Any:
    y, a = primals
    y_dot, a_dot = tangents
    return y, y_dot + _sealed(y, a) * a_dot


def implicit_log_gamma(
    key: jax.Array, concentration: Any, shape: tuple[int, ...] | None = None
) -> jax.Array:
    """The logarithm of Gamma variates, differentiable with respect to the concentration.

    Right where the variate itself underflows: E log x has the derivative ψ′(a) at a = 0.001 too,
    where the gradient of `jax.random.loggamma` is not.

    Args:
      key: a PRNG key.
      concentration: a > 0, of any shape.
      shape: of the result; must end in the shape of `concentration`, and is that by default.

    Returns:
      log x, x ~ Gamma(a, 1), at least float32.

    Raises:
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
    if shape[len(shape) - a.ndim :] != a.shape:
        raise ValueError(
            f"implicit_log_gamma: shape {shape} must end in the concentration's, {a.shape}"
        )
    spread = jnp.broadcast_to(jnp.expand_dims(a, tuple(range(len(shape) - a.ndim))), shape)
    y = jax.random.loggamma(key, lax.stop_gradient(spread), shape, spread.dtype)
    return follow_concentration(lax.stop_gradient(y), spread)
