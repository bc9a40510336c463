"""Exact Hessian diagonals from second derivatives with respect to single units.

For an entry z[g,t,j] = Σ_k x[g,t,k]·w[g,k,j] (see `_entries`) and H the Hessian of an example's loss with
respect to z,

    ∂²ℓ/∂w[g,k,j]² = Σ_{t,u} x[g,t,k]·x[g,u,k]·H[(g,t,j),(g,u,j)].

With one position this is x²·H[jj]: one probe per unit j gives the curvature of all its incoming weights, for
all examples at once. With T ≤ fan_in positions, one probe per (g,t,j) gives a row of H; with T > fan_in, the
probe x[g,:,k] at output j gives the sum directly. The number of probes is groups · fan_out · min(T, fan_in).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from optx_core import PyTree
from optx_second_order._entry_kinds import Entry
from optx_second_order._graph import Variable
from optx_second_order._leaves import as_wide, wide
from optx_second_order._network import Network, outputs_of, squared_inputs

Product = Callable[[jax.Array], jax.Array]


def node_product(network: Network, node: Variable, data: PyTree, size: int) -> Product:
    """Returns v ↦ H·v at a node, separately for each example; linearized once."""

    def total(change: jax.Array) -> jax.Array:
        return jnp.sum(network.losses(data, [node], [change]))

    _, product = jax.linearize(jax.grad(total), network.zeros([node], size)[0])
    return product


def unit_diag(
    network: Network, node: Variable, entries: Sequence[Entry], data: PyTree, size: int, chunk: int
) -> list[jax.Array]:
    """Sums the Hessian diagonals of the leaves that enter at one node over the batch."""
    product = node_product(network, node, data, size)
    inputs = network.inputs(entries, data)
    single: jax.Array | None = None
    diagonals = []
    for entry, x in zip(entries, inputs, strict=True):
        if entry.positions == 1:
            if single is None:
                single = _diagonal(product, node, size, chunk)
            diagonals.append(squared_inputs(entry, x, outputs_of(entry, single)))
        elif entry.fan_in < entry.positions:
            diagonals.append(_by_inputs(product, entry, x, chunk))
        else:
            diagonals.append(_by_positions(product, entry, x, chunk))
    return diagonals


def _diagonal(product: Product, node: Variable, size: int, chunk: int) -> jax.Array:
    def probe(j: jax.Array) -> jax.Array:
        direction = (jnp.arange(node.size) == j).astype(node.dtype).reshape(node.shape)
        image = product(jnp.broadcast_to(direction, (size, *node.shape)))
        return as_wide(image.reshape(size, -1)[:, j])

    rows = jax.lax.map(probe, jnp.arange(node.size), batch_size=min(chunk, node.size))
    return rows.T.reshape(size, *node.shape)


def _placed(entry: Entry, values: jax.Array, g: jax.Array, j: jax.Array) -> jax.Array:
    """Returns z with values[b, t] at (g, t, j) and zero elsewhere."""
    at_g = (jnp.arange(entry.groups) == g).astype(values.dtype)
    at_j = (jnp.arange(entry.fan_out) == j).astype(values.dtype)
    z = at_g[None, :, None, None] * values[:, None, :, None] * at_j[None, None, None, :]
    return jax.vmap(entry.from_outputs)(z)


def _by_inputs(product: Product, entry: Entry, x: jax.Array, chunk: int) -> jax.Array:
    shape = (entry.groups, entry.fan_in, entry.fan_out)
    keep_examples = entry.fan_in == 1  # sum over the batch once, after the loop

    def probe(p: jax.Array) -> jax.Array:
        g, k, j = jnp.unravel_index(p, shape)
        values = x[:, g, :, k]
        image = product(_placed(entry, values.astype(entry.node.dtype), g, j))
        values = values * outputs_of(entry, image)[:, g, :, j]
        return jnp.sum(values, axis=1) if keep_examples else jnp.sum(values)

    count = entry.probes
    sums = jax.lax.map(probe, jnp.arange(count), batch_size=min(chunk, count))
    sums = jnp.sum(sums, axis=1) if keep_examples else sums
    return entry.leaf(sums.reshape(shape))


def _by_positions(product: Product, entry: Entry, x: jax.Array, chunk: int) -> jax.Array:
    size = x.shape[0]

    def probe(p: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        g, t, j = jnp.unravel_index(jnp.maximum(p, 0), entry.shape)
        real = (p >= 0).astype(entry.node.dtype)
        row = real * (jnp.arange(entry.positions) == t).astype(entry.node.dtype)
        image = product(_placed(entry, jnp.broadcast_to(row, (size, entry.positions)), g, j))
        h = outputs_of(entry, image)[:, g, :, j]
        pulled = jnp.einsum("bt,btk->bk", h, x[:, g])
        return g, j, jnp.sum(pulled * x[:, g, t], axis=0)

    count, chunk = entry.probes, min(chunk, entry.probes)
    steps = -(-count // chunk)
    index = jnp.arange(steps * chunk)
    index = jnp.where(index < count, index, -1).reshape(steps, chunk)

    def add(total: jax.Array, part: jax.Array) -> tuple[jax.Array, None]:
        g, j, rows = jax.vmap(probe)(part)
        return total.at[g, j].add(rows), None

    zero = jnp.zeros((entry.groups, entry.fan_out, entry.fan_in), wide(x.dtype))
    total, _ = jax.lax.scan(add, zero, index)
    return entry.leaf(jnp.swapaxes(total, 1, 2))
