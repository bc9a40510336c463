"""Division by the root of the mean square.

v ← decay·v + (1 − decay)·g²
u = g / √(v + eps)                    (eps_in_sqrt; otherwise g / (√v + eps))

With bias correction, v is divided by 1 − decayᵗ before use.

Reference: Tieleman, Hinton, "Lecture 6.5: rmsprop", 2012.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple, TypeAlias

import jax.numpy as jnp
from jax import Array

from optx_core import PyTree, Scalar, ScalarOrSchedule, build

InitialScale: TypeAlias = Annotated[Any, build.Number(low=0, schedule=False)]
"""The initial value of a mean square."""
MeanSquare: TypeAlias = Annotated[
    PyTree, build.slot(nonnegative=True, fill=lambda initial_scale=0.0, **_: initial_scale)
]
"""A tree of mean squares that start at `initial_scale`, or 0 without such an argument."""


class ScaleByRmsState(NamedTuple):
    """State of `scale_by_rms`.

    Attributes:
      nu: v, a tree of the parameters' structure and shapes; real where they are complex.
    """

    nu: MeanSquare


class ScaleByRmsWithCountState(NamedTuple):
    """State of `scale_by_rms` with bias correction.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      nu: v, a tree of the parameters' structure and shapes; real where they are complex.
    """

    count: build.Count
    nu: MeanSquare


def _scale_by_rms(
    g: Array,
    s: Any,
    /,
    decay: build.Rate,
    eps: build.Nonnegative,
    initial_scale: InitialScale,
    eps_in_sqrt: bool,
) -> tuple[Array, Any]:
    g = build.squarable(g)
    v = decay * s.nu + (1 - decay) * build.abs_squared(g)
    corrected = isinstance(s, ScaleByRmsWithCountState)
    v_hat = v / (1 - decay**s.count) if corrected else v
    return divide(g, v_hat, eps, eps_in_sqrt), s._replace(nu=v)


_plain = build.rule(ScaleByRmsState)(_scale_by_rms)
_corrected = build.rule(ScaleByRmsWithCountState)(_scale_by_rms)


@build.recorded
def scale_by_rms(
    decay: ScalarOrSchedule = 0.9,
    eps: ScalarOrSchedule = 1e-8,
    initial_scale: Scalar = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> build.Transformation:
    """Divides the gradients by the root of the mean of their squares.

    Args:
      decay, eps, initial_scale, eps_in_sqrt, bias_correction: as for `rmsprop`.

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
    make = _corrected if bias_correction else _plain
    return make(decay, eps, initial_scale, eps_in_sqrt)


def divide(g: Array, square: Array, eps: Any, eps_in_sqrt: bool) -> Array:
    """Divides g by √square, plus `eps` under or outside the root; 0 where the divisor is 0."""
    divisor = jnp.sqrt(square + eps) if eps_in_sqrt else jnp.sqrt(square) + eps
    zero = divisor == 0
    return g * jnp.where(zero, 0, 1 / jnp.where(zero, 1, divisor))
