"""The triplet loss: anchors are closer to positives than to negatives, by a margin.

d(a, b) = (Σ|a − b|^k + eps)^(1/k),   loss = max(0, d(a, p) − d(a, n) + margin)

where a and b are embeddings, a the anchor, p the positive, n the negative, and k the order `norm_degree` of
the norm.

References: Schultz, Joachims, "Learning a Distance Metric from Relative Comparisons", 2004; Schroff et al.,
"FaceNet", 2015, equation 1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import Axis, check_number, matching
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
    """The shortfall of the negative's distance over the positive's from a margin.

    Args:
      anchors: a, shape [..., features].
      positives: p, of the same shape.
      negatives: n, of the same shape.
      axis: the axis, or axes, of the features; None for all.
      norm_degree: k, at least 1.
      margin: the required difference of the distances, at least 0.
      eps: a constant added under the root, greater than 0, for a finite gradient at distance 0.
      where: boolean mask of the same shape (size 1 along `axis` selects triplets); features that are
        False are excluded.

    Returns:
      The loss of each triplet, of the shape without `axis`, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or a number is out of range.

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
    (a, p, n), _, axes = matching(
        name, where, axis, anchors=anchors, positives=positives, negatives=negatives
    )
    k = jnp.asarray(norm_degree, a.dtype)
    plus = jnp.asarray(eps, a.dtype)

    def distance(x: jax.Array, y: jax.Array) -> jax.Array:
        square = isinstance(norm_degree, int | float) and norm_degree == 2
        terms = (x - y) ** 2 if square else power(jnp.abs(x - y), k)
        return (jnp.sum(terms, axis=axes) + plus) ** (1 / k)

    return jnp.maximum(0, distance(a, p) - distance(a, n) + jnp.asarray(margin, a.dtype))
