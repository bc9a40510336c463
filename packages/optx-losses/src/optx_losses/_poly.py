"""PolyLoss: cross entropy with another weight on the first term of its expansion.

loss = −Σ_c y_c·log p_c + epsilon·Σ_c y_c·(1 − p_c),   p = softmax(x)

where x are the logits, y the label's distribution, and c runs over the classes.

Reference: Leng et al., "PolyLoss: A Polynomial Expansion Perspective of Classification Loss
Functions", 2022, equation 6.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import Axis, check_number, matching
from optx_losses._log_softmax import log_softmax, times_log


def poly_loss_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    epsilon: Scalar = 2.0,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Cross entropy with another weight on the first term of its expansion in 1 − p.

    Args:
      logits: x, unnormalized log-probabilities, shape [..., classes].
      labels: y, probabilities of the classes, at least 0, of the same shape.
      epsilon: the weight added to the first term, at least −1 (2 for classification in the paper).
      axis: the axis, or axes, of the classes; None for all.
      where: boolean mask of the same shape (size 1 along `axis` selects examples); classes that are
        False are excluded.

    Returns:
      The loss of each example, of the logits' shape without `axis`, at least float32.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, the axis is out of range, or `epsilon` is below −1.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import poly_loss_cross_entropy
      >>> poly_loss_cross_entropy(jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0]))
      Array(1.6931472, dtype=float32)
    """
    name = "poly_loss_cross_entropy"
    check_number(name, low=-1, epsilon=epsilon)
    (x, y), mask, axes = matching(name, where, axis, logits=logits, labels=labels)
    log_p = log_softmax(x, axes, mask)
    first = y * -jnp.expm1(log_p)
    terms = jnp.asarray(epsilon, x.dtype) * first - times_log(y, log_p)
    return jnp.sum(terms, axis=axes)
