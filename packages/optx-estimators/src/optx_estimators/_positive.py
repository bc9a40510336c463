"""Waiting times, as one event of independent coordinates.

Exponential: x = e/rate,               e ~ Exp(1)
Weibull:     x = scale·e^(1/concentration)
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy import special

from optx_estimators._distribution import Distribution, real
from optx_estimators._special import exp_inside, log_ratio, quotient


class _Waiting(Distribution):
    """A family whose base noise is e ~ Exp(1)."""

    def base_from_uniform(self, u: jax.Array) -> jax.Array:
        """The inverse distribution function, −log(1 − u)."""
        return -jnp.log1p(-u)


class Exponential(_Waiting):
    """Independent exponential waiting times, as one event.

    Args:
      rate: λ > 0, of any shape, which is the event's; the mean is 1/λ.

    Raises:
      TypeError: if `rate` is complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import Exponential
      >>> Exponential(1.0).log_prob(jnp.array(2.0))
      Array(-2., dtype=float32)
    """

    shaped_as: ClassVar[str] = "rate"

    def __init__(self, rate: Any) -> None:
        (self.rate,) = real("Exponential", rate=rate)

    def transform(self, z: jax.Array) -> jax.Array:
        """One sample from its base noise."""
        return quotient(z, self.rate)

    def event_log_prob(self, x: jax.Array) -> jax.Array:
        """Log λ − λx, summed."""
        x = x.astype(self.dtype)
        log_prob = jnp.log(self.rate) - self.rate * x
        return jnp.sum(jnp.where(x >= 0, log_prob, -jnp.inf))

    def base_log_prob(self, z: jax.Array, drawn_from: Exponential) -> jax.Array:
        """The log-density of the event that `drawn_from` computes from base noise."""
        excess = jnp.exp(log_ratio(self.rate, lax.stop_gradient(drawn_from.rate)))
        return jnp.sum(jnp.log(self.rate) - excess * lax.stop_gradient(z))


class Weibull(_Waiting):
    """Independent Weibull waiting times, as one event.

    Args:
      scale: λ > 0, of any shape, which is the event's.
      concentration: k > 0, of that shape or a scalar: P(x > t) = exp(−(t/λ)^k).

    Raises:
      ValueError: if the shapes differ.
      TypeError: if a parameter is complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import Weibull
      >>> Weibull(1.0, 1.0).log_prob(jnp.array(2.0))
      Array(-2., dtype=float32)
    """

    shaped_as: ClassVar[str] = "scale"

    def __init__(self, scale: Any, concentration: Any) -> None:
        self.scale, self.concentration = real("Weibull", scale=scale, concentration=concentration)

    def transform(self, z: jax.Array) -> jax.Array:
        """One sample from its base noise, inside the positive numbers."""
        l = quotient(jnp.log(z), self.concentration)
        near = jnp.abs(l) < 1
        plain = self.scale * jnp.exp(jnp.where(near, l, 0))
        return jnp.where(near, plain, exp_inside(l + jnp.log(self.scale)))

    def event_log_prob(self, x: jax.Array) -> jax.Array:
        """Log k − log λ + (k − 1)·log(x/λ) − (x/λ)^k, summed."""
        x, k = x.astype(self.dtype), self.concentration
        inside = x > 0
        safe = jnp.where(inside, x, 1)
        body = self._log_prob(k * log_ratio(safe, self.scale)) - jnp.log(safe)
        zero = jnp.where(x == 0, 0, 1).astype(k.dtype)
        limit = jnp.log(k) - k * jnp.log(self.scale) + special.xlogy(k - 1, zero)
        return jnp.sum(jnp.where(inside, body, jnp.where(x == 0, limit, -jnp.inf)))

    def _log_prob(self, power: jax.Array) -> jax.Array:
        """The log-density of log x, given k·log(x/λ)."""
        return jnp.log(self.concentration) + power - jnp.exp(power)

    def base_log_prob(self, z: jax.Array, drawn_from: Weibull) -> jax.Array:
        """The log-density of the event that `drawn_from` computes from base noise."""
        log_z = lax.stop_gradient(jnp.log(z))
        scale, k = (lax.stop_gradient(p) for p in (drawn_from.scale, drawn_from.concentration))
        ratio = log_z * jnp.exp(log_ratio(self.concentration, k))
        power = ratio - self.concentration * log_ratio(self.scale, scale)
        return jnp.sum(self._log_prob(power) - log_z / k - jnp.log(scale))
