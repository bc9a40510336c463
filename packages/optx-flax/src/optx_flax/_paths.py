"""Paths of an NNX tree as strings, the same with Variables and without them."""

from __future__ import annotations

from collections.abc import Mapping
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


def params_of(where: str, model_or_state: Any, wrt: Any) -> Any:
    """The state of the parameters, of a module or given as it is.

    Raises:
      TypeError: if it is neither a module nor a state.
    """
    if is_model(model_or_state):
        return nnx.state(model_or_state, wrt)
    is_tree = isinstance(model_or_state, nnx.State | Mapping | list | tuple)
    is_transformation = hasattr(model_or_state, "init") and hasattr(model_or_state, "update")
    if not is_tree or is_transformation:
        raise TypeError(
            f"{where}: the first argument must be an nnx.Module or the state of its parameters, not "
            f"{model_or_state!r}"
        )
    return model_or_state


def keys(path: tuple[Any, ...]) -> Path:
    """A path of jax's keys as strings."""
    return tuple(tree.show_path((key,)) for key in path)


def leaves_with_paths(state: Any) -> list[tuple[Path, Any]]:
    """Each leaf, a Variable or an array, with the strings of its path."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(state, is_leaf=is_variable)
    return [(keys(path), leaf) for path, leaf in pairs]


def shared_paths(model_or_state: Any) -> dict[Path, list[Path]]:
    """The paths of each Variable that stands in several places of a model, by each of them.

    A state has each Variable once, under the first of its paths, so only a model can tell.
    """
    if not is_model(model_or_state):
        return {}
    groups = [
        [tuple(map(str, path)) for path in group] for group in nnx.find_duplicates(model_or_state)
    ]
    # A path that begins with another one of its group goes round a cycle.
    groups = [[a for a in group if not any(_within(a, b) for b in group)] for group in groups]

    def everywhere(path: Path) -> list[Path]:
        known = [path]
        for p in known:  # grows while it is walked through
            for group in groups:
                for a in group:
                    if p[: len(a)] == a:
                        moved = ((*b, *p[len(a) :]) for b in group)
                        known += [q for q in dict.fromkeys(moved) if q not in known]
        return known

    paths = [path for path, _ in leaves_with_paths(nnx.state(model_or_state))]
    return {q: sharing for p in paths if len(sharing := everywhere(p)) > 1 for q in sharing}


def _within(path: Path, other: Path) -> bool:
    return len(path) > len(other) and path[: len(other)] == other


def nested(pairs: list[tuple[tuple[Any, ...], Any]]) -> Any:
    """Values by path in nested dicts, free of nnx's containers."""
    root: dict[Any, Any] = {}
    for path, value in pairs:
        if not path:
            return value
        inner = root
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = value
    return root


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
