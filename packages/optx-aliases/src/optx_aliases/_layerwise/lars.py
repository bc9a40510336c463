"""LARS: momentum on gradients that are scaled to the norm of their parameter.

u = g + weight_decay·p
t ← momentum·t + lr·trust_coefficient·u·‖p‖ / (‖u‖ + eps)
p ← p − t

Reference: You, Gitman, Ginsburg, "Large Batch Training of Convolutional Networks", 2017, algorithm 1
(with ‖g‖ + weight_decay·‖p‖ in place of ‖u‖).
"""

from __future__ import annotations

from optx_aliases._transforms.trust_ratio import scale_by_trust_ratio
from optx_aliases._transforms.weight_decay import decayed
from optx_core import ScalarOrSchedule, build, chain, masked, scale_by_learning_rate, trace


@build.recorded
def lars(
    learning_rate: ScalarOrSchedule,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: build.Mask = True,
    trust_coefficient: ScalarOrSchedule = 0.001,
    eps: ScalarOrSchedule = 0.0,
    trust_ratio_mask: build.Mask = True,
    momentum: ScalarOrSchedule = 0.9,
    nesterov: bool = False,
) -> build.Transformation:
    """LARS (You, Gitman, Ginsburg, 2017).

    Args:
      learning_rate: a scalar, or a schedule.
      weight_decay: λ, a scalar at least 0, or a schedule.
      weight_decay_mask: which leaves decay, as for `optx_core.masked`; all by default.
      trust_coefficient: the ratio of the step's norm to the parameter's, a scalar at least 0, or a
        schedule.
      eps: added to the norm of the updates, a scalar at least 0, or a schedule.
      trust_ratio_mask: which leaves are scaled to their norm, as for `optx_core.masked`; all by
        default. Biases and the scales of normalizations usually are not.
      momentum: decay rate of the sum of past updates, in [0, 1), or a schedule.
      nesterov: whether to use Nesterov's momentum.

    Returns:
      A transformation; `update` needs the parameters.

    Example:
      >>> from optx_aliases import lars
      >>> tx = lars(1.0, weight_decay=1e-4)
    """
    return chain(
        decayed(weight_decay, weight_decay_mask),
        masked(
            scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=eps), trust_ratio_mask
        ),
        scale_by_learning_rate(learning_rate),
        trace(momentum, nesterov),
    )
