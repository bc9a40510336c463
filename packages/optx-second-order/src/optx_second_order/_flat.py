"""The three functions of optax's `second_order`, with its signatures and flat arrays.

The loss is that of a whole batch, `loss(params, inputs, targets)`, a black box. Memory does not grow
with the square of the number of parameters. New code has more to gain from `hessian_vp`,
`exact_hessian_diag`, `true_fisher_diag` and `empirical_fisher_diag`, which take the loss of one example
and keep the parameters' structure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import PyTree, TreeMismatchError
from optx_second_order._batches import check_count
from optx_second_order._exact import exact_hessian_diag
from optx_second_order._leaves import Leaves, as_wide, wide
from optx_second_order._products import hessian_vp

Loss = Callable[[Any, Any, Any], Any]


def _ravel(arrays: list[jax.Array]) -> jax.Array:
    if not arrays:
        return jnp.zeros((0,), jnp.float32)
    dtype = wide(*[a.dtype for a in arrays])
    return jnp.concatenate([a.astype(dtype).reshape(-1) for a in arrays])


def hvp(loss: Loss, v: Any, params: PyTree, inputs: Any, targets: Any) -> Any:
    """The product of the Hessian of a batch's loss with a vector.

    Args:
      loss: `loss(params, inputs, targets)`, a real scalar for the whole batch.
      v: a flat array of as many numbers as `params` has, in the order of its leaves; or a tree like
        `params`.
      params: a tree of real arrays.
      inputs: given to the loss.
      targets: given to the loss.

    Returns:
      H v, a tree like `params`: flat where `params` is a flat array.

    Raises:
      optx_core.TreeMismatchError: if `v` does not fit `params`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_second_order import hvp
      >>> hvp(lambda p, x, y: jnp.sum((p * x - y) ** 2), jnp.ones(2), jnp.zeros(2), 3.0, 1.0)
      Array([18., 18.], dtype=float32)
    """
    leaves = Leaves("hvp", params)
    count = sum(a.size for a in leaves.arrays)

    def of(params: PyTree) -> Any:
        return loss(params, inputs, targets)

    is_flat = hasattr(v, "ndim") and (len(leaves.arrays) != 1 or v.shape == (count,))
    if not is_flat:
        return hessian_vp(of, params, v)
    if v.shape != (count,):
        raise TreeMismatchError(
            f"hvp: v has shape {tuple(v.shape)}; it must be flat, ({count},), or a tree like params"
        )
    parts, start = [], 0
    for array in leaves.arrays:
        part = v[start : start + array.size]
        parts.append(jnp.asarray(part).astype(array.dtype).reshape(array.shape))
        start += array.size
    return hessian_vp(of, params, leaves.tree(parts))


def hessian_diag(
    loss: Loss, params: PyTree, inputs: Any, targets: Any, *, chunk_size: int | None = None
) -> jax.Array:
    """The exact diagonal of the Hessian of a batch's loss, flat.

    One product for each parameter, `chunk_size` of them at once: a black box allows nothing better.
    `exact_hessian_diag`, which is given the loss of one example, takes a few gradients instead.

    Args:
      loss: `loss(params, inputs, targets)`, a real scalar for the whole batch.
      params: a tree of real arrays.
      inputs: given to the loss.
      targets: given to the loss.
      chunk_size: how many products at once; 64 by default.

    Returns:
      A flat array of as many numbers as `params` has, in the order of its leaves.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_second_order import hessian_diag
      >>> hessian_diag(lambda p, x, y: jnp.sum((p * x - y) ** 2), jnp.zeros(2), 3.0, 1.0)
      Array([18., 18.], dtype=float32)
    """
    check_count("hessian_diag", "chunk_size", chunk_size)
    diagonal = exact_hessian_diag(lambda p: loss(p, inputs, targets), params, chunk_size=chunk_size)
    return _ravel(jax.tree.leaves(diagonal))


def fisher_diag(
    negative_log_likelihood: Loss, params: PyTree, inputs: Any, targets: Any
) -> jax.Array:
    """The squared gradient of a batch's loss, flat: optax's quantity, which is no Fisher diagonal.

    With a mean over B examples this is ((1/B) Σ_b g_b)². The empirical Fisher is (1/B) Σ_b g_b²; the
    two agree for one example only. This one scales with the batch size, and is zero at every minimum.
    It is here so that optax's calls keep their values. For the Fisher information use
    `true_fisher_diag`, with labels from the model; for the data's labels `empirical_fisher_diag`.

    Args:
      negative_log_likelihood: `nll(params, inputs, targets)`, a real scalar for the whole batch.
      params: a tree of real arrays.
      inputs: given to the loss.
      targets: given to the loss.

    Returns:
      A flat array of as many numbers as `params` has, in the order of its leaves.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_second_order import fisher_diag
      >>> fisher_diag(lambda p, x, y: jnp.sum((p * x - y) ** 2), jnp.zeros(2), 3.0, 1.0)
      Array([36., 36.], dtype=float32)
    """
    leaves = Leaves("fisher_diag", params)

    def of(arrays: list[jax.Array]) -> jax.Array:
        return negative_log_likelihood(leaves.put(arrays), inputs, targets)

    grads = jax.grad(of)(leaves.arrays) if leaves.arrays else []
    return jnp.square(_ravel([as_wide(g) for g in grads]))
