"""PolyLoss: −Σ_c y_c·log p_c + epsilon·Σ_c y_c·(1 − p_c).

Reference: Leng et al., "PolyLoss: A Polynomial Expansion Perspective of Classification Loss
Functions", 2022, equation 6.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_core.build import check_number
from optx_losses._inputs import Axis, as_floats, as_mask, axes_of, keep, same_shape
from optx_losses._log_softmax import log_softmax, times_log


def poly_loss_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    epsilon: Scalar = 2.0,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Cross entropy with the first term of its expansion in 1 − p weighted differently.

    Args:
      logits: x, unnormalized log probabilities, shape [..., classes].
      labels: y, shares of the classes, at least 0, of the same shape.
      epsilon: the weight added to the first term, at least −1 (the paper: 2 for classification).
      axis: the axis, or axes, of the classes; None for all.
      where: which classes there are, boolean, of the same shape; the others are as if left out.

    Returns:
      The loss of each example, of the logits' shape without `axis`, float32 or wider.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ, the axis is out of range, or epsilon below −1.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import poly_loss_cross_entropy
      >>> poly_loss_cross_entropy(jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0]))
      Array(1.6931472, dtype=float32)
    """
    name = "poly_loss_cross_entropy"
    check_number(name, low=-1, epsilon=epsilon)
    x, y = as_floats(name, logits=logits, labels=labels)
    same_shape(name, logits=x, labels=y)
    axes = axes_of(name, axis, x.ndim)
    mask = as_mask(name, where, x, "the logits")
    y = keep(mask, y)
    log_p = log_softmax(x, axes, mask)
    first = y * -jnp.expm1(log_p)
    terms = jnp.asarray(epsilon, x.dtype) * first - times_log(y, log_p)
    return jnp.sum(terms, axis=axes)
