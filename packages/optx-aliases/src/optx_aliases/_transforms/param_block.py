"""The update of each array, scaled by the size of its parameter.

scale_by_param_block_norm:  u = g · max(‖p‖, min_scale)
scale_by_param_block_rms:   u = g · max(√(mean |p|²), min_scale)

Reference: Shazeer, Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018,
section 8.
"""

from __future__ import annotations

from jax import Array

from optx_core import build


@build.rule(params=True)
def scale_by_param_block_norm(g: Array, p: Array, /, min_scale: build.Nonnegative = 1e-3) -> Array:
    """Multiplies the update of each array by the norm of its parameter.

    Args:
      min_scale: a lower bound of the norm, which lets zeros move; a scalar at least 0, or a schedule.

    Returns:
      A transformation with an `EmptyState`; `update` needs the parameters.

    Raises:
      ValueError: if `min_scale` is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_param_block_norm
      >>> tx = scale_by_param_block_norm()
      >>> tx.update(jnp.array([1.0, 2.0]), tx.init(None), jnp.array([3.0, 4.0]))[0]
      Array([ 5., 10.], dtype=float32)
    """
    return g * build.finite_norm(p, min_scale)


@build.rule(params=True)
def scale_by_param_block_rms(g: Array, p: Array, /, min_scale: build.Nonnegative = 1e-3) -> Array:
    """Multiplies the update of each array by the root mean square of its parameter.

    Args:
      min_scale: a lower bound of the root mean square, which lets zeros move; a scalar at least 0, or a
        schedule.

    Returns:
      A transformation with an `EmptyState`; `update` needs the parameters.

    Raises:
      ValueError: if `min_scale` is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_param_block_rms
      >>> tx = scale_by_param_block_rms()
      >>> tx.update(jnp.array([1.0, 2.0]), tx.init(None), jnp.array([3.0, -3.0]))[0]
      Array([3., 6.], dtype=float32)
    """
    if not p.size:
        return g
    return g * build.finite_norm(p, min_scale, terms=2 * p.size, mean=True)
