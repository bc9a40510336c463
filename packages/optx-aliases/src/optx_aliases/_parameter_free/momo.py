"""MoMo: a step size from a model of the loss, built on averages of past losses and gradients.

With averages f of the loss, d of the gradient g and γ of ⟨g, p⟩ (decay beta; at the first step they
equal its values), a lower bound lb of the loss, λ the weight decay and ω = 1 / (1 + lr·λ):

τ = min(lr, max(f − lb − γ + ω·⟨d, p⟩, 0) / (ω·‖d‖²))
p ← ω·(p − τ·d)

Arrays outside the mask have λ = 0. The paper's model, of the loss and of λ/2·‖p‖² over the arrays that
decay, then gives the same τ with ω inside the two sums, array by array.

With `adapt_lower_bound` the bound is estimated too: before the step, a bound above the model becomes half of
the model's value; after it, lb = max(f + ⟨d, p⟩ − γ − τ·‖d‖²/2, lower_bound).

The division by 1 + lr·λ of the whole step is the paper's (and follows from its model); optax divides p
alone.

Reference: Schaipp, Ohana, Eickenberg, Defazio, Gower, "MoMo: Momentum Models for Adaptive Learning Rates",
2023, algorithms 1 and 2, and section 3.3 (the bound).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._parameter_free.leaf_sums import OwnRate, equations, sum_of_squares
from optx_aliases._parameter_free.momo_model import model_based, model_sums, shrunk
from optx_core import Scalar, build


class MomoState(NamedTuple):
    """State of `momo`.

    Attributes:
      exp_avg: d, a tree of the parameters' structure and shapes.
      barf: f, a scalar of at least float32.
      gamma: γ, likewise.
      lb: the lower bound, likewise.
      count: int32 scalar, the number of updates so far.
    """

    exp_avg: build.Moment
    barf: Array
    gamma: Array
    lb: Array
    count: build.Count


@equations(MomoState, sums=5)
def _average(
    g: Array, p: Array, s: MomoState, decay: Array, *, b: build.DecayRate
) -> tuple[Any, ...]:
    d = b * s.exp_avg + (1 - b) * build.squarable(g, g.size)
    return g, s._replace(exp_avg=d), model_sums(g, d, p, sum_of_squares(d), decay)


def _step(_g: Array, d: Array, p: Array, decay: Array, *, tau: Array) -> Array:
    return shrunk(tau * d, p, decay)


@build.factory
def momo(
    learning_rate: OwnRate = 1.0,
    beta: build.Rate = 0.9,
    lower_bound: build.Real = 0.0,
    weight_decay: build.Nonnegative = 0.0,
    adapt_lower_bound: bool = False,
    mask: build.Mask = None,
) -> build.Transformation:
    """MoMo (Schaipp et al., 2023): SGD with momentum that chooses its step by the loss.

    Args:
      learning_rate: the largest step size, a scalar or a schedule.
      beta: decay of the averages, in [0, 1), or a schedule.
      lower_bound: a known lower bound of the loss, or a schedule.
      weight_decay: λ, a scalar at least 0, or a schedule.
      adapt_lower_bound: whether to estimate the bound; it is then not below `lower_bound`.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation with a `MomoState`; `update` needs the parameters and the loss, `value=loss`.

    Raises:
      ValueError: if a number is out of its range, or, from `update`, the loss was not passed.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import momo
      >>> tx, p = momo(), jnp.array([3.0])
      >>> updates, state = tx.update(2 * p, tx.init(p), p, value=jnp.sum(p**2))
      >>> float((p + updates)[0])
      1.5
    """

    def averaging(s: MomoState) -> tuple[build.DecayRate, Scalar, dict[str, Any]]:
        first, b = s.count == 0, build.rate_of(beta).astype(s.barf.dtype)
        b = build.DecayRate(jnp.where(first, 0, b.value), jnp.where(first, 1, b.complement))
        return b, 1, {}

    numbers = (learning_rate, lower_bound, weight_decay, adapt_lower_bound, mask)
    return model_based(MomoState, _average, _step, averaging, *numbers)
