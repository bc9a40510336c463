"""A randomized check of a coloring: entries of one color must not be coupled.

For two vectors s and s' of random signs on one color, s·(H s) and s'·(H s') both equal the diagonal
there if H_ij = 0 for all i ≠ j of that color. Otherwise they differ with high probability.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import PyTree
from optx_second_order._chunked import read_coloring
from optx_second_order._leaves import Leaves, as_wide
from optx_second_order._products import linearize_hessian_vp


def coloring_error(
    loss_fn: Callable[..., Any],
    params: PyTree,
    *batch: PyTree,
    coloring: PyTree,
    key: jax.Array,
    has_aux: bool = False,
) -> jax.Array:
    """Measures the inconsistency of a coloring: 0, up to rounding, for a valid one.

    Args:
      loss_fn: as for `exact_hessian_diag`.
      params: as for `exact_hessian_diag`; float leaves only.
      *batch: as for `exact_hessian_diag`.
      coloring: a tree of integer arrays like `params`.
      key: a random key.
      has_aux: whether the loss returns `(loss, aux)`.

    Returns:
      A scalar, the largest difference between diagonals from different random signs.

    Example:
      >>> import jax, jax.numpy as jnp, numpy as np
      >>> from optx_second_order import coloring_error
      >>> chain = lambda p: jnp.sum((p[1:] - p[:-1]) ** 2)
      >>> two = np.arange(6) % 2
      >>> bool(coloring_error(chain, jnp.ones(6), coloring=two, key=jax.random.key(0)) < 1e-5)
      True
    """
    leaves = Leaves("coloring_error", params)
    colors = read_coloring("coloring_error", coloring, leaves)
    if not colors:
        return jnp.zeros(())
    product = linearize_hessian_vp(loss_fn, params, *batch, has_aux=has_aux)
    ids = np.unique(np.concatenate([c.reshape(-1) for c in colors]))

    def diagonal(key: jax.Array, color: jax.Array) -> list[jax.Array]:
        keys = jax.random.split(key, len(colors))
        v = [
            jnp.where(
                jnp.asarray(c) == color,
                jax.random.rademacher(k, a.shape, a.dtype),
                jnp.zeros_like(a),
            )
            for c, k, a in zip(colors, keys, leaves.arrays, strict=True)
        ]
        image = leaves.vector(product(leaves.tree(v)), "the product")
        return [as_wide(a) * as_wide(b) for a, b in zip(v, image, strict=True)]

    def worst(color: jax.Array) -> jax.Array:
        keys = jax.random.split(jax.random.fold_in(key, color), 3)
        first, *others = [diagonal(k, color) for k in keys]
        gaps = [
            jnp.max(jnp.abs(a - b), initial=0)
            for other in others
            for a, b in zip(first, other, strict=True)
        ]
        return jnp.max(jnp.stack(gaps))

    return jnp.max(jax.lax.map(worst, jnp.asarray(ids.astype(np.int32))))
