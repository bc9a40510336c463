"""Random keys for equations of one array, independent of the order in which arrays are processed."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core._protocol.absent import flatten
from optx_core._protocol.types import PyTree


class ArrayKey(NamedTuple):
    """A key of `jax.random` for the equations of one array.

    Attributes:
      key: the key shared by all arrays.
      index: the place of this array in the tree, an int32 scalar.
    """

    key: Any
    index: Any

    def at(self, time: Any) -> jax.Array:
        """Returns the key of this array at a time, such as the count of this update."""
        return jax.random.fold_in(jax.random.fold_in(self.key, time), self.index)


def key_of(start: Any) -> jax.Array:
    """Returns a key in its own buffer, from a key or a seed."""
    return jax.random.key(start) if isinstance(start, int) else jnp.copy(start)


def numbered(updates: PyTree) -> PyTree:
    """Returns a tree with the index of each leaf, counted from 0; None counts as a leaf."""
    leaves, structure = flatten(updates)
    return structure.unflatten([jnp.asarray(k, jnp.int32) for k in range(len(leaves))])
