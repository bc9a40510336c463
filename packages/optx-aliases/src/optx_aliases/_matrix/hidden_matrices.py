"""Hidden matrices: leaves of two or more axes whose names are not those of embeddings and heads."""

from __future__ import annotations

import fnmatch
import functools
import re
from typing import Any

import jax.numpy as jnp

from optx_aliases._matrix.matrices import flatten_with_path
from optx_core import Params, PyTree, build, tree

EMBEDDINGS_AND_HEADS = ("*embed*", "head", "*_head", "logits")


def hidden_matrices(params: Params, other_paths: tuple[str, ...] = EMBEDDINGS_AND_HEADS) -> PyTree:
    """Marks the hidden matrices of a tree.

    Args:
      params: the parameters.
      other_paths: patterns (as in file names) for the names on a leaf's path, in lower case and without
        a number at their end ("Embed_0" is "embed"); a leaf with such a name is not marked.

    Returns:
      A tree of bools.
    """
    pairs, structure = flatten_with_path(params)
    return structure.unflatten([_is_hidden_matrix(path, x, other_paths) for path, x in pairs])


def _is_hidden_matrix(path: tuple[Any, ...], x: Any, patterns: tuple[str, ...]) -> bool:
    is_matrix = not tree.is_placeholder(x) and build.is_inexact(x) and jnp.ndim(x) >= 2
    return is_matrix and not any(fits(name, patterns) for name in names_of(path))


def names_of(path: tuple[Any, ...]) -> tuple[str, ...]:
    """Returns the names, keys and indices on a leaf's path."""
    keys = (getattr(key, "key", getattr(key, "name", getattr(key, "idx", ""))) for key in path)
    return tuple(map(str, keys))


@functools.cache
def fits(name: str, patterns: tuple[str, ...]) -> bool:
    """Returns whether a name, in lower case and without a number at its end, fits one of the patterns."""
    plain = re.sub(r"_?\d+$", "", name).lower()
    return any(fnmatch.fnmatchcase(plain, pattern) for pattern in patterns)
