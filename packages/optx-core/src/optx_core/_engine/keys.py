"""Random numbers of equations for one array: the same in whatever order the arrays are treated."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core._protocol.absent import flatten
from optx_core._protocol.types import PyTree


class ArrayKey(NamedTuple):
    """A key of `jax.random` as the equations of one array see it.

    Attributes:
      key: the key that all arrays share.
      index: the place of this array in the tree, an int32 scalar.
    """

    key: Any
    index: Any

    def at(self, time: Any) -> jax.Array:
        """The key of this array at a time, such as the count of this update."""
        return jax.random.fold_in(jax.random.fold_in(self.key, time), self.index)


def key_of(start: Any) -> jax.Array:
    """A key in a buffer of its own, from a key or a seed."""
    return jax.random.key(start) if isinstance(start, int) else jnp.copy(start)


def numbered(updates: PyTree) -> PyTree:
    """A tree with the number of each leaf, counting from 0 as `jax.tree.leaves` does with None."""
    leaves, structure = flatten(updates)
    return structure.unflatten([jnp.asarray(k, jnp.int32) for k in range(len(leaves))])
