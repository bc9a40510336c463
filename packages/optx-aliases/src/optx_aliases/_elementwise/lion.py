"""Lion: the sign of a mean of the gradients, with separate means for the step and for the state.

c = b1·m + (1 − b1)·g
u = sign(c)
m ← b2·m + (1 − b2)·g

The code computes c from the new m, as b2·c = b1·m + (b2 − b1)·g, so that the old one need not be kept
in memory. Smooth: u = tanh(smooth_beta·c). Refined: u = c where |c| ≤ 1, else sign(c).

Reference: Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023, program 2.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.weight_decay import decayed
from optx_core import ScalarOrSchedule, build, chain, scale_by_learning_rate

_Mode: TypeAlias = Literal["hard", "smooth", "refined"]


class ScaleByLionState(NamedTuple):
    """State of `scale_by_lion`.

    Attributes:
      count: int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
    """

    count: build.Count
    mu: build.Moment


@build.rule(ScaleByLionState)
def _scale_by_lion(
    g: Array,
    s: ScaleByLionState,
    /,
    b1: build.Rate,
    b2: build.Rate,
    mode: _Mode,
    smooth_beta: build.Real,
    from_new: bool,
    mu_dtype: build.DType = None,
) -> tuple[Array, ScaleByLionState]:
    m = b2 * s.mu + (1 - b2) * g
    if from_new:
        c = b1 * m + (b2 - b1) * g
        c = c if mode == "hard" else c / b2
    else:
        c = b1 * s.mu + (1 - b1) * g
    u = jnp.tanh(smooth_beta * c) if mode == "smooth" else jnp.sign(c)
    if mode == "refined":
        u = jnp.where(jnp.abs(c) > 1, u, c)
    return u, s._replace(mu=m)


@build.recorded
def scale_by_lion(
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.99,
    mu_dtype: build.DType = None,
    *,
    mode: _Mode = "hard",
    smooth_beta: ScalarOrSchedule = 1.0,
) -> build.Transformation:
    """Takes the sign of a mean of the gradients.

    Args:
      b1, b2, mu_dtype: as for `lion`.
      mode: "hard" for the sign, "smooth" for a hyperbolic tangent, "refined" for the mean itself
        where its absolute value is at most 1, else the sign.
      smooth_beta: factor of the mean in the hyperbolic tangent, a scalar, or a schedule.

    Returns:
      A transformation with a `ScaleByLionState`. The sign of a complex number has absolute value 1.

    Raises:
      ValueError: if a number is out of its range, or `mode` is unknown.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_lion
      >>> tx = scale_by_lion()
      >>> tx.update(jnp.array([4.0, -0.1]), tx.init(jnp.zeros(2)))[0]
      Array([ 1., -1.], dtype=float32)
    """
    # c from the new mean divides by b2, which must be known not to be small.
    from_new = isinstance(b2, int | float) and b2 >= 0.5
    return _scale_by_lion(b1, b2, mode, smooth_beta, from_new, mu_dtype)


@build.recorded
def lion(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.99,
    mu_dtype: build.DType = None,
    weight_decay: ScalarOrSchedule = 1e-3,
    mask: build.Mask = None,
) -> build.Transformation:
    """Lion (Chen et al., 2023), with decoupled weight decay: p ← p − lr·(u + weight_decay·p).

    Its steps are longer than Adam's: the authors advise a learning rate 3 to 10 times smaller, and a weight
    decay larger by the same factor.

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay rate of the mean for the step, in [0, 1), or a schedule.
      b2: decay rate of the mean in the state, in [0, 1), or a schedule.
      mu_dtype: dtype of the mean; by default the parameters', at least float32.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation; with weight decay `update` needs the parameters.

    Example:
      >>> from optx_aliases import lion
      >>> tx = lion(1e-4, weight_decay=0.1)
    """
    return chain(
        scale_by_lion(b1, b2, mu_dtype),
        decayed(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
