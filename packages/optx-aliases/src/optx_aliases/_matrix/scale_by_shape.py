"""Orthogonal updates scaled by their shape.

u = O·√max(1, columns/rows)               (Jordan)
u = O·consistent_rms·√max(columns, rows)      (Moonshot)

Rows are what the layer sums over, columns its outputs, as in Flax's kernels (Jordan's √max(1,
rows/columns) is for torch's weights, which are transposed).

References: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Liu et
al., "Muon is Scalable for LLM Training", 2025, section 2.2 (Moonshot's factor, with 0.2).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_aliases._matrix.matrices import matrix_shape
from optx_aliases._matrix.muon_dimension_numbers import DimensionNumbers, axes_of_leaves
from optx_core import (
    GradientTransformationExtraArgs,
    OptState,
    Params,
    Scalar,
    ScalarOrSchedule,
    tree,
)
from optx_core.build import Flow, LeafStep, check_number, leafwise, recorded, schedulable


def _shape_leaf(g: jax.Array, factor: jax.Array, *, consistent_rms: Scalar | None) -> jax.Array:
    return g * (factor if consistent_rms is None else factor * consistent_rms)


@recorded
@schedulable("consistent_rms")
def scale_by_shape(
    weight_dimension_numbers: DimensionNumbers | None = None,
    consistent_rms: ScalarOrSchedule | None = None,
) -> GradientTransformationExtraArgs:
    """Scales orthogonal updates by their shape, so that one learning rate serves all widths.

    Args:
      weight_dimension_numbers: as for `scale_by_muon`.
      consistent_rms: None for √max(1, columns/rows), Jordan's; a number, or a schedule, for
        consistent_rms·√max(columns, rows), Moonshot's: each entry then has this root mean square
        (0.2 is about Adam's).

    Returns:
      A transformation with an `EmptyState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_shape
      >>> tx = scale_by_shape(consistent_rms=0.2)
      >>> tx.update(jnp.ones((1, 4)), tx.init(None))[0]
      Array([[0.4, 0.4, 0.4, 0.4]], dtype=float32)
    """
    check_number("scale_by_shape", low=0, consistent_rms=consistent_rms)

    def step(flow: Flow, state: OptState, params: Params = None, **_: Any) -> LeafStep:
        del params
        axes = axes_of_leaves("scale_by_shape", weight_dimension_numbers, flow.skeleton)
        leaves, structure = tree.flatten(flow.skeleton)
        factors = [
            None if own is None else _factor(*matrix_shape(jnp.shape(x), own), consistent_rms)
            for x, own in zip(leaves, axes, strict=True)
        ]
        return LeafStep(
            _shape_leaf,
            reads=(structure.unflatten(factors),),
            close=lambda: state,
            operands={"consistent_rms": consistent_rms},
        )

    return leafwise(step)


def _factor(rows: int, columns: int, consistent_rms: Any) -> np.ndarray:
    size = columns / max(rows, 1) if consistent_rms is None else max(rows, columns)
    return np.asarray(max(1.0, size) ** 0.5, np.float64)
