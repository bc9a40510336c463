"""Discrete distributions, as one event of independent coordinates.

Bernoulli:   x = 1[u < θ],           θ = σ(φ)
Categorical: x = #{k : Σ_{j≤k} π_j ≤ u},   π = softmax(φ); one-hot or an integer
Poisson:     x ~ Poisson(λ)

with u ~ U(0, 1), θ and π the probabilities of 1 and of category j or k, φ their logits, σ the sigmoid and λ
the rate. Samples are constants: they do not move with the parameters. Only the probabilities of outcomes
that occur enter a logarithm: masking log 0 after differentiation gives NaN.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from optx_estimators._distribution import Distribution, real
from optx_estimators._special import log_density_of_log_gamma, log_ratio


def _given(where: str, logits: Any, probs: Any) -> jax.Array:
    """The one of the two that was given."""
    if (logits is None) == (probs is None):
        raise TypeError(f"{where}: give either logits or probs")
    (given,) = real(where, logits=logits) if probs is None else real(where, probs=probs)
    return given


def _log(p: jax.Array) -> jax.Array:
    """The logarithm of p, whose derivative at 0 is 0."""
    possible = p > 0
    return jnp.where(possible, jnp.log(jnp.where(possible, p, 1)), -jnp.inf)


def _times(x: jax.Array, log_p: jax.Array) -> jax.Array:
    """x·log p; 0 where x is 0, for every log p."""
    occurs = x != 0
    return jnp.where(occurs, x * jnp.where(occurs, log_p, 0), 0)


class Finite(Distribution):
    """A family with finitely many outcomes."""

    discrete: ClassVar[bool] = True
    reparameterized: ClassVar[bool] = False

    def base_from_uniform(self, u: jax.Array) -> jax.Array:
        """The uniform numbers themselves."""
        return u

    def event_prob(self, x: jax.Array) -> jax.Array:
        """The probability of one event; its derivative is exact also at probability 0."""
        raise NotImplementedError


class Bernoulli(Finite):
    """Independent coin flips, as one event. Samples are 0 and 1 in the parameters' dtype.

    Args:
      logits: φ = log θ − log(1 − θ), of any shape, which is the event's.
      probs: θ, instead of `logits`. At θ = 0 and 1, the gradient with respect to θ is exact under
        `enumerate_support` and `measure_valued` only: samples show a single outcome.

    Raises:
      TypeError: unless exactly one of the two is given.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import Bernoulli
      >>> Bernoulli(probs=0.25).log_prob(jnp.array(1.0))
      Array(-1.3862944, dtype=float32)
    """

    shaped_as: ClassVar[str] = "probs"

    def __init__(self, logits: Any = None, probs: Any = None) -> None:
        given = _given("Bernoulli", logits, probs)
        self._by_probs = probs is not None
        self.probs = given if self._by_probs else jax.nn.sigmoid(given)
        self.logits = _log(given) - _log(1 - given) if self._by_probs else given

    def transform(self, z: jax.Array) -> jax.Array:
        """One sample from its base noise."""
        return (z < lax.stop_gradient(self.probs)).astype(self.dtype)

    def event_log_prob(self, x: jax.Array) -> jax.Array:
        """x·log θ + (1 − x)·log(1 − θ), summed; linear in x between 0 and 1."""
        x = x.astype(self.dtype)
        if self._by_probs:
            safe = jnp.where(x == 1, 0, self.probs)
            one, zero = jnp.log(jnp.where(x == 0, 1, self.probs)), jnp.log1p(-safe)
        else:
            one, zero = -jax.nn.softplus(-self.logits), -jax.nn.softplus(self.logits)
        return jnp.sum(_times(x, one) + _times(1 - x, zero))

    def event_prob(self, x: jax.Array) -> jax.Array:
        """The product of θ where x is 1 and 1 − θ where it is 0."""
        against = 1 - self.probs if self._by_probs else jax.nn.sigmoid(-self.logits)
        return jnp.prod(jnp.where(x > 0.5, self.probs, against))


class OneHotCategorical(Finite):
    """Independent choices among K, each a one-hot row; as one event of shape (..., K).

    Args:
      logits: φ, of shape (..., K); need not be normalized.
      probs: π, instead of `logits`; need not be normalized.

    Raises:
      TypeError: unless exactly one of the two is given.
      ValueError: if it is a scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import OneHotCategorical
      >>> OneHotCategorical(jnp.zeros((2, 4))).log_prob(jnp.eye(4)[:2])
      Array(-2.7725887, dtype=float32)
    """

    shaped_as: ClassVar[str] = "logits"
    one_hot: ClassVar[bool] = True

    def __init__(self, logits: Any = None, probs: Any = None) -> None:
        name = type(self).__name__
        given = _given(name, logits, probs)
        if given.ndim == 0:
            raise ValueError(f"{name}: the last axis holds the choices; a scalar has none")
        if probs is None:
            self.logits = jax.nn.log_softmax(given)
            self.probs = jnp.exp(self.logits)
        else:
            self.probs = given / jnp.sum(given, axis=-1, keepdims=True)
            self.logits = _log(self.probs)

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

    def transform(self, z: jax.Array) -> jax.Array:
        """One sample from its base noise; never a choice of probability 0."""
        cumulative = jnp.cumsum(lax.stop_gradient(self.probs), axis=-1)
        below = cumulative[..., :-1] <= z[..., None] * cumulative[..., -1:]
        index = jnp.sum(below, axis=-1, dtype=jnp.int32)
        return jax.nn.one_hot(index, self.choices, dtype=self.dtype) if self.one_hot else index

    def _rows(self, x: jax.Array) -> jax.Array:
        """The event as one-hot rows."""
        if not self.one_hot:
            return jax.nn.one_hot(x, self.choices, dtype=self.dtype)
        return x.astype(self.dtype)

    def event_log_prob(self, x: jax.Array) -> jax.Array:
        """Log π of the choices, summed; linear in one-hot rows."""
        log_prob = jnp.sum(_times(self._rows(x), self.logits))
        if self.one_hot:
            return log_prob
        return jnp.where(jnp.all((x >= 0) & (x < self.choices)), log_prob, -jnp.inf)

    def event_prob(self, x: jax.Array) -> jax.Array:
        """The product of π of the choices."""
        return jnp.prod(jnp.sum(self._rows(x) * self.probs, axis=-1))


class Categorical(OneHotCategorical):
    """Independent choices among K, each an int32 index; as one event of shape (...).

    Args:
      logits: φ, of shape (..., K); need not be normalized.
      probs: π, instead of `logits`; need not be normalized.

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

    Raises:
      TypeError: if `rate` is complex.

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
        """One sample from its base noise."""
        return z

    def event_log_prob(self, x: jax.Array) -> jax.Array:
        """x·log λ − λ − log x!, summed."""
        x = x.astype(self.dtype)
        positive = x > 0
        count = jnp.where(positive, x, 1)
        rate = jnp.where(positive, self.rate, 1)
        l = log_ratio(rate, count)
        body = log_density_of_log_gamma(count, l, jnp.log(rate)) - jnp.log(count)
        return jnp.sum(jnp.where(positive, body, jnp.where(x == 0, -self.rate, -jnp.inf)))
