"""The logits of rows, x = f·W + b or soft_cap·tanh(x / soft_cap), and the division into chunks."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Plan(NamedTuple):
    """Decisions made before tracing.

    Attributes:
      size: the number of rows of a chunk.
      smooth: whether labels are smoothed.
      precision: of the matrix products.
    """

    size: int
    smooth: bool
    precision: Any


def logits(plan: Plan, f: jax.Array, w: jax.Array, b: Any, cap: Any) -> jax.Array:
    """The logits of rows; `b` and `cap` may be None."""
    x = jnp.matmul(f, w, precision=plan.precision)
    if b is not None:
        x = x + b[None, :]
    if cap is not None:
        present = x > -jnp.inf
        x = jnp.where(present, cap * jnp.tanh(jnp.where(present, x, 0) / cap), -jnp.inf)
    return x


def split(size: int, f: jax.Array, target: jax.Array, included: jax.Array) -> Any:
    """The rows in chunks of at most `size` rows, the last one padded; None for a single chunk.

    If the type says that the rows are split over devices, chunk i of k holds the rows i, i + k, ...,
    some of each device. On a single device contiguous rows are faster.
    """
    rows = f.shape[0]
    chunks = -(-rows // size)
    if chunks == 1:
        return None
    size = -(-rows // chunks)
    spare = chunks * size - rows
    strided = any(is_split(x, 0) for x in (f, target, included))

    def cut(x: jax.Array) -> jax.Array:
        if spare:
            x = jnp.pad(x, ((0, spare), *[(0, 0)] * (x.ndim - 1)))
        if strided:
            return x.reshape(size, chunks, *x.shape[1:]).swapaxes(0, 1)
        return x.reshape(chunks, size, *x.shape[1:])

    return cut(f), cut(target), cut(included)


def joined(x: jax.Array, rows: int) -> jax.Array:
    """The results of the chunks, concatenated to one for each row."""
    x = (x.swapaxes(0, 1) if is_split(x, 1) else x).reshape(-1, *x.shape[2:])
    return x if len(x) == rows else x[:rows]


def is_split(x: jax.Array, axis: int | None = None) -> bool:
    """Whether an array's type says that it, or one axis of it, is split over devices."""
    spec = jax.typeof(x).sharding.spec
    return any(part is not None for part in (spec if axis is None else spec[axis : axis + 1]))
