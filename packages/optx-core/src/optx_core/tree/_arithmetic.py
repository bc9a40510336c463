"""Elementwise arithmetic on trees. Shapes must agree; only scalars are broadcast."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_core._protocol.absent import TreeMismatchError, check_structures
from optx_core._protocol.types import PyTree, Scalar


def add(tree_x: PyTree, tree_y: PyTree, *other_trees: PyTree) -> PyTree:
    """Adds trees elementwise.

    Args:
      tree_x: a tree of arrays.
      tree_y: a tree of the same structure and shapes.
      *other_trees: more such trees.

    Returns:
      A tree of the same structure.

    Raises:
      TreeMismatchError: if structures or shapes differ; a scalar leaf is compatible with any shape.

    Example:
      >>> from optx_core import tree
      >>> tree.add({"a": 1.0, "b": None}, {"a": 2.0, "b": None})
      {'a': 3.0, 'b': None}
    """
    total = map_equal("tree.add", operator.add, x=tree_x, y=tree_y)
    for other in other_trees:
        total = map_equal("tree.add", operator.add, x=total, y=other)
    return total


def sub(tree_x: PyTree, tree_y: PyTree) -> PyTree:
    """Subtracts trees elementwise: x − y.

    Args:
      tree_x: a tree of arrays.
      tree_y: a tree of the same structure and shapes.

    Returns:
      A tree of the same structure.

    Raises:
      TreeMismatchError: if structures or shapes differ.

    Example:
      >>> from optx_core import tree
      >>> tree.sub([3.0], [1.0])
      [2.0]
    """
    return map_equal("tree.sub", operator.sub, x=tree_x, y=tree_y)


def mul(tree_x: PyTree, tree_y: PyTree) -> PyTree:
    """Multiplies trees elementwise.

    Args:
      tree_x: a tree of arrays.
      tree_y: a tree of the same structure and shapes.

    Returns:
      A tree of the same structure.

    Raises:
      TreeMismatchError: if structures or shapes differ.

    Example:
      >>> from optx_core import tree
      >>> tree.mul([3.0], [2.0])
      [6.0]
    """
    return map_equal("tree.mul", operator.mul, x=tree_x, y=tree_y)


def div(tree_x: PyTree, tree_y: PyTree) -> PyTree:
    """Divides trees elementwise: x / y.

    Args:
      tree_x: a tree of arrays.
      tree_y: a tree of the same structure and shapes.

    Returns:
      A tree of the same structure.

    Raises:
      TreeMismatchError: if structures or shapes differ.

    Example:
      >>> from optx_core import tree
      >>> tree.div([3.0], [2.0])
      [1.5]
    """
    return map_equal("tree.div", operator.truediv, x=tree_x, y=tree_y)


def scale(scalar: Scalar, tree: PyTree) -> PyTree:
    """Multiplies a tree by a number.

    Args:
      scalar: the factor, a scalar.
      tree: a tree of arrays.

    Returns:
      A tree of the same structure.

    Example:
      >>> from optx_core import tree
      >>> tree.scale(0.5, {"a": 4.0})
      {'a': 2.0}
    """
    return jax.tree.map(lambda x: scalar * x, tree)


def add_scale(tree_x: PyTree, scalar: Scalar, tree_y: PyTree) -> PyTree:
    """Returns x + scalar · y, elementwise.

    Args:
      tree_x: a tree of arrays.
      scalar: the factor, a scalar.
      tree_y: a tree of the same structure and shapes.

    Returns:
      A tree of the same structure.

    Raises:
      TreeMismatchError: if structures or shapes differ.

    Example:
      >>> from optx_core import tree
      >>> tree.add_scale([1.0], 2.0, [3.0])
      [7.0]
    """
    return map_equal("tree.add_scale", lambda x, y: x + scalar * y, x=tree_x, y=tree_y)


def where(condition: PyTree, tree_x: PyTree, tree_y: PyTree) -> PyTree:
    """Selects x where a condition holds, and y elsewhere.

    Args:
      condition: a boolean scalar, or a tree of booleans of the trees' structure.
      tree_x: a tree of arrays.
      tree_y: a tree of the same structure and shapes.

    Returns:
      A tree of the same structure.

    Raises:
      TreeMismatchError: if structures or shapes differ.

    Example:
      >>> from optx_core import tree
      >>> tree.where(True, {"a": 1.0}, {"a": 2.0})["a"].item()
      1.0
    """
    if jax.tree_util.treedef_is_leaf(jax.tree.structure(condition)):
        return map_equal("tree.where", lambda x, y: jnp.where(condition, x, y), x=tree_x, y=tree_y)
    return map_equal("tree.where", jnp.where, condition=condition, x=tree_x, y=tree_y)


def real(tree: PyTree) -> PyTree:
    """Returns the real parts of a tree of arrays.

    Args:
      tree: a tree of arrays.

    Returns:
      A tree of the same structure and shapes.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.real(jnp.array([1 + 2j]))
      Array([1.], dtype=float32)
    """
    return jax.tree.map(jnp.real, tree)


def conj(tree: PyTree) -> PyTree:
    """Returns the complex conjugates of a tree of arrays.

    Args:
      tree: a tree of arrays.

    Returns:
      A tree of the same structure, shapes and dtypes.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.conj(jnp.array([1 + 2j]))
      Array([1.-2.j], dtype=complex64)
    """
    return jax.tree.map(jnp.conj, tree)


def clip(tree: PyTree, min_value: Scalar | None = None, max_value: Scalar | None = None) -> PyTree:
    """Clips each entry to [min_value, max_value].

    Args:
      tree: a tree of real arrays.
      min_value: the lower bound, or None.
      max_value: the upper bound, or None.

    Returns:
      A tree of the same structure, shapes and dtypes.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.clip(jnp.array([-3.0, 3.0]), -1.0, 1.0)
      Array([-1.,  1.], dtype=float32)
    """
    return jax.tree.map(lambda x: jnp.clip(x, min_value, max_value), tree)


def map_equal(where: str, operation: Callable[..., Any], **trees: PyTree) -> PyTree:
    """Maps an operation over the leaves of trees of one structure and of equal shapes, or scalars."""
    check_structures(where, **trees)

    def leaf(path: Any, *values: Any) -> Any:
        shapes = {name: np.shape(value) for name, value in zip(trees, values, strict=True)}
        if len({shape for shape in shapes.values() if shape}) > 1:
            at = jax.tree_util.keystr(path)
            given = ", ".join(f"{name}{at} is {shape}" for name, shape in shapes.items())
            raise TreeMismatchError(f"{where}: {given}")
        return operation(*values)

    return jax.tree_util.tree_map_with_path(leaf, *trees.values())
