"""Histograms of the magnitudes of gradients, in powers of two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import Params, PyTree, Updates, build, tree
from optx_core._engine.staged import staged
from optx_core._transforms.monitor import SnapshotState


def log2_histogram(updates: Updates, low: int = -24, high: int = 8) -> PyTree:
    """Counts the entries of each array by the power of two below their magnitude.

    A measurement for `snapshot` and `monitor`. Entries that vanish, underflow or overflow appear in the
    first and the last counts; in float16, for example, gradients below 2**-24 are 0.

    Args:
      updates: a tree of arrays.
      low: the exponent of the first bin.
      high: the exponent at which the last bin ends.

    Returns:
      For each array high − low + 4 int32 counts: zeros; nonzero magnitudes below 2**low; magnitudes in
      [2**k, 2**(k + 1)) for k = low, ..., high − 1; finite magnitudes of at least 2**high; NaN and inf.

    Raises:
      ValueError: if high is not greater than low.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import log2_histogram
      >>> log2_histogram(jnp.array([0.0, 1e-3, 0.3, -0.6, 5.0, jnp.inf]), low=-2, high=1)
      Array([1, 1, 1, 1, 0, 1, 1], dtype=int32)
    """
    if not (isinstance(low, int) and isinstance(high, int) and low < high):
        raise ValueError(
            f"log2_histogram: low must be less than high, two ints: not {low!r}, {high!r}"
        )

    def leaf(g: Any) -> Any:
        if tree.is_absent(g) or not build.is_inexact(g):
            return g if tree.is_placeholder(g) else None
        size = jnp.abs(build.cast_to_compute(jnp.asarray(g), jnp.float32))
        exponent = jnp.frexp(jnp.where(jnp.isfinite(size), size, 1))[1] - 1
        place = jnp.clip(exponent, low - 1, high) - low + 2
        place = jnp.where(size == 0, 0, jnp.where(jnp.isfinite(size), place, high - low + 3))
        bins = jnp.arange(high - low + 4, dtype=place.dtype)
        in_bin = place[..., None] == bins.reshape((1,) * place.ndim + (-1,))
        return jnp.sum(in_bin, axis=tuple(range(place.ndim)), dtype=jnp.int32)

    return jax.tree.map(leaf, updates, is_leaf=tree.is_placeholder)


@build.recorded
def gradient_histogram(low: int = -24, high: int = 8) -> build.Transformation:
    """Passes updates on unchanged, and stores the histogram of their magnitudes in the state.

    Place it first in a chain for the gradients, last for the steps. A parameter without a gradient keeps
    its last histogram.

    Args:
      low: the exponent of the first bin.
      high: the exponent at which the last bin ends.

    Returns:
      A transformation with a `SnapshotState`. `metrics(state)["histogram"]` has for each parameter the
      counts that `log2_histogram` describes; zeros before the first update.

    Raises:
      ValueError: if high is not greater than low.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import chain, gradient_histogram, metrics, scale
      >>> tx = chain(gradient_histogram(low=-2, high=1), scale(-0.1))
      >>> _, state = tx.update({"w": jnp.array([0.3, 0.4])}, tx.init({"w": jnp.zeros(2)}))
      >>> metrics(state)["histogram"]["w"]
      Array([0, 0, 2, 0, 0, 0, 0], dtype=int32)
    """
    if not (isinstance(low, int) and isinstance(high, int) and low < high):
        raise ValueError(
            f"gradient_histogram: low must be less than high, two ints: not {low!r}, {high!r}"
        )

    def init(params: Params) -> SnapshotState:
        shapes = jax.eval_shape(lambda: log2_histogram(build.widened(params), low, high))
        return SnapshotState(
            {"histogram": jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)}
        )

    def stages(
        flow: build.Flow, state: SnapshotState, params: Params = None, **extra_args: Any
    ) -> Callable[[], SnapshotState]:
        del params, extra_args
        counts = jax.tree.map(
            lambda new, old: old if tree.is_absent(new) else new,
            log2_histogram(flow.present, low, high),
            state.measurement["histogram"],
            is_leaf=tree.is_placeholder,
        )
        return lambda: SnapshotState({"histogram": counts})

    return staged(init, stages)
