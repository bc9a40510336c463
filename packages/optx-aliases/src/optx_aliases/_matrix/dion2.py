"""Dion2: a part of the momentum's rows orthogonalized at each step, with error feedback.

u as in `scale_by_dion2`, the factor as in `scale_by_shape`:
W ← W − lr·(factor·u + weight_decay·W)

Rows that are not chosen stay where they are, but for weight decay, until they have gathered a larger
momentum. Embeddings, heads and vectors are AdamW's.

Reference: Ahn, Xu, Abreu, Magakyan, Langford, "Dion2: A Simple Method to Shrink Matrix in Muon", 2025.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from optx_aliases._matrix.adam_for_others import adam_for_others
from optx_aliases._matrix.hidden_matrices import NAMES_OF_OTHERS, hidden_matrices
from optx_aliases._matrix.owners import OwnerAxes
from optx_aliases._matrix.scale_by_dion2 import Share, Side, scale_by_dion2
from optx_aliases._matrix.scale_by_shape import scale_by_shape
from optx_core import (
    ScalarOrSchedule,
    add_decayed_weights,
    build,
    chain,
    scale_by_learning_rate,
)


@build.recorded
def dion2(
    learning_rate: ScalarOrSchedule,
    fraction: Share = 0.25,
    rho: ScalarOrSchedule = 0.95,
    ns_coeffs: Any = "standard",
    ns_steps: int = 5,
    eps: ScalarOrSchedule = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: build.Mask = None,
    mu_dtype: build.DType = None,
    *,
    side: Side = "shorter",
    consistent_rms: ScalarOrSchedule | None = None,
    adam_b1: ScalarOrSchedule = 0.9,
    adam_b2: ScalarOrSchedule = 0.999,
    adam_weight_decay: ScalarOrSchedule = 0.0,
    adam_learning_rate: ScalarOrSchedule | None = None,
    adam_paths: Sequence[str] = NAMES_OF_OTHERS,
    ns_dtype: build.DType = None,
    owner_axes: OwnerAxes = None,
) -> build.Transformation:
    """Dion2 for hidden matrices (Ahn et al., 2025), AdamW for all other leaves.

    Which leaves are hidden matrices, and which axes are rows and columns, as for `muon`.

    Args:
      learning_rate: a scalar, or a schedule.
      fraction: the part of the rows that is orthogonalized at each step, a float in (0, 1].
      rho: what is left of the momentum of these rows, in [0, 1), or a schedule.
      ns_coeffs, ns_steps, ns_dtype, owner_axes: as for `scale_by_muon`.
      eps: added to denominators, Dion2's and Adam's, or a schedule.
      weight_decay: λ of the matrices, of all their rows, multiplied by the learning rate; a scalar, or a
        schedule.
      weight_decay_mask: which of them decay, as for `optx_core.masked`; all by default.
      mu_dtype: dtype of M; by default the parameters', at least float32.
      side: what is chosen: "rows" (inputs; columns of a torch weight), "columns" (outputs), or those along
        the "shorter" side of the matrix, with which the iteration has least work.
      consistent_rms: the scaling by shape, that of the whole matrix, as for `scale_by_shape`.
      adam_b1: Adam's decay of the mean, or a schedule.
      adam_b2: Adam's decay of the mean square, or a schedule.
      adam_weight_decay: Adam's weight decay, or a schedule.
      adam_learning_rate: Adam's learning rate, or a schedule; the same as Dion2's by default.
      adam_paths: patterns for the names of Adam's leaves, as for `muon`.

    Returns:
      A transformation; its state is a `PartitionState` with the labels "dion2" and "adam". `update` needs the
      parameters.

    Raises:
      TypeError: if `fraction` is not a Python number.
      ValueError: if a number is out of its range.

    Example:
      >>> from optx_aliases import dion2
      >>> tx = dion2(0.02, fraction=0.25, consistent_rms=0.2, weight_decay=0.1)
    """
    patterns = (adam_paths,) if isinstance(adam_paths, str) else tuple(adam_paths)
    matrices = chain(
        scale_by_dion2(
            fraction,
            rho,
            ns_coeffs,
            ns_steps,
            eps,
            mu_dtype,
            side=side,
            ns_dtype=ns_dtype,
            owner_axes=owner_axes,
        ),
        scale_by_shape(None, consistent_rms),
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_learning_rate(learning_rate),
    )
    return adam_for_others(
        "dion2",
        matrices,
        functools.partial(hidden_matrices, other_paths=patterns),
        learning_rate=learning_rate if adam_learning_rate is None else adam_learning_rate,
        b1=adam_b1,
        b2=adam_b2,
        eps=eps,
        eps_root=0.0,
        weight_decay=adam_weight_decay,
        mu_dtype=mu_dtype,
        nesterov=False,
    )
