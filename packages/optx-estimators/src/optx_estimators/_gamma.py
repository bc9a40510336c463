"""Gamma, Beta and Dirichlet, from logarithms of Gamma variates that follow their concentration.

Gamma:     log x = y − log rate,        y ~ log Gamma(concentration, 1)
Beta:      x = σ(y₁ − y₀)
Dirichlet: x = softmax(y)

In log-space nothing underflows; `log_space=True` makes log x the event. See `_implicit`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy import special

from optx_estimators._distribution import Distribution, real
from optx_estimators._implicit import follow_concentration


def _draw(key: jax.Array, a: jax.Array, n: int) -> jax.Array:
    a = jnp.broadcast_to(lax.stop_gradient(a)[None], (n, *a.shape))
    return jax.random.loggamma(key, a, a.shape, a.dtype)


class Gamma(Distribution):
    """Independent Gamma variates, as one event.

    Args:
      concentration: a > 0, of any shape, which is the event's.
      rate: b > 0, of that shape or a scalar; the mean is a/b.
      log_space: whether the event is log x instead of x. Where a is below about 0.1, x underflows
        in float32 and its logarithm does not.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import Gamma
      >>> bool(jnp.isclose(Gamma(1.0, 1.0).log_prob(jnp.array(2.0)), -2.0))
      True
    """

    shaped_as: ClassVar[str] = "rate"

    def __init__(self, concentration: Any, rate: Any = 1.0, *, log_space: bool = False) -> None:
        self.concentration, self.rate = real("Gamma", concentration=concentration, rate=rate)
        self.log_space = log_space

    def draw_base(self, key: jax.Array, n: int) -> jax.Array:
        """y, drawn at the present concentration."""
        return _draw(key, self.concentration, n)

    def transform(self, z: jax.Array) -> jax.Array:
        """One sample from one base noise."""
        log_x = follow_concentration(z, self.concentration) - jnp.log(self.rate)
        return log_x if self.log_space else jnp.exp(log_x)

    def event_log_prob(self, x: jax.Array) -> jax.Array:
        """a·log b + (a − 1)·log x − b·x − log Γ(a), summed."""
        x, a = x.astype(self.dtype), self.concentration
        power = a * x if self.log_space else special.xlogy(a - 1, x)
        x = jnp.exp(x) if self.log_space else x
        return jnp.sum(a * jnp.log(self.rate) + power - self.rate * x - special.gammaln(a))


class Beta(Distribution):
    """Independent Beta variates, as one event.

    Args:
      concentration1: a > 0, of any shape, which is the event's.
      concentration0: b > 0, of that shape or a scalar; the mean is a/(a + b).
      log_space: whether the event is log x instead of x.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import Beta
      >>> bool(jnp.isclose(Beta(2.0, 1.0).log_prob(jnp.array(0.5)), 0.0, atol=1e-6))
      True
    """

    shaped_as: ClassVar[str] = "concentration1"

    def __init__(
        self, concentration1: Any, concentration0: Any, *, log_space: bool = False
    ) -> None:
        self.concentration1, self.concentration0 = real(
            "Beta", concentration1=concentration1, concentration0=concentration0
        )
        self.log_space = log_space

    @property
    def base_shape(self) -> tuple[int, ...]:
        """Two Gamma variates for each entry."""
        return (2, *self.event_shape)

    def _concentrations(self) -> jax.Array:
        return jnp.stack([self.concentration1, self.concentration0])

    def draw_base(self, key: jax.Array, n: int) -> jax.Array:
        """y₁ and y₀, drawn at the present concentrations."""
        return _draw(key, self._concentrations(), n)

    def transform(self, z: jax.Array) -> jax.Array:
        """One sample from one base noise."""
        y = follow_concentration(z, self._concentrations())
        difference = y[0] - y[1]
        return jax.nn.log_sigmoid(difference) if self.log_space else jax.nn.sigmoid(difference)

    def event_log_prob(self, x: jax.Array) -> jax.Array:
        """(a − 1)·log x + (b − 1)·log(1 − x) − log B(a, b), summed."""
        x = x.astype(self.dtype)
        a, b = self.concentration1, self.concentration0
        log_beta = special.gammaln(a) + special.gammaln(b) - special.gammaln(a + b)
        if self.log_space:
            rest = special.xlog1py(b - 1, -jnp.exp(x))
            return jnp.sum(a * x + rest - log_beta)
        return jnp.sum(special.xlogy(a - 1, x) + special.xlog1py(b - 1, -x) - log_beta)


class Dirichlet(Distribution):
    """Independent points of a simplex, as one event of shape (..., K).

    Args:
      concentration: α > 0, of shape (..., K).
      log_space: whether the event is log x instead of x; `log_prob` stays the density of x.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import Dirichlet
      >>> bool(jnp.isclose(Dirichlet(jnp.ones(3)).log_prob(jnp.array([0.2, 0.3, 0.5])), jnp.log(2.0)))
      True
    """

    shaped_as: ClassVar[str] = "concentration"

    def __init__(self, concentration: Any, *, log_space: bool = False) -> None:
        (self.concentration,) = real("Dirichlet", concentration=concentration)
        if self.concentration.ndim == 0:
            raise ValueError("Dirichlet: the last axis holds the K entries; a scalar has none")
        self.log_space = log_space

    def draw_base(self, key: jax.Array, n: int) -> jax.Array:
        """y, drawn at the present concentrations."""
        return _draw(key, self.concentration, n)

    def transform(self, z: jax.Array) -> jax.Array:
        """One sample from one base noise."""
        y = follow_concentration(z, self.concentration)
        return jax.nn.log_softmax(y) if self.log_space else jax.nn.softmax(y)

    def event_log_prob(self, x: jax.Array) -> jax.Array:
        """Log Γ(Σα) − Σ log Γ(α) + Σ(α − 1)·log x, summed over the leading axes."""
        x = x.astype(self.dtype)
        a = self.concentration
        power = (a - 1) * x if self.log_space else special.xlogy(a - 1, x)
        log_norm = special.gammaln(jnp.sum(a, axis=-1)) - jnp.sum(special.gammaln(a), axis=-1)
        return jnp.sum(log_norm) + jnp.sum(power)
