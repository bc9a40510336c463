"""The diagonal of the Gauss–Newton matrix.

G = (1/B) Σ_b J_bᵀ H_b J_b,   J_b = ∂f_b/∂θ,   H_b = ∂²ℓ(f_b, y_b)/∂f²

where f are the model's outputs, y the labels and ℓ is the loss of one example. Its diagonal is the mean
over b of

    exact        Σ_c (Jᵀ R e_c)², R Rᵀ = H in closed form; or, for a loss without a known root,
                 Σ_c (Jᵀ e_c)·(Jᵀ H e_c), which holds for any symmetric H
    rademacher   (Jᵀ R u)², or (Jᵀ u)·(Jᵀ H u), with independent random signs u
    mc           (Jᵀ ∂ℓ(f, ŷ)/∂f)², with labels ŷ sampled from the model for each example

The last two are unbiased estimates and take one backward pass per sample.

References: Schraudolph, "Fast curvature matrix-vector products for second-order gradient descent",
2002; Martens, Sutskever, Swersky, "Estimating the Hessian by back-propagating curvature", 2012 (the
random signs); Martens, "New insights and perspectives on the natural gradient method", 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp

from optx_core import PyTree
from optx_second_order._batches import (
    Batch,
    Reduction,
    check_choice,
    check_count,
    check_functions,
    check_reduction,
    sum_over_microbatches,
)
from optx_second_order._leaves import Leaves, as_wide, described
from optx_second_order._likelihoods import Likelihood
from optx_second_order._network import Network
from optx_second_order._pullback import Pair, Pullback, one_hot

Loss: TypeAlias = Callable[[Any, Any], Any]
GGNMethod: TypeAlias = Literal["exact", "mc", "rademacher"]
_METHODS = ("exact", "mc", "rademacher")


def ggn_diag(
    model_fn: Callable[..., Any],
    loss_fn: Loss,
    params: PyTree,
    x: PyTree,
    y: PyTree = None,
    *,
    method: GGNMethod = "exact",
    key: jax.Array | None = None,
    num_samples: int = 1,
    microbatch: int | None = None,
    mask: PyTree = None,
    reduction: Reduction = "mean",
) -> PyTree:
    """The diagonal of the Gauss–Newton matrix of a model and a loss.

    Args:
      model_fn: `model_fn(params, x)` for one example; returns an array or a tree of arrays.
      loss_fn: a `Likelihood` such as `categorical()`, with a root of its curvature; or
        `loss_fn(outputs, y)` for one example, any smooth scalar loss, at twice the cost.
      params: a tree of real arrays.
      x: inputs with the examples along the leading axis.
      y: labels with the examples along the leading axis. A `Likelihood` needs none: its curvature does
        not depend on them.
      method: "exact"; or an estimate from `num_samples` backward passes: "rademacher", from random
        combinations of the root's columns, or "mc", from labels sampled from the likelihood.
      key: a random key, for the estimates.
      num_samples: the number of samples to average, for the estimates.
      microbatch: the number of examples computed at once; all by default.
      mask: the leaves to compute, as for `exact_hessian_diag`.
      reduction: "mean" or "sum" over the examples; "none" for one diagonal per example.

    Returns:
      A tree like `params`; at least float32; None for other than float leaves.

    Raises:
      TypeError: if `model_fn` or `loss_fn` is not a function.
      ValueError: if an estimate has no key, "mc" no `Likelihood`, or a loss no labels.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_second_order import gaussian, ggn_diag
      >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
      >>> ggn_diag(lambda w, x: x @ w, gaussian(), jnp.zeros(2), x)
      Array([ 5., 10.], dtype=float32)
    """
    where = "ggn_diag"
    check_choice(where, "method", method, _METHODS)
    check_functions(where, model_fn=model_fn, loss_fn=loss_fn)
    if not isinstance(loss_fn, Likelihood) and y is None:
        raise ValueError(
            f"{where}: {described(loss_fn)} needs labels: pass y, or a Likelihood such as "
            "categorical()"
        )
    return outer_product_diag(
        where, model_fn, loss_fn, params, x, y, method, key, num_samples, microbatch, mask,
        reduction,
    )  # fmt: skip


def outer_product_diag(
    where: str,
    model_fn: Callable[..., Any],
    loss_fn: Loss,
    params: PyTree,
    x: PyTree,
    y: PyTree,
    method: GGNMethod,
    key: jax.Array | None,
    num_samples: int,
    microbatch: int | None,
    mask: PyTree,
    reduction: Reduction,
) -> PyTree:
    """The implementation of `ggn_diag` and `true_fisher_diag`."""
    check_functions(where, model_fn=model_fn, loss_fn=loss_fn)
    check_reduction(where, reduction)
    check_count(where, "microbatch", microbatch)
    check_count(where, "num_samples", num_samples)
    if method != "exact" and key is None:
        raise ValueError(
            f'{where}: method "{method}" is random; pass a key such as key=jax.random.key(0)'
        )
    if method == "mc" and not isinstance(loss_fn, Likelihood):
        raise ValueError(
            f'{where}: method "mc" samples labels; pass a Likelihood such as categorical(), not '
            f"{described(loss_fn)}"
        )
    leaves = Leaves(where, params, mask)
    inputs = Batch(where, (x,))
    size = inputs.size
    keys = None if key is None else jax.random.split(key, size)
    extra = (Batch(where, (x, y)).data[1], keys)
    network = Network(lambda p, x: _float_outputs(where, model_fn(p, x)), leaves, inputs)
    kind = _Curvature(where, network, loss_fn, method)

    def diagonals(rows: Any) -> list[jax.Array]:
        data, more = rows
        pullback = Pullback(network, range(len(leaves.arrays)), data)
        count = pullback.outputs.shape[1] if method == "exact" else num_samples
        more = jax.vmap(kind.prepare)(pullback.outputs, more)
        return pullback.sum_of_products(kind.pair, more, count)

    if not leaves.arrays:
        return leaves.tree([])
    divisor = 1 if method == "exact" else num_samples
    rows = (inputs.data, extra)
    if reduction == "none":
        ones = jax.tree.map(lambda a: a[:, None], rows)
        sums = jax.lax.map(diagonals, ones, batch_size=microbatch)
    else:
        sums = sum_over_microbatches(diagonals, rows, size, microbatch)
        divisor = divisor * (1 if reduction == "sum" else size)
    return leaves.tree([d / divisor for d in sums])


class _Curvature:
    """The pairs of cotangents whose pullbacks form JᵀHJ, for one example."""

    def __init__(self, where: str, network: Network, loss_fn: Loss, method: GGNMethod) -> None:
        self._shapes = [v.aval for v in network.graph.outputs]
        self._structure = network.graph.out_structure
        self._loss, self._method = loss_fn, method
        root = loss_fn.root if isinstance(loss_fn, Likelihood) else None
        self._root = root
        if isinstance(loss_fn, Likelihood) and root is None and method != "mc":
            raise ValueError(
                f"{where}: the likelihood {loss_fn.name} has no root; use method='mc', or pass its nll "
                "and the labels to ggn_diag"
            )

    @property
    def pair(self) -> Pair:
        """(y, extra, i) ↦ (a, c)."""
        return self._pair

    def outputs(self, flat: jax.Array) -> Any:
        """Restores the structure of the model's outputs."""
        parts, start = [], 0
        for aval in self._shapes:
            part = flat[start : start + aval.size]
            parts.append(part.reshape(aval.shape).astype(aval.dtype))
            start += aval.size
        return jax.tree.unflatten(self._structure, parts)

    def prepare(self, flat: jax.Array, extra: Any) -> Any:
        """Returns the extra arguments of `pair`: the label, the key, and the Hessian if there is no root."""
        y, key = extra
        if isinstance(self._loss, Likelihood):
            return y, key, None
        hessian = jax.hessian(lambda f: _scalar(self._loss(self.outputs(f), y)))(as_wide(flat))
        return y, key, hessian

    def _pair(
        self, flat: jax.Array, extra: Any, i: jax.Array
    ) -> tuple[jax.Array, jax.Array | None]:
        _, key, hessian = extra
        if self._method == "mc":
            likelihood = self._loss
            assert isinstance(likelihood, Likelihood)  # noqa: S101 (checked when called)
            label = likelihood.sample(jax.random.fold_in(key, i), self.outputs(flat))
            label = jax.lax.stop_gradient(label)
            grad = jax.grad(lambda f: _scalar(likelihood.nll(self.outputs(f), label)))
            return grad(as_wide(flat)), None
        wide_flat = as_wide(flat)
        if self._method == "exact":
            u = one_hot(i, wide_flat)
        else:
            u = jax.random.rademacher(jax.random.fold_in(key, i), flat.shape, wide_flat.dtype)
        if self._root is None:
            return u, hessian @ u
        rooted = self._root(self.outputs(flat), self.outputs(u))
        return jnp.concatenate([as_wide(r).reshape(-1) for r in jax.tree.leaves(rooted)]), None


def _scalar(value: Any) -> jax.Array:
    value = as_wide(jnp.asarray(value))
    if value.shape != ():
        raise ValueError(
            f"the loss of one example must be a scalar, not of shape {list(value.shape)}; "
            "loss_fn(outputs, y) is called with single examples"
        )
    return value


def _float_outputs(where: str, outputs: Any) -> Any:
    for path, leaf in jax.tree_util.tree_leaves_with_path(outputs):
        if not jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating):
            raise TypeError(
                f"{where}: the model's outputs{jax.tree_util.keystr(path)} are "
                f"{jnp.asarray(leaf).dtype}; they must be floating point"
            )
    return outputs
