"""Exact Hessian diagonals along a chain, propagated back from the head.

Let z_1, ..., z_n be nodes with z_{l+1} = W_lᵀ f_l(z_l) + b, and δ_l and H_l the gradient and the Hessian
of an example's loss with respect to z_l. Then

    δ_l = f_l'(z_l) · (W_l δ_{l+1})
    H_l = D_l W_l H_{l+1} W_lᵀ D_l + diag(r_l),   D_l = diag(f_l'),  r_l = f_l''(z_l) · (W_l δ_{l+1}).

H is never formed. It is represented by a sum of blocks Aᵀ M A: the block of the head, with A the Jacobian
∂z_n/∂z_l and M the head's small dense Hessian, and a block for each residual r_s, with A = ∂z_s/∂z_l and
M = diag(r_s). Two products are avoided: the block of the latest residual, of which only
diag(W diag(r) Wᵀ) = (W∘W) r is needed until it is propagated further; and the first A of a block, since
∂z_{l+1}/∂z_l = W_lᵀ D_l is a scaled copy of W. If all f are piecewise linear, r = 0 and only the block of the
head remains: the Gauss–Newton matrix.

No matrix root is taken, so that the result is differentiable.

Reference: Dangel, Kunstner, Hennig, "BackPACK: Packing more into Backprop", 2020, appendix A.3, for
the residuals as columns; the lazy residual and the unscaled blocks are new here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import PyTree
from optx_second_order._graph import Variable
from optx_second_order._leaves import as_wide
from optx_second_order._links import Link
from optx_second_order._network import Network

_UNROLLED = 16
"""The number of head values up to which the sum over pairs is unrolled."""


class _Block(NamedTuple):
    """A term Aᵀ M A of H with A = rows·D; `rows` is [q, b, m], `core` is M [b, q, q] or [q, b]."""

    rows: jax.Array
    core: jax.Array

    def diagonal(self) -> jax.Array:
        """Returns the diagonal [b, m] without the factor f'²."""
        if self.core.ndim == 2:
            return jnp.sum(self.core[:, :, None] * self.rows * self.rows, axis=0)
        count = self.rows.shape[0]
        if count > _UNROLLED:

            def add(total: jax.Array, one: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
                row, weights = one
                return total + row * jnp.einsum("bp,pbm->bm", weights, self.rows), None

            zero = jnp.zeros_like(self.rows[0])
            total, _ = jax.lax.scan(add, zero, (self.rows, jnp.swapaxes(self.core, 0, 1)))
            return total
        # One fused loop: a batched product of such small matrices is 40 times slower.
        total = jnp.zeros_like(self.rows[0])
        for p in range(count):
            for q in range(p, count):
                weight = self.core[:, p, q, None] * (1 if p == q else 2)
                total = total + weight * self.rows[p] * self.rows[q]
        return total

    def travel(self, slope: jax.Array, w: jax.Array) -> _Block:
        """Propagates the term one node back: rows·D·Wᵀ."""
        rows = jnp.einsum("qbj,kj->qbk", self.rows * slope[None], w)
        return _Block(rows, self.core)


def chain_diagonals(
    network: Network, links: Sequence[Link], data: PyTree, wanted: Sequence[Variable]
) -> list[jax.Array]:
    """Returns diag(H) of each example at the wanted nodes of a chain, shaped [b, *node]."""
    graph, head = network.graph, links[-1].target
    zs, slopes, bends = _activations(network, links, data)
    weights = _weights(network, links)
    size = slopes[0].shape[0]

    def suffix(z: jax.Array, example: PyTree) -> jax.Array:
        args = [*network.leaves.arrays, *jax.tree.leaves(example)]
        return as_wide(jnp.asarray(graph.run(args, replaced={head: z.reshape(head.shape)})[0]))

    delta = as_wide(jax.vmap(jax.grad(suffix))(zs, data))
    core = as_wide(jax.vmap(jax.hessian(suffix))(zs, data))
    diagonals = {head: jnp.diagonal(core, axis1=1, axis2=2)}
    last = min(i for i, link in enumerate(links) if link.source in set(wanted))
    blocks: list[_Block] = []
    residual: jax.Array | None = None
    for l in range(len(links) - 1, last - 1, -1):
        w, slope, bend = weights[l], slopes[l], bends[l]
        wide_rows = jnp.broadcast_to(w.T[:, None, :], (w.shape[1], size, w.shape[0]))
        blocks = [block.travel(slopes[l + 1], w) for block in blocks]
        if l == len(links) - 1:
            blocks.append(_Block(wide_rows, core))
        squares = sum((block.diagonal() for block in blocks), jnp.zeros_like(slope))
        if residual is not None:
            squares = squares + residual @ jnp.square(w).T
            if l > last:
                blocks.append(_Block(wide_rows, residual.T))
        diagonal, residual = jnp.square(slope) * squares, None
        if bend is not None:
            back = delta @ w.T
            residual = bend * back
            diagonal = diagonal + residual
            delta = back * slope
        elif any(not link.linear for link in links[last:l]):
            delta = (delta @ w.T) * slope
        diagonals[links[l].source] = diagonal
    return [diagonals[v].reshape(size, *v.shape) for v in wanted]


def _activations(
    network: Network, links: Sequence[Link], data: PyTree
) -> tuple[jax.Array, list[jax.Array], list[jax.Array | None]]:
    """Returns the head's values, and f' and f'' of each link (None for f'' = 0), flat per example."""
    graph = network.graph
    sources = [link.source for link in links]
    values = network.run(data, wanted=[*sources, links[-1].target])
    size = values[0].shape[0]
    slopes: list[jax.Array] = []
    bends: list[jax.Array | None] = []
    for link, z in zip(links, values[:-1], strict=True):

        def activation(z: jax.Array, example: PyTree, link: Link = link) -> jax.Array:
            args = [*network.leaves.arrays, *jax.tree.leaves(example)]
            out = graph.run(args, replaced={link.source: z}, wanted=[link.activation])[0]
            return out.reshape(-1)

        def slope(z: jax.Array, example: PyTree, f: Any = activation) -> jax.Array:
            return jax.jvp(lambda z: f(z, example), (z,), (jnp.ones_like(z),))[1]

        def bend(z: jax.Array, example: PyTree, f: Any = slope) -> jax.Array:
            return jax.jvp(lambda z: f(z, example), (z,), (jnp.ones_like(z),))[1]

        slopes.append(as_wide(jax.vmap(slope)(z, data)))
        bends.append(None if link.linear else as_wide(jax.vmap(bend)(z, data)))
    return values[-1].reshape(size, -1), slopes, bends


def _weights(network: Network, links: Sequence[Link]) -> list[jax.Array]:
    blank = [None] * len(network.example_inputs())
    values = network.graph.run(
        [*network.leaves.arrays, *blank], wanted=[link.weight for link in links]
    )
    return [as_wide(link.matrix(jnp.asarray(w))) for link, w in zip(links, values, strict=True)]


def chain_numbers(links: Sequence[Link]) -> tuple[int, int]:
    """Returns the multiplications and the peak number of floats of `chain_diagonals` per example."""
    head = links[-1].fan_out
    rows, work, held = head, 0, 0
    linear = True
    for l in range(len(links) - 1, -1, -1):
        link = links[l]
        if l < len(links) - 1:
            work += rows * link.fan_in * link.fan_out
        held = max(held, rows * link.fan_in)
        if l < len(links) - 1 and not linear and l > 0:
            rows += link.fan_out
            held = max(held, rows * link.fan_in)
        linear = link.linear
        work += link.fan_in * link.fan_out
    return work, held
