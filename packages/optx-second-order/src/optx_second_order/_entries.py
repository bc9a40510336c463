"""How a parameter enters a function, in a normal form.

If a leaf w is used once, by an operation that is linear in it, the result is

    z[g, t, j] = Σ_k x[g, t, k] · w[g, k, j]

for some layout of x, w and z: g indexes independent groups, t the positions of one example that share the
weights, k the inputs and j the outputs. A matrix product has this form (with one t for a dense layer on one
example); for a convolution x holds patches; for an added bias x = 1; a scale has one group per entry; for an
embedding x is one-hot. Whatever function of z follows, the second derivatives are

    ∂²ℓ/∂w[g,k,j]² = Σ_{t,u} x[g,t,k] · x[g,u,k] · H[(g,t,j), (g,u,j)],     H = ∂²ℓ/∂z².
"""

from __future__ import annotations

import jax.numpy as jnp

from optx_second_order._entry_kinds import (
    RECASTING,
    Entry,
    convolution_entry,
    dot_entry,
    elementwise_entry,
    embedding_entry,
)
from optx_second_order._graph import Graph, Operation, Variable, is_literal

_PERMUTING = frozenset({"reshape", "transpose", "squeeze", "expand_dims", "copy", "rev"})


def find_entry(graph: Graph, variable: Variable) -> Entry | str:
    """Returns the entry of an input of a graph, or the reason why it has no single linear entry."""
    views: list[Operation] = []
    root = variable
    while True:
        uses = graph.uses.get(variable, [])
        if any(variable is v for v in graph.outputs):
            return "it is an output itself"
        if not uses:
            return "it is not used"
        if len(uses) > 1:
            return f"it is used {len(uses)} times"
        index, position = uses[0]
        operation = graph.operations[index]
        name = operation.name
        if (
            name in _PERMUTING
            or name == "broadcast_in_dim"
            or (name in RECASTING and _stays_float(operation))
        ):
            views.append(operation)
        else:
            break
        variable = operation.results[0]
    expanded = any(view.name == "broadcast_in_dim" and _grows(view) for view in views)
    if name in {"add", "add_any", "sub"} and len(operation.operands) == 2:
        return elementwise_entry("bias", root, views, operation, position)
    if name == "mul":
        return elementwise_entry("scale", root, views, operation, position)
    if expanded:
        return f"it is broadcast into {name}"
    if name == "dot_general":
        return dot_entry(root, views, operation, position)
    if name == "conv_general_dilated":
        return convolution_entry(root, views, operation, position)
    if name == "gather" and position == 0 and not views:
        return embedding_entry(root, operation)
    return f"it goes into {name}"


def find_entries(graph: Graph, count: int) -> list[Entry | str]:
    """Returns the entries of the first `count` inputs of a graph, or the reasons why there is none.

    A bias that is added to the otherwise unused result of another entry takes that result as its node:
    both have the same curvature.
    """
    entries = [find_entry(graph, v) for v in graph.inputs[:count]]
    nodes = {e.node for e in entries if isinstance(e, Entry) and e.kind != "bias"}
    for i, entry in enumerate(entries):
        if isinstance(entry, Entry) and entry.kind == "bias":
            before = [
                v
                for v in entry.operation.operands
                if not is_literal(v) and v in nodes and len(graph.uses[v]) == 1
            ]
            if before and before[0].shape == entry.node.shape:
                entries[i] = entry._replace(node=before[0])
    return entries


def _stays_float(operation: Operation) -> bool:
    return all(jnp.issubdtype(v.dtype, jnp.floating) for v in operation.results)


def _grows(operation: Operation) -> bool:
    return operation.results[0].size != operation.operands[0].size
