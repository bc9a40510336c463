"""The exact diagonal of a loss's Hessian.

d = diag(∂²L/∂θ²),   L(θ) = (1/B) Σ_b ℓ(θ, example_b)

where ℓ is the loss of one example. The loss is traced once. How a parameter enters the
traced program determines how its part of the diagonal is computed (see `_plan`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import PyTree
from optx_second_order._batches import (
    Batch,
    Reduction,
    check_choice,
    check_count,
    check_reduction,
    scalar_loss,
    sum_over_microbatches,
)
from optx_second_order._chunked import chunked_diag, colored_diag, read_coloring
from optx_second_order._costs import CHUNKED_CHUNK
from optx_second_order._entry_kinds import Entry
from optx_second_order._gauss_newton import gauss_newton_diag
from optx_second_order._leaves import Leaves, as_wide
from optx_second_order._network import Network, outputs_of, squared_inputs
from optx_second_order._plan import METHODS, Method, Plan, make_plan
from optx_second_order._propagate import chain_diagonals
from optx_second_order._units import unit_diag


def exact_hessian_diag(
    loss_fn: Callable[..., Any],
    params: PyTree,
    *batch: PyTree,
    method: Method = "auto",
    chunk_size: int | None = None,
    microbatch: int | None = None,
    mask: PyTree = None,
    coloring: PyTree = None,
    reduction: Reduction = "mean",
    has_aux: bool = False,
) -> PyTree:
    """The exact diagonal of the Hessian of a loss, leaf by leaf.

    The model needs no annotation. For weights that enter through one linear operation, the diagonal
    costs a few gradients or one probe per unit; for others, one Hessian product per parameter, in
    chunks. `explain` reports the method and the cost for each leaf. Call this inside `jax.jit`.

    Args:
      loss_fn: `loss_fn(params, *example)` for one example, a real scalar. Without a batch,
        `loss_fn(params)`: any scalar function.
      params: a tree of real arrays. The result is None for None and integer leaves.
      *batch: trees of arrays with the examples along their leading axis.
      method: "auto" chooses a method for each leaf. "chain" propagates backwards along a chain of
        layers, "units" probes single units; leaves to which the method does not apply use another.
        "chunked" treats the loss as a black box.
      chunk_size: the number of probes computed at once by "units" and "chunked"; larger chunks are
        faster up to a point and take more memory. By default chosen from the sizes.
      microbatch: the number of examples computed at once; all by default.
      mask: a tree of bools with the structure of `params` or of a prefix of it, or a function from
        `params` to such a tree; the result is None for leaves with False, which cost nothing.
      coloring: a tree of integer arrays like `params`: entries of one color must not be coupled
        (∂²L/∂θ_i∂θ_j = 0); one product per color. It is not verified; see `coloring_error`.
      reduction: "mean" or "sum" over the examples; "none" for one diagonal per example, stacked on
        a leading axis.
      has_aux: whether the loss returns `(loss, aux)`; aux is dropped.

    Returns:
      A tree like `params`; at least float32.

    Raises:
      TypeError: if a parameter is complex, or the loss does not return a number.
      ValueError: if the loss of one example is not a scalar, the batch has unequal lengths, or an
        argument is out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_second_order import exact_hessian_diag
      >>> def loss(params, x, y):
      ...     return 0.5 * jnp.square(params["w"] @ x - y)
      >>> params = {"w": jnp.array([1.0, 2.0])}
      >>> x, y = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([0.0, 1.0])
      >>> jax.jit(lambda p: exact_hessian_diag(loss, p, x, y))(params)["w"]
      Array([ 5., 10.], dtype=float32)

    References:
      Dangel, Kunstner, Hennig, "BackPACK: Packing more into Backprop", 2020.
    """
    where = "exact_hessian_diag"
    check_reduction(where, reduction)
    check_choice(where, "method", method, METHODS)
    check_count(where, "chunk_size", chunk_size)
    check_count(where, "microbatch", microbatch)
    loss = scalar_loss(where, loss_fn, has_aux=has_aux)
    leaves = Leaves(where, params, mask)
    colors = None if coloring is None else read_coloring(where, coloring, leaves)
    if not batch:
        return _black_box(where, loss, leaves, method, chunk_size, reduction, colors)
    whole = Batch(where, batch)
    if not leaves.arrays:
        jax.eval_shape(loss, params, *whole.example)
        return leaves.tree([])
    network = Network(loss, leaves, whole)

    def diagonals(data: PyTree) -> list[jax.Array]:
        size = jax.tree.leaves(data)[0].shape[0]
        if colors is not None:
            return colored_diag(lambda a: _sum_of(loss, leaves, a, data), leaves.arrays, colors)
        plan = make_plan(network, method, chunk_size, size)
        return planned_diag(network, plan, loss, data, size, chunk_size)

    if reduction == "none":
        ones = jax.tree.map(lambda a: a[:, None], whole.data)
        return leaves.tree(jax.lax.map(diagonals, ones, batch_size=microbatch))
    sums = sum_over_microbatches(diagonals, whole.data, whole.size, microbatch)
    scale = 1 if reduction == "sum" else whole.size
    return leaves.tree([d / scale for d in sums])


def hessian_trace(
    loss_fn: Callable[..., Any], params: PyTree, *batch: PyTree, **options: Any
) -> jax.Array:
    """The exact trace of the Hessian of a loss: the sum of its diagonal.

    Args:
      loss_fn: as for `exact_hessian_diag`.
      params: as for `exact_hessian_diag`.
      *batch: as for `exact_hessian_diag`.
      **options: the keyword arguments of `exact_hessian_diag`.

    Returns:
      A scalar; with `reduction="none"`, one per example.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_second_order import hessian_trace
      >>> hessian_trace(lambda p: jnp.sum(p**2), jnp.zeros(3))
      Array(6., dtype=float32)
    """
    diagonal = exact_hessian_diag(loss_fn, params, *batch, **options)
    keep = 1 if options.get("reduction") == "none" else 0
    sums = [jnp.sum(d, axis=tuple(range(keep, d.ndim))) for d in jax.tree.leaves(diagonal)]
    return sum(sums[1:], sums[0]) if sums else jnp.zeros(())


def _sum_of(
    loss: Callable[..., jax.Array], leaves: Leaves, arrays: Sequence[jax.Array], data: PyTree
) -> jax.Array:
    params = leaves.put(arrays)
    return jnp.sum(as_wide(jax.vmap(lambda example: loss(params, *example))(data)))


def _black_box(
    where: str,
    loss: Callable[..., jax.Array],
    leaves: Leaves,
    method: Method,
    chunk_size: int | None,
    reduction: Reduction,
    colors: Any,
) -> PyTree:
    if method in {"chain", "units"} or reduction == "none":
        raise ValueError(
            f"{where}: without a batch the loss is a black box; method {method!r} and reduction "
            f"{reduction!r} need loss_fn(params, *example) and the batch"
        )

    def total(arrays: Sequence[jax.Array]) -> jax.Array:
        return as_wide(loss(leaves.put(arrays)))

    if not leaves.arrays:
        return leaves.tree([])
    if colors is not None:
        return leaves.tree(colored_diag(total, leaves.arrays, colors))
    every = range(len(leaves.arrays))
    return leaves.tree(chunked_diag(total, leaves.arrays, every, chunk_size or CHUNKED_CHUNK))


def planned_diag(
    network: Network,
    plan: Plan,
    loss: Callable[..., jax.Array],
    data: PyTree,
    size: int,
    chunk_size: int | None,
) -> list[jax.Array]:
    """Sums the Hessian diagonals of all leaves over the batch, each computed as planned."""
    leaves, diagonals = network.leaves, {}
    entries: dict[int, Entry] = {
        i: e for i, e in enumerate(network.entries) if isinstance(e, Entry)
    }
    on_chain = plan.chosen("chain")
    if on_chain:
        diagonals.update(_chain(network, plan, {i: entries[i] for i in on_chain}, data, size))
    border = plan.chosen("gauss-newton")
    if border:
        values = gauss_newton_diag(network, border, plan.border, data)
        diagonals.update(zip(border, values, strict=True))
    units = plan.chosen("units")
    for node in network.order([entries[i].node for i in units]):
        own = [i for i in units if entries[i].node is node]
        values = unit_diag(network, node, [entries[i] for i in own], data, size, plan.chunks[node])
        diagonals.update(zip(own, values, strict=True))
    boxed = plan.chosen("chunked")
    if boxed:
        values = chunked_diag(
            lambda arrays: _sum_of(loss, leaves, arrays, data),
            leaves.arrays,
            boxed,
            chunk_size or CHUNKED_CHUNK,
        )
        diagonals.update(zip(boxed, values, strict=True))
    return [diagonals[i] for i in range(len(leaves.arrays))]


def _chain(
    network: Network, plan: Plan, entries: dict[int, Entry], data: PyTree, size: int
) -> dict[int, jax.Array]:
    nodes = network.order([e.node for e in entries.values()])

    def part(data: PyTree) -> list[jax.Array]:
        return chain_diagonals(network, plan.links, data, nodes)

    diagonals = dict(zip(nodes, _in_parts(part, data, size, plan.chain_size), strict=True))
    inputs = network.inputs(list(entries.values()), data)
    return {
        i: squared_inputs(e, x, outputs_of(e, diagonals[e.node]))
        for (i, e), x in zip(entries.items(), inputs, strict=True)
    }


def _in_parts(
    function: Callable[[PyTree], list[jax.Array]], data: PyTree, size: int, at_once: int
) -> list[jax.Array]:
    """Applies `function` to strided parts of the batch and restores the order of its results."""
    if at_once == size:
        return function(data)
    steps = size // at_once
    parts = jax.tree.map(
        lambda a: jnp.swapaxes(a.reshape((at_once, steps, *a.shape[1:])), 0, 1), data
    )
    return [
        jnp.swapaxes(out, 0, 1).reshape((size, *out.shape[2:]))
        for out in jax.lax.map(function, parts)
    ]
