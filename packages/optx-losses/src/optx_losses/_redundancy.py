"""Self-supervised losses without negatives, on two views a and b of one batch.

barlow = Σ_i (1 − C_ii)² + off_diagonal·Σ_{i≠j} C_ij²
vicreg = invariance·mean‖a − b‖² / d + variance·(v(a) + v(b)) / 2 + covariance·(c(a) + c(b))
v(z) = mean_j max(0, target − √(Var z_j + epsilon))
c(z) = Σ_{i≠j} Cov(z)_ij² / d

where C_ij is the correlation of column i of a with column j of b, z_j is column j of a view, and d is the
number of columns. Both are properties of a batch and return a scalar.

References: Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", 2021,
equation 1; Bardes, Ponce, LeCun, "VICReg", 2022, equations 1 to 6.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import as_floats, as_mask, check_number, keep, same_shape
from optx_losses._layout import product_over_rows


def barlow_twins_loss(
    first: ArrayLike,
    second: ArrayLike,
    *,
    off_diagonal: Scalar = 5e-3,
    epsilon: Scalar = 1e-5,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The deviation of the cross-correlation matrix of two views from the identity.

    Args:
      first: a, embeddings of the first view, shape [batch, features].
      second: b, embeddings of the second view, of the same shape.
      off_diagonal: the weight of the off-diagonal entries, at least 0.
      epsilon: a constant added to each variance, greater than 0.
      where: boolean mask, shape [batch]; rows that are False are excluded.

    Returns:
      A scalar, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ or do not have two axes, the batch is empty, or a number is out of
        range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import barlow_twins_loss
      >>> z = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
      >>> bool(barlow_twins_loss(z, z) < 1e-8)
      True
    """
    name = "barlow_twins_loss"
    check_number(name, low=0, off_diagonal=off_diagonal)
    check_number(name, above=0, epsilon=epsilon)
    a, b, mask, n = _views(name, first, second, where)
    plus = jnp.asarray(epsilon, a.dtype)

    def standard(z: jax.Array) -> jax.Array:
        z = _centered(z, mask, n)
        return z / jnp.sqrt(jnp.sum(z**2, axis=0, keepdims=True) / n + plus)

    c = product_over_rows(standard(a), standard(b)) / n
    on = jnp.eye(c.shape[0], dtype=bool)
    weight = jnp.asarray(off_diagonal, c.dtype)
    return jnp.sum(jnp.where(on, (1 - c) ** 2, weight * c**2))


def vicreg_loss(
    first: ArrayLike,
    second: ArrayLike,
    *,
    invariance: Scalar = 25.0,
    variance: Scalar = 25.0,
    covariance: Scalar = 1.0,
    target: Scalar = 1.0,
    epsilon: Scalar = 1e-4,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The distance of two views, with penalties on low variance and on covariance.

    Args:
      first: a, embeddings of the first view, shape [batch, features], at least two rows.
      second: b, embeddings of the second view, of the same shape.
      invariance: the weight of the mean squared difference, at least 0.
      variance: the weight of the penalty on low variance, at least 0.
      covariance: the weight of the covariances, at least 0.
      target: the standard deviation below which columns are penalized, greater than 0.
      epsilon: a constant added to each variance, greater than 0.
      where: boolean mask, shape [batch]; rows that are False are excluded.

    Returns:
      A scalar, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ or do not have two axes, the batch has fewer than two rows, or a
        number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import vicreg_loss
      >>> z = jnp.array([[2.0, 2.0], [2.0, -2.0], [-2.0, 2.0], [-2.0, -2.0]])
      >>> vicreg_loss(z, z)
      Array(0., dtype=float32)
    """
    name = "vicreg_loss"
    check_number(name, low=0, invariance=invariance, variance=variance, covariance=covariance)
    check_number(name, above=0, target=target, epsilon=epsilon)
    a, b, mask, n = _views(name, first, second, where)
    d = a.shape[1]
    if a.shape[0] < 2:
        raise ValueError(f"{name}: a variance needs at least two rows, first is {a.shape}")
    freedom = jnp.maximum(n - 1, 1)

    def number(x: Scalar) -> jax.Array:
        return jnp.asarray(x, a.dtype)

    def parts(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        z = _centered(z, mask, n)
        cov = product_over_rows(z, z) / freedom
        deviation = jnp.sqrt(jnp.sum(z**2, axis=0) / freedom + number(epsilon))
        shortfall = jnp.mean(jnp.maximum(0, number(target) - deviation))
        return shortfall, jnp.sum(jnp.where(jnp.eye(d, dtype=bool), 0, cov**2)) / d

    (v_a, c_a), (v_b, c_b) = parts(a), parts(b)
    return (
        number(invariance) * jnp.sum((a - b) ** 2) / (n * d)
        + number(variance) * (v_a + v_b) / 2
        + number(covariance) * (c_a + c_b)
    )


def _views(
    name: str, first: ArrayLike, second: ArrayLike, where: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array | None, jax.Array]:
    """The views with excluded rows set to 0, the mask, and the number of rows (at least 1)."""
    a, b = as_floats(name, first=first, second=second)
    same_shape(name, first=a, second=b)
    if a.ndim != 2 or not a.size:
        raise ValueError(
            f"{name}: first is {a.shape}; it must be [batch, features], with at least one row and one column"
        )
    mask = as_mask(name, where, jnp.zeros(a.shape[0]), "the rows")
    if mask is None:
        return a, b, None, jnp.asarray(a.shape[0], a.dtype)
    a, b = keep(mask[:, None], a, b)
    return a, b, mask[:, None], jnp.maximum(jnp.sum(mask), 1).astype(a.dtype)


def _centered(z: jax.Array, mask: jax.Array | None, n: jax.Array) -> jax.Array:
    return keep(mask, z - jnp.sum(z, axis=0, keepdims=True) / n)
