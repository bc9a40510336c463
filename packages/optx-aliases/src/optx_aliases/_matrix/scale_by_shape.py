"""Orthogonal updates scaled by their shape.

u = O·√max(1, columns/rows)               (Jordan)
u = O·consistent_rms·√max(columns, rows)      (Moonshot)

where O is the orthogonal update. Rows are what the layer sums over, columns its outputs, as in Flax's
kernels (Jordan's √max(1, rows/columns) is for torch's weights, which are transposed).

References: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Liu et
al., "Muon is Scalable for LLM Training", 2025, section 2.2 (Moonshot's factor, with 0.2).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from optx_aliases._matrix.dimension_numbers import DimensionNumbers, axes_of_leaves
from optx_aliases._matrix.matrices import matrix_shape, shapes_of
from optx_core import OptState, Params, build, tree


def _equations(g: Array, factor: Array, *, consistent_rms: Any) -> Array:
    return g * (factor if consistent_rms is None else factor * consistent_rms)


@build.factory
def scale_by_shape(
    weight_dimension_numbers: DimensionNumbers | None = None,
    consistent_rms: build.Nonnegative | None = None,
) -> build.Transformation:
    """Scales orthogonal updates by their shape, so that one learning rate serves all widths.

    Args:
      weight_dimension_numbers: as for `scale_by_muon`.
      consistent_rms: None for √max(1, columns/rows), Jordan's; a number, or a schedule, for
        consistent_rms·√max(columns, rows), Moonshot's: each entry then has this root mean square
        (0.2 is about Adam's).

    Returns:
      A transformation with an `EmptyState`.

    Raises:
      ValueError: if `consistent_rms` is negative; from `update`, if a leaf has fewer than two axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_shape
      >>> tx = scale_by_shape(consistent_rms=0.2)
      >>> tx.update(jnp.ones((1, 4)), tx.init(None))[0]
      Array([[0.4, 0.4, 0.4, 0.4]], dtype=float32)
    """

    def factor(rows: int, columns: int) -> np.ndarray:
        size = columns / max(rows, 1) if consistent_rms is None else max(rows, columns)
        return np.asarray(max(1.0, size) ** 0.5, np.float64)

    def step(flow: build.Flow, state: OptState, params: Params = None, **_: Any) -> build.LeafStep:
        like = shapes_of(flow, params)
        axes = axes_of_leaves("scale_by_shape", weight_dimension_numbers, like)
        leaves, structure = tree.flatten(like)
        factors = [
            None if own is None else factor(*matrix_shape(jnp.shape(x), own))
            for x, own in zip(leaves, axes, strict=True)
        ]
        return build.LeafStep(
            _equations,
            reads=(structure.unflatten(factors),),
            close=lambda: state,
            operands={"consistent_rms": consistent_rms},
        )

    return build.leafwise(step)
