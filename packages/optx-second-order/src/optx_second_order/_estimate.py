"""Estimates of the Hessian diagonal from a few products with random signs at the layers.

The variance of Hutchinson's estimate v·(H v) in parameter space sums over a row of the Hessian. Probing the
results z of the operations through which parameters enter, independently for each example,

    d = Σ_b P_b(v_b) · P_b((H_z v)_b),

with v random signs of z's shape and P_b the pullback from z to the leaf, has the same mean, and its
variance sums over the units of one example only: for the cost of one Hessian product it is hundreds of
times smaller in networks without weight sharing.

For an entry without sharing, d = Σ_b x_b² ⊗ (v_b·(H_z v)_b). Leaves without an entry, such as tied
weights, are probed directly in the same product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp

from optx_core import PyTree
from optx_second_order._batches import (
    Batch,
    check_choice,
    check_count,
    scalar_loss,
)
from optx_second_order._entry_kinds import Entry
from optx_second_order._hutchinson import hutchinson_diag
from optx_second_order._leaves import Leaves, as_wide
from optx_second_order._network import Network, outputs_of, pulled_product
from optx_second_order._products import linearize_hessian_vp
from optx_second_order._samples import (
    DISTRIBUTIONS,
    Distribution,
    Estimate,
    mean_of_samples,
    random_like,
)

Probe: TypeAlias = Literal["activations", "parameters"]


def hessian_diag_estimate(
    loss_fn: Callable[..., Any],
    params: PyTree,
    *batch: PyTree,
    key: jax.Array,
    num_samples: int = 1,
    probe: Probe = "activations",
    distribution: Distribution = "rademacher",
    mask: PyTree = None,
    reduction: Literal["mean", "sum"] = "mean",
    has_aux: bool = False,
) -> Estimate:
    """Estimates the Hessian diagonal of a loss, without bias, from a few Hessian products.

    Args:
      loss_fn: `loss_fn(params, *example)` for one example; without a batch, `loss_fn(params)` and
        `probe="parameters"`.
      params: a tree of real arrays.
      *batch: trees of arrays with the examples along their leading axis.
      key: a random key.
      num_samples: the number of Hessian products to average; each costs one to two gradients.
      probe: the space of the random vectors: "activations", the results of the layers for each
        example, with far less variance, or "parameters", Hutchinson's estimate.
      distribution: the distribution of their entries, "rademacher" or "normal".
      mask: the leaves to estimate, as for `exact_hessian_diag`.
      reduction: "mean" or "sum" over the examples.
      has_aux: whether the loss returns `(loss, aux)`; aux is dropped.

    Returns:
      An `Estimate`, two trees like `params`; the standard error is None for one sample.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_second_order import hessian_diag_estimate
      >>> def loss(w, x):
      ...     return 0.5 * (w @ x) ** 2
      >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
      >>> hessian_diag_estimate(loss, jnp.zeros(2), x, key=jax.random.key(0)).value
      Array([ 5., 10.], dtype=float32)

    References:
      Martens, Sutskever, Swersky, "Estimating the Hessian by back-propagating curvature", 2012.
    """
    where = "hessian_diag_estimate"
    check_choice(where, "probe", probe, ("activations", "parameters"))
    check_choice(where, "distribution", distribution, DISTRIBUTIONS)
    check_choice(where, "reduction", reduction, ("mean", "sum"))
    check_count(where, "num_samples", num_samples)
    leaves = Leaves(where, params, mask)
    loss = scalar_loss(where, loss_fn, has_aux=has_aux)
    if not batch and probe == "activations":
        raise ValueError(
            f'{where}: without a batch, probe="activations" has no examples; pass '
            'loss_fn(params, *example) and the batch, or probe="parameters"'
        )
    if probe == "parameters":
        chosen = leaves.tree(leaves.arrays)

        def of(part: PyTree, *example: PyTree) -> jax.Array:
            return loss(leaves.put(jax.tree.leaves(part)), *example)

        product = linearize_hessian_vp(of, chosen, *batch, reduction=reduction)
        return hutchinson_diag(product, chosen, key, num_samples, distribution=distribution)
    data = Batch(where, batch)
    if not leaves.arrays:
        return Estimate(leaves.tree([]), None if num_samples == 1 else leaves.tree([]))
    network = Network(loss, leaves, data)
    sample = activation_sampler(network, data.data, distribution)
    value, stderr = mean_of_samples(sample, key, num_samples)
    scale = 1 if reduction == "sum" else data.size
    return Estimate(
        leaves.tree([v / scale for v in value]),
        None if stderr is None else leaves.tree([s / scale for s in stderr]),
    )


def activation_sampler(
    network: Network, data: PyTree, distribution: Distribution
) -> Callable[[jax.Array], list[jax.Array]]:
    """Returns key ↦ an estimate of the summed Hessian diagonals; the product is linearized once."""
    arrays = network.leaves.arrays
    size = int(jax.tree.leaves(data)[0].shape[0])
    entries = {i: e for i, e in enumerate(network.entries) if isinstance(e, Entry)}
    boxed = [i for i in range(len(arrays)) if i not in entries]
    nodes = network.order([e.node for e in entries.values()])
    inputs = dict(zip(entries, network.inputs(list(entries.values()), data), strict=True))

    def total(changes: Sequence[jax.Array], part: Sequence[jax.Array]) -> jax.Array:
        full = list(arrays)
        for i, array in zip(boxed, part, strict=True):
            full[i] = array

        def one(example: PyTree, change: Sequence[jax.Array]) -> jax.Array:
            args = [*full, *jax.tree.leaves(example)]
            changed = dict(zip(nodes, change, strict=True))
            return as_wide(jnp.asarray(network.graph.run(args, changed)[0]))

        return jnp.sum(jax.vmap(one)(data, list(changes)))

    at = (network.zeros(nodes, size), [arrays[i] for i in boxed])
    _, product = jax.linearize(jax.grad(total, argnums=(0, 1)), *at)

    def sample(key: jax.Array) -> list[jax.Array]:
        first, second = jax.random.split(key)
        v = random_like(first, at[0], distribution)
        w = random_like(second, at[1], distribution)
        images, own = product(v, w)
        pairs = dict(zip(nodes, zip(v, images, strict=True), strict=True))
        sums = {i: as_wide(a) * as_wide(b) for i, a, b in zip(boxed, w, own, strict=True)}
        for i, entry in entries.items():
            a, b = pairs[entry.node]
            sums[i] = pulled_product(entry, inputs[i], outputs_of(entry, a), outputs_of(entry, b))
        return [sums[i] for i in range(len(arrays))]

    return sample
