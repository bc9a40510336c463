"""Which axes of a leaf make its matrices, as Muon is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._matrix.matrices import (
    Axes,
    axes_of,
    broadcast_dims,
    default_axes,
    flatten_with_path,
)
from optx_core import Params, PyTree, tree


class MuonDimensionNumbers(NamedTuple):
    """Which axes of an array are the rows and columns of its matrices; all others are a batch.

    Attributes:
      reduction_axis: the axis, or axes, that the layer sums over: the rows.
      output_axis: the axis, or axes, of its outputs: the columns.
    """

    reduction_axis: int | Sequence[int] = 0
    output_axis: int | Sequence[int] = 1


DimensionNumbers = MuonDimensionNumbers | PyTree | Callable[[Params], PyTree]


def is_dims(x: Any) -> bool:
    """Tells dimension numbers."""
    return isinstance(x, tuple) and getattr(x, "_fields", ()) == MuonDimensionNumbers._fields


def axes_of_leaves(where: str, dims: Any, updates: PyTree) -> list[Axes | None]:
    """How each leaf is a stack of matrices; None where it is absent."""
    pairs, _ = flatten_with_path(updates)
    given = [None] * len(pairs)
    if dims is not None:
        given = broadcast_dims(where, dims, updates, is_dims)
    axes: list[Axes | None] = []
    for (path, x), dim in zip(pairs, given, strict=True):
        if tree.is_placeholder(x) or not jnp.issubdtype(_dtype(x), jnp.inexact):
            axes.append(None)
        elif dims is None and jnp.ndim(x) >= 2:
            axes.append(default_axes(jnp.ndim(x)))
        else:
            name = f"{where}: the leaf{jax.tree_util.keystr(path)}"
            axes.append(_told(name, jnp.shape(x), dim))
    return axes


def _told(name: str, shape: tuple[int, ...], dim: Any) -> Axes:
    if len(shape) < 2:
        raise ValueError(
            f"{name} of shape {shape} is no matrix. Use muon, which gives it to Adam, or "
            "leave it out with optx_core.masked"
        )
    if dim is None:
        raise ValueError(
            f"{name} has no dimension numbers. Leave it out with optx_core.masked, or use muon"
        )
    return axes_of(name, len(shape), dim)


def _dtype(x: Any) -> Any:
    return x.dtype if hasattr(x, "dtype") else jnp.result_type(x)
