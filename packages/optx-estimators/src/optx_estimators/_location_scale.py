"""Location–scale families.

x = loc + scale·ε,   ε ~ p, in most families the base noise itself

For a p that is symmetric about 0, unimodal and invertible, measure-valued derivatives need p(0) and, with
e ~ Exp(1), the point further out whose density is e⁻ᵉ times that at ε (see `_mvd_terms`):

further(ε, e) = p⁻¹(e⁻ᵉ·p(|ε|))

Reference for the densities: Johnson, Kotz, Balakrishnan, "Continuous Univariate Distributions", 1995. The
inverse densities are elementary.
"""

from __future__ import annotations

import math
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
    half_step,
    log1p_of_square,
    log1p_over,
    log_ratio,
    quotient,
)


def logistic_of_uniform(u: jax.Array) -> jax.Array:
    """The inverse distribution function of the standard logistic law."""
    return jnp.log(u) - jnp.log1p(-u)


def gumbel_of_uniform(u: jax.Array) -> jax.Array:
    """The inverse distribution function of the standard Gumbel law of maxima."""
    return -jnp.log(-jnp.log(u))


class LocationScale(Distribution):
    """loc + scale·ε with ε from the family."""

    name: ClassVar[str]
    shaped_as: ClassVar[str] = "loc"
    symmetric: ClassVar[bool] = True

    def __init__(self, loc: Any = 0.0, scale: Any = 1.0) -> None:
        self.loc, self.scale = real(self.name, loc=loc, scale=scale)

    def standard(self, z: jax.Array) -> jax.Array:
        """ε, a standard variate, from its base noise."""
        return z

    def transform(self, z: jax.Array) -> jax.Array:
        """One sample from its base noise."""
        return self.loc + self.scale * self.standard(z)

    def event_log_prob(self, x: jax.Array) -> jax.Array:
        """The log-density of one event."""
        eps = quotient(x.astype(self.dtype) - self.loc, self.scale)
        return jnp.sum(self.log_density(eps) - jnp.log(self.scale))

    def base_log_prob(self, z: jax.Array, drawn_from: LocationScale) -> jax.Array:
        """The log-density of the event that `drawn_from` computes from base noise."""
        return jnp.sum(self.log_density(self._residual(z, drawn_from)) - jnp.log(self.scale))

    def _residual(self, z: jax.Array, drawn_from: LocationScale) -> jax.Array:
        """(loc_held + scale_held·ε − loc)/scale, without rounding to the digits of loc."""
        eps, loc, scale = (
            lax.stop_gradient(a) for a in (drawn_from.standard(z), drawn_from.loc, drawn_from.scale)
        )
        return (eps + quotient(loc - self.loc, scale)) * jnp.exp(log_ratio(scale, self.scale))

    def log_density(self, eps: jax.Array) -> jax.Array:
        """Log p(ε), by entry."""
        raise NotImplementedError

    @property
    def peak(self) -> Any:
        """p(0)."""
        return jnp.exp(self.log_density(jnp.zeros_like(self.loc)))

    def further(self, eps: jax.Array, e: jax.Array) -> jax.Array:
        """p⁻¹(e⁻ᵉ·p(|ε|)), at least |ε|."""
        raise NotImplementedError


class Normal(LocationScale):
    """Independent Gaussian coordinates, as one event.

    Args:
      loc: the mean, of any shape, which is the event's.
      scale: the standard deviation, positive, of that shape or a scalar.

    Raises:
      ValueError: if the shapes differ.
      TypeError: if a parameter is complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import Normal
      >>> Normal(jnp.zeros(3), 2.0).event_shape
      (3,)
    """

    name = "Normal"

    def draw_base(self, key: jax.Array, n: int) -> jax.Array:
        return jax.random.normal(key, (n, *self.event_shape), self.dtype)

    def base_from_uniform(self, u: jax.Array) -> jax.Array:
        return special.ndtri(u)

    def log_density(self, eps: jax.Array) -> jax.Array:
        return -0.5 * jnp.square(eps) - 0.5 * math.log(2 * math.pi)

    def further(self, eps: jax.Array, e: jax.Array) -> jax.Array:
        return jnp.hypot(eps, jnp.sqrt(2 * e))


class Laplace(LocationScale):
    """Independent Laplace coordinates, as one event.

    Args:
      loc: the center, of any shape, which is the event's.
      scale: the mean distance from the center, positive, of that shape or a scalar.

    Raises:
      ValueError: if the shapes differ.
      TypeError: if a parameter is complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import Laplace
      >>> Laplace(jnp.zeros(3), 2.0).event_shape
      (3,)
    """

    name = "Laplace"

    def base_from_uniform(self, u: jax.Array) -> jax.Array:
        low = u < 0.5
        return jnp.where(low, jnp.log(2 * u), -jnp.log(2 * (1 - u)))

    def log_density(self, eps: jax.Array) -> jax.Array:
        return -jnp.abs(eps) - math.log(2)

    def further(self, eps: jax.Array, e: jax.Array) -> jax.Array:
        return jnp.abs(eps) + e


class Cauchy(LocationScale):
    """Independent Cauchy coordinates, as one event.

    Args:
      loc: the center, of any shape, which is the event's.
      scale: half the interquartile range, positive, of that shape or a scalar.

    Raises:
      ValueError: if the shapes differ.
      TypeError: if a parameter is complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import Cauchy
      >>> Cauchy(jnp.zeros(3), 2.0).event_shape
      (3,)
    """

    name = "Cauchy"

    def base_from_uniform(self, u: jax.Array) -> jax.Array:
        # The tangent of π(u − ½) has the wrong sign if its argument rounds past π/2.
        tail = jnp.minimum(u, 1 - u)
        return jnp.where(u < 0.5, -1, 1).astype(u.dtype) / jnp.tan(math.pi * tail)

    def log_density(self, eps: jax.Array) -> jax.Array:
        return -log1p_of_square(eps) - math.log(math.pi)

    def further(self, eps: jax.Array, e: jax.Array) -> jax.Array:
        return jnp.hypot(jnp.sqrt(jnp.expm1(e)), eps * jnp.exp(e / 2))


class Logistic(LocationScale):
    """Independent logistic coordinates, as one event.

    Args:
      loc: the mean, of any shape, which is the event's.
      scale: the standard deviation times √3/π, positive, of that shape or a scalar.

    Raises:
      ValueError: if the shapes differ.
      TypeError: if a parameter is complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import Logistic
      >>> Logistic(jnp.zeros(3), 2.0).event_shape
      (3,)
    """

    name = "Logistic"

    def base_from_uniform(self, u: jax.Array) -> jax.Array:
        return logistic_of_uniform(u)

    def log_density(self, eps: jax.Array) -> jax.Array:
        return -jax.nn.softplus(eps) - jax.nn.softplus(-eps)

    def further(self, eps: jax.Array, e: jax.Array) -> jax.Array:
        # 2·arccosh(cosh(ε/2)·eᵉᐟ²) by sinh(w/2)² = cosh(ε/2)²·eᵉ − 1, without cancellation.
        sinh = jnp.hypot(jnp.sqrt(jnp.expm1(e)), jnp.sinh(eps / 2) * jnp.exp(e / 2))
        return 2 * jnp.arcsinh(sinh)


class StudentT(LocationScale):
    """Independent coordinates of Student's t, as one event.

    The base noise is a pair: n ~ N(0, 1) and c = log(g/a) with g ~ Gamma(a, 1), a = df/2; the standard
    variate is n·exp(−c/2).

    Args:
      df: degrees of freedom, positive, of the shape of the event or a scalar. `score_function` and
        `pathwise` differentiate it; `measure_valued` refuses to.
      loc: the center, of any shape, which is the event's.
      scale: positive, of that shape or a scalar.

    Raises:
      ValueError: if the shapes differ.
      TypeError: if a parameter is complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import StudentT
      >>> StudentT(4.0, jnp.zeros(3), 2.0).event_shape
      (3,)
    """

    name = "StudentT"

    def __init__(self, df: Any, loc: Any = 0.0, scale: Any = 1.0) -> None:
        self.df, self.loc, self.scale = real(self.name, df=df, loc=loc, scale=scale)

    @property
    def base_shape(self) -> tuple[int, ...]:
        """A normal and a Gamma variate for each coordinate."""
        return (2, *self.event_shape)

    def draw_base(self, key: jax.Array, n: int) -> jax.Array:
        """The pair n, c at the present degrees of freedom."""
        key_n, key_c = jax.random.split(key)
        normal = jax.random.normal(key_n, (n, *self.event_shape), self.dtype)
        return jnp.stack([normal, draw_centred_log_gamma(key_c, self.df / 2, n)], axis=1)

    def base_from_uniform(self, u: jax.Array) -> jax.Array:
        """The pair n, c from one uniform number each."""
        c = centred_log_gamma_of_uniform(u[1], lax.stop_gradient(self.df) / 2)
        return jnp.stack([special.ndtri(u[0]), c])

    def standard(self, z: jax.Array) -> jax.Array:
        return z[0] * exp_inside(-follow_concentration(z[1], self.df / 2) / 2)

    def base_log_prob(self, z: jax.Array, drawn_from: LocationScale) -> jax.Array:
        """The log-density of the event that `drawn_from` computes from base noise."""
        # For few degrees of freedom ε overflows and its logarithm does not.
        scale = lax.stop_gradient(drawn_from.scale)
        log_eps = lax.stop_gradient(jnp.log(jnp.abs(z[0])) - z[1] / 2)
        log_eps = log_eps + log_ratio(scale, self.scale)
        log_prob = self._log_density(self._residual(z, drawn_from), log_eps)
        return jnp.sum(log_prob - jnp.log(self.scale))

    def log_density(self, eps: jax.Array) -> jax.Array:
        return self._log_density(eps, jnp.log(jnp.abs(jnp.where(eps == 0, 1, eps))))

    def _log_density(self, eps: jax.Array, log_eps: jax.Array) -> jax.Array:
        v = self.df
        # (v + 1)/2·log(1 + s), s = ε²/v, in parts that keep their derivative in v.
        far = log_eps > math.log(1e9) + 0.5 * jnp.log(v)
        near = jnp.where(far, 0, eps)
        s = quotient(jnp.square(near), v)
        close = 0.5 * jnp.log1p(s) + 0.5 * jnp.square(near) * log1p_over(s)
        wide = (v + 1) / 2 * (2 * jnp.where(far, log_eps, 0) - jnp.log(v))
        return half_step(v / 2) - 0.5 * math.log(2 * math.pi) - jnp.where(far, wide, close)

    def further(self, eps: jax.Array, e: jax.Array) -> jax.Array:
        v = self.df
        grow = 2 * e / (v + 1)
        return jnp.hypot(jnp.sqrt(v * jnp.expm1(grow)), eps * jnp.exp(grow / 2))


class Gumbel(LocationScale):
    """Independent Gumbel coordinates (of maxima, not symmetric), as one event.

    Args:
      loc: the mode, of any shape, which is the event's.
      scale: the standard deviation times √6/π, positive, of that shape or a scalar.

    Raises:
      ValueError: if the shapes differ.
      TypeError: if a parameter is complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import Gumbel
      >>> Gumbel(jnp.zeros(3), 2.0).event_shape
      (3,)
    """

    name = "Gumbel"
    symmetric = False

    def base_from_uniform(self, u: jax.Array) -> jax.Array:
        return gumbel_of_uniform(u)

    def log_density(self, eps: jax.Array) -> jax.Array:
        return -eps - jnp.exp(-eps)
