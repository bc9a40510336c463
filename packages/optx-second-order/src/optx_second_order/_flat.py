"""The three functions of optax's `second_order`, with its signatures and flat arrays.

The loss of a whole batch, `loss(params, inputs, targets)`, is a black box. Memory is linear in the number
of parameters. New code should use `hessian_vp`, `exact_hessian_diag`, `true_fisher_diag` and
`empirical_fisher_diag`, which take the loss of one example and keep the structure of the parameters.
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
    """The product of the Hessian of a batch loss with a vector.

    Args:
      loss: `loss(params, inputs, targets)`, a real scalar for the whole batch.
      v: a flat array of the entries of all leaves, in their order; or a tree like `params`.
      params: a tree of real arrays.
      inputs: passed to the loss.
      targets: passed to the loss.

    Returns:
      H v, a tree like `params`; a flat array if `params` is one.

    Raises:
      optx_core.TreeMismatchError: if `v` does not match `params`.

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
    """The exact diagonal of the Hessian of a batch loss, as a flat array.

    It takes one Hessian product per parameter, `chunk_size` of them at once, since the loss is a black
    box. `exact_hessian_diag`, which takes the loss of one example, costs a few gradients instead.

    Args:
      loss: `loss(params, inputs, targets)`, a real scalar for the whole batch.
      params: a tree of real arrays.
      inputs: passed to the loss.
      targets: passed to the loss.
      chunk_size: the number of products computed at once; 64 by default.

    Returns:
      A flat array with the entries of all leaves, in their order.

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
    """The squared gradient of a batch loss, as a flat array: optax's definition, not a Fisher diagonal.

    With a mean over B examples this is ((1/B) Σ_b g_b)². The empirical Fisher is (1/B) Σ_b g_b²; the
    two agree for one example only. This one scales with the batch size and is zero at every minimum.
    It keeps the values of optax's calls. For the Fisher information use `true_fisher_diag`, with labels
    from the model, or `empirical_fisher_diag`, with labels from the data.

    Args:
      negative_log_likelihood: `nll(params, inputs, targets)`, a real scalar for the whole batch.
      params: a tree of real arrays.
      inputs: passed to the loss.
      targets: passed to the loss.

    Returns:
      A flat array with the entries of all leaves, in their order.

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
