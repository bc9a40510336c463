"""Gamma, Beta and Dirichlet, from Gamma variates in log-space that move with their concentration.

c = log(t/a),  t ~ Gamma(a, 1)

Gamma:     x = (a/b)·eᶜ
Beta:      x = σ(c₁ − c₀ + log(a/b))
Dirichlet: x = softmax(c + log α)

where a and α are concentrations, b is the rate (of Beta, the second concentration), e Euler's number and σ
the sigmoid. In log-space nothing underflows;
`log_space=True` makes log x the event. Samples lie inside the open support: an x that underflows becomes
the smallest positive number. The densities are sums over the entries of a·log t − t − log Γ(a) − log x with
t/x the rate (see `_special`).
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy import special

from optx_estimators._distribution import Distribution, real
from optx_estimators._implicit import (
    centred_log_gamma_of_uniform,
    draw_centred_log_gamma,
    follow_concentration,
)
from optx_estimators._special import (
    exp_inside,
    log_density_of_log_gamma,
    log_ratio,
    sigmoid_inside,
)


def _log_prob(x: jax.Array, a: jax.Array, rate: jax.Array) -> jax.Array:
    """The log-density of Gamma(a, rate) by entry, with its limits at 0."""
    inside = x > 0
    safe = jnp.where(inside, x, 1)
    log_x = jnp.log(safe)
    body = log_density_of_log_gamma(a, log_ratio(safe, a / rate), log_x + jnp.log(rate)) - log_x
    zero = jnp.where(x == 0, 0, 1).astype(a.dtype)
    limit = a * jnp.log(rate) - special.gammaln(a) + special.xlogy(a - 1, zero)
    return jnp.where(inside, body, jnp.where(x == 0, limit, -jnp.inf))


def _log_prob_of_log(y: jax.Array, a: jax.Array, rate: jax.Array) -> jax.Array:
    """The log-density of log x for x ~ Gamma(a, rate), by entry."""
    log_t = y + jnp.log(rate)
    return log_density_of_log_gamma(a, log_t - jnp.log(a), log_t)


class _OfGammas(Distribution):
    """A family whose base noise is c, of one Gamma variate for each entry of `_concentrations()`."""

    log_space: bool

    def _concentrations(self) -> jax.Array:
        raise NotImplementedError

    @property
    def base_shape(self) -> tuple[int, ...]:
        """One Gamma variate for each concentration."""
        return self._concentrations().shape

    def draw_base(self, key: jax.Array, n: int) -> jax.Array:
        """c, drawn at the present concentrations."""
        return draw_centred_log_gamma(key, self._concentrations(), n)

    def base_from_uniform(self, u: jax.Array) -> jax.Array:
        """The inverse distribution function of c, at the present concentrations."""
        a = jnp.broadcast_to(lax.stop_gradient(self._concentrations()), u.shape)
        return centred_log_gamma_of_uniform(u, a)

    def _logs(self, z: jax.Array) -> jax.Array:
        """Log t of each Gamma variate."""
        a = self._concentrations()
        return follow_concentration(z, a) + jnp.log(a)


class Gamma(_OfGammas):
    """Independent Gamma variates, as one event.

    Args:
      concentration: a > 0, of any shape, which is the event's.
      rate: b > 0, of that shape or a scalar; the mean is a/b.
      log_space: whether the event is log x instead of x. Where a is below about 0.1, x underflows
        in float32 and its logarithm does not.

    Raises:
      ValueError: if the shapes differ.
      TypeError: if a parameter is complex.

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

    def _concentrations(self) -> jax.Array:
        return self.concentration

    def transform(self, z: jax.Array) -> jax.Array:
        """One sample from its base noise."""
        c, mean = follow_concentration(z, self.concentration), self.concentration / self.rate
        return c + jnp.log(mean) if self.log_space else _scaled(c, mean)

    def event_log_prob(self, x: jax.Array) -> jax.Array:
        """a·log b + (a − 1)·log x − b·x − log Γ(a), summed."""
        log_prob = _log_prob_of_log if self.log_space else _log_prob
        return jnp.sum(log_prob(x.astype(self.dtype), self.concentration, self.rate))

    def base_log_prob(self, z: jax.Array, drawn_from: Gamma) -> jax.Array:
        """The log-density of the event that `drawn_from` computes from base noise."""
        z = lax.stop_gradient(z)
        a, b = drawn_from.concentration, drawn_from.rate
        l = z + log_ratio(self.rate, b) - log_ratio(self.concentration, a)
        log_x = jnp.zeros_like(z) if self.log_space else z + jnp.log(lax.stop_gradient(a / b))
        log_t = log_x + jnp.log(self.rate)
        return jnp.sum(log_density_of_log_gamma(self.concentration, l, log_t) - log_x)


def _scaled(c: jax.Array, mean: jax.Array) -> jax.Array:
    """mean·eᶜ inside the positive numbers. exp(c + log mean) would lose digits of a large mean."""
    near = jnp.abs(c) < 1
    plain = mean * jnp.exp(jnp.where(near, c, 0))
    return jnp.where(near, plain, exp_inside(c + jnp.log(mean)))


def _log_softplus(d: jax.Array) -> jax.Array:
    """log(log(1 + eᵈ)), which for small eᵈ is d."""
    far = d < -40
    return jnp.where(far, d, jnp.log(jax.nn.softplus(jnp.where(far, 0, d))))


def _shares(z: jax.Array, a: jax.Array, held: jax.Array, axis: int) -> jax.Array:
    """log(A·x/a) of the point x that `held` computes from base noise, with A = Σa."""
    d = lax.stop_gradient(z) - log_ratio(a, held)
    w = a / jnp.sum(a, axis=axis, keepdims=True)
    near = jnp.max(jnp.abs(lax.stop_gradient(d)), axis=axis, keepdims=True) < 1
    close = jnp.where(near, d, 0)
    mean = jnp.log1p(jnp.sum(w * jnp.expm1(close), axis=axis, keepdims=True))
    wide = special.logsumexp(d + jnp.log(w), axis=axis, keepdims=True)
    return d - jnp.where(near, mean, wide)


def _simplex_log_prob(z: jax.Array, a: jax.Array, held: jax.Array, axis: int) -> jax.Array:
    """The log-density of the points of a simplex that `held` computes from base noise, summed."""
    held = lax.stop_gradient(held)
    log_x = jax.nn.log_softmax(lax.stop_gradient(z) + jnp.log(held), axis=axis)
    log_t = log_x + jnp.log(jnp.sum(a, axis=axis, keepdims=True))
    entries = log_density_of_log_gamma(a, _shares(z, a, held, axis), log_t)
    return jnp.sum(entries - log_x) - _of_the_sum(a, axis)


def _of_the_sum(a: jax.Array, axis: int) -> jax.Array:
    """A·log A − A − log Γ(A) with A = Σa, summed: the density of the sum of the Gamma variates."""
    total = jnp.sum(a, axis=axis)
    return jnp.sum(log_density_of_log_gamma(total, jnp.zeros_like(total), jnp.log(total)))


class Beta(_OfGammas):
    """Independent Beta variates, as one event.

    Args:
      concentration1: a > 0, of any shape, which is the event's.
      concentration0: b > 0, of that shape or a scalar; the mean is a/(a + b).
      log_space: whether the event is log x instead of x.

    Raises:
      ValueError: if the shapes differ.
      TypeError: if a parameter is complex.

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

    def _concentrations(self) -> jax.Array:
        return jnp.stack([self.concentration1, self.concentration0])

    def transform(self, z: jax.Array) -> jax.Array:
        """One sample from its base noise."""
        c = follow_concentration(z, self._concentrations())
        d = c[0] - c[1] + log_ratio(self.concentration1, self.concentration0)
        # −log x = log(1 + e⁻ᵈ) stays positive, and with it 1 − x.
        return -exp_inside(_log_softplus(-d)) if self.log_space else sigmoid_inside(d)

    def event_log_prob(self, x: jax.Array) -> jax.Array:
        """(a − 1)·log x + (b − 1)·log(1 − x) − log B(a, b), summed."""
        x = x.astype(self.dtype)
        a, b = self.concentration1, self.concentration0
        n = a + b
        if self.log_space:
            entries = _log_prob_of_log(x, a, n) + _log_prob(-jnp.expm1(x), b, n)
        else:
            entries = _log_prob(x, a, n) + _log_prob(1 - x, b, n)
        return jnp.sum(entries) - _of_the_sum(self._concentrations(), 0)

    def base_log_prob(self, z: jax.Array, drawn_from: Beta) -> jax.Array:
        """The log-density of the event that `drawn_from` computes from base noise."""
        held = lax.stop_gradient(drawn_from._concentrations())
        log_prob = _simplex_log_prob(z, self._concentrations(), held, 0)
        if not self.log_space:
            return log_prob
        return log_prob + jnp.sum(jax.nn.log_softmax(z + jnp.log(held), axis=0)[0])


class Dirichlet(_OfGammas):
    """Independent points of a simplex, as one event of shape (..., K).

    Args:
      concentration: α > 0, of shape (..., K).
      log_space: whether the event is log x instead of x; `log_prob` stays the density of x.

    Raises:
      ValueError: if `concentration` is a scalar.
      TypeError: if it is complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import Dirichlet
      >>> x = jnp.array([0.2, 0.3, 0.5])
      >>> bool(jnp.isclose(Dirichlet(jnp.ones(3)).log_prob(x), jnp.log(2.0), atol=1e-5))
      True
    """

    shaped_as: ClassVar[str] = "concentration"

    def __init__(self, concentration: Any, *, log_space: bool = False) -> None:
        (self.concentration,) = real("Dirichlet", concentration=concentration)
        if self.concentration.ndim == 0:
            raise ValueError("Dirichlet: the last axis holds the K entries; a scalar has none")
        self.log_space = log_space

    def _concentrations(self) -> jax.Array:
        return self.concentration

    def transform(self, z: jax.Array) -> jax.Array:
        """One sample from its base noise."""
        log_x = jax.nn.log_softmax(self._logs(z))
        return log_x if self.log_space else exp_inside(log_x)

    def event_log_prob(self, x: jax.Array) -> jax.Array:
        """Log Γ(Σα) − Σ log Γ(α) + Σ(α − 1)·log x, summed over the leading axes."""
        x, a = x.astype(self.dtype), self.concentration
        total = jnp.broadcast_to(jnp.sum(a, axis=-1, keepdims=True), a.shape)
        if self.log_space:
            entries = _log_prob_of_log(x, a, total) - x
        else:
            entries = _log_prob(x, a, total)
        return jnp.sum(entries) - _of_the_sum(a, -1)

    def base_log_prob(self, z: jax.Array, drawn_from: Dirichlet) -> jax.Array:
        """The log-density of the event that `drawn_from` computes from base noise."""
        return _simplex_log_prob(z, self.concentration, drawn_from.concentration, -1)
