"""Clipping of per-example gradients, as differentially private training needs it.

Both functions take gradients with a leading axis of examples and return the sum of the clipped ones.

References: Abadi et al., "Deep Learning with Differential Privacy", 2016, algorithm 1; McMahan et al.,
"Learning Differentially Private Recurrent Language Models", 2018 (each layer by itself).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import PyTree, Scalar
from optx_core.build import cast_to_compute, common_real_dtype, dtype_of, tree_flatten
from optx_core.tree import abs_squared


def per_example_global_norm_clip(grads: PyTree, l2_norm_clip: Scalar) -> tuple[PyTree, jax.Array]:
    """Clips each example's gradient by its global norm, and sums over the examples.

    Args:
      grads: a tree of arrays of shape `(batch, *shape)`, one gradient for each example.
      l2_norm_clip: the largest norm of one example's gradient, a scalar.

    Returns:
      The tree of sums, of shapes `shape`, and the number of examples that were clipped, int32.

    Raises:
      ValueError: if the leading axes differ, or are missing.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import per_example_global_norm_clip
      >>> total, clipped = per_example_global_norm_clip([jnp.array([[0.0, 4.0], [0.0, 0.5]])], 1.0)
      >>> total[0], int(clipped)
      (Array([0. , 1.5], dtype=float32), 1)
    """
    batch = _batch_size("per_example_global_norm_clip", grads)
    real = common_real_dtype(*map(dtype_of, jax.tree.leaves(grads)))
    squares = [_squares(g, real) for g in jax.tree.leaves(grads)]
    norms = jnp.sqrt(sum(squares, jnp.zeros(batch, real)))
    factors = _factors(norms, l2_norm_clip)
    clipped = jnp.sum(norms > l2_norm_clip, dtype=jnp.int32)
    return jax.tree.map(lambda g: _weighted_sum(g, factors), grads), clipped


def per_example_layer_norm_clip(
    grads: PyTree, global_l2_norm_clip: Scalar, uniform: bool = True
) -> tuple[PyTree, PyTree]:
    """Clips each example's gradient array by array, and sums over the examples.

    The bounds of the arrays are such that all together obey the global one: equal
    (C / √number of arrays), or in proportion to the root of their sizes.

    Args:
      grads: a tree of arrays of shape `(batch, *shape)`, one gradient for each example.
      global_l2_norm_clip: C, the largest norm of one example's gradient, a scalar.
      uniform: whether all arrays have the same bound.

    Returns:
      The tree of sums, of shapes `shape`, and for each array the number of examples clipped, int32.

    Raises:
      ValueError: if the leading axes differ, or are missing.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import per_example_layer_norm_clip
      >>> total, clipped = per_example_layer_norm_clip([jnp.array([[0.0, 4.0], [0.0, 0.5]])], 1.0)
      >>> total[0], int(clipped[0])
      (Array([0. , 1.5], dtype=float32), 1)
    """
    _batch_size("per_example_layer_norm_clip", grads)
    leaves, structure = tree_flatten(grads)
    sizes = [math.prod(np.shape(g)[1:]) for g in leaves]
    shares = [1 / len(leaves) if uniform else size / sum(sizes) for size in sizes]
    totals, counts = [], []
    for g, share in zip(leaves, shares, strict=True):
        bound = global_l2_norm_clip * math.sqrt(share)
        norms = jnp.sqrt(_squares(g, common_real_dtype(dtype_of(g))))
        totals.append(_weighted_sum(g, _factors(norms, bound)))
        counts.append(jnp.sum(norms > bound, dtype=jnp.int32))
    return structure.unflatten(totals), structure.unflatten(counts)


def _squares(g: Any, real: Any) -> jax.Array:
    g = cast_to_compute(jnp.asarray(g), real)
    return jnp.sum(abs_squared(g), axis=tuple(range(1, g.ndim)))


def _factors(norms: jax.Array, bound: Scalar) -> jax.Array:
    over = norms > bound
    return jnp.where(over, bound / jnp.where(over, norms, 1), 1)


def _weighted_sum(g: Any, factors: jax.Array) -> jax.Array:
    g = jnp.asarray(g)
    wide = cast_to_compute(g, factors.dtype)
    spread = factors.reshape(-1, *(1,) * (g.ndim - 1)).astype(wide.dtype)
    return jnp.sum(wide * spread, axis=0).astype(g.dtype)


def _batch_size(where: str, grads: PyTree) -> int:
    shapes = [np.shape(g) for g in jax.tree.leaves(grads)]
    if not shapes or any(not shape or shape[0] != shapes[0][0] for shape in shapes):
        raise ValueError(
            f"{where}: every gradient needs the same leading axis of examples, as vmap(grad(loss)) "
            f"makes it; the shapes are {shapes}"
        )
    return shapes[0][0]
