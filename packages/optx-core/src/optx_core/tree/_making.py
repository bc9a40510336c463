"""Construction of trees from trees: constant, cast and random arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_core._protocol.absent import check_structures
from optx_core._protocol.dtypes import is_inexact
from optx_core._protocol.types import PyTree, Scalar


def zeros_like(tree: PyTree, dtype: Any = None) -> PyTree:
    """Returns zeros of the same shapes; see `slots_like` for optimizer state.

    Args:
      tree: a tree of arrays.
      dtype: the dtype; by default each array's own.

    Returns:
      A tree of new arrays with the same structure, shapes and shardings.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.zeros_like({"a": jnp.ones(2)})
      {'a': Array([0., 0.], dtype=float32)}
    """
    return jax.tree.map(lambda x: jnp.zeros_like(x, dtype=dtype), tree)


def ones_like(tree: PyTree, dtype: Any = None) -> PyTree:
    """Returns ones of the same shapes.

    Args:
      tree: a tree of arrays.
      dtype: the dtype; by default each array's own.

    Returns:
      A tree of new arrays with the same structure, shapes and shardings.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.ones_like({"a": jnp.zeros(2)})
      {'a': Array([1., 1.], dtype=float32)}
    """
    return jax.tree.map(lambda x: jnp.ones_like(x, dtype=dtype), tree)


def full_like(tree: PyTree, fill_value: Scalar, dtype: Any = None) -> PyTree:
    """Returns arrays of the same shapes, filled with a number.

    Args:
      tree: a tree of arrays.
      fill_value: the number.
      dtype: the dtype; by default each array's own.

    Returns:
      A tree of new arrays with the same structure, shapes and shardings.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.full_like({"a": jnp.zeros(2)}, 3.0)
      {'a': Array([3., 3.], dtype=float32)}
    """
    return jax.tree.map(lambda x: jnp.full_like(x, fill_value, dtype=dtype), tree)


def cast(tree: PyTree, dtype: Any) -> PyTree:
    """Casts the floating-point and complex arrays of a tree to a dtype.

    Args:
      tree: a tree of arrays.
      dtype: the dtype, or None for no cast. Integer leaves are never changed.

    Returns:
      A tree of the same structure and shapes.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.cast({"a": jnp.ones(1), "n": jnp.int32(3)}, jnp.bfloat16)
      {'a': Array([1], dtype=bfloat16), 'n': Array(3, dtype=int32)}
    """
    if dtype is None:
        return tree
    return jax.tree.map(lambda x: jnp.asarray(x).astype(dtype) if is_inexact(x) else x, tree)


def cast_like(tree: PyTree, other_tree: PyTree) -> PyTree:
    """Casts a tree to the dtypes of another.

    Args:
      tree: a tree of arrays.
      other_tree: a tree of arrays of the same structure.

    Returns:
      A tree of the same structure and shapes.

    Raises:
      TreeMismatchError: if the structures differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.cast_like(jnp.array([1.5]), jnp.array([0], jnp.bfloat16))
      Array([1.5], dtype=bfloat16)
    """
    check_structures("tree.cast_like", tree=tree, other_tree=other_tree)
    return jax.tree.map(
        lambda x, other: jnp.asarray(x).astype(jnp.asarray(other).dtype), tree, other_tree
    )


def batch_shape(tree: PyTree, shape: tuple[int, ...] = ()) -> PyTree:
    """Broadcasts arrays, or `jax.ShapeDtypeStruct`s, to additional leading axes.

    Args:
      tree: a tree of arrays or of `jax.ShapeDtypeStruct`.
      shape: the sizes of the leading axes.

    Returns:
      A tree of the same structure; each leaf of shape `(*shape, *leaf.shape)`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.batch_shape({"a": jnp.ones(3)}, (2,))["a"].shape
      (2, 3)
    """

    def leaf(x: Any) -> Any:
        if isinstance(x, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct((*shape, *x.shape), x.dtype)
        x = jnp.asarray(x)
        return jnp.broadcast_to(x, (*shape, *x.shape))

    return jax.tree.map(leaf, tree)


def split_key_like(rng_key: jax.Array, target_tree: PyTree) -> PyTree:
    """Returns a random key for each leaf of a tree.

    Args:
      rng_key: a key of `jax.random`.
      target_tree: a tree of the desired structure.

    Returns:
      A tree of keys.

    Example:
      >>> import jax
      >>> from optx_core import tree
      >>> keys = tree.split_key_like(jax.random.key(0), {"a": 1.0, "b": 2.0})
      >>> sorted(keys)
      ['a', 'b']
    """
    structure: Any = jax.tree.structure(target_tree)
    keys = jax.random.split(rng_key, max(structure.num_leaves, 1))
    return structure.unflatten([keys[k] for k in range(structure.num_leaves)])


def random_like(
    rng_key: jax.Array,
    target_tree: PyTree,
    sampler: Callable[..., jax.Array] = jax.random.normal,
    dtype: Any = None,
) -> PyTree:
    """Returns random arrays of the same shapes, sampled independently for each leaf.

    Args:
      rng_key: a key of `jax.random`.
      target_tree: a tree of arrays.
      sampler: `sampler(key, shape, dtype)`, such as `jax.random.normal`.
      dtype: the dtype; by default each array's own.

    Returns:
      A tree of the same structure and shapes.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.random_like(jax.random.key(0), {"a": jnp.ones((2, 3))})["a"].shape
      (2, 3)
    """
    return jax.tree.map(
        lambda key, x: sampler(key, jnp.shape(x), dtype or jnp.asarray(x).dtype),
        split_key_like(rng_key, target_tree),
        target_tree,
    )


def unwrap_random_key_data(input_tree: PyTree) -> PyTree:
    """Replaces typed random keys by their integer data, to compare or print them.

    Args:
      input_tree: a tree of arrays and typed keys.

    Returns:
      A tree of the same structure, with uint32 arrays in place of keys.

    Example:
      >>> import jax
      >>> from optx_core import tree
      >>> tree.unwrap_random_key_data({"key": jax.random.key(1), "n": 3})
      {'key': Array([0, 1], dtype=uint32), 'n': 3}
    """

    def leaf(x: Any) -> Any:
        is_key = jnp.issubdtype(getattr(x, "dtype", jnp.float32), jax.dtypes.prng_key)
        return jax.random.key_data(x) if is_key else x

    return jax.tree.map(leaf, input_tree)
