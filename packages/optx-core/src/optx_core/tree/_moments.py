"""Moments of gradients, for trees; leafwise transformations use the same equations for one array."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_core._engine.rates import DecayRate, rate_of
from optx_core._engine.staged import map_leaves
from optx_core._protocol.dtypes import abs_squared
from optx_core._protocol.types import PyTree, Scalar


def update_moment(updates: PyTree, moments: PyTree, decay: Scalar, order: int) -> PyTree:
    """Returns decay·m + (1 − decay)·gᵒʳᵈᵉʳ, elementwise.

    Args:
      updates: g, a tree of arrays.
      moments: m, a tree of the same structure and shapes.
      decay: the weight of the past, a scalar.
      order: the power, a positive int.

    Returns:
      The new moments, in the dtypes of the old ones.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.update_moment(jnp.array([2.0]), jnp.array([0.0]), 0.5, 2)
      Array([2.], dtype=float32)
    """
    leaf_args: dict[str, Any] = {"decay": rate_of(decay), "order": order}
    return map_leaves(_moment, updates, moments, name="tree.update_moment", **leaf_args)[1]


def update_moment_per_elem_norm(
    updates: PyTree, moments: PyTree, decay: Scalar, order: int
) -> PyTree:
    """Returns decay·m + (1 − decay)·|g|ᵒʳᵈᵉʳ, elementwise; real for complex g.

    Args:
      updates: g, a tree of arrays.
      moments: m, a tree of real arrays of the same structure and shapes.
      decay: the weight of the past, a scalar.
      order: the power, a positive int.

    Returns:
      The new moments, in the dtypes of the old ones.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.update_moment_per_elem_norm(jnp.array([3 + 4j]), jnp.array([0.0]), 0.5, 2)
      Array([12.5], dtype=float32)
    """
    leaf_args: dict[str, Any] = {"decay": rate_of(decay), "order": order}
    return map_leaves(
        _moment_of_norm, updates, moments, name="tree.update_moment_per_elem_norm", **leaf_args
    )[1]


def update_infinity_moment(updates: PyTree, moments: PyTree, decay: Scalar, eps: Scalar) -> PyTree:
    """Returns max(|g| + eps, decay·m), elementwise: the moment of Adamax.

    Args:
      updates: g, a tree of arrays.
      moments: m, a tree of the same structure and shapes.
      decay: the factor of the past, a scalar.
      eps: added to |g|.

    Returns:
      The new moments, in the dtypes of the old ones.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.update_infinity_moment(jnp.array([-2.0]), jnp.array([1.0]), 0.5, 0.0)
      Array([2.], dtype=float32)
    """
    return map_leaves(
        _infinity, updates, moments, name="tree.update_infinity_moment", decay=decay, eps=eps
    )[1]


def bias_correction(moment: PyTree, decay: Scalar, count: Any) -> PyTree:
    """Returns m / (1 − decayᵗ): corrects the bias of an average that is initially zero.

    Args:
      moment: m, a tree of arrays.
      decay: the weight of the past, a scalar.
      count: t, the number of updates in the average, at least 1.

    Returns:
      A tree of the same structure, shapes and dtypes.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.bias_correction(jnp.array([0.5]), 0.5, 1)
      Array([1.], dtype=float32)
    """
    return map_leaves(
        _corrected,
        moment,
        name="tree.bias_correction",
        decay=rate_of(decay),
        count=jnp.asarray(count),
    )


def _moment(
    g: jax.Array, moment: jax.Array, *, decay: DecayRate, order: int
) -> tuple[jax.Array, jax.Array]:
    return g, decay * moment + (1 - decay) * g**order


def _moment_of_norm(
    g: jax.Array, moment: jax.Array, *, decay: DecayRate, order: int
) -> tuple[jax.Array, jax.Array]:
    power = abs_squared(g) ** (order // 2) if order % 2 == 0 else jnp.abs(g) ** order
    return g, decay * moment + (1 - decay) * power


def _infinity(
    g: jax.Array, moment: jax.Array, *, decay: Scalar, eps: Scalar
) -> tuple[jax.Array, jax.Array]:
    return g, jnp.maximum(jnp.abs(g) + eps, decay * moment)


def _corrected(moment: jax.Array, *, decay: DecayRate, count: jax.Array) -> jax.Array:
    return moment / (1 - decay**count)
