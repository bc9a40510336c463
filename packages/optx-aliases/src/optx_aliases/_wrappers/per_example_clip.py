"""Clipping of per-example gradients, for differentially private training.

u = Σᵢ gᵢ·min(1, C / ‖gᵢ‖)

where gᵢ is the gradient of example i, and C the largest norm, of the whole tree or of each array with a C
of its own. Both functions take gradients with a leading axis of examples and return the sum of the clipped
ones.

References: Abadi et al., "Deep Learning with Differential Privacy", 2016, algorithm 1; McMahan et al.,
"Learning Differentially Private Recurrent Language Models", 2018 (each layer by itself).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from optx_core import PyTree, Scalar, build


def per_example_global_norm_clip(grads: PyTree, l2_norm_clip: Scalar) -> tuple[PyTree, Array]:
    """Clips each example's gradient by its global norm, and sums over the examples.

    Args:
      grads: a tree of arrays of shape `(batch, *shape)`, one gradient for each example.
      l2_norm_clip: the largest norm of one example's gradient, a scalar at least 0.

    Returns:
      The tree of sums, of shapes `shape`, float32 for integer gradients, and the number of examples that were
      clipped, int32.

    Raises:
      ValueError: if the leading axes differ or are missing, or the bound is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import per_example_global_norm_clip
      >>> total, clipped = per_example_global_norm_clip([jnp.array([[0.0, 4.0], [0.0, 0.5]])], 1.0)
      >>> total[0], int(clipped)
      (Array([0. , 1.5], dtype=float32), 1)
    """
    where = "per_example_global_norm_clip"
    build.check_number(where, low=0, finite=False, l2_norm_clip=l2_norm_clip)
    grads, batch = _examples(where, grads)
    real = build.common_real_dtype(*map(build.dtype_of, jax.tree.leaves(grads)))
    squares = [_squares(g, real) for g in jax.tree.leaves(grads)]
    norms = jnp.sqrt(sum(squares, jnp.zeros(batch, real)))
    factors = _factors(norms, l2_norm_clip)
    clipped = jnp.sum(norms > l2_norm_clip, dtype=jnp.int32)
    return jax.tree.map(lambda g: _weighted_sum(g, factors), grads), clipped


def per_example_layer_norm_clip(
    grads: PyTree, global_l2_norm_clip: Scalar, uniform: bool = True
) -> tuple[PyTree, PyTree]:
    """Clips each example's gradient array by array, and sums over the examples.

    The bounds of the arrays together satisfy the global one: equal (C / √number of arrays), or in proportion
    to the root of the sizes.

    Args:
      grads: a tree of arrays of shape `(batch, *shape)`, one gradient for each example.
      global_l2_norm_clip: C, the largest norm of one example's gradient, a scalar at least 0.
      uniform: whether all arrays have the same bound.

    Returns:
      The tree of sums, of shapes `shape`, float32 for integer gradients, and for each array the number of
      examples clipped, int32.

    Raises:
      ValueError: if the leading axes differ or are missing, or the bound is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import per_example_layer_norm_clip
      >>> total, clipped = per_example_layer_norm_clip([jnp.array([[0.0, 4.0], [0.0, 0.5]])], 1.0)
      >>> total[0], int(clipped[0])
      (Array([0. , 1.5], dtype=float32), 1)
    """
    where = "per_example_layer_norm_clip"
    build.check_number(where, low=0, finite=False, global_l2_norm_clip=global_l2_norm_clip)
    grads, _ = _examples(where, grads)
    leaves, structure = build.tree_flatten(grads)
    sizes = [math.prod(np.shape(g)[1:]) for g in leaves]
    shares = [1 / len(leaves) if uniform else size / sum(sizes) for size in sizes]
    totals, counts = [], []
    for g, share in zip(leaves, shares, strict=True):
        bound = global_l2_norm_clip * math.sqrt(share)
        norms = jnp.sqrt(_squares(g, build.common_real_dtype(build.dtype_of(g))))
        totals.append(_weighted_sum(g, _factors(norms, bound)))
        counts.append(jnp.sum(norms > bound, dtype=jnp.int32))
    return structure.unflatten(totals), structure.unflatten(counts)


def _squares(g: Any, real: Any) -> Array:
    g = build.cast_to_compute(g, real)
    return jnp.sum(build.abs_squared(g), axis=tuple(range(1, g.ndim)))


def _factors(norms: Array, bound: Scalar) -> Array:
    over = norms > bound
    return jnp.where(over, bound / jnp.where(over, norms, 1), 1)


def _weighted_sum(g: Any, factors: Array) -> Array:
    wide = build.cast_to_compute(g, factors.dtype)
    spread = factors.reshape(-1, *(1,) * (g.ndim - 1)).astype(wide.dtype)
    return jnp.sum(wide * spread, axis=0).astype(g.dtype)


def _examples(where: str, grads: PyTree) -> tuple[PyTree, int]:
    """The gradients as arrays, those of an integer dtype in float32, and the number of examples."""
    shapes = [np.shape(g) for g in jax.tree.leaves(grads)]
    if not shapes or any(not shape or shape[0] != shapes[0][0] for shape in shapes):
        raise ValueError(
            f"{where}: every gradient needs the same leading axis of examples, as in the result of "
            f"vmap(grad(loss)); the shapes are {shapes}"
        )

    def leaf(g: Any) -> Array:
        return jnp.asarray(g) if build.is_inexact(g) else jnp.asarray(g).astype(jnp.float32)

    return jax.tree.map(leaf, grads), shapes[0][0]
