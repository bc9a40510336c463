"""Large batches in slices, inside one jitted call.

The slices run one after another in a scan, so memory is that of one; means and sums are taken in
float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import PyTree, build

REDUCTIONS = ("mean", "sum", "stack", "statistics")


class RunningStatistics(NamedTuple):
    """Mean and variance of a quantity over the slices of a batch.

    Attributes:
      mean: a tree of the quantity's structure, in at least float32.
      variance: likewise, of the slices' values (with n, not n − 1, below).
      count: the number of slices.
    """

    mean: PyTree
    variance: PyTree
    count: int  # type: ignore[assignment]  # a field, though tuples have count()


def reshape_batch_axis(batch: PyTree, microbatch_size: int, axis: int = 0) -> PyTree:
    """Splits the batch axis of each array into slices.

    Args:
      batch: a tree of arrays that share the size of one axis.
      microbatch_size: how many examples a slice has; must divide that size.
      axis: which axis counts the examples.

    Returns:
      A tree of arrays with a new leading axis that counts the slices.

    Raises:
      ValueError: if the sizes differ, or are not divisible; names the path.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import reshape_batch_axis
      >>> reshape_batch_axis({"x": jnp.ones((6, 3))}, 2)["x"].shape
      (3, 2, 3)
    """
    sizes = {
        jax.tree_util.keystr(path): np.shape(x)[axis] if np.ndim(x) > axis else None
        for path, x in jax.tree_util.tree_leaves_with_path(batch)
    }
    if None in sizes.values() or len(set(sizes.values())) > 1:
        listed = ", ".join(f"batch{path}: {size}" for path, size in sizes.items())
        raise ValueError(f"microbatch: axis {axis} must have the same size everywhere: {listed}")
    for path, size in sizes.items():
        if microbatch_size < 1 or (size or 0) % microbatch_size:
            raise ValueError(
                f"microbatch: microbatch_size={microbatch_size} does not divide the {size} examples "
                f"of batch{path}"
            )

    def leaf(x: Any) -> jax.Array:
        x = jnp.asarray(x)
        shape = (
            *x.shape[:axis],
            x.shape[axis] // microbatch_size,
            microbatch_size,
            *x.shape[axis + 1 :],
        )
        return jnp.moveaxis(x.reshape(shape), axis, 0)

    return jax.tree.map(leaf, batch)


def microbatch(
    function: Callable[..., PyTree],
    microbatch_size: int,
    *,
    argnums: int | Sequence[int] = 0,
    in_axes: int = 0,
    reduction: str = "mean",
) -> Callable[..., PyTree]:
    """Evaluates a function slice by slice, and reduces over the slices.

    Args:
      function: a function of arrays, some of which are batches; it returns a tree of arrays for its
        slice (a mean over its examples, say).
      microbatch_size: how many examples a slice has; must divide the batch.
      argnums: which positional arguments are batches (trees of them).
      in_axes: their axis of examples.
      reduction: "mean" or "sum" over the slices, "stack" for all of them along a leading axis, or
        "statistics" for a `RunningStatistics`.

    Returns:
      A function of the same arguments.

    Raises:
      ValueError: if there is no such reduction, or, when called, the batch is not divisible.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import microbatch
      >>> mean = microbatch(lambda x: jnp.mean(x), microbatch_size=2)
      >>> mean(jnp.arange(6.0))
      Array(2.5, dtype=float32)
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"microbatch: reduction must be one of {REDUCTIONS}, not {reduction!r}")
    batched = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def run(*args: Any, **kwargs: Any) -> PyTree:
        slices = reshape_batch_axis([args[k] for k in batched], microbatch_size, in_axes)
        count = jax.tree.leaves(slices)[0].shape[0]

        def one(part: list[Any]) -> PyTree:
            filled = list(args)
            for k, value in zip(batched, part, strict=True):
                filled[k] = value
            return function(*filled, **kwargs)

        if reduction == "stack":
            return jax.lax.map(one, slices)
        return _accumulate(one, slices, count, reduction)

    return run


def _accumulate(one: Callable[..., Any], slices: PyTree, count: int, reduction: str) -> PyTree:
    shapes = jax.eval_shape(one, jax.tree.map(lambda x: x[0], slices))

    def wide(s: Any) -> Any:
        return build.at_least_float32(s.dtype) if build.is_inexact(s) else s.dtype

    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, wide(s)), shapes)

    def add(total: PyTree, made: PyTree) -> PyTree:
        return jax.tree.map(lambda t, m: t + m.astype(t.dtype), total, made)

    if reduction == "statistics":

        def step(carry: Any, part: Any) -> Any:
            seen, mean, square = carry
            made = jax.tree.map(lambda m, s: m.astype(wide(s)), one(part), shapes)
            seen = seen + 1
            ahead = jax.tree.map(lambda m, x: x - m, mean, made)
            mean = jax.tree.map(lambda m, d: m + d / seen.astype(m.dtype), mean, ahead)
            square = jax.tree.map(lambda q, d, x, m: q + d * (x - m), square, ahead, made, mean)
            return (seen, mean, square), None

        (_, mean, square), _ = jax.lax.scan(step, (jnp.zeros((), jnp.int32), zeros, zeros), slices)
        variance = jax.tree.map(lambda q: q / count, square)
        return RunningStatistics(mean, variance, count)

    total, _ = jax.lax.scan(lambda t, part: (add(t, one(part)), None), zeros, slices)

    def finish(t: jax.Array, s: Any) -> jax.Array:
        if reduction == "mean":
            t = t / count if build.is_inexact(t) else t.astype(jnp.float32) / count
            return t.astype(s.dtype) if build.is_inexact(s) else t
        return t.astype(s.dtype)

    return jax.tree.map(finish, total, shapes)


def micro_grad(
    loss_fn: Callable[..., Any],
    microbatch_size: int,
    *,
    argnums: int = 0,
    batch_argnums: int | Sequence[int] = 1,
    has_aux: bool = False,
    reduction: str = "mean",
    return_value: bool = False,
) -> Callable[..., Any]:
    """The gradient of a loss over a large batch, slice by slice in one jitted call.

    Args:
      loss_fn: a function of parameters and batches that returns the mean (or sum) of the loss over the
        examples it is given, a scalar; with `has_aux` a pair of it and a tree of arrays.
      microbatch_size: how many examples a slice has; must divide the batch.
      argnums: which argument to differentiate.
      batch_argnums: which arguments are batches, their leading axis counting the examples.
      has_aux: whether `loss_fn` returns auxiliary output; it is reduced over the slices likewise.
      reduction: "mean" for a loss that is a mean, "sum" for a sum, or "statistics" for mean and
        variance of the slices' gradients (the gradient noise).
      return_value: whether to return `(value, gradient)`, as `jax.value_and_grad` does.

    Returns:
      A function of the arguments of `loss_fn`: like `jax.grad` of it, with the same numbers up to
      float32 rounding, and the memory of one slice.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import micro_grad
      >>> loss = lambda w, x: jnp.mean((w * x) ** 2)
      >>> micro_grad(loss, microbatch_size=2)(jnp.float32(1.0), jnp.arange(4.0))
      Array(7., dtype=float32)
    """
    both = jax.value_and_grad(loss_fn, argnums=argnums, has_aux=has_aux)
    run = microbatch(both, microbatch_size, argnums=batch_argnums, reduction=reduction)

    def pick(made: Any) -> Any:
        value, grads = made
        if return_value:
            return value, grads
        return (grads, value[1]) if has_aux else grads

    def gradient(*args: Any, **kwargs: Any) -> Any:
        made = run(*args, **kwargs)
        if isinstance(made, RunningStatistics):
            return RunningStatistics(pick(made.mean), pick(made.variance), made.count)
        return pick(made)

    return gradient


def micro_vmap(
    function: Callable[..., PyTree],
    microbatch_size: int,
    *,
    argnums: int | Sequence[int] = 0,
) -> Callable[..., PyTree]:
    """`jax.vmap` over a large batch, slice by slice, with the memory of one slice.

    Args:
      function: a function of one example.
      microbatch_size: how many examples run at once; must divide the batch.
      argnums: which positional arguments have a leading axis of examples; the others are shared.

    Returns:
      A function of the same arguments, whose results have a leading axis of examples.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import micro_vmap
      >>> micro_vmap(lambda x: 2 * x, microbatch_size=2)(jnp.arange(4.0))
      Array([0., 2., 4., 6.], dtype=float32)
    """
    batched = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def run(*args: Any) -> PyTree:
        axes = [0 if k in batched else None for k in range(len(args))]
        mapped = jax.vmap(function, in_axes=axes)
        stacked = microbatch(mapped, microbatch_size, argnums=batched, reduction="stack")(*args)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), stacked)

    return run
