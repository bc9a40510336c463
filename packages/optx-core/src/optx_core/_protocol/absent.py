"""Leaves that are not there, and how leaves are named in errors.

None, a masked node and a `float0` array (jax's gradient of an integer) all mean "nothing here".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax


def is_placeholder(x: Any) -> bool:
    """Whether a tree node stands for a missing leaf: None, or an empty NamedTuple (masked).

    Args:
      x: a node of a tree; serves as `is_leaf` of `jax.tree.map` and the like.

    Returns:
      A bool.

    Example:
      >>> from optx_core import MaskedNode, tree
      >>> tree.is_placeholder(None), tree.is_placeholder(MaskedNode()), tree.is_placeholder(())
      (True, True, False)
    """
    return x is None or (isinstance(x, tuple) and not x and hasattr(x, "_fields"))


def is_absent(x: Any) -> bool:
    """Whether there is no gradient here: a placeholder, or a `float0` array.

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
    """Flattens a tree, placeholders counted as leaves.

    Args:
      tree: a tree.

    Returns:
      Its leaves, and its structure.

    Example:
      >>> from optx_core import tree
      >>> tree.flatten({"a": 1, "b": None})[0]
      [1, None]
    """
    return jax.tree_util.tree_flatten(tree, is_leaf=is_placeholder)


def tree_flatten(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], Any]:
    """`jax.tree.flatten`, with types that a checker can use.

    Args:
      tree: a tree.
      is_leaf: which nodes count as leaves.

    Returns:
      The leaves and the structure.
    """
    return jax.tree_util.tree_flatten(tree, is_leaf=is_leaf)


def paths(tree: Any) -> list[str]:
    """The path of each leaf as it is written in Python: `['dense']['kernel']`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_placeholder)
    return [jax.tree_util.keystr(path) for path, _ in leaves]


class TreeMismatchError(ValueError):
    """Trees that should fit together do not: another structure, shape or kind of dtype."""


def flatten_like(
    structure: Any, tree: Any, *, where: str, name: str, like: Callable[[], Any]
) -> list[Any]:
    """The subtrees of `tree` at the leaves of `structure`.

    Args:
      structure: the treedef of the updates, placeholders counted as leaves.
      tree: a tree that has at least that structure.
      where: the function to name in the error.
      name: what `tree` is, in words for the error.
      like: gives the tree whose structure it is, for the error.

    Returns:
      A list with one entry a leaf.

    Raises:
      TreeMismatchError: if `tree` lacks a node, or has another one; names the first such path.
    """
    try:
        return structure.flatten_up_to(tree)
    except (ValueError, TypeError):
        ours, theirs = paths(like()), paths(tree)
        missing = [path for path in ours if not any(other.startswith(path) for other in theirs)]
        extra = [path for path in theirs if not any(path.startswith(other) for other in ours)]
        parts = []
        if missing:
            parts.append(f"updates{missing[0]} has no partner in {name}")
        if extra:
            parts.append(f"{name}{extra[0]} has no partner in the updates")
        if not parts:
            mine, yours = structure, jax.tree_util.tree_structure(tree, is_leaf=is_placeholder)
            parts.append(f"the containers differ: updates are {mine}, {name} is {yours}")
        raise TreeMismatchError(
            f"{where}: updates and {name} have different structures: {'; '.join(parts)}. "
            "Take the gradient with respect to the same tree that init was called with."
        ) from None
