"""RMSProp: the gradient divided by the root of its mean square.

u = g / √(v + eps) of `scale_by_rms`, or with the mean subtracted g / √(v − m² + eps) of
`scale_by_stddev`;   b ← momentum·b − learning_rate·u,   p ← p + b

References: Tieleman, Hinton, "Lecture 6.5: rmsprop", 2012; Graves, "Generating Sequences With
Recurrent Neural Networks", 2013, equations 38 to 41 (centered, with momentum).
"""

from __future__ import annotations

from optx_aliases._transforms.rms import scale_by_rms
from optx_aliases._transforms.stddev import scale_by_stddev
from optx_core import (
    Scalar,
    ScalarOrSchedule,
    build,
    chain,
    identity,
    scale_by_learning_rate,
    trace,
)


@build.recorded
def rmsprop(
    learning_rate: ScalarOrSchedule,
    decay: ScalarOrSchedule = 0.9,
    eps: ScalarOrSchedule = 1e-8,
    initial_scale: Scalar = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: ScalarOrSchedule | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> build.Transformation:
    """RMSProp (Tieleman and Hinton, 2012), optionally centered and with momentum (Graves, 2013).

    torch's RMSprop adds eps outside the root: `eps_in_sqrt=False`.

    Args:
      learning_rate: a scalar, or a schedule.
      decay: decay rate of the mean square, in [0, 1), or a schedule.
      eps: added to avoid division by zero, a scalar at least 0, or a schedule.
      initial_scale: the initial value of the mean square, a scalar at least 0.
      eps_in_sqrt: whether `eps` is added under the root.
      centered: whether to divide by the standard deviation instead.
      momentum: decay rate of a sum of the updates, or a schedule; None for none.
      nesterov: whether that momentum is Nesterov's.
      bias_correction: whether to correct the bias of the means.

    Returns:
      A transformation.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> from optx_aliases import rmsprop
      >>> tx = rmsprop(1e-3, momentum=0.9)
    """
    scale_by = scale_by_stddev if centered else scale_by_rms
    return chain(
        scale_by(decay, eps, initial_scale, eps_in_sqrt, bias_correction),
        scale_by_learning_rate(learning_rate),
        identity() if momentum is None else trace(momentum, nesterov),
    )
