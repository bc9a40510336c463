"""NAdam: Adam with Nesterov's momentum, and NAdamW with decoupled weight decay.

m ← b1·m + (1 − b1)·g
v ← b2·v + (1 − b2)·g²
u = m̂ / (√(v̂ + eps_root) + eps),   m̂ = b1·m / (1 − b1ᵗ⁺¹) + (1 − b1)·g / (1 − b1ᵗ)

References: Dozat, "Incorporating Nesterov Momentum into Adam", 2016, algorithm 2, with constant
momentum; Loshchilov, Hutter, "Decoupled Weight Decay Regularization", 2019.
"""

from __future__ import annotations

from optx_aliases._transforms.adam import scale_by_adam
from optx_aliases._transforms.weight_decay import decayed
from optx_core import ScalarOrSchedule, build, chain, scale_by_learning_rate


@build.recorded
def nadam(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    mu_dtype: build.DType = None,
    nu_dtype: build.DType = None,
    *,
    nesterov: bool = True,
) -> build.Transformation:
    """NAdam (Dozat, 2016).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay rate of the mean, in [0, 1), or a schedule.
      b2: decay rate of the mean square, in [0, 1), or a schedule.
      eps: added to the root, to avoid division by zero.
      eps_root: added under the root.
      mu_dtype: dtype of the mean; by default the parameters', at least float32.
      nu_dtype: dtype of the mean square; by default the parameters', at least float32.
      nesterov: whether to use Nesterov's momentum; False for plain Adam's.

    Returns:
      A transformation with the state of `adam`.

    Example:
      >>> from optx_aliases import nadam
      >>> tx = nadam(2e-3)
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nu_dtype, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )


@build.recorded
def nadamw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    mu_dtype: build.DType = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: build.Mask = None,
    nu_dtype: build.DType = None,
    *,
    nesterov: bool = True,
) -> build.Transformation:
    """NAdam with decoupled weight decay: p ← p − lr·(u + weight_decay·p).

    Args:
      learning_rate, b1, b2, eps, eps_root, mu_dtype, nu_dtype, nesterov: as for `nadam`.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation; with weight decay `update` needs the parameters.

    Example:
      >>> from optx_aliases import nadamw
      >>> tx = nadamw(2e-3, weight_decay=1e-2)
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nu_dtype, nesterov=nesterov),
        decayed(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
