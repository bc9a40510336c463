"""The fitted coefficient of a control variate.

c = cov(g, h)/var(h),  shrunk by max(0, 1 − (1 − r²)/(r²·(n − 3))),  r the correlation over n rows

Without shrinkage, the coefficient minimizes the variance of the rows of the fit. The shrinkage removes the
correlation expected by chance, so that a useless control variate gets the coefficient 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def fit_coefficient(rows: jax.Array, controls: jax.Array) -> jax.Array:
    """Fits the coefficient of each entry, from rows on the leading axis.

    Args:
      rows: g, of shape (n, ...).
      controls: h, of the same shape.

    Returns:
      An array of shape (...), 0 where the control variate does not vary.
    """
    n = rows.shape[0]
    g = rows - jnp.mean(rows, axis=0, keepdims=True)
    h = controls - jnp.mean(controls, axis=0, keepdims=True)
    covariance, var_g, var_h = (jnp.sum(a, axis=0) for a in (g * h, g * g, h * h))
    usable = (var_h > 0) & (var_g > 0) & jnp.isfinite(covariance)
    safe_g, safe_h = jnp.where(usable, var_g, 1), jnp.where(usable, var_h, 1)
    c = jnp.where(usable, covariance, 0) / safe_h
    explained = jnp.minimum(c * jnp.where(usable, covariance, 0) / safe_g, 1)
    chance = (1 - explained) / jnp.maximum(explained * max(n - 3, 1), jnp.finfo(c.dtype).tiny)
    return c * jnp.maximum(0, 1 - chance)
