"""The logits of rows x = f·W + b, soft_cap·tanh(x / soft_cap), and the rows in chunks."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Plan(NamedTuple):
    """What is decided before tracing.

    Attributes:
      size: rows in a chunk.
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
        there = x > -jnp.inf
        x = jnp.where(there, cap * jnp.tanh(jnp.where(there, x, 0) / cap), -jnp.inf)
    return x


def split(size: int, f: jax.Array, right: jax.Array, counts: jax.Array) -> Any:
    """The rows in chunks of `size` or a few less, the last filled up; None for a single chunk."""
    rows = f.shape[0]
    chunks = -(-rows // size)
    if chunks == 1:
        return None
    size = -(-rows // chunks)
    spare = chunks * size - rows
    return (
        jnp.pad(f, ((0, spare), (0, 0))).reshape(chunks, size, f.shape[1]),
        jnp.pad(right, (0, spare)).reshape(chunks, size),
        jnp.pad(counts, (0, spare)).reshape(chunks, size),
    )
