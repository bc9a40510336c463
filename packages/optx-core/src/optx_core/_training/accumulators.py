"""Reductions over the slices of a batch, and the scan that computes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import PyTree, build, tree
from optx_core._engine.run_if import as_varying, varying_axes
from optx_core._training.per_device import check_varies, layout_of


@dataclasses.dataclass(frozen=True)
class Accumulator:
    """A reduction over the results of slices: `finalize(update(update(init(shapes), x0, 0), x1, 1))`.

    Attributes:
      init: `init(shapes)` returns the initial carry; `shapes` is a tree of `jax.ShapeDtypeStruct` of the
        result of one slice.
      update: `update(carry, result, index)` returns the next carry, of the same structure, shapes and
        dtypes.
      finalize: `finalize(carry)` returns the reduced result.
      combine: `combine(carry, mesh_axes)` reduces the carries of the devices over mesh axes, with
        `jax.lax.psum` and the like; needed with `mesh_axes` only.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_core import Accumulator, microbatch
      >>> largest = Accumulator(
      ...     init=lambda shapes: jnp.full(shapes.shape, -jnp.inf),
      ...     update=lambda carry, x, index: jnp.maximum(carry, x),
      ...     finalize=lambda carry: carry,
      ... )
      >>> microbatch(jnp.max, 2, reduction=largest)(jnp.array([1.0, 5.0, 2.0, 0.0]))
      Array(5., dtype=float32)
    """

    init: Callable[[PyTree], PyTree]
    update: Callable[[PyTree, PyTree, jax.Array], PyTree]
    finalize: Callable[[PyTree], PyTree]
    combine: Callable[[PyTree, tuple[str, ...]], PyTree] | None = None


class RunningStatistics(NamedTuple):
    """Mean and variance of a quantity over the slices of a batch.

    Attributes:
      mean: a tree of the quantity's structure, in at least float32.
      variance: a tree of the same structure, the variance of the slices' values (with divisor n, not n − 1).
      count: int32 scalar, the number of slices.
    """

    mean: PyTree
    variance: PyTree
    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()


def scan_slices(
    one: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    carried: PyTree,
    slices: PyTree,
    reduction: Any,
    num_real: Any,
    mesh_axes: tuple[str, ...],
) -> tuple[PyTree, PyTree]:
    """Runs `carried, result = one(carried, slice)` on the slices in sequence.

    Returns the last `carried`, and the results reduced over the slices, then over the mesh axes.
    `reduction` is a tree prefix of the results.
    """
    count = jax.tree.leaves(slices)[0].shape[0]
    kinds = jax.tree.leaves(reduction)
    structure: Any = jax.tree.structure(reduction)
    after, results = jax.eval_shape(one, carried, jax.tree.map(lambda x: x[0], slices))
    _check_carried(carried, after)
    check_varies("microbatch", results, mesh_axes)
    shapes = structure.flatten_up_to(results)
    accumulators = [
        kind if isinstance(kind, Accumulator) else REDUCTIONS[kind](part)
        for kind, part in zip(kinds, shapes, strict=True)
    ]

    def step(carry: Any, part: Any) -> tuple[Any, list[PyTree]]:
        carried, totals = carry
        index, examples = part
        carried, results = one(carried, examples)
        results = structure.flatten_up_to(results)
        totals = [
            accumulator.update(total, result, index)
            for accumulator, total, result in zip(accumulators, totals, results, strict=True)
        ]
        rows = [r if kind in _STACKED else None for kind, r in zip(kinds, results, strict=True)]
        return (carried, totals), rows

    def step_if_real(carry: Any, part: Any) -> tuple[Any, list[PyTree]]:
        zeros = [
            _zero_rows(part) if kind in _STACKED else None
            for kind, part in zip(kinds, shapes, strict=True)
        ]
        return jax.lax.cond(part[0] < num_real, step, lambda carry, _: (carry, zeros), carry, part)

    totals = [a.init(part) for a, part in zip(accumulators, shapes, strict=True)]
    indices = jnp.arange(count)
    first = build.loop_carry(
        lambda carry: step(carry, jax.tree.map(lambda x: x[0], (indices, slices)))[0],
        (carried, totals),
    )
    (carried, totals), stacked = jax.lax.scan(
        step if num_real is None else step_if_real, first, (indices, slices)
    )
    reduced = []
    for kind, accumulator, total, rows in zip(kinds, accumulators, totals, stacked, strict=True):
        if kind in _STACKED:
            reduced.append(jax.tree.map(_in_order, rows) if kind == "concat" else rows)
        elif mesh_axes and accumulator.combine is not None:
            reduced.append(accumulator.finalize(accumulator.combine(total, mesh_axes)))
        else:
            reduced.append(accumulator.finalize(total))
    return carried, structure.unflatten(reduced)


def _check_carried(before: PyTree, after: PyTree) -> None:
    """Checks that a carried value stays the same on all devices."""
    if build.tree_flatten(before)[1] != build.tree_flatten(after)[1]:
        return  # lax.scan says so
    pairs = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
    for (path, old), new in pairs:
        if axes := varying_axes(new) - varying_axes(old):
            raise ValueError(
                f"microbatch: {tree.show_path(path)} of the carried value depends on each device's own "
                f"examples, as batch statistics do, and would differ along the mesh axes "
                f"{tuple(sorted(axes))}; leave mesh_axes out"
            )


def _zero_rows(shapes: PyTree) -> PyTree:
    """Returns zeros that vary over the same mesh axes as the results."""

    def leaf(s: Any) -> jax.Array:
        zeros = jnp.zeros(s.shape, s.dtype, out_sharding=layout_of(s))
        return as_varying(zeros, varying_axes(s))

    return jax.tree.map(leaf, shapes)


def _in_order(rows: jax.Array) -> jax.Array:
    """Restores the order of the examples: slice k contains the examples k, k + n, k + 2n, ..."""
    rows = jnp.moveaxis(rows, 0, 1)
    return rows.reshape(-1, *rows.shape[2:])


def _zeros(shapes: PyTree) -> PyTree:
    """Returns zeros in at least float32, laid out as the results where layouts are types."""
    return jax.tree.map(
        lambda s: jnp.zeros(s.shape, build.at_least_float32(s.dtype), out_sharding=layout_of(s)),
        shapes,
    )


def _add(total: PyTree, result: PyTree, _: Any) -> PyTree:
    return jax.tree.map(lambda t, x: t + x.astype(t.dtype), total, result)


def _nothing(_shapes: PyTree) -> Accumulator:
    """Returns an accumulator without effect, for results that the scan itself stacks."""
    return Accumulator(lambda _: (), lambda carry, *_: carry, lambda carry: carry)


def _sum(shapes: PyTree) -> Accumulator:
    def finalize(total: PyTree) -> PyTree:
        return jax.tree.map(lambda t, s: t.astype(s.dtype), total, shapes)

    return Accumulator(_zeros, _add, finalize, jax.lax.psum)


def _mean(shapes: PyTree) -> Accumulator:
    def finalize(carry: tuple[jax.Array, PyTree]) -> PyTree:
        count, total = carry

        def leaf(t: jax.Array, s: Any) -> jax.Array:
            t = t if build.is_inexact(t) else t.astype(jnp.float32)
            mean = t / count.astype(t.real.dtype)
            return mean.astype(s.dtype) if build.is_inexact(s) else mean

        return jax.tree.map(leaf, total, shapes)

    return Accumulator(
        lambda shapes: (jnp.zeros((), jnp.int32), _zeros(shapes)),
        lambda carry, result, index: (carry[0] + 1, _add(carry[1], result, index)),
        finalize,
        lambda carry, axes: (carry[0] * jax.lax.axis_size(axes), jax.lax.psum(carry[1], axes)),
    )


def _statistics(_shapes: PyTree) -> Accumulator:
    """Returns an accumulator that uses Welford's algorithm."""

    def update(carry: RunningStatistics, result: PyTree, _: Any) -> RunningStatistics:
        mean, square, count = carry
        count = count + 1
        deviation = jax.tree.map(lambda m, x: x.astype(m.dtype) - m, mean, result)
        mean = jax.tree.map(lambda m, d: m + d / count.astype(m.dtype), mean, deviation)
        square = jax.tree.map(
            lambda q, d, x, m: q + d * (x.astype(m.dtype) - m), square, deviation, result, mean
        )
        return RunningStatistics(mean, square, count)

    def finalize(carry: RunningStatistics) -> RunningStatistics:
        mean, square, count = carry
        variance = jax.tree.map(lambda q: q / count.astype(q.dtype), square)
        return RunningStatistics(mean, variance, count)

    zero = jnp.zeros((), jnp.int32)
    return Accumulator(lambda s: RunningStatistics(_zeros(s), _zeros(s), zero), update, finalize)


REDUCED_OVER_DEVICES = ("mean", "sum", "concat")
_STACKED = ("stack", "concat")
REDUCTIONS: dict[str, Callable[[PyTree], Accumulator]] = {
    "mean": _mean,
    "sum": _sum,
    "statistics": _statistics,
    "stack": _nothing,
    "concat": _nothing,
}
