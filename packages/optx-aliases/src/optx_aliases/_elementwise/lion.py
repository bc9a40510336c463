"""Lion: the sign of a mean of the gradients, one mean to step by and another to remember.

c = b1·m + (1 − b1)·g
u = sign(c)
m ← b2·m + (1 − b2)·g

Here c is computed from the new m, as b2·c = b1·m + (b2 − b1)·g, so that the old one need not be kept
beside it. Smooth: u = tanh(smooth_beta·c). Refined: u = c where |c| ≤ 1, else sign(c).

Reference: Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023, program 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._transforms.weight_decay import decayed
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    chain,
    safe_increment,
    scale_by_learning_rate,
    tree,
)
from optx_core.build import (
    Decay,
    Flow,
    LeafStep,
    check_number,
    decay_of,
    leafwise,
    recorded,
    schedulable,
    zero_count,
)

_MODES = ("hard", "smooth", "refined")


class ScaleByLionState(NamedTuple):
    """State of `scale_by_lion`.

    Attributes:
      count: int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    mu: PyTree


def _leaf(
    g: jax.Array,
    mu: jax.Array,
    *,
    b1: Decay,
    b2: Decay,
    smooth_beta: Scalar,
    mode: str,
    from_new: bool,
) -> tuple[jax.Array, jax.Array]:
    old, mu = mu, b2.value * mu + b2.complement * g
    if from_new:
        c = b1.value * mu + (b2.value - b1.value) * g
        c = c if mode == "hard" else c / b2.value
    else:
        c = b1.value * old + b1.complement * g
    if mode == "hard":
        return jnp.sign(c), mu
    if mode == "smooth":
        return jnp.tanh(smooth_beta * c), mu
    return jnp.where(jnp.abs(c) > 1, jnp.sign(c), c), mu


@recorded
@schedulable("b1", "b2", "smooth_beta")
def scale_by_lion(
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.99,
    mu_dtype: Any = None,
    *,
    mode: str = "hard",
    smooth_beta: ScalarOrSchedule = 1.0,
) -> GradientTransformationExtraArgs:
    """Takes the sign of a mean of the gradients.

    Args:
      b1: decay of the mean to step by, in [0, 1), or a schedule.
      b2: decay of the mean that is kept, in [0, 1), or a schedule.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      mode: "hard" for the sign, "smooth" for a hyperbolic tangent, "refined" for the mean itself
        where it is less than 1.
      smooth_beta: factor of the mean under the hyperbolic tangent.

    Returns:
      A transformation with a `ScaleByLionState`. The sign of a complex number is of absolute value 1.

    Raises:
      ValueError: if a number is out of its range, or there is no such mode.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_lion
      >>> tx = scale_by_lion()
      >>> tx.update(jnp.array([4.0, -0.1]), tx.init(jnp.zeros(2)))[0]
      Array([ 1., -1.], dtype=float32)
    """
    check_number("scale_by_lion", low=0, below=1, b1=b1, b2=b2)
    check_number("scale_by_lion", smooth_beta=smooth_beta)
    if mode not in _MODES:
        raise ValueError(f"scale_by_lion: mode must be one of {', '.join(_MODES)}, not {mode!r}")
    # Going back from the new mean divides by b2, which a traced number does not let one see.
    from_new = isinstance(b2, int | float) and b2 >= 0.5

    def init(params: Params) -> ScaleByLionState:
        return ScaleByLionState(zero_count(), tree.slots_like(params, mu_dtype))

    def step(flow: Flow, state: ScaleByLionState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        count = safe_increment(state.count)
        return LeafStep(
            _leaf,
            slots=(state.mu,),
            close=lambda mu: ScaleByLionState(count, mu),
            operands={
                "b1": decay_of(b1),
                "b2": decay_of(b2),
                "smooth_beta": smooth_beta,
                "mode": mode,
                "from_new": from_new,
            },
        )

    return leafwise(step, init)


@recorded
def lion(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.99,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-3,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> GradientTransformationExtraArgs:
    """Lion (Chen et al., 2023), with decoupled weight decay: p ← p − lr·(u + weight_decay·p).

    Its steps are longer than Adam's: a learning rate 3 to 10 times smaller, and a weight decay as
    much larger, is the authors' advice.

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean to step by, in [0, 1), or a schedule.
      b2: decay of the mean that is kept, in [0, 1), or a schedule.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation; `update` needs the parameters where they decay.

    Example:
      >>> from optx_aliases import lion
      >>> tx = lion(1e-4, weight_decay=0.1)
    """
    return chain(
        scale_by_lion(b1, b2, mu_dtype),
        decayed(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
