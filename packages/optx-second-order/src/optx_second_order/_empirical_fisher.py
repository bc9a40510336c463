"""The diagonal of the empirical Fisher: the mean over examples of the squared gradient.

E = (1/B) Σ_b g_b²,   g_b = ∂ℓ(θ, example_b)/∂θ

where ℓ is the loss of one example, with the labels of the data. It differs from the squared
gradient of the mean loss, ((1/B) Σ_b g_b)², which vanishes at every minimum.

Reference: Kunstner, Balles, Hennig, "Limitations of the empirical Fisher approximation for natural
gradient descent", 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import PyTree
from optx_second_order._batches import (
    Batch,
    Reduction,
    check_count,
    check_reduction,
    scalar_loss,
    sum_over_microbatches,
)
from optx_second_order._leaves import Leaves
from optx_second_order._network import Network
from optx_second_order._pullback import Pullback


def empirical_fisher_diag(
    loss_fn: Callable[..., Any],
    params: PyTree,
    *batch: PyTree,
    microbatch: int | None = None,
    mask: PyTree = None,
    reduction: Reduction = "mean",
    has_aux: bool = False,
) -> PyTree:
    """The mean of the examples' squared gradients, exact, at about the cost of one gradient.

    Args:
      loss_fn: `loss_fn(params, *example)` for one example, a real scalar.
      params: a tree of real arrays.
      *batch: trees of arrays with the examples along their leading axis.
      microbatch: the number of examples computed at once; all by default.
      mask: the leaves to compute, as for `exact_hessian_diag`.
      reduction: "mean" or "sum" over the examples; "none" for the squared gradients of each.
      has_aux: whether the loss returns `(loss, aux)`; aux is dropped.

    Returns:
      A tree like `params`; at least float32; None for other than float leaves.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_second_order import empirical_fisher_diag
      >>> y = jnp.array([-1.0, 1.0])
      >>> empirical_fisher_diag(lambda w, y: 0.5 * (w - y) ** 2, jnp.array(0.0), y)
      Array(1., dtype=float32)
    """
    where = "empirical_fisher_diag"
    check_reduction(where, reduction)
    check_count(where, "microbatch", microbatch)
    leaves, data = Leaves(where, params, mask), Batch(where, batch)
    loss = scalar_loss(where, loss_fn, has_aux=has_aux)
    if not leaves.arrays:
        jax.eval_shape(loss, params, *data.example)
        return leaves.tree([])
    network = Network(loss, leaves, data)

    def squares(part: PyTree) -> list[jax.Array]:
        pullback = Pullback(network, range(len(leaves.arrays)), part)
        return pullback.sum_of_products(lambda y, _e, _i: (jnp.ones_like(y), None), None, 1)

    if reduction == "none":
        ones = jax.tree.map(lambda a: a[:, None], data.data)
        return leaves.tree(jax.lax.map(squares, ones, batch_size=microbatch))
    sums = sum_over_microbatches(squares, data.data, data.size, microbatch)
    scale = 1 if reduction == "sum" else data.size
    return leaves.tree([d / scale for d in sums])
