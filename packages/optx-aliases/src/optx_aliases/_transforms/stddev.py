"""Division by the standard deviation.

m ← decay·m + (1 − decay)·g,   v ← decay·v + (1 − decay)·g²
u = g / √(v − m² + eps)                    (eps_in_sqrt; otherwise g / (√(v − m²) + eps))

With bias correction, v and m are divided by 1 − decayᵗ before use.

Reference: Graves, "Generating Sequences With Recurrent Neural Networks", 2013, equations 38 to 40.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._transforms.rms import check_means, counted, divide, operands_of
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    tree,
)
from optx_core.build import (
    Decay,
    Flow,
    LeafStep,
    bias_correction,
    leafwise,
    recorded,
    schedulable,
    zero_count,
)


class ScaleByRStdDevState(NamedTuple):
    """State of `scale_by_stddev`.

    Attributes:
      mu: m, a tree of the parameters' structure and shapes.
      nu: v, likewise; real where the parameters are complex.
    """

    mu: PyTree
    nu: PyTree


class ScaleByRStdDevWithCountState(NamedTuple):
    """State of `scale_by_stddev` with bias correction.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      nu: v, likewise; real where the parameters are complex.
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    mu: PyTree
    nu: PyTree


def _stddev_leaf(
    g: jax.Array,
    mu: jax.Array,
    nu: jax.Array,
    *,
    decay: Decay,
    eps: Scalar,
    eps_in_sqrt: bool,
    count: jax.Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    mu = decay.value * mu + decay.complement * g
    nu = decay.value * nu + decay.complement * tree.abs_squared(g)
    correction = 1.0 if count is None else bias_correction(decay, count)
    # Rounding can leave the variance of a constant gradient just below zero.
    variance = jnp.maximum(nu / correction - tree.abs_squared(mu / correction), 0)
    return divide(g, variance, eps, eps_in_sqrt), mu, nu


@recorded
@schedulable("decay", "eps")
def scale_by_stddev(
    decay: ScalarOrSchedule = 0.9,
    eps: ScalarOrSchedule = 1e-8,
    initial_scale: Scalar = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> GradientTransformationExtraArgs:
    """Divides the gradients by their running standard deviation.

    Args:
      decay: decay of the means, in [0, 1), or a schedule.
      eps: added against division by zero, or a schedule.
      initial_scale: the first value of `nu`.
      eps_in_sqrt: whether `eps` is added under the root.
      bias_correction: whether to correct for the means' first values.

    Returns:
      A transformation with a `ScaleByRStdDevState` (a `ScaleByRStdDevWithCountState` with bias
      correction).

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_stddev
      >>> tx = scale_by_stddev(decay=0.5)
      >>> tx.update(jnp.array([3.0]), tx.init(jnp.zeros(1)))[0]
      Array([2.], dtype=float32)
    """
    check_means("scale_by_stddev", decay, eps, initial_scale)

    def init(params: Params) -> ScaleByRStdDevState | ScaleByRStdDevWithCountState:
        mu = tree.slots_like(params)
        nu = tree.slots_like(params, real=True, fill_value=initial_scale)
        if bias_correction:
            return ScaleByRStdDevWithCountState(zero_count(), mu, nu)
        return ScaleByRStdDevState(mu, nu)

    def step(flow: Flow, state: Any, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        count, close = counted(state, ScaleByRStdDevState, ScaleByRStdDevWithCountState)
        return LeafStep(
            _stddev_leaf,
            slots=(state.mu, state.nu),
            close=close,
            operands=operands_of(decay, eps, eps_in_sqrt, count),
        )

    return leafwise(step, init)
