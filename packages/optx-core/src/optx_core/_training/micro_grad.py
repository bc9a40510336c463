"""Gradients of large batches, and of each of their examples, by `microbatch`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import PyTree, build
from optx_core._training.accumulators import RunningStatistics
from optx_core._training.microbatching import microbatch
from optx_core._training.per_device import laid_out_as


class MicroGradAux(NamedTuple):
    """The per-example results of `micro_grad`, besides the reduced gradient.

    Attributes:
      values: the losses, (n,).
      aux: the auxiliary output of the loss with a leading axis of examples; None without `has_aux`.
      metrics: the results of `metrics_fn` with a leading axis of examples; None without it.
    """

    values: jax.Array
    aux: PyTree
    metrics: PyTree


def micro_grad(
    loss_fn: Callable[..., Any],
    microbatch_size: int,
    *,
    argnums: int | Sequence[int] = 0,
    batch_argnums: int | Sequence[int] = 1,
    has_aux: bool = False,
    reduction: Any = "mean",
    return_value: bool = False,
    transform_fn: Callable[[PyTree], PyTree] | None = None,
    metrics_fn: Callable[[PyTree], PyTree] | None = None,
    keep_batch_dim: bool = True,
    num_real_microbatches: Any = None,
    carry_argnum: int | None = None,
    mesh_axes: str | Sequence[str] | None = None,
) -> Callable[..., Any]:
    """Computes the gradient of a loss over a large batch, slice by slice in one jitted call.

    Args:
      loss_fn: a function of parameters and batches that returns the mean (or sum) of the loss over the
        given examples, a scalar; with `has_aux` a pair of the loss and a tree of arrays.
      microbatch_size: the number of examples in a slice; must divide the batch.
      argnums: the argument to differentiate, or several.
      batch_argnums: the arguments that are batches, with a leading axis of examples.
      has_aux: whether `loss_fn` returns auxiliary output, which is reduced over the slices in the same way.
      reduction: "mean" for a loss that is a mean, "sum" for a sum, or "statistics" for mean and
        variance of the slices' gradients (the gradient noise); see `microbatch`.
      return_value: whether to return `(value, gradient)`, as `jax.value_and_grad` does.
      transform_fn: a function of the gradient of a single example, such as one that clips it or
        `lambda g: (g, tree.mul(g, g))`; its results are reduced over the examples.
      metrics_fn: a function of the gradient of a single example, such as its norm; its results
        are returned for each example.
      keep_batch_dim: whether single examples are passed to `loss_fn` with a leading axis of size 1.
      num_real_microbatches: the number of slices to evaluate; see `microbatch`.
      carry_argnum: the argument that is carried from slice to slice, such as the batch statistics of a
        model. `loss_fn` then returns `(loss, carry)`, with `has_aux` `(loss, (carry, aux))`.
      mesh_axes: the mesh axes over which the batches are split: each device accumulates the gradient of
        its own examples, and they are reduced once. `microbatch` says when that is the same gradient.

    Returns:
      A function of the arguments of `loss_fn` that returns the same as `jax.grad(loss_fn)` up to
      float32 rounding, with the memory of one slice. With `transform_fn` or `metrics_fn` it returns
      the reduced gradient and a `MicroGradAux`, with `carry_argnum` the last carry and the above.

    Raises:
      ValueError: as `microbatch` does; also if `carry_argnum` is given with `transform_fn` or `metrics_fn`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import micro_grad
      >>> loss = lambda w, x: jnp.mean((w * x) ** 2)
      >>> micro_grad(loss, microbatch_size=2)(jnp.float32(1.0), jnp.arange(4.0))
      Array(7., dtype=float32)
      >>> grad, aux = micro_grad(loss, 2, metrics_fn=jnp.abs)(jnp.float32(1.0), jnp.arange(4.0))
      >>> aux.metrics
      Array([ 0.,  2.,  8., 18.], dtype=float32)
    """
    carries = carry_argnum is not None
    if carries and (transform_fn is not None or metrics_fn is not None):
        raise ValueError(
            "micro_grad: carry_argnum cannot be combined with transform_fn and metrics_fn: the examples of a "
            "slice have no order"
        )
    both = jax.value_and_grad(loss_fn, argnums=argnums, has_aux=has_aux or carries)
    places = (batch_argnums,) if isinstance(batch_argnums, int) else tuple(batch_argnums)
    if transform_fn is not None or metrics_fn is not None:

        def example(*args: Any, **kwargs: Any) -> tuple[PyTree, MicroGradAux]:
            given = list(args)
            for k in places if keep_batch_dim else ():
                given[k] = jax.tree.map(lambda x: x[None], given[k])
            value, grads = both(*given, **kwargs)
            value, aux = value if has_aux else (value, None)
            metrics = None if metrics_fn is None else metrics_fn(grads)
            return grads if transform_fn is None else transform_fn(grads), MicroGradAux(
                value, aux, metrics
            )

        return micro_vmap(
            example,
            microbatch_size,
            argnums=places,
            reduction=(reduction, "concat"),
            num_real_microbatches=num_real_microbatches,
            mesh_axes=mesh_axes,
        )

    def of_slice(*args: Any, **kwargs: Any) -> Any:
        value, grads = both(*args, **kwargs)
        if not carries:
            return value, grads
        value, rest = value
        carry, aux = rest if has_aux else (rest, None)
        return carry, ((value, aux) if has_aux else value, grads)

    run = microbatch(
        of_slice,
        microbatch_size,
        argnums=places,
        reduction=reduction,
        num_real_microbatches=num_real_microbatches,
        carry_argnum=carry_argnum,
        mesh_axes=mesh_axes,
    )

    def pick(result: Any) -> Any:
        value, grads = result
        if return_value:
            return value, grads
        return (grads, value[1]) if has_aux else grads

    def gradient(*args: Any, **kwargs: Any) -> Any:
        if mesh_axes is not None:  # which makes arrays the device's own, and not numbers
            at = (argnums,) if isinstance(argnums, int) else argnums
            args = tuple(jax.tree.map(jnp.asarray, x) if k in at else x for k, x in enumerate(args))
        carry, result = run(*args, **kwargs) if carries else (None, run(*args, **kwargs))
        if isinstance(result, RunningStatistics):
            result = RunningStatistics(pick(result.mean), pick(result.variance), result.count)
        elif mesh_axes is None:
            result = pick(result)
        else:
            value, grads = result
            wrt = args[argnums] if isinstance(argnums, int) else tuple(args[k] for k in argnums)
            result = pick((value, jax.tree.map(laid_out_as, wrt, grads)))
        return (carry, result) if carries else result

    return gradient


def micro_vmap(
    function: Callable[..., PyTree],
    microbatch_size: int,
    *,
    argnums: int | Sequence[int] = 0,
    reduction: Any = "concat",
    num_real_microbatches: Any = None,
    mesh_axes: str | Sequence[str] | None = None,
) -> Callable[..., PyTree]:
    """Applies `jax.vmap` over a large batch, slice by slice, with the memory of one slice.

    Args:
      function: a function of one example.
      microbatch_size: the number of examples per slice; must divide the batch.
      argnums: the positional arguments with a leading axis of examples; the others are shared.
      reduction: "concat" for one result per example, "mean" or "sum" over the examples, or a tree prefix
        of the results with one of these for each part.
      num_real_microbatches: the number of slices to evaluate; see `microbatch`.
      mesh_axes: the mesh axes over which the examples are split; the results are reduced over the
        devices once. See `microbatch`.

    Returns:
      A function of the same arguments.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import micro_vmap
      >>> micro_vmap(lambda x: 2 * x, microbatch_size=2)(jnp.arange(4.0))
      Array([0., 2., 4., 6.], dtype=float32)
    """
    places = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    kinds = jax.tree.leaves(reduction)
    structure: Any = jax.tree.structure(reduction)
    if unknown := [kind for kind in kinds if kind not in _OVER_EXAMPLES]:
        raise ValueError(
            f"micro_vmap: reduction must be one of {tuple(_OVER_EXAMPLES)}, not {unknown[0]!r}"
        )

    def run(*args: Any, **kwargs: Any) -> PyTree:
        axes = [0 if k in places else None for k in range(len(args))]

        def part(*args: Any) -> PyTree:
            results = jax.vmap(lambda *args: function(*args, **kwargs), in_axes=axes)(*args)
            return structure.unflatten(
                jax.tree.map(_OVER_EXAMPLES[kind], result)
                for kind, result in zip(kinds, structure.flatten_up_to(results), strict=True)
            )

        return microbatch(
            part,
            microbatch_size,
            argnums=places,
            reduction=reduction,
            num_real_microbatches=num_real_microbatches,
            mesh_axes=mesh_axes,
        )(*args)

    return run


_OVER_EXAMPLES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "concat": lambda x: x,
    "mean": lambda x: jnp.mean(x, 0, dtype=build.at_least_float32(x.dtype)),
    "sum": lambda x: jnp.sum(x, 0, dtype=build.at_least_float32(x.dtype)),
}
