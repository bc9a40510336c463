"""z-loss: (log Σ exp(x))², which keeps logits from drifting.

References: Chowdhery et al., "PaLM", 2022, section 5; Zoph et al., "ST-MoE", 2022, section 3.1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_losses._inputs import Axis, as_floats, as_mask, axes_of
from optx_losses._log_softmax import log_sum_exp


def z_loss(logits: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None) -> jax.Array:
    """The squared log-normalizer of each example.

    Multiply it by a small number (1e-4, say) and add it to a cross entropy; the cross entropies with
    integer labels take that number as `z_loss`.

    Args:
      logits: x, shape [..., classes]; −inf rules a class out.
      axis: the axis, or axes, of the classes; None for all.
      where: which classes there are, boolean, of the same shape; the others are as if left out.

    Returns:
      The loss of each example, of the shape without `axis`, float32 or wider; 0 without a class.

    Raises:
      TypeError: if the logits are no real numbers.
      ValueError: if the axis is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import z_loss
      >>> z_loss(jnp.array([[-1e4, 3.0], [0.0, -jnp.inf]]))
      Array([9., 0.], dtype=float32)
    """
    (x,) = as_floats("z_loss", logits=logits)
    axes = axes_of("z_loss", axis, x.ndim)
    log_z = log_sum_exp(x, axes, as_mask("z_loss", where, x, "the logits"))
    return jnp.where(log_z == -jnp.inf, 0, log_z) ** 2
