"""z-loss: a penalty that keeps logits from drifting.

z_loss = (log Σ exp(x))²

where x are the logits of one example.

References: Chowdhery et al., "PaLM", 2022, section 5; Zoph et al., "ST-MoE", 2022, section 3.1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_losses._inputs import Axis, matching
from optx_losses._log_softmax import log_sum_exp


def z_loss(logits: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None) -> jax.Array:
    """The squared log-normalizer of each example.

    Added to a cross entropy with a small weight, such as 1e-4. The cross entropies with integer labels
    take that weight as `z_loss`.

    Args:
      logits: x, shape [..., classes]; −inf excludes a class.
      axis: the axis, or axes, of the classes; None for all.
      where: boolean mask of the same shape (size 1 along `axis` selects examples); classes that are
        False are excluded.

    Returns:
      The loss of each example, of the shape without `axis`, at least float32; 0 if all classes are excluded.

    Raises:
      TypeError: if the logits are not real numbers.
      ValueError: if the axis is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import z_loss
      >>> z_loss(jnp.array([[-1e4, 3.0], [0.0, -jnp.inf]]))
      Array([9., 0.], dtype=float32)
    """
    (x,), mask, axes = matching("z_loss", where, axis, logits=logits)
    log_z = log_sum_exp(x, axes, mask)
    return jnp.where(log_z == -jnp.inf, 0, log_z) ** 2
