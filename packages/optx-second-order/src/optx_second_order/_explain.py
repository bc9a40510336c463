"""The plan and predicted cost of `exact_hessian_diag`, from the trace alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from optx_core import PyTree
from optx_second_order._batches import Batch, check_choice, check_count, scalar_loss
from optx_second_order._costs import CHUNKED_CHUNK
from optx_second_order._leaves import Leaves
from optx_second_order._network import Network
from optx_second_order._plan import METHODS, LeafPlan, Method, make_plan


class Explanation(NamedTuple):
    """The methods by which `exact_hessian_diag` computes each leaf; prints as a table.

    Attributes:
      leaves: a `LeafPlan` for each float leaf, in order.
      examples: the number of examples computed at once; 0 for a loss without a batch.
      probes: the total number of probes; shared ones are counted once.
      memory: the predicted bytes of temporaries.
    """

    leaves: tuple[LeafPlan, ...]
    examples: int
    probes: int
    memory: int

    def __str__(self) -> str:
        """Returns the table."""
        head = ("leaf", "shape", "method", "probes", "memory", "reason")
        rows = [
            (
                p.path or "(the array)",
                str(p.shape),
                p.method,
                f"{p.probes:,}",
                _bytes(p.memory),
                p.reason,
            )
            for p in self.leaves
        ]
        table = [head, *rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(head))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in table]
        what = f"{self.probes:,} probes in all, about {_bytes(self.memory)} of temporaries"
        at_once = f", {self.examples} examples at once" if self.examples else ""
        return "\n".join([*(line.rstrip() for line in lines), what + at_once])


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def explain(
    loss_fn: Callable[..., Any],
    params: PyTree,
    *batch: PyTree,
    method: Method = "auto",
    chunk_size: int | None = None,
    microbatch: int | None = None,
    mask: PyTree = None,
    has_aux: bool = False,
) -> Explanation:
    """Reports how `exact_hessian_diag` computes each leaf, and at what cost, without running it.

    All arguments are those of `exact_hessian_diag`.

    Args:
      loss_fn: the loss of one example, or of no example.
      params: a tree of arrays or of `jax.ShapeDtypeStruct`.
      *batch: trees of arrays or of `jax.ShapeDtypeStruct`.
      method: "auto", "chain", "units" or "chunked".
      chunk_size: the number of probes computed at once.
      microbatch: the number of examples computed at once.
      mask: the leaves to compute.
      has_aux: whether the loss returns `(loss, aux)`.

    Returns:
      An `Explanation`, which prints as a table.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_second_order import explain
      >>> def loss(p, x, y):
      ...     return jnp.sum((jnp.tanh(x @ p["w"]) @ p["v"] - y) ** 2)
      >>> params = {"w": jnp.ones((3, 5)), "v": jnp.ones((5, 2))}
      >>> plan = explain(loss, params, jnp.ones((8, 3)), jnp.ones((8, 2)))
      >>> [(leaf.path, leaf.method, leaf.probes) for leaf in plan.leaves]
      [("['v']", 'chain', 2), ("['w']", 'chain', 2)]
    """
    where = "explain"
    check_choice(where, "method", method, METHODS)
    check_count(where, "chunk_size", chunk_size)
    check_count(where, "microbatch", microbatch)
    loss = scalar_loss(where, loss_fn, has_aux=has_aux)
    explanations: list[Explanation] = []

    def trace(params: PyTree, batch: tuple[PyTree, ...]) -> tuple[()]:
        leaves = Leaves(where, params, mask)
        if not batch:
            explanations.append(_black_box(leaves, chunk_size, loss, params))
            return ()
        data = Batch(where, batch)
        size = min(microbatch or data.size, data.size)
        plan = make_plan(Network(loss, leaves, data), method, chunk_size, size)
        explanations.append(Explanation(tuple(plan.leaves), size, plan.products, plan.temporary))
        return ()

    jax.eval_shape(trace, params, batch)
    return explanations[0]


def _black_box(
    leaves: Leaves, chunk_size: int | None, loss: Callable[..., Any], params: PyTree
) -> Explanation:
    jax.eval_shape(loss, params)
    rows = []
    for path, array in zip(leaves.paths, leaves.arrays, strict=True):
        chunk = min(chunk_size or CHUNKED_CHUNK, max(array.size, 1))
        memory = 2 * chunk * array.size * array.dtype.itemsize
        reason = "without a batch the loss is a black box"
        rows.append(LeafPlan(path, array.shape, "chunked", array.size, memory, reason))
    return Explanation(
        tuple(rows), 0, sum(r.probes for r in rows), max((r.memory for r in rows), default=0)
    )
