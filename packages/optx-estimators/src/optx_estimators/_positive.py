"""Waiting times, as one event of independent coordinates.

Exponential: x = e/rate,               e ~ Exp(1)
Weibull:     x = scale·e^(1/concentration)
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from optx_estimators._distribution import Distribution, real


class Exponential(Distribution):
    """Independent exponential waiting times, as one event.

    Args:
      rate: λ > 0, of any shape, which is the event's; the mean is 1/λ.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import Exponential
      >>> Exponential(1.0).log_prob(jnp.array(2.0))
      Array(-2., dtype=float32)
    """

    shaped_as: ClassVar[str] = "rate"

    def __init__(self, rate: Any) -> None:
        (self.rate,) = real("Exponential", rate=rate)

    def base_from_uniform(self, u: jax.Array) -> jax.Array:
        """E = −log(1 − u)."""
        return -jnp.log1p(-u)

    def draw_base(self, key: jax.Array, n: int) -> jax.Array:
        """E ~ Exp(1)."""
        return jax.random.exponential(key, (n, *self.event_shape), self.dtype)

    def transform(self, z: jax.Array) -> jax.Array:
        """One sample from one base noise."""
        return z / self.rate

    def event_log_prob(self, x: jax.Array) -> jax.Array:
        """Log λ − λx, summed."""
        return jnp.sum(jnp.log(self.rate) - self.rate * x.astype(self.dtype))


class Weibull(Distribution):
    """Independent Weibull waiting times, as one event.

    Args:
      scale: λ > 0, of any shape, which is the event's.
      concentration: k > 0, of that shape or a scalar: P(x > t) = exp(−(t/λ)^k).

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import Weibull
      >>> Weibull(1.0, 1.0).log_prob(jnp.array(2.0))
      Array(-2., dtype=float32)
    """

    shaped_as: ClassVar[str] = "scale"

    def __init__(self, scale: Any, concentration: Any) -> None:
        self.scale, self.concentration = real("Weibull", scale=scale, concentration=concentration)

    def base_from_uniform(self, u: jax.Array) -> jax.Array:
        """E = −log(1 − u)."""
        return -jnp.log1p(-u)

    def draw_base(self, key: jax.Array, n: int) -> jax.Array:
        """E ~ Exp(1)."""
        tiny = jnp.finfo(self.dtype).tiny
        return jnp.maximum(jax.random.exponential(key, (n, *self.event_shape), self.dtype), tiny)

    def transform(self, z: jax.Array) -> jax.Array:
        """One sample from one base noise."""
        return self.scale * jnp.exp(jnp.log(z) / self.concentration)

    def event_log_prob(self, x: jax.Array) -> jax.Array:
        """Log k − k·log λ + (k − 1)·log x − (x/λ)^k, summed."""
        k, log_x = self.concentration, jnp.log(x.astype(self.dtype))
        log_ratio = log_x - jnp.log(self.scale)
        return jnp.sum(jnp.log(k) - log_x + k * log_ratio - jnp.exp(k * log_ratio))
