"""Cross entropy of a sigmoid with the share of the positive class.

loss = max(x, 0) − x·y + log1p(exp(−|x|))

dloss/dx = sigmoid(x) − y,   dloss/dy = −x

The derivative is given, not traced through the value: nothing is kept between the two.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from optx_losses._inputs import as_floats, as_mask, keep, same_shape


def sigmoid_binary_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Binary cross entropy of each entry.

    Args:
      logits: x, the log odds of the positive class, of any shape.
      labels: y, the share of the positive class, in [0, 1], of the same shape.
      where: which entries count, boolean, of the same shape; the others give 0.

    Returns:
      −y·log sigmoid(x) − (1 − y)·log sigmoid(−x), of the logits' shape, float32 or wider, at least 0.
      An infinite logit that is not masked gives inf or NaN.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import sigmoid_binary_cross_entropy
      >>> sigmoid_binary_cross_entropy(jnp.array([0.0, -2.0]), jnp.array([1.0, 0.0]))
      Array([0.6931472, 0.126928 ], dtype=float32)
    """
    name = "sigmoid_binary_cross_entropy"
    x, y = as_floats(name, logits=logits, labels=labels)
    same_shape(name, logits=x, labels=y)
    mask = as_mask(name, where, x, "the logits")
    x, y = keep(mask, x, y)
    return keep(mask, binary_cross_entropy(x, y))


@jax.custom_jvp
def binary_cross_entropy(x: jax.Array, y: jax.Array) -> jax.Array:
    """The loss of arrays of one dtype and shape."""
    return jnp.maximum(x, 0) - x * y + jnp.log1p(jnp.exp(-jnp.abs(x)))


def _jvp(primals: Any, tangents: Any) -> tuple[jax.Array, Any]:
    x, y = primals
    dx, dy = tangents
    loss = binary_cross_entropy(x, y)
    parts = []
    if not isinstance(dx, SymbolicZero):
        parts.append((1 / (1 + jnp.exp(-x)) - y) * dx)
    if not isinstance(dy, SymbolicZero):
        parts.append(-x * dy)
    tangent = sum(parts[1:], parts[0]) if parts else jnp.zeros_like(loss)
    return loss, tangent


binary_cross_entropy.defjvp(_jvp, symbolic_zeros=True)
