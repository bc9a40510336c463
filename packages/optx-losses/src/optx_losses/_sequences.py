"""Sequences of tokens along the last axis: one for each row, or several packed into a row.

mean over tokens = Σ_t x_t / n,   mean over sequences = Σ_t x_t / (n_s(t)·S)

n is the number of tokens, n_s that of sequence s, S the number of sequences that have tokens. Packed
sequences are runs of equal segment ids.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_losses._inputs import as_integers, has_shape
from optx_losses._layout import all_true, laid_as, whole
from optx_losses._rounding import divide


class Sequences(NamedTuple):
    """Which tokens there are, and the sequence of each.

    Attributes:
      included: boolean, shape [..., tokens].
      number: the sequence of each token, counted within its row, shape [..., tokens]; None for one
        sequence per row.
    """

    included: jax.Array
    number: jax.Array | None

    def sums(self, x: jax.Array) -> jax.Array:
        """For each token, the sum of x over its sequence; x is 0 at excluded tokens."""
        if self.number is None:
            sums = jnp.broadcast_to(jnp.sum(x, axis=-1, keepdims=True), x.shape)
        else:
            sums = by_rows(_run_sums, whole(x, x.ndim - 1), self.number)
        return laid_as(sums, x)

    def lengths(self, dtype: Any) -> jax.Array:
        """For each token, the number of tokens of its sequence, at least 1."""
        return jnp.maximum(self.sums(self.included.astype(dtype)), 1)

    def means(self, x: jax.Array) -> jax.Array:
        """For each token, the mean of x over its sequence; x is 0 at excluded tokens."""
        return self.sums(x) / self.lengths(x.dtype)

    def sequence_count(self, dtype: Any) -> jax.Array:
        """The number of sequences that have tokens."""
        share = jnp.where(self.included, 1 / self.lengths(dtype), 0)
        return jnp.round(jnp.sum(share))

    def mean_over_tokens(self, x: jax.Array) -> jax.Array:
        """The mean of x over all tokens; 0 if there are none."""
        return divide(jnp.sum(x), jnp.sum(self.included).astype(x.dtype))

    def mean_over_sequences(self, x: jax.Array) -> jax.Array:
        """The mean over the sequences of the sums of x; 0 if there are none."""
        return divide(jnp.sum(x), self.sequence_count(x.dtype))


def sequences(
    name: str, like: jax.Array, mask: jax.Array | None, segment_ids: Any = None
) -> Sequences:
    """The sequences of tokens of the shape of `like`."""
    included = all_true(like) if mask is None else mask
    if segment_ids is None:
        return Sequences(included, None)
    ids = as_integers(name, "segment_ids", segment_ids)
    has_shape(name, "segment_ids", ids, like.shape, "one for each token")
    ids = whole(laid_as(ids, like), ids.ndim - 1)
    starts = ids != jnp.concatenate([ids[..., :1], ids[..., :-1]], axis=-1)
    return Sequences(included, jnp.cumsum(starts, axis=-1, dtype=jnp.int32))


def by_rows(function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """A function of rows, applied along the last axis."""
    for _ in range(arrays[0].ndim - 1):
        function = jax.vmap(function)
    return function(*arrays)


def _run_sums(x: jax.Array, number: jax.Array) -> jax.Array:
    zeros = jnp.where(False, x, 0)  # `zeros_like` fails outside `jax.set_mesh` before JAX 0.12
    return zeros.at[number].add(x)[number]
