"""Initial values of loops inside `jax.shard_map`, where types name the axes that an array varies over."""

from __future__ import annotations

import functools
import operator

import jax
import jax.numpy as jnp

from optx_core import PyTree


def varying_like(carry: PyTree, *data: PyTree) -> PyTree:
    """The first carry of a loop whose results depend on `data`.

    Inside `jax.shard_map` a constant is the same on each device, but a result of data that varies over a mesh
    axis is not; `lax.scan`, `lax.while_loop` and `lax.cond` require equal types. Values stay as they are.
    """
    # A False of the type of all data together; XLA removes the selection.
    nowhere = [jnp.zeros_like(x, shape=(), dtype=bool) for x in jax.tree.leaves(data)]
    if not nowhere:
        return carry
    false = functools.reduce(operator.or_, nowhere)
    return jax.tree.map(lambda x: jnp.where(false, x, x), carry)
