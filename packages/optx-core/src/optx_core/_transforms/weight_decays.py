"""Kinds of weight decay, given to an optimizer in place of the number: `adamw(lr, weight_decay=...)`.

With u the optimizer's step, p the parameter, η the learning rate and λ the weight decay:

p ← p − η·(u + λ·p)                  a number or a schedule: decoupled
p ← p − η·(u + λ·1[u·p ≥ 0]·p)       cautious_decay: where it agrees with the step
p ← p − η·(u + λ·(η/η_max)·p)        corrected_decay
p ← p − η·u − λ·p                    independent_decay: without the learning rate

Decay in the gradient itself (coupled, L2) is a chain: `chain(add_decayed_weights(0.1), adam(1e-3))`.

References: Loshchilov, Hutter, "Decoupled Weight Decay Regularization", 2019; cautious: arXiv:2510.12402,
2025; corrected: Defazio, "Why Gradients Rapidly Increase Near the End of Training", arXiv:2506.02285, 2025.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_core import Scalar, ScalarOrSchedule, build


class CautiousDecay(build.Recorded):
    """A weight decay for entries that agree with the step; made by `cautious_decay`.

    Args:
      weight_decay: λ, a scalar or a schedule.
    """

    def __init__(self, weight_decay: ScalarOrSchedule) -> None:
        self.weight_decay = weight_decay

    def __call__(self, count: Any) -> Any:
        """Raises an error: the optimizer takes it for a schedule, and would decay all entries."""
        raise TypeError(
            f"{self!r} is no schedule but a kind of weight decay, for add_decayed_weights and the optimizers "
            "made with it, such as adamw, lion and muon; give a number or a schedule here"
        )


class DecaySchedule(build.Recorded):
    """A weight decay that depends on the learning rate, as a function of the number of updates so far."""

    def __init__(self, weight_decay: Any, learning_rate: Any, peak: Any, *, power: int) -> None:
        self._numbers = weight_decay, learning_rate, peak
        self._power = power

    def __call__(self, count: Any) -> jax.Array:
        """Returns the weight decay."""
        weight_decay, rate, peak = (
            jnp.asarray(build.evaluate(number, count)) for number in self._numbers
        )
        real = build.common_real_dtype(weight_decay.dtype, rate.dtype)
        weight_decay, rate, peak = (x.astype(real) for x in (weight_decay, rate, peak))
        if self._power > 0:
            return weight_decay * (rate / peak)
        some = rate > 0
        return jnp.where(some, weight_decay / jnp.where(some, rate, 1), 0)


def _check(where: str, weight_decay: Any) -> None:
    if isinstance(weight_decay, CautiousDecay):
        raise TypeError(
            f"{where}: weight_decay is a cautious_decay already, which goes around the others: "
            "cautious_decay(corrected_decay(...))"
        )
    build.check_number(where, low=0, weight_decay=weight_decay)


@build.recorded
def cautious_decay(weight_decay: ScalarOrSchedule) -> CautiousDecay:
    """Weight decay of the entries that the step moves towards zero as well (arXiv:2510.12402).

    The others, whose magnitude the step increases, do not decay. An entry with a step of 0 decays.

    Args:
      weight_decay: λ, a scalar at least 0, or a schedule, such as a `corrected_decay`.

    Returns:
      A value for the argument `weight_decay` of `add_decayed_weights` and of the optimizers made with it.
      Those that compute with the number itself (prodigy, momo, mechanize) and `inject_hyperparams` refuse it.

    Raises:
      ValueError: if `weight_decay` is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import add_decayed_weights, cautious_decay
      >>> tx = add_decayed_weights(cautious_decay(0.1))
      >>> tx.update(jnp.array([1.0, -1.0]), tx.init(None), jnp.array([5.0, 5.0]))[0]
      Array([ 1.5, -1. ], dtype=float32)
    """
    _check("cautious_decay", weight_decay)
    return CautiousDecay(weight_decay)


@build.recorded
def corrected_decay(
    weight_decay: ScalarOrSchedule, learning_rate: ScalarOrSchedule, peak: Scalar
) -> DecaySchedule:
    """Weight decay in proportion to the learning rate, for normalized layers (Defazio, 2025: AdamC).

    Norms of gradients then do not rise when the learning rate falls.

    Args:
      weight_decay: λ, a scalar at least 0, or a schedule.
      learning_rate: η, the learning rate of the optimizer: a scalar, or a schedule.
      peak: η_max, its largest value, greater than 0.

    Returns:
      A schedule, λ·η/η_max, for any argument `weight_decay`.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> from optx_core import corrected_decay
      >>> decay = corrected_decay(0.1, lambda count: 0.5**count, peak=1.0)
      >>> [round(float(decay(count)), 4) for count in range(3)]
      [0.1, 0.05, 0.025]
    """
    _check("corrected_decay", weight_decay)
    build.check_number("corrected_decay", low=0, learning_rate=learning_rate)
    build.check_number("corrected_decay", above=0, peak=peak)
    return DecaySchedule(weight_decay, learning_rate, peak, power=1)


@build.recorded
def independent_decay(
    weight_decay: ScalarOrSchedule, learning_rate: ScalarOrSchedule
) -> DecaySchedule:
    """Weight decay that is not multiplied by the learning rate: p ← p − η·u − λ·p.

    Args:
      weight_decay: λ, the fraction of the parameters subtracted at each step, a scalar at least 0, or a
        schedule.
      learning_rate: η, the learning rate by which the optimizer multiplies: a scalar, or a schedule. Where it
        is 0 nothing decays.

    Returns:
      A schedule, λ/η, for any argument `weight_decay` that the learning rate multiplies.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import add_decayed_weights, chain, independent_decay, scale_by_learning_rate
      >>> tx = chain(add_decayed_weights(independent_decay(0.01, 0.5)), scale_by_learning_rate(0.5))
      >>> params = jnp.array([2.0])
      >>> float(tx.update(jnp.zeros(1), tx.init(params), params)[0][0])  # 0.01 of it
      -0.019999999552965164
    """
    _check("independent_decay", weight_decay)
    build.check_number("independent_decay", low=0, learning_rate=learning_rate)
    return DecaySchedule(weight_decay, learning_rate, 1.0, power=-1)
