"""Cross entropy of a sigmoid with the probability of the positive class.

loss = max(x, 0) − x·y + log1p(exp(−|x|))

dloss/dx = sigmoid(x) − y,   dloss/dy = −x

where x is the logit, y the probability of the label, and log1p(a) is log(1 + a). The derivative is a rule
of its own: no intermediate array is stored for the backward pass.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from optx_losses._inputs import as_floats, check_number, keep, matching


def sigmoid_binary_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    pos_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Binary cross entropy of each entry.

    Args:
      logits: x, the log odds of the positive class, of any shape.
      labels: y, the probability of the positive class, in [0, 1], of the same shape.
      pos_weight: w, the weight of the positive term, at least 0: a scalar, or of the shape of the
        last axis (one weight for each class). More than 1 raises recall, less than 1 precision.
      where: boolean mask of the same shape; entries that are False give 0.

    Returns:
      −w·y·log sigmoid(x) − (1 − y)·log sigmoid(−x), of the logits' shape, at least float32, at least
      0. An infinite logit that is not masked gives inf or NaN.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or a `pos_weight` is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import sigmoid_binary_cross_entropy
      >>> sigmoid_binary_cross_entropy(jnp.array([0.0, -2.0]), jnp.array([1.0, 0.0]))
      Array([0.6931472, 0.126928 ], dtype=float32)
      >>> sigmoid_binary_cross_entropy(jnp.zeros(2), jnp.array([1.0, 0.0]), pos_weight=2.0)
      Array([1.3862944, 0.6931472], dtype=float32)
    """
    name = "sigmoid_binary_cross_entropy"
    (x, y), mask, _ = matching(name, where, logits=logits, labels=labels)
    if pos_weight is None:
        return keep(mask, binary_cross_entropy(x, y))
    if isinstance(pos_weight, int | float | np.generic):
        check_number(name, low=0, pos_weight=pos_weight)
    (w,) = as_floats(name, pos_weight=pos_weight)
    if w.shape not in ((), x.shape[-1:]):
        raise ValueError(
            f"{name}: pos_weight is {w.shape}, the logits are {x.shape}; it must be a scalar or "
            "have one weight for each entry of the last axis"
        )
    w = jnp.broadcast_to(w.astype(x.dtype), x.shape)
    positive = binary_cross_entropy(x, jnp.ones_like(y))
    negative = binary_cross_entropy(x, jnp.zeros_like(y))
    return keep(mask, w * y * positive + (1 - y) * negative)


@jax.custom_jvp
def binary_cross_entropy(x: jax.Array, y: jax.Array) -> jax.Array:
    """The loss for arrays of one dtype and shape."""
    return jnp.maximum(x, 0) - x * y + jnp.log1p(jnp.exp(-jnp.abs(x)))


def _jvp(primals: Any, tangents: Any) -> tuple[jax.Array, Any]:
    x, y = primals
    dx, dy = tangents
    loss = binary_cross_entropy(x, y)
    parts = []
    if not isinstance(dx, SymbolicZero):
        parts.append((jax.nn.sigmoid(x) - y) * dx)
    if not isinstance(dy, SymbolicZero):
        parts.append(-x * dy)
    tangent = sum(parts[1:], parts[0]) if parts else jnp.zeros_like(loss)
    return loss, tangent


binary_cross_entropy.defjvp(_jvp, symbolic_zeros=True)
