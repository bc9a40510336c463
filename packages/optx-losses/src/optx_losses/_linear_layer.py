"""The arguments of losses that start from the features and weights of the last layer."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_losses._chunks import traced
from optx_losses._inputs import (
    as_count,
    as_floats,
    as_index,
    as_integers,
    as_mask,
    has_shape,
    keep,
)
from optx_losses._integer_labels import equals, label_rules
from optx_losses._layout import is_split
from optx_losses._rows import Bounds, Plan

_CHUNKS = 4  # the default number of chunks
_LEAST_LOGITS = 2**20  # the default least number of logits of a chunk, 4 MiB
_HINT = (
    "; for probabilities p of the classes use linear_distillation_loss with teacher_logits=log p"
)


class Layer(NamedTuple):
    """The last layer.

    Attributes:
      f: the features, shape [rows, features].
      w: the weights, shape [features, classes].
      b: the bias, shape [classes], or None.
      shape: the shape of the rows.
    """

    f: jax.Array
    w: jax.Array
    b: jax.Array | None
    shape: tuple[int, ...]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return math.prod(self.shape)


def linear_layer(name: str, features: Any, weights: Any, bias: Any, prefix: str = "") -> Layer:
    """The last layer, its rows on one axis."""
    f, w = as_floats(name, **{f"{prefix}features": features, f"{prefix}weights": weights})
    if not f.ndim or w.ndim != 2 or f.shape[-1] != w.shape[0]:
        turned = f.ndim and w.ndim == 2 and f.shape[-1] == w.shape[1]
        raise ValueError(
            f"{name}: {prefix}features is {f.shape}, {prefix}weights is {w.shape}; they must be "
            "[..., features] and [features, classes]"
            + (f"; write {prefix}weights.T" if turned else "")
        )
    if not w.shape[1]:
        raise ValueError(f"{name}: {prefix}weights is {w.shape}; there must be at least one class")
    b = None
    if bias is not None:
        (b,) = as_floats(name, **{f"{prefix}bias": bias})
        has_shape(name, f"{prefix}bias", b, (w.shape[1],), "one bias for each class")
        b = b.astype(f.dtype)
    shape = f.shape[:-1]
    return Layer(f.reshape(math.prod(shape), f.shape[-1]), w, b, shape)


def bounds_of(layer: Layer, soft_cap: Any, temperature: Any = None) -> Bounds:
    """The bounds of the logits in the dtype of the layer."""
    numbers = (
        None if x is None else jnp.asarray(x, layer.f.dtype) for x in (soft_cap, temperature)
    )
    return Bounds(*numbers)


class LabelledRows(NamedTuple):
    """Integer labels of rows.

    Attributes:
      target: the labels, 0 where out of range, shape [rows].
      included: boolean, which rows have a value, shape [rows]; None for all.
      in_range: boolean, whether a label is in range, of the labels' shape.
      ignored: boolean, which rows give 0, of the labels' shape; None if all have a value.
    """

    target: jax.Array
    included: jax.Array | None
    in_range: jax.Array
    ignored: jax.Array | None

    def rules(self, values: jax.Array) -> jax.Array:
        """The values, 0 for ignored rows, NaN for out-of-range labels."""
        return label_rules(values.reshape(self.in_range.shape), self.in_range, self.ignored)


def labels_of_rows(
    name: str, labels: Any, layer: Layer, where: Any, ignore_index: int | None
) -> LabelledRows:
    """The labels of the rows of a layer."""
    y = as_integers(name, "labels", labels, _HINT)
    has_shape(
        name, "labels", y, layer.shape, f"the features are {(*layer.shape, layer.w.shape[0])}"
    )
    mask = as_mask(name, where, y, "the labels")
    index = as_index(name, ignore_index)
    ignored = None if mask is None else ~mask
    if index is not None:
        ignored = equals(y, index) if ignored is None else ignored | equals(y, index)
    in_range = (y >= 0) & (y < layer.w.shape[1])
    target = jnp.where(in_range, y, 0).reshape(layer.rows).astype(jnp.int32)
    included = None if ignored is None else ~ignored.reshape(layer.rows)
    return LabelledRows(target, included, in_range, ignored)


def values_of(
    chunked: Any, plan: Plan, layer: Layer, given: Any, included: jax.Array | None
) -> jax.Array:
    """The values of the rows, 0 for excluded rows, whatever their features."""
    f, w, b, _ = layer
    if included is not None:
        f = keep(included[:, None], f)  # features of excluded rows may be NaN
    # On Explicit axes JAX decides how gradients of split arrays are summed over the devices.
    if any(is_split(x) for x in jax.tree.leaves((f, w, given))):
        chunked = traced
    if included is None:
        included = jnp.ones(layer.rows, bool)
    return chunked(plan, f, w, b, (*given, included))


def chunk_size_of(name: str, chunk_size: int | None, layer: Layer, chunks: int = _CHUNKS) -> int:
    """The number of rows of a chunk; by default of one of `chunks`, or more if there are few logits."""
    rows, classes = layer.rows, layer.w.shape[1]
    if chunk_size is None:
        return min(rows, max(-(-rows // chunks), -(-_LEAST_LOGITS // classes)))
    return min(as_count(name, "rows", chunk_size=chunk_size), rows)
