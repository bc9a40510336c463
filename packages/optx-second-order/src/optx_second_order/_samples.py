"""Means of random samples and their standard errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from optx_core import PyTree
from optx_second_order._leaves import as_wide

Distribution: TypeAlias = Literal["rademacher", "normal"]
DISTRIBUTIONS = ("rademacher", "normal")


class Estimate(NamedTuple):
    """A Monte Carlo estimate.

    Attributes:
      value: the mean over the samples.
      stderr: the estimated standard error of that mean; None for a single sample.
    """

    value: PyTree
    stderr: PyTree


def random_like(key: jax.Array, arrays: list[jax.Array], distribution: Distribution) -> list[Any]:
    """Draws independent entries of mean 0 and variance 1 in the shapes of the arrays."""
    keys = jax.random.split(key, max(len(arrays), 1))
    draw = jax.random.rademacher if distribution == "rademacher" else jax.random.normal
    return [draw(k, a.shape, a.dtype) for k, a in zip(keys, arrays, strict=False)]


def mean_of_samples(
    sample: Callable[[jax.Array], list[jax.Array]], key: jax.Array, count: int
) -> tuple[list[jax.Array], list[jax.Array] | None]:
    """Returns the mean and the standard error of `sample(key)` over `count` keys.

    Welford, "Note on a method for calculating corrected sums of squares and products", 1962.
    """
    keys = jax.random.split(key, count)
    if count == 1:
        return [as_wide(s) for s in sample(keys[0])], None
    shapes = jax.eval_shape(lambda k: [as_wide(s) for s in sample(k)], keys[0])
    zero = [jnp.zeros(s.shape, s.dtype) for s in shapes]

    def add(total: Any, row: Any) -> tuple[Any, None]:
        mean, scatter = total
        i, key = row
        change = [as_wide(s) - m for s, m in zip(sample(key), mean, strict=True)]
        mean = [m + c / (i + 1).astype(m.dtype) for m, c in zip(mean, change, strict=True)]
        weight = [(i / (i + 1)).astype(s.dtype) for s in scatter]
        scatter = [s + w * jnp.square(c) for s, w, c in zip(scatter, weight, change, strict=True)]
        return (mean, scatter), None

    (mean, scatter), _ = jax.lax.scan(add, (zero, zero), (jnp.arange(count), keys))
    return mean, [jnp.sqrt(s / (count * (count - 1))) for s in scatter]
