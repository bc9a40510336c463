"""Exact Hessian diagonals of networks that are piecewise linear up to a few values.

Let y be the values that nonlinear operations read (the logits, for example). If they are piecewise linear in
a node z, the Hessian of an example's loss with respect to z is Jᵀ G J, with J = ∂y/∂z and G = ∂²ℓ/∂y². For an
entry with pullback P, from cotangents of z to the leaf,

    diagonal of the leaf = Σ_b Σ_c P_b(Jᵀ e_c) · P_b(Jᵀ G e_c):

two pullbacks for each of the C values y, independently of the number of units. G may be indefinite: no root
of it is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import PyTree
from optx_second_order._graph import Variable
from optx_second_order._leaves import as_wide, wide
from optx_second_order._network import Network
from optx_second_order._pullback import Pullback, one_hot


def gauss_newton_diag(
    network: Network, chosen: Sequence[int], border: Sequence[Variable], data: PyTree
) -> list[jax.Array]:
    """Sums the Hessian diagonals of the chosen leaves over the batch; `border` holds the values y."""
    graph = network.graph
    bounds = np.cumsum([v.size for v in border])
    if not border:  # the loss itself is piecewise linear
        arrays = [network.leaves.arrays[i] for i in chosen]
        return [jnp.zeros(array.shape, wide(array.dtype)) for array in arrays]

    def suffix(y: jax.Array, example: PyTree) -> jax.Array:
        args = [*network.leaves.arrays, *jax.tree.leaves(example)]
        parts = jnp.split(y, bounds[:-1])
        values = {
            v: part.astype(v.dtype).reshape(v.shape) for v, part in zip(border, parts, strict=True)
        }
        return as_wide(jnp.asarray(graph.run(args, replaced=values)[0]))

    pullback = Pullback(network, chosen, data, wanted=border)
    curvature = jax.vmap(jax.hessian(suffix))(pullback.outputs, data)

    def pair(y: jax.Array, g: jax.Array, i: jax.Array) -> tuple[jax.Array, jax.Array]:
        return one_hot(i, y), g[:, i]

    return pullback.sum_of_products(pair, curvature, int(bounds[-1]))
