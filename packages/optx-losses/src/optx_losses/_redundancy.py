"""Self-supervised losses without negatives, on two views a and b of the same batch.

Barlow Twins (Zbontar et al., 2021, equation 1): C the correlation of a's columns with b's;
    Σ_i (1 − C_ii)² + off_diagonal·Σ_{i≠j} C_ij²
VICReg (Bardes, Ponce, LeCun, 2022, equations 1 to 6), of n rows and d columns:
    invariance·mean‖a − b‖² / d + variance·(v(a) + v(b)) / 2 + covariance·(c(a) + c(b))
    v(z) = mean over columns of max(0, target − √(Var z + epsilon))
    c(z) = Σ_{i≠j} Cov(z)_ij² / d

Both are properties of a batch: one value for all of it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_core.build import check_number
from optx_losses._inputs import as_floats, as_mask, keep, same_shape


def barlow_twins_loss(
    first: ArrayLike,
    second: ArrayLike,
    *,
    off_diagonal: Scalar = 5e-3,
    epsilon: Scalar = 1e-5,
    where: ArrayLike | None = None,
) -> jax.Array:
    """How far the correlation matrix of two views is from the identity.

    Args:
      first: a, embeddings of one view, shape [batch, features].
      second: b, of the other view, of the same shape.
      off_diagonal: the weight of the entries off the diagonal, at least 0.
      epsilon: added to each variance, greater than 0.
      where: which rows count, boolean, shape [batch].

    Returns:
      A scalar, float32 or wider, at least 0.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ or have no two axes, the batch is empty, or a number is out of
        its range.

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

    c = jnp.matmul(standard(a).T, standard(b), precision="highest") / n
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
    """Agreement of two views, with variance kept up and covariance kept down.

    Args:
      first: a, embeddings of one view, shape [batch, features], two rows at least.
      second: b, of the other view, of the same shape.
      invariance: the weight of the mean squared difference, at least 0.
      variance: the weight of the lack of variance, at least 0.
      covariance: the weight of the covariances, at least 0.
      target: the standard deviation to keep up.
      epsilon: added to each variance, greater than 0.
      where: which rows count, boolean, shape [batch].

    Returns:
      A scalar, float32 or wider, at least 0.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ or have no two axes, the batch has fewer than two rows, or a
        number is out of its range.

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
        raise ValueError(f"{name}: a variance needs two rows at least, first is {a.shape}")
    freedom = jnp.maximum(n - 1, 1)

    def number(x: Scalar) -> jax.Array:
        return jnp.asarray(x, a.dtype)

    def parts(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        z = _centered(z, mask, n)
        cov = jnp.matmul(z.T, z, precision="highest") / freedom
        deviation = jnp.sqrt(jnp.sum(z**2, axis=0) / freedom + number(epsilon))
        lack = jnp.mean(jnp.maximum(0, number(target) - deviation))
        return lack, jnp.sum(jnp.where(jnp.eye(d, dtype=bool), 0, cov**2)) / d

    (v_a, c_a), (v_b, c_b) = parts(a), parts(b)
    return (
        number(invariance) * jnp.sum((a - b) ** 2) / (n * d)
        + number(variance) * (v_a + v_b) / 2
        + number(covariance) * (c_a + c_b)
    )


def _views(
    name: str, first: ArrayLike, second: ArrayLike, where: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array | None, jax.Array]:
    """The views with 0 in rows that do not count, which do, and how many (1 at least)."""
    a, b = as_floats(name, first=first, second=second)
    same_shape(name, first=a, second=b)
    if a.ndim != 2 or not a.size:
        raise ValueError(
            f"{name}: first is {a.shape}; it must be [batch, features], with at least one of each"
        )
    mask = as_mask(name, where, a[:, 0], "the rows")
    if mask is None:
        return a, b, None, jnp.asarray(a.shape[0], a.dtype)
    a, b = keep(mask[:, None], a, b)
    return a, b, mask[:, None], jnp.maximum(jnp.sum(mask), 1).astype(a.dtype)


def _centered(z: jax.Array, mask: jax.Array | None, n: jax.Array) -> jax.Array:
    return keep(mask, z - jnp.sum(z, axis=0, keepdims=True) / n)
