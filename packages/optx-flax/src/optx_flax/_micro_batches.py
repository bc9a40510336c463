"""Gradients of a model over a large batch, slice by slice.

g = (1/k) Σ gᵢ over the k slices of the batch, in float32. The model's other state (batch statistics, the
counts of random streams) is carried from slice to slice. The scan is that of `optx_core.micro_grad`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from flax import nnx
from optx_core import micro_grad, tree


def micro_value_and_grad(
    loss_fn: Callable[..., Any],
    microbatch_size: int,
    *,
    wrt: Any = nnx.Param,
    has_aux: bool = False,
    reduction: str = "mean",
    mesh_axes: str | Sequence[str] | None = None,
) -> Callable[..., Any]:
    """`nnx.value_and_grad` over a large batch, with the memory of one slice.

    Unlike `optx_core.multi_steps` it scans over the slices within one step. The gradients are those of
    the whole batch, unless the model mixes examples (BatchNorm takes the statistics of each slice).

    Args:
      loss_fn: `loss_fn(model, *batch)` returns the mean (or sum) of the loss over its examples, a
        scalar; with `has_aux` a pair of the scalar and a tree of arrays.
      microbatch_size: the number of examples in a slice; must divide the batch.
      wrt: which Variables to differentiate; as given to `nnx.Optimizer`.
      has_aux: whether `loss_fn` returns auxiliary output, which is reduced likewise.
      reduction: "mean" for a loss that is a mean, "sum" for a sum.
      mesh_axes: the mesh axes over which the batch is split, such as "data". With it each device
        accumulates the gradient of its own examples, and the gradients are reduced over the devices once,
        after the last slice; without it XLA reduces them at each slice. Each device then draws random numbers
        of its own, and holds all parameters and a whole gradient during the call. `optx_core.microbatch`
        says which losses allow it.

    Returns:
      A function of the model and the batch, arrays whose first axis is that of the examples. It returns
      `(value, grads)`, or `((value, aux), grads)`.

    Raises:
      ValueError: if `reduction` is another string; from a call, if the batch is not divisible, or, with
        `mesh_axes`, if the model's other state depends on a device's examples, as batch statistics do.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from optx_flax import micro_value_and_grad
      >>> model = nnx.Linear(1, 1, kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
      >>> run = micro_value_and_grad(lambda model, x: jnp.mean(model(x) ** 2), microbatch_size=2)
      >>> loss, grads = run(model, jnp.array([[0.0], [1.0], [2.0], [3.0]]))
      >>> float(loss), float(grads["kernel"][0, 0])
      (3.5, 7.0)
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(
            f"micro_value_and_grad: reduction must be 'mean' or 'sum', not {reduction!r}"
        )

    def gradient(model: Any, *batch: Any) -> Any:
        graphdef, params, keys, rest = nnx.split(model, wrt, nnx.RngKey, ...)
        arrays = jax.tree.map(jnp.asarray, nnx.as_pure(params))

        def pure_loss(pure: Any, state: Any, *part: Any) -> Any:
            keys, rest = state
            inner = nnx.merge(graphdef, pure, _own(keys, mesh_axes), rest)
            out = loss_fn(inner, *part)
            value, aux = out if has_aux else (out, None)
            after = nnx.as_pure(nnx.split(inner, wrt, nnx.RngKey, ...)[2:])
            _check_rest(rest, after[1])
            return value, ((keys if mesh_axes is not None else after[0], after[1]), aux)

        run = micro_grad(
            pure_loss,
            microbatch_size,
            batch_argnums=range(2, 2 + len(batch)),
            has_aux=True,
            reduction=reduction,
            return_value=True,
            carry_argnum=1,
            mesh_axes=mesh_axes,
        )
        after, ((value, aux), grads) = run(arrays, nnx.as_pure((keys, rest)), *batch)
        nnx.update(model, *after)
        structure: Any = jax.tree_util.tree_structure(params)
        grads = structure.unflatten(jax.tree.leaves(grads))
        return ((value, aux) if has_aux else value), grads

    return gradient


def _own(keys: Any, mesh_axes: Any) -> Any:
    """Returns each device's own keys of random numbers."""
    if mesh_axes is None:
        return keys
    device = jax.lax.axis_index(mesh_axes)

    def fold(key: jax.Array) -> jax.Array:
        return jax.vmap(fold)(key) if key.ndim else jax.random.fold_in(key, device)

    return jax.tree.map(fold, keys)


def _check_rest(before: Any, after: Any) -> None:
    """Checks that the state keeps its structure and types, as a scan needs."""
    both = jax.tree_util.tree_leaves_with_path(before), jax.tree_util.tree_leaves_with_path(after)
    old, new = ({tree.show_path(path): x for path, x in pairs} for pairs in both)
    for path in [*old, *new]:
        if path not in old or path not in new:
            what = "appeared" if path in new else "went away"
            raise ValueError(
                f"micro_value_and_grad: {path} of the model {what} in loss_fn; take intermediates "
                "out there: nnx.pop(model, nnx.Intermediate)"
            )
        if old[path].shape != new[path].shape or old[path].dtype != new[path].dtype:
            raise ValueError(
                f"micro_value_and_grad: {path} of the model was {old[path].dtype}"
                f"{list(old[path].shape)}, after loss_fn it is {new[path].dtype}{list(new[path].shape)}"
            )
