"""RMSProp: the gradient divided by the root of its mean square.

v ← decay·v + (1 − decay)·g²
u = g / √(v + eps)                    (eps_in_sqrt; otherwise g / (√v + eps))

Centered, the mean is subtracted: m ← decay·m + (1 − decay)·g,  u = g / √(v − m² + eps).
With bias correction, v and m are divided by 1 − decayᵗ before use.

References: Tieleman, Hinton, "Lecture 6.5: rmsprop", 2012; Graves, "Generating Sequences With
Recurrent Neural Networks", 2013, equations 38 to 41 (centered, with momentum).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import (
    Decay,
    Flow,
    GradientTransformationExtraArgs,
    LeafStep,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    bias_correction,
    chain,
    check_number,
    decay_of,
    identity,
    leafwise,
    recorded,
    safe_increment,
    scale_by_learning_rate,
    schedulable,
    trace,
    tree,
    zero_count,
)


class ScaleByRmsState(NamedTuple):
    """State of `scale_by_rms`.

    Attributes:
      nu: v, a tree of the parameters' structure and shapes; real where they are complex.
    """

    nu: PyTree


class ScaleByRmsWithCountState(NamedTuple):
    """State of `scale_by_rms` with bias correction.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      nu: v, a tree of the parameters' structure and shapes; real where they are complex.
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    nu: PyTree


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


def _divide(g: jax.Array, square: jax.Array, eps: Scalar, eps_in_sqrt: bool) -> jax.Array:
    if eps_in_sqrt:
        return g * _reciprocal(jnp.sqrt(square + eps))
    return g * _reciprocal(jnp.sqrt(square) + eps)


def _reciprocal(x: jax.Array) -> jax.Array:
    """1 / x, and 0 at 0: with eps = 0 a zero gradient gives a zero update."""
    zero = x == 0
    return jnp.where(zero, 0, 1 / jnp.where(zero, 1, x))


def _rms_leaf(
    g: jax.Array,
    nu: jax.Array,
    *,
    decay: Decay,
    eps: Scalar,
    eps_in_sqrt: bool,
    count: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    nu = decay.value * nu + decay.complement * tree.abs_squared(g)
    nu_hat = nu if count is None else nu / bias_correction(decay, count)
    return _divide(g, nu_hat, eps, eps_in_sqrt), nu


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
    return _divide(g, variance, eps, eps_in_sqrt), mu, nu


@recorded
@schedulable("decay", "eps")
def scale_by_rms(
    decay: ScalarOrSchedule = 0.9,
    eps: ScalarOrSchedule = 1e-8,
    initial_scale: Scalar = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> GradientTransformationExtraArgs:
    """Divides the gradients by the root of the mean of their squares.

    Args:
      decay: decay of the mean square, in [0, 1), or a schedule.
      eps: added against division by zero, or a schedule.
      initial_scale: the first value of `nu`.
      eps_in_sqrt: whether `eps` is added under the root.
      bias_correction: whether to correct for the mean square starting at `initial_scale`.

    Returns:
      A transformation with a `ScaleByRmsState` (a `ScaleByRmsWithCountState` with bias correction).

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_rms
      >>> tx = scale_by_rms(decay=0.75)
      >>> tx.update(jnp.array([3.0]), tx.init(jnp.zeros(1)))[0]
      Array([2.], dtype=float32)
    """
    _check("scale_by_rms", decay, eps, initial_scale)

    def init(params: Params) -> ScaleByRmsState | ScaleByRmsWithCountState:
        nu = tree.slots_like(params, real=True, fill_value=initial_scale)
        return (
            ScaleByRmsWithCountState(zero_count(), nu) if bias_correction else ScaleByRmsState(nu)
        )

    def step(flow: Flow, state: Any, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        count, close = _counted(state, ScaleByRmsState, ScaleByRmsWithCountState)
        return LeafStep(
            _rms_leaf,
            slots=(state.nu,),
            close=close,
            operands=_operands(decay, eps, eps_in_sqrt, count),
        )

    return leafwise(step, init)


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
    _check("scale_by_stddev", decay, eps, initial_scale)

    def init(params: Params) -> ScaleByRStdDevState | ScaleByRStdDevWithCountState:
        mu = tree.slots_like(params)
        nu = tree.slots_like(params, real=True, fill_value=initial_scale)
        if bias_correction:
            return ScaleByRStdDevWithCountState(zero_count(), mu, nu)
        return ScaleByRStdDevState(mu, nu)

    def step(flow: Flow, state: Any, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        count, close = _counted(state, ScaleByRStdDevState, ScaleByRStdDevWithCountState)
        return LeafStep(
            _stddev_leaf,
            slots=(state.mu, state.nu),
            close=close,
            operands=_operands(decay, eps, eps_in_sqrt, count),
        )

    return leafwise(step, init)


@recorded
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
) -> GradientTransformationExtraArgs:
    """RMSProp (Tieleman and Hinton, 2012), centered and with momentum on request (Graves, 2013).

    torch's RMSprop adds eps outside the root: `eps_in_sqrt=False`.

    Args:
      learning_rate: a scalar, or a schedule.
      decay: decay of the mean square, in [0, 1), or a schedule.
      eps: added against division by zero, or a schedule.
      initial_scale: the first value of the mean square.
      eps_in_sqrt: whether `eps` is added under the root.
      centered: whether to divide by the standard deviation instead.
      momentum: decay of a sum of the updates, or a schedule; None for none.
      nesterov: whether that momentum is Nesterov's.
      bias_correction: whether to correct the means for their first values.

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


def _check(where: str, decay: Any, eps: Any, initial_scale: Any) -> None:
    check_number(where, low=0, below=1, decay=decay)
    check_number(where, low=0, eps=eps, initial_scale=initial_scale)


def _counted(
    state: Any, plain: Callable[..., Any], with_count: Callable[..., Any]
) -> tuple[jax.Array | None, Callable[..., Any]]:
    """The count of this update where the state has one, and what makes the new state."""
    if isinstance(state, plain):  # type: ignore[arg-type]
        return None, plain
    count = safe_increment(state.count)
    return count, lambda *slots: with_count(count, *slots)


def _operands(decay: Any, eps: Any, eps_in_sqrt: bool, count: jax.Array | None) -> dict[str, Any]:
    return {"decay": decay_of(decay), "eps": eps, "eps_in_sqrt": eps_in_sqrt, "count": count}
