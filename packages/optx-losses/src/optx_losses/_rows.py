"""The logits of rows, x = f·W + b, then soft_cap·tanh(x / soft_cap), then x / temperature; and chunks."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from optx_losses._layout import is_split


class Held(NamedTuple):
    """Intermediate arrays from which the slopes of rows are computed.

    Attributes:
      wide: arrays of shape [rows, classes], of which a block of classes is taken at a time.
      thin: arrays of shape [rows], or None.
    """

    wide: tuple[jax.Array, ...]
    thin: tuple[Any, ...]


class Rule(Protocol):
    """Values of rows of logits and their derivatives; rules that are equal are hash equal."""

    def values(self, plan: Plan, x: jax.Array, numbers: Any, rows: Any) -> jax.Array:
        """The values, shape [rows] or [rows, n], given numbers and other arrays of the rows."""

    def hold(
        self, plan: Plan, x: jax.Array, numbers: Any, rows: Any, exact: bool
    ) -> tuple[jax.Array, Held]:
        """The values, and what the slopes need; if `exact`, the first wide array is x."""

    def slopes(
        self, numbers: Any, rows: Any, held: Held, classes: jax.Array, g: jax.Array | None
    ) -> jax.Array:
        """Σ_n g_n·dvalue_n/dx for `classes`, to which `held` is cut; without g, the value's slope."""


class Plan(NamedTuple):
    """Decisions made before tracing.

    Attributes:
      size: the number of rows of a chunk.
      rule: the values of rows of logits.
      precision: of the matrix products.
    """

    size: int
    rule: Rule
    precision: Any


class Bounds(NamedTuple):
    """Numbers that change the logits, each None if it does not.

    Attributes:
      cap: the bound of their magnitude.
      temperature: their divisor.
    """

    cap: Any = None
    temperature: Any = None


def logits(plan: Plan, f: jax.Array, w: jax.Array, b: Any, bounds: Bounds) -> jax.Array:
    """The logits of rows; `b` may be None."""
    x = jnp.matmul(f, w, precision=plan.precision)
    if b is not None:
        x = x + b[None, :]
    return bounded(x, bounds)


def bounded(x: jax.Array, bounds: Bounds) -> jax.Array:
    """soft_cap·tanh(x / soft_cap) / temperature; a logit of −inf stays, without derivatives."""
    cap, temperature = bounds
    if cap is None and temperature is None:
        return x
    present = x != -jnp.inf  # NaN is not excluded
    inner = jnp.where(present, x, 0)
    if cap is not None:
        inner = cap * jnp.tanh(inner / cap)
    if temperature is not None:
        inner = inner / temperature
    return jnp.where(present, inner, -jnp.inf)


def through_bounds(slope: jax.Array, x: jax.Array, bounds: Bounds) -> jax.Array:
    """The slopes for f·W + b, given those for the logits x."""
    cap, temperature = bounds
    if temperature is not None:
        slope = slope / temperature
    if cap is not None:
        x = x if temperature is None else x * temperature
        present = x != -jnp.inf
        slope = slope * jnp.where(present, 1 - (jnp.where(present, x, 0) / cap) ** 2, 0)
    return slope


def of_included(included: jax.Array, values: jax.Array) -> jax.Array:
    """The values of rows, 0 where a row is excluded."""
    return jnp.where(included if values.ndim == 1 else included[:, None], values, 0)


def split(size: int, arrays: Any) -> Any:
    """The rows in chunks of at most `size` rows, the last one padded; None for a single chunk.

    If the type says that the rows are split over devices, chunk i of k holds the rows i, i + k, ...,
    some of each device. On a single device contiguous rows are faster.
    """
    leaves = jax.tree.leaves(arrays)
    rows = leaves[0].shape[0]
    chunks = -(-rows // size)
    if chunks == 1:
        return None
    size = -(-rows // chunks)
    spare = chunks * size - rows
    strided = any(is_split(x, 0) for x in leaves)

    def cut(x: jax.Array) -> jax.Array:
        if spare:
            x = jnp.pad(x, ((0, spare), *[(0, 0)] * (x.ndim - 1)))
        if strided:
            return x.reshape(size, chunks, *x.shape[1:]).swapaxes(0, 1)
        return x.reshape(chunks, size, *x.shape[1:])

    return jax.tree.map(cut, arrays)


def joined(x: jax.Array, rows: int) -> jax.Array:
    """The results of the chunks, concatenated to one for each row."""
    x = (x.swapaxes(0, 1) if is_split(x, 1) else x).reshape(-1, *x.shape[2:])
    return x if len(x) == rows else x[:rows]
