"""The choice of a method for each leaf, and its predicted cost.

    chain          consecutive nodes: propagation back from the head, see `_propagate`
    gauss-newton   piecewise linear up to a few values: two pullbacks for each, see `_gauss_newton`
    units          one linear entry: one second derivative per unit, see `_units`
    chunked        anything: one Hessian product per entry, see `_chunked`

Each leaf is decided separately. Leaves without a single linear entry, such as tied weights or weights
inside a scan, use chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from optx_second_order._costs import (
    CHUNKED_CHUNK,
    Downstream,
    chain_examples,
    unit_chunk,
)
from optx_second_order._entry_kinds import Entry
from optx_second_order._graph import Variable
from optx_second_order._links import Link, find_chain
from optx_second_order._network import Network
from optx_second_order._piecewise import frontier, graph_levels
from optx_second_order._propagate import chain_numbers

Method: TypeAlias = Literal["auto", "chain", "units", "chunked"]
METHODS = ("auto", "chain", "units", "chunked")


class LeafPlan(NamedTuple):
    """The method by which the diagonal of a leaf is computed.

    Attributes:
      path: the path of the leaf in the parameters, such as `['dense']['kernel']`.
      shape: the shape of the leaf.
      method: "chain", "gauss-newton", "units" or "chunked".
      probes: the number of cotangents ("chain", "gauss-newton") or Hessian products ("units",
        "chunked"). Leaves that enter at the same node share them.
      memory: the predicted bytes of temporaries.
      reason: the reason for the method.
    """

    path: str
    shape: tuple[int, ...]
    method: str
    probes: int
    memory: int
    reason: str


@dataclass
class Plan:
    """The decisions for all leaves.

    Attributes:
      leaves: the plan of each float leaf.
      links: the chain; empty if none is used.
      border: the values y of the Gauss–Newton method.
      chunks: the number of unit probes to run at once, for each node.
      chain_size: the number of examples to propagate along the chain at once.
      products: the total number of products and pullbacks.
      temporary: the predicted bytes of temporaries, those of the most expensive leaf.
    """

    leaves: list[LeafPlan] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    border: list[Variable] = field(default_factory=list)
    chunks: dict[Variable, int] = field(default_factory=dict)
    chain_size: int = 1
    products: int = 0
    temporary: int = 0

    def chosen(self, method: str) -> list[int]:
        """Returns the indices of the leaves with a method."""
        return [i for i, leaf in enumerate(self.leaves) if leaf.method == method]


def make_plan(network: Network, method: Method, chunk_size: int | None, size: int) -> Plan:
    """Chooses a method for each leaf of a loss on `size` examples."""
    graph, plan = network.graph, Plan()
    entries = (
        network.entries if method != "chunked" else ["method is 'chunked'"] * len(network.entries)
    )
    linear = [e for e in entries if isinstance(e, Entry)]
    nodes = network.order([e.node for e in linear])
    after = {v: Downstream(graph, [v]) for v in nodes}
    node_probes = {v: _probes_at(v, linear) for v in nodes}
    on_chain: set[Variable] = set()
    if method in {"auto", "chain"}:
        on_chain = _choose_chain(network, plan, nodes, after, linear, size, force=method == "chain")
    on_border: set[Variable] = set()
    if method == "auto":
        rest = [v for v in nodes if v not in on_chain]
        on_border = _choose_border(network, plan, rest, after, node_probes)
    counted: set[Any] = set()
    for i, entry in enumerate(entries):
        array, path = network.leaves.arrays[i], network.leaves.paths[i]
        if isinstance(entry, str):
            chunk = min(chunk_size or CHUNKED_CHUNK, max(array.size, 1))
            own = Downstream(graph, [graph.inputs[i]])
            memory = 3 * chunk * size * own.bytes // 2
            memory += 2 * chunk * array.size * array.dtype.itemsize
            leaf = LeafPlan(path, array.shape, "chunked", array.size, memory, entry)
            plan.products += array.size
        else:
            leaf = _entry_plan(
                plan, entry, path, array.shape, on_chain, on_border, after, size, chunk_size
            )
            key: Any = leaf.method
            if leaf.method == "units":
                key = id(entry) if entry.positions > 1 else entry.node
            if key not in counted:
                plan.products += leaf.probes
                counted.add(key)
        plan.leaves.append(leaf)
    plan.temporary = max((leaf.memory for leaf in plan.leaves), default=0)
    return plan


def _probes_at(node: Variable, entries: Sequence[Entry]) -> int:
    """Returns the products for unit probes at a node; entries with one position share them."""
    own = [e for e in entries if e.node is node]
    single = node.size if any(e.positions == 1 for e in own) else 0
    return single + sum(e.probes for e in own if e.positions > 1)


def _entry_plan(
    plan: Plan,
    entry: Entry,
    path: str,
    shape: tuple[int, ...],
    on_chain: set[Variable],
    on_border: set[Variable],
    after: dict[Variable, Downstream],
    size: int,
    chunk_size: int | None,
) -> LeafPlan:
    node = entry.node
    if node in on_chain:
        _, held = chain_numbers(plan.links)
        memory = 4 * (3 * held * plan.chain_size + size * sum(l.fan_in for l in plan.links))
        memory += 4 * 2 * sum(l.fan_in * l.fan_out for l in plan.links)
        kind = "piecewise linear " if all(l.linear for l in plan.links) else ""
        reason = f"{kind}chain of {len(plan.links)} links to a head of {plan.links[-1].fan_out}"
        return LeafPlan(path, shape, "chain", chain_columns(plan.links), memory, reason)
    if node in on_border:
        outputs = sum(v.size for v in plan.border)
        memory = 2 * size * (after[node].bytes + outputs * outputs * 4)
        memory += _pulled_bytes(entry, size)
        reason = f"piecewise linear up to {outputs} values"
        return LeafPlan(path, shape, "gauss-newton", 2 * outputs, memory, reason)
    chunk = chunk_size or unit_chunk(after[node], size)
    plan.chunks[node] = chunk
    memory = 3 * chunk * size * after[node].bytes // 2 + _pulled_bytes(entry, size)
    sharing = f", shared over {entry.positions} positions" if entry.positions > 1 else ""
    reason = f"enters once, by a {entry.kind}{sharing}"
    return LeafPlan(path, shape, "units", entry.probes, memory, reason)


def _pulled_bytes(entry: Entry, size: int) -> int:
    x = size * entry.groups * entry.positions * entry.fan_in
    return 4 * (x + 2 * entry.groups * entry.fan_in * entry.fan_out)


def chain_columns(links: Sequence[Link]) -> int:
    """Returns the maximum number of cotangents on a chain: the head's, and those of residuals."""
    expanded = [
        links[l + 1].fan_in for l in range(len(links) - 1) if l > 0 and not links[l + 1].linear
    ]
    return links[-1].fan_out + sum(expanded)


def _choose_chain(
    network: Network,
    plan: Plan,
    nodes: Sequence[Variable],
    after: dict[Variable, Downstream],
    entries: Sequence[Entry],
    size: int,
    *,
    force: bool,
) -> set[Variable]:
    fixed = network.graph.dependents(network.example_inputs())
    single = [v for v in nodes if all(e.positions == 1 for e in entries if e.node is v)]
    links = find_chain(network.graph, single, fixed)
    if not links:
        return set()
    head = links[-1].target
    on_chain = {v for v in single if v is head or any(v is link.source for link in links)}
    suffix = Downstream(network.graph, [head])
    work, held = chain_numbers(links)
    chain_work = work + 2 * head.size * suffix.work
    unit_work = sum(3 * v.size * after[v].work for v in on_chain)
    if not force and chain_work > unit_work:
        return set()
    plan.links = links
    expanded = chain_columns(links) > links[-1].fan_out
    weights = sum(link.fan_in * link.fan_out for link in links)
    plan.chain_size = chain_examples(held, weights, size, expanded=expanded)
    return on_chain


def _choose_border(
    network: Network,
    plan: Plan,
    rest: Sequence[Variable],
    after: dict[Variable, Downstream],
    node_probes: dict[Variable, int],
) -> set[Variable]:
    if not rest:
        return set()
    levels = graph_levels(network.graph, rest)
    linear = [v for v in rest if levels[v] == 1]
    if not linear:
        return set()
    border = frontier(network.graph, graph_levels(network.graph, linear))
    outputs = sum(v.size for v in border)
    pulls = 2 * outputs * Downstream(network.graph, linear).work
    probes = sum(3 * node_probes[v] * after[v].work for v in linear)
    if pulls >= probes or 2 * outputs >= sum(node_probes[v] for v in linear):
        return set()
    plan.border = border
    return set(linear)
