"""Hidden matrices: leaves of two or more axes whose names are not those of embeddings, heads and vectors.

Stacked over layers or heads, biases and scales have two axes too.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from optx_aliases._matrix.matrices import flatten_with_path
from optx_core import Params, PyTree, build, tree

VECTORS = ("bias", "scale")
NAMES_OF_OTHERS = ("*embed*", "head", "*_head", "logits", *VECTORS)


def hidden_matrices(params: Params, other_paths: tuple[str, ...] = NAMES_OF_OTHERS) -> PyTree:
    """Marks the hidden matrices of a tree.

    Args:
      params: the parameters.
      other_paths: patterns (as in file names) for the names on a leaf's path, in lower case and without
        a number at their end ("Embed_0" is "embed"); a leaf with such a name is not marked.

    Returns:
      A tree of bools.
    """
    return _matrices(params, lambda names: not any(fits(name, other_paths) for name in names))


def named_matrices(params: Params, paths: tuple[str, ...]) -> PyTree:
    """Marks the leaves of two and more axes with a name on their path that fits one of the patterns."""
    return _matrices(params, lambda names: any(fits(name, paths) for name in names))


def _matrices(params: Params, is_one: Callable[[tuple[str, ...]], bool]) -> PyTree:
    pairs, structure = flatten_with_path(params)
    return structure.unflatten(
        [
            not tree.is_placeholder(x)
            and build.is_inexact(x)
            and jnp.ndim(x) >= 2
            and is_one(names_of(path))
            for path, x in pairs
        ]
    )


def names_of(path: tuple[Any, ...]) -> tuple[str, ...]:
    """Returns the names, keys and indices on a leaf's path."""
    keys = (getattr(key, "key", getattr(key, "name", getattr(key, "idx", ""))) for key in path)
    return tuple(map(str, keys))


@functools.cache
def fits(name: str, patterns: tuple[str, ...]) -> bool:
    """Returns whether a name, in lower case and without a number at its end, fits one of the patterns."""
    plain = re.sub(r"_?\d+$", "", name).lower()
    return any(fnmatch.fnmatchcase(plain, pattern) for pattern in patterns)
