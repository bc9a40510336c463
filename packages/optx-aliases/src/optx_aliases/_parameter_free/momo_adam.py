"""MoMo-Adam: Adam whose step size comes from a model of the loss.

As `momo`, with Adam's metric D = √(v / (1 − b2ᵗ)) + eps, averages that start from zero, and
c = 1 − b1ᵗ:

τ = min(lr/c, max(f − c·lb − γ + ω·⟨d, p⟩, 0) / (ω·⟨d, d/D⟩))
p ← ω·(p − τ·d/D),   ω = 1 / (1 + lr·weight_decay)

With `adapt_lower_bound`, after the step lb = max((f + ⟨d, p⟩ − γ − τ·⟨d, d/D⟩/2) / c, lower_bound).

Reference: Schaipp, Ohana, Eickenberg, Defazio, Gower, "MoMo: Momentum Models for Adaptive Learning Rates",
2023, algorithm 3.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._parameter_free.leaf_sums import OwnRate, equations
from optx_aliases._parameter_free.momo_model import model_based, model_sums, shrunk
from optx_core import Scalar, build, safe_increment


class MomoAdamState(NamedTuple):
    """State of `momo_adam`.

    Attributes:
      exp_avg: d, a tree of the parameters' structure and shapes.
      exp_avg_sq: v, likewise; real where the parameters are complex.
      barf: f, a scalar of at least float32.
      gamma: γ, likewise.
      lb: the lower bound, likewise.
      count: t, int32 scalar, the number of updates so far.
    """

    exp_avg: build.Moment
    exp_avg_sq: build.SecondMoment
    barf: Array
    gamma: Array
    lb: Array
    count: build.Count


def _metric(v: Array, eps: Array, correction: Array) -> Array:
    return eps + jnp.sqrt(v / correction)


@equations(MomoAdamState, sums=5)
def _average(
    g: Array,
    p: Array,
    s: MomoAdamState,
    decay: Array,
    *,
    b: build.DecayRate,
    b2: build.DecayRate,
    **metric: Array,
) -> tuple[Any, ...]:
    limited = build.squarable(g, g.size)
    d = b * s.exp_avg + (1 - b) * limited
    v = b2 * s.exp_avg_sq + (1 - b2) * build.abs_squared(limited)
    square = build.finite_sum(jnp.sum(build.abs_squared(d) / _metric(v, **metric)))
    return g, s._replace(exp_avg=d, exp_avg_sq=v), model_sums(g, d, p, square, decay)


def _step(
    _g: Array, d: Array, v: Array, p: Array, decay: Array, *, tau: Array, b2: Any, **metric: Array
) -> Array:
    return shrunk(tau * (d / _metric(v, **metric)), p, decay)


@build.factory
def momo_adam(
    learning_rate: OwnRate = 1e-2,
    b1: build.Rate = 0.9,
    b2: build.Rate = 0.999,
    eps: build.Positive = 1e-8,
    lower_bound: build.Real = 0.0,
    weight_decay: build.Nonnegative = 0.0,
    adapt_lower_bound: bool = False,
    mask: build.Mask = None,
) -> build.Transformation:
    """MoMo-Adam (Schaipp et al., 2023): Adam whose step is bounded by the loss.

    Args:
      learning_rate: the largest step size, a scalar or a schedule.
      b1: decay of the averages of loss and gradient, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero; greater than 0, or a schedule.
      lower_bound, weight_decay, adapt_lower_bound, mask: as for `momo`.

    Returns:
      A transformation with a `MomoAdamState`; `update` needs the parameters and the loss, `value=loss`.

    Raises:
      ValueError: if a number is out of its range, or, from `update`, the loss was not passed.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import momo_adam
      >>> tx, p = momo_adam(), jnp.array([3.0])
      >>> updates, state = tx.update(2 * p, tx.init(p), p, value=jnp.sum(p**2))
      >>> round(float(updates[0]), 5)
      -0.01
    """

    def averaging(s: MomoAdamState) -> tuple[build.DecayRate, Scalar, dict[str, Any]]:
        dtype, t = s.barf.dtype, safe_increment(s.count)
        b, mean_square = (build.rate_of(x).astype(dtype) for x in (b1, b2))
        metric = {"eps": jnp.asarray(eps).astype(dtype), "correction": 1 - mean_square**t}
        return b, 1 - b**t, {"b2": mean_square, **metric}

    numbers = (learning_rate, lower_bound, weight_decay, adapt_lower_bound, mask)
    return model_based(MomoAdamState, _average, _step, averaging, *numbers)
