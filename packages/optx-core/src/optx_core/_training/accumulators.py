"""Reductions over the slices of a batch, and the scan that computes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import PyTree, build


@dataclasses.dataclass(frozen=True)
class Accumulator:
    """A reduction over the results of slices: `finalize(update(update(init(shapes), x0, 0), x1, 1))`.

    Attributes:
      init: `init(shapes)` returns the initial carry; `shapes` is a tree of `jax.ShapeDtypeStruct` of the
        result of one slice.
      update: `update(carry, result, index)` returns the next carry, of the same structure, shapes and
        dtypes.
      finalize: `finalize(carry)` returns the reduced result.

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
    one: Callable[[PyTree], PyTree], slices: PyTree, reduction: Any, num_real: Any
) -> PyTree:
    """Runs `one` on the slices in sequence; `reduction` is a tree prefix of its results."""
    count = jax.tree.leaves(slices)[0].shape[0]
    kinds = jax.tree.leaves(reduction)
    structure: Any = jax.tree.structure(reduction)
    shapes = structure.flatten_up_to(jax.eval_shape(one, jax.tree.map(lambda x: x[0], slices)))
    accumulators = [
        kind if isinstance(kind, Accumulator) else REDUCTIONS[kind](part)
        for kind, part in zip(kinds, shapes, strict=True)
    ]

    def step(carries: list[PyTree], part: Any) -> tuple[list[PyTree], list[PyTree]]:
        index, examples = part
        results = structure.flatten_up_to(one(examples))
        carries = [
            accumulator.update(carry, result, index)
            for accumulator, carry, result in zip(accumulators, carries, results, strict=True)
        ]
        return carries, [
            r if kind in _STACKED else None for kind, r in zip(kinds, results, strict=True)
        ]

    def step_if_real(carries: list[PyTree], part: Any) -> tuple[list[PyTree], list[PyTree]]:
        zeros = [
            jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), part) if kind in _STACKED else None
            for kind, part in zip(kinds, shapes, strict=True)
        ]
        return jax.lax.cond(
            part[0] < num_real, step, lambda carries, _: (carries, zeros), carries, part
        )

    first = [a.init(part) for a, part in zip(accumulators, shapes, strict=True)]
    carries, stacked = jax.lax.scan(
        step if num_real is None else step_if_real, first, (jnp.arange(count), slices)
    )
    results = []
    for kind, accumulator, carry, rows in zip(kinds, accumulators, carries, stacked, strict=True):
        if kind == "concat":
            results.append(jax.tree.map(_in_order, rows))
        else:
            results.append(rows if kind == "stack" else accumulator.finalize(carry))
    return structure.unflatten(results)


def _in_order(rows: jax.Array) -> jax.Array:
    """Restores the order of the examples: slice k contains the examples k, k + n, k + 2n, ..."""
    rows = jnp.moveaxis(rows, 0, 1)
    return rows.reshape(-1, *rows.shape[2:])


def _zeros(shapes: PyTree) -> PyTree:
    return jax.tree.map(lambda s: jnp.zeros(s.shape, build.at_least_float32(s.dtype)), shapes)


def _add(total: PyTree, result: PyTree, _: Any) -> PyTree:
    return jax.tree.map(lambda t, x: t + x.astype(t.dtype), total, result)


def _nothing(_shapes: PyTree) -> Accumulator:
    """Returns an accumulator without effect, for results that the scan itself stacks."""
    return Accumulator(lambda _: (), lambda carry, *_: carry, lambda carry: carry)


def _sum(shapes: PyTree) -> Accumulator:
    def finalize(total: PyTree) -> PyTree:
        return jax.tree.map(lambda t, s: t.astype(s.dtype), total, shapes)

    return Accumulator(_zeros, _add, finalize)


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


_STACKED = ("stack", "concat")
REDUCTIONS: dict[str, Callable[[PyTree], Accumulator]] = {
    "mean": _mean,
    "sum": _sum,
    "statistics": _statistics,
    "stack": _nothing,
    "concat": _nothing,
}
