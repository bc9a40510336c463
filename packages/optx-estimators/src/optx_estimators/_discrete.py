"""Discrete distributions, as one event of independent coordinates.

Bernoulli:   x = 1[u < θ],           θ = σ(φ)
Categorical: x = #{k : Σ_{j≤k} π_j ≤ u},   π = softmax(φ); one-hot or an integer
Poisson:     x ~ Poisson(λ)

with u ~ U(0, 1). Samples are constants: they do not move with the parameters.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy import special

from optx_estimators._distribution import Distribution, real

_FAR = 1e30  # stands for infinite logits, which times 0 would not be a number


class Bernoulli(Distribution):
    """Independent coin flips, as one event. Samples are 0 and 1 of the parameters' dtype.

    Args:
      logits: φ = log θ − log(1 − θ), of any shape, which is the event's.
      probs: θ, instead of `logits`.

    Raises:
      TypeError: unless exactly one of the two is given.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import Bernoulli
      >>> Bernoulli(probs=0.25).log_prob(jnp.array(1.0))
      Array(-1.3862944, dtype=float32)
    """

    discrete: ClassVar[bool] = True
    reparameterized: ClassVar[bool] = False
    shaped_as: ClassVar[str] = "probs"

    def __init__(self, logits: Any = None, probs: Any = None) -> None:
        if (logits is None) == (probs is None):
            raise TypeError("Bernoulli: give either logits or probs")
        if probs is None:
            (self.logits,) = real("Bernoulli", logits=logits)
            self.probs = jax.nn.sigmoid(self.logits)
        else:
            (self.probs,) = real("Bernoulli", probs=probs)
            self.logits = jnp.log(self.probs) - jnp.log1p(-self.probs)
        self._by_probs = probs is not None

    def base_from_uniform(self, u: jax.Array) -> jax.Array:
        """The uniform numbers themselves."""
        return u

    def transform(self, z: jax.Array) -> jax.Array:
        """One sample from one base noise."""
        return (z < lax.stop_gradient(self.probs)).astype(self.dtype)

    def event_log_prob(self, x: jax.Array) -> jax.Array:
        """x·log θ + (1 − x)·log(1 − θ), summed; linear in x between 0 and 1."""
        x = x.astype(self.dtype)
        if self._by_probs:
            return jnp.sum(special.xlogy(x, self.probs) + special.xlog1py(1 - x, -self.probs))
        logits = jnp.clip(self.logits, -_FAR, _FAR)
        return -jnp.sum(x * jax.nn.softplus(-logits) + (1 - x) * jax.nn.softplus(logits))


class OneHotCategorical(Distribution):
    """Independent choices among K, each a one-hot row; as one event of shape (..., K).

    Args:
      logits: φ, of shape (..., K); need not be normalized.
      probs: π, instead of `logits`.

    Raises:
      TypeError: unless exactly one of the two is given.
      ValueError: if it is a scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import OneHotCategorical
      >>> OneHotCategorical(jnp.zeros((2, 4))).log_prob(jnp.eye(4)[:2])
      Array(-2.7725887, dtype=float32)
    """

    discrete: ClassVar[bool] = True
    reparameterized: ClassVar[bool] = False
    shaped_as: ClassVar[str] = "logits"
    one_hot: ClassVar[bool] = True

    def __init__(self, logits: Any = None, probs: Any = None) -> None:
        name = type(self).__name__
        if (logits is None) == (probs is None):
            raise TypeError(f"{name}: give either logits or probs")
        (given,) = real(name, given=logits if probs is None else probs)
        if given.ndim == 0:
            raise ValueError(f"{name}: the last axis holds the choices; a scalar has none")
        self.logits = jax.nn.log_softmax(given if probs is None else jnp.log(given))

    @property
    def probs(self) -> jax.Array:
        """π = softmax(φ)."""
        return jnp.exp(self.logits)

    @property
    def choices(self) -> int:
        """K."""
        return self.logits.shape[-1]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.logits.shape if self.one_hot else self.logits.shape[:-1]

    @property
    def base_shape(self) -> tuple[int, ...]:
        """One uniform number for each choice made."""
        return self.logits.shape[:-1]

    def base_from_uniform(self, u: jax.Array) -> jax.Array:
        """The uniform numbers themselves."""
        return u

    def transform(self, z: jax.Array) -> jax.Array:
        """One sample from one base noise."""
        below = jnp.cumsum(lax.stop_gradient(self.probs), axis=-1)[..., :-1] <= z[..., None]
        index = jnp.sum(below, axis=-1, dtype=jnp.int32)
        return jax.nn.one_hot(index, self.choices, dtype=self.dtype) if self.one_hot else index

    def event_log_prob(self, x: jax.Array) -> jax.Array:
        """Log π of the choices, summed; linear in one-hot rows."""
        if not self.one_hot:
            x = jax.nn.one_hot(x, self.choices, dtype=self.dtype)
        return jnp.sum(x.astype(self.dtype) * jnp.maximum(self.logits, -_FAR))


class Categorical(OneHotCategorical):
    """Independent choices among K, each an int32 index; as one event of shape (...).

    Args:
      logits: φ, of shape (..., K); need not be normalized.
      probs: π, instead of `logits`.

    Raises:
      TypeError: unless exactly one of the two is given.
      ValueError: if it is a scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import Categorical
      >>> Categorical(jnp.zeros(4)).log_prob(jnp.array(2))
      Array(-1.3862944, dtype=float32)
    """

    one_hot: ClassVar[bool] = False


class Poisson(Distribution):
    """Independent counts, as one event. Samples are whole numbers in the parameters' dtype.

    Args:
      rate: λ > 0, the mean, of any shape, which is the event's.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import Poisson
      >>> bool(jnp.isclose(Poisson(2.0).log_prob(jnp.array(0.0)), -2.0))
      True
    """

    discrete: ClassVar[bool] = True
    reparameterized: ClassVar[bool] = False
    shaped_as: ClassVar[str] = "rate"

    def __init__(self, rate: Any) -> None:
        (self.rate,) = real("Poisson", rate=rate)

    def draw_base(self, key: jax.Array, n: int) -> jax.Array:
        """The counts themselves."""
        rate = lax.stop_gradient(self.rate)
        rate = jnp.broadcast_to(rate[None], (n, *rate.shape))
        return jax.random.poisson(key, rate, rate.shape).astype(self.dtype)

    def transform(self, z: jax.Array) -> jax.Array:
        """One sample from one base noise."""
        return z

    def event_log_prob(self, x: jax.Array) -> jax.Array:
        """x·log λ − λ − log x!, summed."""
        x = x.astype(self.dtype)
        return jnp.sum(special.xlogy(x, self.rate) - self.rate - special.gammaln(x + 1))
