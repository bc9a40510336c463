"""A Gaussian with diagonal covariance, parameterized by the logarithm of its scale.

x = loc + exp(log_scale)·z,   z ~ N(0, I)

where N(0, I) is the standard normal distribution.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_estimators._distribution import real
from optx_estimators._location_scale import Normal


class MultiNormal(Normal):
    """A `Normal` that stores the logarithm of its scale; see `multi_normal`.

    Attributes:
      params: `[loc, log_scale]`.
      log_scale: the logarithm of the standard deviation.
    """

    def __init__(self, loc: Any, log_scale: Any) -> None:
        loc, log_scale = real("multi_normal", loc=loc, log_scale=log_scale)
        super().__init__(loc, jnp.exp(log_scale))
        self.log_scale = log_scale

    @property
    def params(self) -> list[jax.Array]:
        """The parameters `[loc, log_scale]`."""
        return [self.loc, self.log_scale]


def multi_normal(loc: Any, log_scale: Any) -> MultiNormal:
    """A Gaussian with independent coordinates, parameterized by the logarithm of its scale.

    Args:
      loc: the mean, of any shape, which is the event's.
      log_scale: the logarithm of the standard deviation, of that shape or a scalar.

    Returns:
      A distribution with `sample(shape, seed)`, `log_prob(x)` and `params`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import multi_normal
      >>> multi_normal(jnp.zeros(3), jnp.zeros(3)).sample((5,), jax.random.key(0)).shape
      (5, 3)
    """
    return MultiNormal(loc, log_scale)
