"""LAMB: Adam's update of each array, scaled to the norm of its parameter.

u = m̂ / (√(v̂ + eps_root) + eps) + weight_decay·p        (m̂, v̂ as in Adam)
p ← p − lr·u·‖p‖ / ‖u‖

No intermediate array is written to memory: ‖u‖ is one number, and u is recomputed where it is applied.

Reference: You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes",
2020, algorithm 2, with φ the identity.
"""

from __future__ import annotations

from optx_aliases._transforms.adam import scale_by_adam
from optx_aliases._transforms.trust_ratio import scale_by_trust_ratio
from optx_aliases._transforms.weight_decay import decayed
from optx_core import ScalarOrSchedule, build, chain, scale_by_learning_rate


@build.recorded
def lamb(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-6,
    eps_root: ScalarOrSchedule = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
) -> build.Transformation:
    """LAMB (You et al., 2020).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay rate of the mean, in [0, 1), or a schedule.
      b2: decay rate of the mean square, in [0, 1), or a schedule.
      eps: added to the root, to avoid division by zero.
      eps_root: added under the root.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation; `update` needs the parameters.

    Example:
      >>> from optx_aliases import lamb
      >>> tx = lamb(1e-3, weight_decay=0.01)
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root),
        decayed(weight_decay, mask),
        scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate),
    )
