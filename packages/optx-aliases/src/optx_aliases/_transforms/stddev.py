"""Division by the standard deviation.

m ← decay·m + (1 − decay)·g,   v ← decay·v + (1 − decay)·g²
u = g / √(v − m² + eps)                    (eps_in_sqrt; otherwise g / (√(v − m²) + eps))

With bias correction, v and m are divided by 1 − decayᵗ before use.

Reference: Graves, "Generating Sequences With Recurrent Neural Networks", 2013, equations 38 to 40.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.rms import InitialScale, MeanSquare, divide
from optx_core import Scalar, ScalarOrSchedule, build


class ScaleByRStdDevState(NamedTuple):
    """State of `scale_by_stddev`.

    Attributes:
      mu: m, a tree of the parameters' structure and shapes.
      nu: v, likewise; real where the parameters are complex.
    """

    mu: build.Moment
    nu: MeanSquare


class ScaleByRStdDevWithCountState(NamedTuple):
    """State of `scale_by_stddev` with bias correction.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      nu: v, likewise; real where the parameters are complex.
    """

    count: build.Count
    mu: build.Moment
    nu: MeanSquare


def _scale_by_stddev(
    g: Array,
    s: Any,
    /,
    decay: build.Rate,
    eps: build.Nonnegative,
    initial_scale: InitialScale,
    eps_in_sqrt: bool,
) -> tuple[Array, Any]:
    g = build.squarable(g)
    m = decay * s.mu + (1 - decay) * g
    v = decay * s.nu + (1 - decay) * build.abs_squared(g)
    m_hat, v_hat = m, v
    if isinstance(s, ScaleByRStdDevWithCountState):
        m_hat, v_hat = m / (1 - decay**s.count), v / (1 - decay**s.count)
    # Rounding can make the variance of a constant gradient slightly negative.
    variance = jnp.maximum(v_hat - build.abs_squared(m_hat), 0)
    return divide(g, variance, eps, eps_in_sqrt), s._replace(mu=m, nu=v)


_plain = build.rule(ScaleByRStdDevState)(_scale_by_stddev)
_corrected = build.rule(ScaleByRStdDevWithCountState)(_scale_by_stddev)


@build.recorded
def scale_by_stddev(
    decay: ScalarOrSchedule = 0.9,
    eps: ScalarOrSchedule = 1e-8,
    initial_scale: Scalar = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> build.Transformation:
    """Divides the gradients by their running standard deviation.

    Args:
      decay, eps, initial_scale, eps_in_sqrt, bias_correction: as for `rmsprop`.

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
    make = _corrected if bias_correction else _plain
    return make(decay, eps, initial_scale, eps_in_sqrt)
