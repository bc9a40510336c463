"""AdaBelief: a gradient far from its predicted mean gives a short step.

p ← p − lr·u,   u the step of `scale_by_belief`

Reference: Zhuang et al., "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed
Gradients", 2020, algorithm 2.
"""

from __future__ import annotations

from optx_aliases._transforms.belief import scale_by_belief
from optx_aliases._transforms.weight_decay import is_zero
from optx_core import ScalarOrSchedule, add_decayed_weights, build, chain, scale_by_learning_rate


@build.recorded
def adabelief(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-16,
    eps_root: ScalarOrSchedule = 1e-16,
    *,
    nesterov: bool = False,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
) -> build.Transformation:
    """AdaBelief (Zhuang et al., 2020).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay rate of the mean gradient, in [0, 1), or a schedule.
      b2: decay rate of the mean square distance from it, in [0, 1), or a schedule.
      eps: added to the root, to avoid division by zero.
      eps_root: added to the mean square distance at every step.
      nesterov: whether to use Nesterov's momentum, as in NAdam.
      weight_decay: λ of a decoupled decay, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation; with a decay, `update` needs the parameters.

    Example:
      >>> from optx_aliases import adabelief
      >>> tx = adabelief(1e-3)
    """
    # Without a decay the state has two parts, as optax's.
    decay = [] if is_zero(weight_decay) else [add_decayed_weights(weight_decay, mask)]
    return chain(
        scale_by_belief(b1, b2, eps, eps_root, nesterov=nesterov),
        *decay,
        scale_by_learning_rate(learning_rate),
    )
