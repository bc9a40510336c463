"""Labels and masks of trees, matched by path where the containers differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

from optx_core._protocol.absent import flatten, is_placeholder
from optx_core._protocol.types import MaskedNode, PyTree

PathKey = tuple[str, ...]


def spread(labels: PyTree | Callable[[PyTree], PyTree], tree: PyTree, where: str) -> PyTree:
    """Assigns a label to each leaf of a tree.

    Args:
      labels: a tree of labels with the structure of `tree`; a prefix of it, in which one label applies
        to a whole subtree; the same in other containers (plain dicts for a Flax state, with or without
        its Variables), matched by path; or a function from the tree to one of these.
      tree: the tree of parameters, or updates.
      where: the function to name in errors.

    Returns:
      A tree with the structure of `tree`, a label at each leaf and at each None.

    Raises:
      ValueError: if a leaf has no label, or a label no leaf; lists the paths.
    """
    given, prefix = flatten(prefix_of(labels, tree, where))
    counts = [len(flatten(subtree)[0]) for subtree in prefix.flatten_up_to(tree)]
    spread_out = [label for label, n in zip(given, counts, strict=True) for _ in range(n)]
    return flatten(tree)[1].unflatten(spread_out)


def prefix_of(labels: PyTree | Callable[[PyTree], PyTree], tree: PyTree, where: str) -> PyTree:
    """Returns the labels unchanged if they are a prefix of a tree, else one label per leaf.

    Args:
      labels, tree, where: as for `spread`.

    Returns:
      A tree of labels.

    Raises:
      ValueError: if a leaf has no label, or a label no leaf; lists the paths.
    """
    leaves, structure = flatten(tree)
    if not leaves:
        return tree
    if callable(labels) and not _is_label_tree(labels):
        labels = labels(tree)
    try:
        flatten(labels)[1].flatten_up_to(tree)
    except (ValueError, TypeError):
        return structure.unflatten(_by_path(labels, tree, where))
    return labels


def _is_label_tree(labels: Any) -> bool:
    """Returns whether a callable is itself a pytree of labels, such as a module with bools for arrays."""
    leaves = jax.tree.leaves(labels)
    return bool(leaves) and all(isinstance(leaf, bool | np.bool_ | str) for leaf in leaves)


def mask_like(
    mask: PyTree | Callable[[PyTree], PyTree], tree: PyTree, where: str = "mask_like"
) -> PyTree:
    """Expands a mask to a tree of bools, one for each leaf of a tree.

    Args:
      mask: as for `masked`: a tree of bools with the structure of `tree`, a prefix of it, or a function
        from the tree to one of these.
      tree: the parameters.
      where: the function to name in errors.

    Returns:
      A tree with the structure of `tree`; False at a None that the mask does not cover.

    Raises:
      TypeError: if the mask contains a value that is not a bool.
      ValueError: if the mask does not fit the tree.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.mask_like({"a": True, "b": False}, {"a": [jnp.ones(2), jnp.ones(3)], "b": jnp.ones(1)})
      {'a': [True, True], 'b': False}
    """
    return _checked(spread(mask, tree, where), where)


def mask_prefix(mask: PyTree | Callable[[PyTree], PyTree], tree: PyTree, where: str) -> PyTree:
    """Returns a mask as a prefix of a tree, with one bool for a subtree where the mask has one."""
    return _checked(prefix_of(mask, tree, where), where)


def _checked(mask: PyTree, where: str) -> PyTree:
    flags, structure = flatten(mask)
    for flag in flags:
        if not (_is_bool(flag) or is_placeholder(flag)):
            raise TypeError(f"{where}: a mask must contain only True and False, not {flag!r}")
    return structure.unflatten([flag is not None and bool(flag) for flag in flags])


def _is_bool(flag: Any) -> bool:
    """Returns whether a value is True or False: a bool, or an array without axes, unless it is traced."""
    if isinstance(flag, jax.Array | np.ndarray) and not isinstance(flag, jax.core.Tracer):
        return flag.shape == () and flag.dtype == np.bool_
    return isinstance(flag, bool | np.bool_)


def keep_where(mask: PyTree, tree: PyTree) -> PyTree:
    """Replaces the subtrees where `mask`, a prefix of the tree, is not True by masked nodes."""
    flags, prefix = flatten(mask)
    return prefix.unflatten(
        [
            part if flag is True or is_placeholder(part) else MaskedNode()
            for part, flag in zip(prefix.flatten_up_to(tree), flags, strict=True)
        ]
    )


def plain_path(path: tuple[Any, ...]) -> PathKey:
    """Returns the names along a path, without the attribute `value` of a Flax Variable."""
    if path and path[-1] == GetAttrKey("value"):
        path = path[:-1]
    return tuple(map(key_name, path))


def show_path(path: PathKey) -> str:
    """Formats a plain path: `dense/kernel`."""
    return "/".join(path) or "(the root)"


def key_name(key: Any) -> str:
    """Returns the name of one key of a path."""
    match key:
        case DictKey() | FlattenedIndexKey():
            return str(key.key)
        case GetAttrKey():
            return key.name
        case SequenceKey():
            return str(key.idx)
    return str(key)


def _by_path(labels: PyTree, tree: PyTree, where: str) -> list[Any]:
    def with_paths(subject: PyTree) -> list[tuple[PathKey, Any]]:
        pairs, _ = jax.tree_util.tree_flatten_with_path(subject, is_leaf=is_placeholder)
        return [(plain_path(path), leaf) for path, leaf in pairs]

    known = dict(with_paths(labels))
    matched: list[Any] = []
    missing: list[str] = []
    used: set[PathKey] = set()
    for path, leaf in with_paths(tree):
        prefix = next((path[:n] for n in range(len(path), -1, -1) if path[:n] in known), None)
        if prefix is None:
            if not is_placeholder(leaf):
                missing.append(show_path(path))
            matched.append(None)
            continue
        used.add(prefix)
        matched.append(known[prefix])
    unused = [
        show_path(path)
        for path, label in known.items()
        if path not in used and not is_placeholder(label)
    ]
    if missing or unused:
        parts = []
        if missing:
            parts.append(f"no label for {_listed(missing)}")
        if unused:
            parts.append(f"no parameter for the label at {_listed(unused)}")
        raise ValueError(f"{where}: the labels do not fit the parameters: {'; '.join(parts)}")
    return matched


def _listed(names: list[str], most: int = 5) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
