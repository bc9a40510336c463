"""The triplet loss (Schultz, Joachims, 2004; Schroff et al., "FaceNet", 2015, equation 1).

d(a, b) = (Σ|a − b|^k + eps)^(1/k),   loss = max(0, d(a, p) − d(a, n) + margin)
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_core.build import check_number
from optx_losses._inputs import Axis, as_floats, as_mask, axes_of, keep, same_shape
from optx_losses._rounding import power


def triplet_margin_loss(
    anchors: ArrayLike,
    positives: ArrayLike,
    negatives: ArrayLike,
    axis: Axis = -1,
    norm_degree: Scalar = 2,
    margin: Scalar = 1.0,
    eps: Scalar = 1e-6,
    *,
    where: ArrayLike | None = None,
) -> jax.Array:
    """By how much an anchor fails to be nearer to its positive than to its negative.

    Args:
      anchors: a, shape [..., features].
      positives: p, of the same shape.
      negatives: n, of the same shape.
      axis: the axis, or axes, of the features; None for all.
      norm_degree: k, at least 1.
      margin: by how much nearer it should be, at least 0.
      eps: added under the root, greater than 0 for a finite gradient at distance 0.
      where: which features count, boolean, of the same shape.

    Returns:
      The loss of each triplet, of the shape without `axis`, float32 or wider, at least 0.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ, or a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import triplet_margin_loss
      >>> a, p, n = jnp.array([[0.0]]), jnp.array([[2.0]]), jnp.array([[1.5]])
      >>> triplet_margin_loss(a, p, n).round(4)
      Array([1.5], dtype=float32)
    """
    name = "triplet_margin_loss"
    check_number(name, low=1, norm_degree=norm_degree)
    check_number(name, low=0, margin=margin)
    check_number(name, above=0, eps=eps)
    a, p, n = as_floats(name, anchors=anchors, positives=positives, negatives=negatives)
    same_shape(name, anchors=a, positives=p, negatives=n)
    axes = axes_of(name, axis, a.ndim)
    a, p, n = keep(as_mask(name, where, a, "the anchors"), a, p, n)
    k = jnp.asarray(norm_degree, a.dtype)
    plus = jnp.asarray(eps, a.dtype)

    def distance(x: jax.Array, y: jax.Array) -> jax.Array:
        square = isinstance(norm_degree, int | float) and norm_degree == 2
        terms = (x - y) ** 2 if square else power(jnp.abs(x - y), k)
        return (jnp.sum(terms, axis=axes) + plus) ** (1 / k)

    return jnp.maximum(0, distance(a, p) - distance(a, n) + jnp.asarray(margin, a.dtype))
