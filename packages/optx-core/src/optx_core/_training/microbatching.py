"""Large batches processed in slices, inside one jitted call.

The slices run in sequence in a scan, with the memory of one; means and sums are computed in float32. A
slice contains every n-th example, so a batch that is sharded over devices is not moved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import PyTree, build
from optx_core._training.accumulators import (
    REDUCTIONS,
    Accumulator,
    RunningStatistics,
    scan_slices,
)


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


def reshape_batch_axis(batch: PyTree, microbatch_size: int, axis: int = 0) -> PyTree:
    """Splits the batch axis of each array into slices.

    Args:
      batch: a tree of arrays that share the size of one axis.
      microbatch_size: the number of examples per slice; must divide that size.
      axis: the axis of the examples.

    Returns:
      A tree of arrays with a new leading axis of the n slices. Slice k contains the examples k, k + n,
      k + 2n, ..., so a batch that is sharded over devices is not moved.

    Raises:
      ValueError: if the sizes differ, or are not divisible; names the path.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import reshape_batch_axis
      >>> reshape_batch_axis({"x": jnp.ones((6, 3))}, 2)["x"].shape
      (3, 2, 3)
    """
    _check_sizes(_sizes("batch", batch, axis), axis, microbatch_size)
    return _slices(batch, microbatch_size, axis)


def _slices(batch: PyTree, microbatch_size: int, axis: int) -> PyTree:
    """Splits the batch axis of arrays whose sizes have been checked."""

    def leaf(x: Any) -> jax.Array:
        x = jnp.asarray(x)
        shape = (
            *x.shape[:axis],
            microbatch_size,
            x.shape[axis] // microbatch_size,
            *x.shape[axis + 1 :],
        )
        return jnp.moveaxis(x.reshape(shape), axis + 1, 0)

    return jax.tree.map(leaf, batch)


def _sizes(name: str, batch: PyTree, axis: int) -> dict[str, int | None]:
    """Returns the number of examples in each array by path; None for an array without the axis."""
    return {
        f"{name}{jax.tree_util.keystr(path)}": np.shape(x)[axis] if np.ndim(x) > axis else None
        for path, x in jax.tree_util.tree_leaves_with_path(batch)
    }


def _check_sizes(sizes: dict[str, int | None], axis: Any, microbatch_size: int) -> None:
    if None in sizes.values() or len(set(sizes.values())) > 1:
        listed = ", ".join(f"{path}: {size}" for path, size in sizes.items())
        raise ValueError(f"microbatch: axis {axis} must have the same size everywhere: {listed}")
    for path, size in sizes.items():
        if microbatch_size < 1 or (size or 0) % microbatch_size:
            raise ValueError(
                f"microbatch: microbatch_size={microbatch_size} does not divide the {size} examples "
                f"of {path}"
            )


def microbatch(
    function: Callable[..., PyTree],
    microbatch_size: int,
    *,
    argnums: int | Sequence[int] = 0,
    argnames: str | Sequence[str] = (),
    in_axes: int | Sequence[int] = 0,
    reduction: Any = "mean",
    num_real_microbatches: Any = None,
) -> Callable[..., PyTree]:
    """Evaluates a function slice by slice, and reduces over the slices.

    Args:
      function: a function of arrays, some of which are batches; it returns a tree of arrays for a
        slice, such as a mean over its examples.
      microbatch_size: the number of examples in a slice; must divide the batch.
      argnums: the positional arguments that are batches (trees of them).
      argnames: the keyword arguments that are batches.
      in_axes: the axis of the examples, one for all batches, or one for each: first for those of
        `argnums`, then for those of `argnames`.
      reduction: "mean" or "sum" over the slices; "concat" for one row per example, in the batch's order,
        of results with a leading axis of examples; "stack" for all results along a new leading axis;
        "statistics" for a `RunningStatistics`; or an `Accumulator`. A tree prefix of the function's
        result reduces its parts in different ways.
      num_real_microbatches: the number of slices to evaluate, an int or an int32 scalar; all by default.
        The other slices are not evaluated, and are ignored in the reduction (zeros in "stack" and
        "concat"), so one program can process batches of different sizes.

    Returns:
      A function of the same arguments.

    Raises:
      ValueError: if `reduction` is unknown, or, when called, if the batch is not divisible.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import microbatch
      >>> mean = microbatch(lambda x: jnp.mean(x), microbatch_size=2)
      >>> mean(jnp.arange(6.0))
      Array(2.5, dtype=float32)
      >>> parts = microbatch(lambda x: (2 * x, jnp.sum(x)), 2, reduction=("concat", "sum"))
      >>> parts(jnp.arange(4.0))
      (Array([0., 2., 4., 6.], dtype=float32), Array(6., dtype=float32))
    """
    for kind in jax.tree.leaves(reduction):
        if not isinstance(kind, Accumulator) and kind not in REDUCTIONS:
            raise ValueError(
                f"microbatch: reduction must be one of {tuple(REDUCTIONS)} or an Accumulator, not {kind!r}"
            )
    places = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    names = (argnames,) if isinstance(argnames, str) else tuple(argnames)
    axes = (in_axes,) * len(places + names) if isinstance(in_axes, int) else tuple(in_axes)
    if len(axes) != len(places + names):
        raise ValueError(
            f"microbatch: in_axes has {len(axes)} axes for {len(places + names)} batches; give one "
            "for each of argnums and argnames"
        )

    def run(*args: Any, **kwargs: Any) -> PyTree:
        batches = [args[k] for k in places] + [kwargs[name] for name in names]
        sizes: dict[str, int | None] = {}
        for k, (batch, axis) in enumerate(zip(batches, axes, strict=True)):
            sizes |= _sizes(f"batch[{k}]", batch, axis)
        _check_sizes(sizes, in_axes, microbatch_size)
        slices = [
            _slices(batch, microbatch_size, axis) for batch, axis in zip(batches, axes, strict=True)
        ]

        def one(parts: list[Any]) -> PyTree:
            filled, named = list(args), dict(kwargs)
            for k, value in zip(places, parts, strict=False):
                filled[k] = value
            named.update(zip(names, parts[len(places) :], strict=True))
            return function(*filled, **named)

        return scan_slices(one, slices, reduction, num_real_microbatches)

    return run


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

    Returns:
      A function of the arguments of `loss_fn` that returns the same as `jax.grad(loss_fn)` up to
      float32 rounding, with the memory of one slice. With `transform_fn` or `metrics_fn` it returns
      the reduced gradient and a `MicroGradAux`.

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
    both = jax.value_and_grad(loss_fn, argnums=argnums, has_aux=has_aux)
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
        )
    run = microbatch(
        both,
        microbatch_size,
        argnums=places,
        reduction=reduction,
        num_real_microbatches=num_real_microbatches,
    )

    def pick(result: Any) -> Any:
        value, grads = result
        if return_value:
            return value, grads
        return (grads, value[1]) if has_aux else grads

    def gradient(*args: Any, **kwargs: Any) -> Any:
        result = run(*args, **kwargs)
        if isinstance(result, RunningStatistics):
            return RunningStatistics(pick(result.mean), pick(result.variance), result.count)
        return pick(result)

    return gradient


def micro_vmap(
    function: Callable[..., PyTree],
    microbatch_size: int,
    *,
    argnums: int | Sequence[int] = 0,
    reduction: Any = "concat",
    num_real_microbatches: Any = None,
) -> Callable[..., PyTree]:
    """Applies `jax.vmap` over a large batch, slice by slice, with the memory of one slice.

    Args:
      function: a function of one example.
      microbatch_size: the number of examples per slice; must divide the batch.
      argnums: the positional arguments with a leading axis of examples; the others are shared.
      reduction: "concat" for one result per example, "mean" or "sum" over the examples, or a tree prefix
        of the results with one of these for each part.
      num_real_microbatches: the number of slices to evaluate; see `microbatch`.

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
        )(*args)

    return run


_OVER_EXAMPLES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "concat": lambda x: x,
    "mean": lambda x: jnp.mean(x, 0, dtype=build.at_least_float32(x.dtype)),
    "sum": lambda x: jnp.sum(x, 0, dtype=build.at_least_float32(x.dtype)),
}
