"""Division by the root of the mean square.

v ← decay·v + (1 − decay)·g²
u = g / √(v + eps)                    (eps_in_sqrt; otherwise g / (√v + eps))

With bias correction, v is divided by 1 − decayᵗ before use.

Reference: Tieleman, Hinton, "Lecture 6.5: rmsprop", 2012.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    safe_increment,
    tree,
)
from optx_core.build import (
    Decay,
    Flow,
    LeafStep,
    bias_correction,
    check_number,
    decay_of,
    leafwise,
    recorded,
    schedulable,
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
    return divide(g, nu_hat, eps, eps_in_sqrt), nu


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
    check_means("scale_by_rms", decay, eps, initial_scale)

    def init(params: Params) -> ScaleByRmsState | ScaleByRmsWithCountState:
        nu = tree.slots_like(params, real=True, fill_value=initial_scale)
        return (
            ScaleByRmsWithCountState(zero_count(), nu) if bias_correction else ScaleByRmsState(nu)
        )

    def step(flow: Flow, state: Any, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        count, close = counted(state, ScaleByRmsState, ScaleByRmsWithCountState)
        return LeafStep(
            _rms_leaf,
            slots=(state.nu,),
            close=close,
            operands=operands_of(decay, eps, eps_in_sqrt, count),
        )

    return leafwise(step, init)


def divide(g: jax.Array, square: jax.Array, eps: Scalar, eps_in_sqrt: bool) -> jax.Array:
    if eps_in_sqrt:
        return g * _reciprocal(jnp.sqrt(square + eps))
    return g * _reciprocal(jnp.sqrt(square) + eps)


def _reciprocal(x: jax.Array) -> jax.Array:
    """1 / x, and 0 at 0: with eps = 0 a zero gradient gives a zero update."""
    zero = x == 0
    return jnp.where(zero, 0, 1 / jnp.where(zero, 1, x))


def check_means(where: str, decay: Any, eps: Any, initial_scale: Any) -> None:
    check_number(where, low=0, below=1, decay=decay)
    check_number(where, low=0, eps=eps, initial_scale=initial_scale)


def counted(
    state: Any, plain: Callable[..., Any], with_count: Callable[..., Any]
) -> tuple[jax.Array | None, Callable[..., Any]]:
    """The count of this update where the state has one, and what makes the new state."""
    if isinstance(state, plain):  # type: ignore[arg-type]
        return None, plain
    count = safe_increment(state.count)
    return count, lambda *slots: with_count(count, *slots)


def operands_of(decay: Any, eps: Any, eps_in_sqrt: bool, count: jax.Array | None) -> dict[str, Any]:
    return {"decay": decay_of(decay), "eps": eps, "eps_in_sqrt": eps_in_sqrt, "count": count}
