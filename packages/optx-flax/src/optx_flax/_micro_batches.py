"""Gradients of a model over a large batch, slice by slice.

g = (1/k) Σ gᵢ over the k slices of the batch, in float32. The model's other state (batch statistics, the
counts of random streams) is carried from slice to slice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from flax import nnx
from optx_core import reshape_batch_axis, tree
from optx_core.build import at_least_float32


def micro_value_and_grad(
    loss_fn: Callable[..., Any],
    microbatch_size: int,
    *,
    wrt: Any = nnx.Param,
    has_aux: bool = False,
    reduction: str = "mean",
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

    Returns:
      A function of the model and the batch, arrays whose first axis is that of the examples. It returns
      `(value, grads)`, or `((value, aux), grads)`.

    Raises:
      ValueError: if `reduction` is another string; from a call, if the batch is not divisible.

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
        slices = reshape_batch_axis(batch, microbatch_size)
        count = jax.tree.leaves(slices)[0].shape[0]
        graphdef, params, rest = nnx.split(model, wrt, ...)
        arrays = jax.tree.map(jnp.asarray, nnx.as_pure(params))

        def one(rest: Any, part: Any) -> Any:
            def pure_loss(pure: Any) -> Any:
                inner = nnx.merge(graphdef, pure, rest)
                out = loss_fn(inner, *part)
                value, aux = out if has_aux else (out, None)
                return value, (aux, nnx.as_pure(nnx.split(inner, wrt, ...)[2]))

            differentiated = jax.value_and_grad(pure_loss, has_aux=True)
            (value, (aux, rest)), grads = differentiated(arrays)
            return rest, (value, aux, grads)

        first = jax.tree.map(lambda x: x[0], slices)
        before = nnx.as_pure(rest)
        after, shapes = jax.eval_shape(one, before, first)
        _check_rest(before, after)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, _wide(s.dtype)), shapes)

        def step(carry: Any, part: Any) -> Any:
            rest, total = carry
            rest, result = one(rest, part)
            added = jax.tree.map(lambda t, x: t + x.astype(t.dtype), total, result)
            return (rest, added), None

        (after, total), _ = jax.lax.scan(step, (before, zeros), slices)
        nnx.update(model, after)

        def finish(t: jax.Array, s: Any) -> jax.Array:
            mean = t / count if reduction == "mean" else t
            return mean.astype(s.dtype if jnp.issubdtype(s.dtype, jnp.inexact) else mean.dtype)

        value, aux, grads = jax.tree.map(finish, total, shapes)
        structure: Any = jax.tree_util.tree_structure(params)
        grads = structure.unflatten(jax.tree.leaves(grads))
        return ((value, aux) if has_aux else value), grads

    return gradient


def _wide(dtype: Any) -> Any:
    return at_least_float32(dtype) if jnp.issubdtype(dtype, jnp.inexact) else jnp.float32


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
