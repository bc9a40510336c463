"""Location–scale families with a symmetric, unimodal density whose inverse is known.

x = loc + scale·z,   z ~ p symmetric about 0 and falling on both sides

What measure-valued derivatives need of p, with e ~ Exp(1) in place of −log u (see
`_measure_valued`): p(0), and the point further out whose density is e⁻ᵉ times that at z:

further(z, e) = p⁻¹(e⁻ᵉ·p(|z|))

Reference for the families' densities: Johnson, Kotz, Balakrishnan, "Continuous Univariate
Distributions", 1995. The inverse densities are elementary.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.scipy import special

from optx_estimators._attach import undifferentiable
from optx_estimators._distribution import Distribution, real


class LocationScale(Distribution):
    """loc + scale·z with z from the family."""

    name: ClassVar[str]
    shaped_as: ClassVar[str] = "loc"
    symmetric: ClassVar[bool] = True

    def __init__(self, loc: Any = 0.0, scale: Any = 1.0) -> None:
        self.loc, self.scale = real(self.name, loc=loc, scale=scale)

    def transform(self, z: jax.Array) -> jax.Array:
        """One sample from one base noise."""
        return self.loc + self.scale * z

    def event_log_prob(self, x: jax.Array) -> jax.Array:
        """The log-density of one event."""
        z = (x.astype(self.dtype) - self.loc) / self.scale
        return jnp.sum(self.log_density(z) - jnp.log(self.scale))

    def log_density(self, z: jax.Array) -> jax.Array:
        """Log p(z), entry by entry."""
        raise NotImplementedError

    @property
    def peak(self) -> Any:
        """p(0)."""
        return jnp.exp(self.log_density(jnp.zeros((), self.dtype)))

    def further(self, z: jax.Array, e: jax.Array) -> jax.Array:
        """p⁻¹(e⁻ᵉ·p(|z|)), at least |z|."""
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

    def log_density(self, z: jax.Array) -> jax.Array:
        return -0.5 * jnp.square(z) - 0.5 * math.log(2 * math.pi)

    def further(self, z: jax.Array, e: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.square(z) + 2 * e)


class Laplace(LocationScale):
    """Independent Laplace coordinates, as one event.

    Args:
      loc: the centre, of any shape, which is the event's.
      scale: the mean distance from it, positive, of that shape or a scalar.

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

    def draw_base(self, key: jax.Array, n: int) -> jax.Array:
        return jax.random.laplace(key, (n, *self.event_shape), self.dtype)

    def log_density(self, z: jax.Array) -> jax.Array:
        return -jnp.abs(z) - math.log(2)

    def further(self, z: jax.Array, e: jax.Array) -> jax.Array:
        return jnp.abs(z) + e


class Cauchy(LocationScale):
    """Independent Cauchy coordinates, as one event.

    Args:
      loc: the centre, of any shape, which is the event's.
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
        return jnp.tan(math.pi * (u - 0.5))

    def log_density(self, z: jax.Array) -> jax.Array:
        return -jnp.log1p(jnp.square(z)) - math.log(math.pi)

    def further(self, z: jax.Array, e: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.expm1(e) + jnp.square(z) * jnp.exp(e))


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
        return jnp.log(u) - jnp.log1p(-u)

    def log_density(self, z: jax.Array) -> jax.Array:
        return -jax.nn.softplus(z) - jax.nn.softplus(-z)

    def further(self, z: jax.Array, e: jax.Array) -> jax.Array:
        # 2·arccosh(cosh(z/2)·eᵉᐟ²) by sinh(w/2)² = cosh(z/2)²·eᵉ − 1, without cancellation.
        sinh = jnp.sinh(z / 2)
        return 2 * jnp.arcsinh(jnp.sqrt(jnp.expm1(e) + jnp.square(sinh) * jnp.exp(e)))


class StudentT(LocationScale):
    """Independent coordinates of Student's t, as one event.

    Args:
      df: degrees of freedom, positive. The score function differentiates it; the pathwise
        and measure-valued methods refuse to.
      loc: the centre, of any shape, which is the event's.
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

    def draw_base(self, key: jax.Array, n: int) -> jax.Array:
        df = jax.lax.stop_gradient(self.df)
        return jax.lax.stop_gradient(
            jax.random.t(key, df[None], (n, *self.event_shape), self.dtype)
        )

    def transform(self, z: jax.Array) -> jax.Array:
        df = undifferentiable(
            "StudentT: samples have no derivative with respect to df; use score_function()",
            self.df,
        )
        return jnp.where(df > 0, self.loc + self.scale * z, jnp.nan)

    def log_density(self, z: jax.Array) -> jax.Array:
        v = self.df
        constant = special.gammaln((v + 1) / 2) - special.gammaln(v / 2)
        constant = constant - 0.5 * jnp.log(v * math.pi)
        return constant - (v + 1) / 2 * jnp.log1p(jnp.square(z) / v)

    @property
    def peak(self) -> Any:
        return jnp.exp(self.log_density(jnp.zeros_like(self.df)))

    def further(self, z: jax.Array, e: jax.Array) -> jax.Array:
        v = self.df
        grow = 2 * e / (v + 1)
        return jnp.sqrt(v * jnp.expm1(grow) + jnp.square(z) * jnp.exp(grow))


class Gumbel(LocationScale):
    """Independent Gumbel (of maxima; not symmetric) coordinates, as one event.

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
        return -jnp.log(-jnp.log(u))

    def draw_base(self, key: jax.Array, n: int) -> jax.Array:
        return jax.random.gumbel(key, (n, *self.event_shape), self.dtype)

    def log_density(self, z: jax.Array) -> jax.Array:
        return -z - jnp.exp(-z)
