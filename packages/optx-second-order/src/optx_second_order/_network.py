"""A traced per-example function and the entries of its parameters, evaluated on a batch.

Nodes are the results z of the operations through which parameters enter. Derivatives with respect to z are
those with respect to a perturbation added to the nodes; the parameters are constants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import PyTree
from optx_second_order._batches import Batch
from optx_second_order._entries import find_entries
from optx_second_order._entry_kinds import Entry, wide_inputs
from optx_second_order._graph import Graph, Variable
from optx_second_order._leaves import Leaves, as_wide, wide


class Network:
    """A traced function of (parameters, example).

    Attributes:
      leaves: the parameters.
      graph: the function of the flat float leaves and the flat example.
      entries: for each leaf its entry, or the reason why it has no single linear entry.
    """

    def __init__(self, function: Callable[..., Any], leaves: Leaves, batch: Batch) -> None:
        self.leaves = leaves
        self.batch = batch
        of = leaves.of(function)
        self.graph = Graph(
            lambda arrays, example: of(arrays, *example), leaves.arrays, batch.example
        )
        self.entries = find_entries(self.graph, len(leaves.arrays))

    def order(self, nodes: Sequence[Variable]) -> list[Variable]:
        """Returns the distinct nodes in order of execution."""
        return sorted(dict.fromkeys(nodes), key=lambda v: self.graph.producer.get(v, -1))

    def nodes(self) -> list[Variable]:
        """Returns the nodes of all entries in order of execution."""
        return self.order([entry.node for entry in self.entries if isinstance(entry, Entry)])

    def example_inputs(self) -> list[Variable]:
        """Returns the inputs of the graph that belong to the example."""
        return self.graph.inputs[len(self.leaves.arrays) :]

    def zeros(self, nodes: Sequence[Variable], size: int) -> list[jax.Array]:
        """Returns zero perturbations of nodes for a batch."""
        return [jnp.zeros((size, *v.shape), v.dtype) for v in nodes]

    def run(
        self,
        data: PyTree,
        nodes: Sequence[Variable] = (),
        perturbations: Sequence[jax.Array] = (),
        wanted: Sequence[Any] | None = None,
    ) -> list[jax.Array]:
        """Runs the function on each example of `data` with perturbed nodes.

        Args:
          data: the batch, examples along the leading axis.
          nodes: the nodes to perturb.
          perturbations: the perturbation of each node, examples along the leading axis.
          wanted: the variables to return; the results of the function by default.
        """

        def one(example: PyTree, changes: Sequence[jax.Array]) -> list[jax.Array]:
            args = [*self.leaves.arrays, *jax.tree.leaves(example)]
            changed = dict(zip(nodes, changes, strict=True))
            values = self.graph.run(args, changed, wanted=wanted)
            return [jnp.asarray(value) for value in values]

        return jax.vmap(one)(data, list(perturbations))

    def losses(
        self, data: PyTree, nodes: Sequence[Variable], changes: Sequence[jax.Array]
    ) -> jax.Array:
        """Returns the examples' losses, in at least float32."""
        return as_wide(self.run(data, nodes, changes)[0])

    def inputs(self, entries: Sequence[Entry], data: PyTree) -> list[jax.Array]:
        """Returns x[b, g, t, k] of each entry on a batch, in at least float32."""
        wanted = [e.node if e.other is None else e.other for e in entries]
        values = self.run(data, wanted=wanted)
        return [
            jax.vmap(lambda x, e=e: wide_inputs(e, x, wide(e.node.dtype)))(value)
            for e, value in zip(entries, values, strict=True)
        ]


def outputs_of(entry: Entry, z: jax.Array) -> jax.Array:
    """Returns z[b, g, t, j] for a batch of the node's values, in at least float32."""
    return jax.vmap(entry.outputs)(as_wide(z))


def squared_inputs(entry: Entry, x: jax.Array, d: jax.Array) -> jax.Array:
    """Returns Σ_b x[b,g,k]²·d[b,g,j] in the leaf's shape, for entries with one position."""
    x, d = x[:, :, 0], d[:, :, 0]
    if entry.fan_in == 1:
        return entry.leaf(jnp.sum(x * x * d, axis=0)[:, None])
    if entry.groups == 1:
        return entry.leaf((jnp.square(x[:, 0]).T @ d[:, 0])[None])
    return entry.leaf(jnp.einsum("bgk,bgj->gkj", x * x, d))


def pulled_product(entry: Entry, x: jax.Array, a: jax.Array, c: jax.Array) -> jax.Array:
    """Returns Σ_b (Σ_t x[b,g,t,k]·a[b,g,t,j]) · (Σ_t x[b,g,t,k]·c[b,g,t,j]) in the leaf's shape.

    This is the sum over examples of the product of two pullbacks to the leaf.
    """
    if entry.positions == 1:
        return squared_inputs(entry, x, a * c)
    if entry.fan_in == 1:
        left, right = jnp.sum(x * a, axis=2), jnp.sum(x * c, axis=2)
        return entry.leaf(jnp.sum(left * right, axis=0)[:, None])

    def add(total: jax.Array, one: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        x, a, c = one
        left = jnp.einsum("gtk,gtj->gkj", x, a)
        right = left if a is c else jnp.einsum("gtk,gtj->gkj", x, c)
        return total + left * right, None

    zero = jnp.zeros((entry.groups, entry.fan_in, entry.fan_out), x.dtype)
    total, _ = jax.lax.scan(add, zero, (x, a, c))
    return entry.leaf(total)
