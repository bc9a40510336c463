"""Absent leaves, and paths of leaves for error messages.

None, a masked node and a `float0` array (JAX's gradient of an integer) all mark an absent leaf.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax


def is_placeholder(x: Any) -> bool:
    """Returns whether a tree node is a placeholder for a leaf: None, or an empty NamedTuple (masked).

    Args:
      x: a node of a tree. The function can be passed as `is_leaf` to `jax.tree.map`.

    Returns:
      A bool.

    Example:
      >>> from optx_core import MaskedNode, tree
      >>> tree.is_placeholder(None), tree.is_placeholder(MaskedNode()), tree.is_placeholder(())
      (True, True, False)
    """
    return x is None or (isinstance(x, tuple) and not x and hasattr(x, "_fields"))


def is_absent(x: Any) -> bool:
    """Returns whether a leaf has no gradient: a placeholder, or a `float0` array.

    Args:
      x: a leaf of gradients or updates.

    Returns:
      A bool.

    Example:
      >>> import jax, numpy as np
      >>> from optx_core import tree
      >>> tree.is_absent(None), tree.is_absent(np.zeros(2, jax.dtypes.float0)), tree.is_absent(0.0)
      (True, True, False)
    """
    return is_placeholder(x) or getattr(x, "dtype", None) == jax.dtypes.float0


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """Flattens a tree; placeholders count as leaves.

    Args:
      tree: a tree.

    Returns:
      The leaves and the structure.

    Example:
      >>> from optx_core import tree
      >>> tree.flatten({"a": 1, "b": None})[0]
      [1, None]
    """
    return jax.tree_util.tree_flatten(tree, is_leaf=is_placeholder)


def tree_flatten(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], Any]:
    """`jax.tree.flatten`, with type annotations.

    Args:
      tree: a tree.
      is_leaf: returns whether a node counts as a leaf.

    Returns:
      The leaves and the structure.
    """
    return jax.tree_util.tree_flatten(tree, is_leaf=is_leaf)


def paths(tree: Any) -> list[str]:
    """Returns the path of each leaf as a Python expression: `['dense']['kernel']`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_placeholder)
    return [jax.tree_util.keystr(path) for path, _ in leaves]


class TreeMismatchError(ValueError):
    """Raised when trees that must match differ in structure, shape or kind of dtype."""


def flatten_like(
    structure: Any, tree: Any, *, where: str, name: str, like: Callable[[], Any]
) -> list[Any]:
    """Returns the subtrees of `tree` at the leaves of `structure`.

    Args:
      structure: the treedef of the updates; placeholders count as leaves.
      tree: a tree of which `structure` is a prefix.
      where: the function to name in the error.
      name: a description of `tree` for the error.
      like: returns a tree with that structure, for the error.

    Returns:
      A list with one entry per leaf.

    Raises:
      TreeMismatchError: if `tree` lacks a node or has an additional one; names the first such path.
    """
    try:
        return structure.flatten_up_to(tree)
    except (ValueError, TypeError):
        raise TreeMismatchError(
            f"{where}: {different_structures(like(), tree, 'updates', name)}. "
            "Take the gradient with respect to the same tree that init was called with."
        ) from None


def check_structures(where: str, **trees: Any) -> None:
    """Raises an error if trees, by the names of the arguments, differ in structure.

    Raises:
      TreeMismatchError: names the first path of one that the other lacks.
    """
    (name, first), *others = trees.items()
    for other, tree in others:
        if tree_flatten(first)[1] != tree_flatten(tree)[1]:
            raise TreeMismatchError(f"{where}: {different_structures(first, tree, name, other)}")


def different_structures(first: Any, second: Any, name: str, other: str) -> str:
    """Describes two trees that differ in structure, by the first path of one that the other lacks."""
    given, expected = paths(second), paths(first)
    missing = [path for path in expected if not any(o.startswith(path) for o in given)]
    extra = [path for path in given if not any(path.startswith(o) for o in expected)]
    parts = []
    if missing:
        parts.append(f"{name}{missing[0]} has no partner in {other}")
    if extra:
        parts.append(f"{other}{extra[0]} has no partner in {name}")
    if not parts:
        of_first, of_second = (
            jax.tree_util.tree_structure(tree, is_leaf=is_placeholder) for tree in (first, second)
        )
        parts.append(f"the containers differ: {name}: {of_first}, {other}: {of_second}")
    return f"{name} and {other} have different structures: {'; '.join(parts)}"
