"""Paths of an NNX tree as strings, the same with Variables and without them."""

from __future__ import annotations

from typing import Any

import jax

from flax import nnx
from optx_core import tree

Path = tuple[str, ...]


def is_variable(x: Any) -> bool:
    return isinstance(x, nnx.Variable)


def is_model(x: Any) -> bool:
    """Whether `x` is a module, rather than the state of one."""
    return isinstance(x, nnx.Module)


def params_of(model_or_state: Any, wrt: Any) -> Any:
    """The state of the parameters, of a module or given as it is."""
    return nnx.state(model_or_state, wrt) if is_model(model_or_state) else model_or_state


def keys(path: tuple[Any, ...]) -> Path:
    """A path of jax's keys as strings."""
    return tuple(tree.show_path((key,)) for key in path)


def leaves_with_paths(state: Any) -> list[tuple[Path, Any]]:
    """Each leaf, a Variable or an array, with the strings of its path."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(state, is_leaf=is_variable)
    return [(keys(path), leaf) for path, leaf in pairs]


def listed(names: list[str], most: int = 5) -> str:
    """Some names for an error."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def structure_of(state: Any, *, variables: bool = False) -> Any:
    """The treedef, with a type that a checker can use; Variables are its leaves on request."""
    return jax.tree_util.tree_structure(state, is_leaf=is_variable if variables else None)


def flatten(state: Any) -> tuple[list[Any], Any]:
    """`jax.tree.flatten`, with types that a checker can use."""
    return jax.tree_util.tree_flatten(state)
