"""Large batches processed in slices, inside one jitted call.

The slices run in sequence in a scan, with the memory of one; means and sums are computed in float32. A
slice contains every n-th example, so a batch that is sharded over devices is not moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from optx_core import PyTree
from optx_core._training.accumulators import (
    REDUCED_OVER_DEVICES,
    REDUCTIONS,
    Accumulator,
    scan_slices,
)
from optx_core._training.per_device import mesh_of, names_of, on_each_device, varied


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
    carry_argnum: int | None = None,
    mesh_axes: str | Sequence[str] | None = None,
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
      carry_argnum: the positional argument that is carried from slice to slice, a tree of arrays. The
        function then returns a pair of its new value, of the same structure, shapes and dtypes, and the
        result; so does the returned function.
      mesh_axes: the mesh axes over which the batches are split. With it each device evaluates
        the function on its own examples of a slice (`microbatch_size` divided by the size of the axes), and
        the results are reduced over the devices once, after the last slice; without it XLA reduces
        them at each slice. See the notes.

    Returns:
      A function of the same arguments.

    Raises:
      ValueError: if `reduction` is unknown, or needs the whole slice ("stack", "statistics", an
        `Accumulator` without `combine`) with `mesh_axes`; when called, if the batch or a slice is not
        divisible, no mesh with the axes is known, or (with `mesh_axes`) a result does not depend on the
        device's examples or the carried value does.

    Notes:
      `mesh_axes` assumes of a device's part what `microbatch` assumes of a slice: the mean over equal parts
      is the mean over the whole. It does not hold for batch statistics, contrastive losses, or a
      loss divided by the number of unmasked tokens. The function runs under `jax.shard_map`: it must not name
      the axes in a sharding, and random numbers from a shared key are the same on all devices,
      unless `jax.lax.axis_index(mesh_axes)` is folded into the key. Arguments that are split over the axes
      (FSDP) are gathered once, before the first slice; each device holds a whole accumulator.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import microbatch
      >>> mean = microbatch(lambda x: jnp.mean(x), microbatch_size=2)
      >>> mean(jnp.arange(6.0))
      Array(2.5, dtype=float32)
      >>> parts = microbatch(lambda x: (2 * x, jnp.sum(x)), 2, reduction=("concat", "sum"))
      >>> parts(jnp.arange(4.0))
      (Array([0., 2., 4., 6.], dtype=float32), Array(6., dtype=float32))
      >>> last = microbatch(lambda c, x: (x[-1], x - c), 1, argnums=1, carry_argnum=0, reduction="concat")
      >>> last(jnp.float32(0.0), jnp.array([1.0, 3.0, 6.0]))
      (Array(6., dtype=float32), Array([1., 2., 3.], dtype=float32))
    """
    names = names_of(mesh_axes)
    for kind in jax.tree.leaves(reduction):
        if not isinstance(kind, Accumulator) and kind not in REDUCTIONS:
            raise ValueError(
                f"microbatch: reduction must be one of {tuple(REDUCTIONS)} or an Accumulator, not {kind!r}"
            )
        if names and getattr(kind, "combine", None) is None and kind not in REDUCED_OVER_DEVICES:
            raise ValueError(
                f"microbatch: with mesh_axes, reduction must be one of {REDUCED_OVER_DEVICES} or an "
                f"Accumulator with combine=, not {kind!r}, which needs the result of a whole slice"
            )
    places = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    keywords = (argnames,) if isinstance(argnames, str) else tuple(argnames)
    axes = (in_axes,) * len(places + keywords) if isinstance(in_axes, int) else tuple(in_axes)
    if len(axes) != len(places + keywords):
        raise ValueError(
            f"microbatch: in_axes has {len(axes)} axes for {len(places + keywords)} batches; give one "
            "for each of argnums and argnames"
        )

    def run(*args: Any, **kwargs: Any) -> PyTree:
        batches = [args[k] for k in places] + [kwargs[name] for name in keywords]
        sizes: dict[str, int | None] = {}
        for k, (batch, axis) in enumerate(zip(batches, axes, strict=True)):
            sizes |= _sizes(f"batch[{k}]", batch, axis)
        _check_sizes(sizes, in_axes, microbatch_size)
        taken = {*places, carry_argnum}
        shared = (
            [None if k in taken else x for k, x in enumerate(args)],
            {name: x for name, x in kwargs.items() if name not in keywords},
        )
        carried = () if carry_argnum is None else args[carry_argnum]

        def scan(batches: Any, shared: Any, carried: Any, num_real: Any, size: int) -> PyTree:
            slices = [_slices(batch, size, axis) for batch, axis in zip(batches, axes, strict=True)]

            def one(carried: PyTree, parts: list[Any]) -> tuple[PyTree, PyTree]:
                filled, named = list(shared[0]), dict(shared[1])
                for k, value in zip(places, parts, strict=False):
                    filled[k] = value
                named.update(zip(keywords, parts[len(places) :], strict=True))
                if carry_argnum is None:
                    return (), function(*filled, **named)
                filled[carry_argnum] = carried
                return function(*filled, **named)

            return scan_slices(one, carried, slices, reduction, num_real, names)

        def scan_own(batches: Any, shared: Any, carried: Any, num_real: Any) -> PyTree:
            own = varied(shared, names)
            return scan(batches, own, carried, num_real, microbatch_size // parts)

        given = (batches, shared, carried, num_real_microbatches)
        if names:
            mesh = mesh_of("microbatch", names, batches)
            parts = math.prod(mesh.shape[name] for name in names)
            if microbatch_size % parts:
                raise ValueError(
                    f"microbatch: microbatch_size={microbatch_size} is not divisible by the {parts} parts "
                    f"of a batch along mesh_axes={names}"
                )
            kept = jax.tree.map(lambda kind: P(names) if kind == "concat" else P(), reduction)
            run_on = on_each_device(scan_own, ([*axes], None, None, None), (P(), kept), mesh, names)
            carried, results = run_on(*given)
        else:
            carried, results = scan(*given, microbatch_size)
        return results if carry_argnum is None else (carried, results)

    return run
