"""The schedule-free optimizers: SGD, AdamW, and AdamW with RAdam's rectification.

Each is `schedule_free` around an optimizer without momentum. With warmup the learning rate after t updates
is lr·min((t + 1) / warmup_steps, 1), as in the paper; RAdam's factor, at t counted from 1, is

rₜ = √((ρₜ − 4)·(ρₜ − 2)·ρ∞ / ((ρ∞ − 4)·(ρ∞ − 2)·ρₜ)) where ρₜ > 4, else 0
ρₜ = ρ∞ − 2·t·b2ᵗ / (1 − b2ᵗ),   ρ∞ = 2 / (1 − b2) − 1

References: Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky, "The Road Less Scheduled", 2024, algorithm
1 (AdamW); Liu, Jiang, He, Chen, Liu, Gao, Han, "On the Variance of the Adaptive Learning Rate and Beyond",
2020, algorithm 2. The authors' code of schedule-free learning combines the last two in the same way.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from optx_aliases import schedule_free, sgd
from optx_aliases._transforms.rms import ScaleByRmsWithCountState
from optx_aliases._transforms.scalars import root
from optx_aliases._transforms.weight_decay import decayed
from optx_core import Scalar, ScalarOrSchedule, build, chain, scale_by_learning_rate


class _Warmup(build.Recorded):
    """lr·min((t + 1) / warmup_steps, 1), and RAdam's rectification where b2 is given."""

    def __init__(
        self, learning_rate: ScalarOrSchedule, steps: int | None, b2: ScalarOrSchedule | None
    ) -> None:
        self.learning_rate, self.steps, self.b2 = learning_rate, steps, b2

    def __call__(self, count: Any) -> Array:
        rate = build.evaluate(self.learning_rate, count, jnp.asarray(0.0).dtype)
        if self.steps:
            done = (jnp.asarray(count) + 1).astype(rate.dtype) / self.steps
            rate = rate * jnp.minimum(done, 1)
        if self.b2 is None:
            return rate
        return rate * _rectification(build.evaluate(self.b2, count), count, rate.dtype)


def _rectification(b2: Scalar, count: Any, real: Any) -> Array:
    """RAdam's factor; 0 as long as the variance of 1/√v is infinite."""
    b, t = build.rate_of(b2).astype(real), (jnp.asarray(count) + 1).astype(real)
    most = 2 / (1 - b) - 1
    correction = 1 - b**t
    rho = most - 2 * t * (1 - correction) / correction
    defined = rho > 4
    rho = jnp.where(defined, rho, 5)
    ratio = (rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)
    return jnp.where(defined, root(ratio), 0)


@build.recorded
def _warmup(
    learning_rate: ScalarOrSchedule, steps: int | None, b2: ScalarOrSchedule | None = None
) -> _Warmup:
    return _Warmup(learning_rate, steps, b2)


def _with_warmup(
    where: str, learning_rate: ScalarOrSchedule, warmup_steps: int | None
) -> ScalarOrSchedule:
    build.check_number(where, low=0, warmup_steps=warmup_steps, learning_rate=learning_rate)
    return _warmup(learning_rate, warmup_steps) if warmup_steps else learning_rate


@build.recorded
def schedule_free_sgd(
    learning_rate: ScalarOrSchedule = 1.0,
    warmup_steps: int | None = None,
    b1: ScalarOrSchedule = 0.9,
    weight_decay: ScalarOrSchedule | None = None,
    weight_lr_power: ScalarOrSchedule = 2.0,
    state_dtype: build.DType = None,
    mask: build.Mask = None,
) -> build.Transformation:
    """Schedule-free SGD (Defazio et al., 2024).

    Args:
      learning_rate: a scalar, or a schedule.
      warmup_steps: the number of steps of linear warmup; None for none.
      b1: the weight of the average in y, in (0, 1], or a schedule.
      weight_decay: λ in g + λ·y, a scalar at least 0, or a schedule; None for none.
      weight_lr_power: the power of the learning rate that weighs the iterates, at least 0, or a schedule.
      state_dtype: dtype of `z`; by default the parameters', at least float32.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation with a `ScheduleFreeState`; `update` needs the parameters. Evaluate at
      `schedule_free_eval_params(state, params)`.

    Example:
      >>> from optx_aliases import schedule_free_sgd
      >>> schedule_free_sgd() == schedule_free_sgd(learning_rate=1.0)
      True
    """
    rate = _with_warmup("schedule_free_sgd", learning_rate, warmup_steps)
    inner = sgd(rate)
    if weight_decay is not None:
        inner = chain(decayed(weight_decay, mask), inner)
    return schedule_free(inner, rate, b1, weight_lr_power, state_dtype)


@build.recorded
def schedule_free_adamw(
    learning_rate: ScalarOrSchedule = 0.0025,
    warmup_steps: int | None = None,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_lr_power: ScalarOrSchedule = 2.0,
    state_dtype: build.DType = None,
    mask: build.Mask = None,
) -> build.Transformation:
    """Schedule-free AdamW (Defazio et al., 2024).

    Args:
      learning_rate, warmup_steps, b1, weight_lr_power, state_dtype, mask: as for `schedule_free_sgd`.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, greater than 0, or a schedule.
      weight_decay: decoupled weight decay, taken at y: a scalar at least 0, or a schedule.

    Returns:
      A transformation with a `ScheduleFreeState`; `update` needs the parameters. Evaluate at
      `schedule_free_eval_params(state, params)`.

    Example:
      >>> from optx_aliases import schedule_free_adamw
      >>> schedule_free_adamw(warmup_steps=100) == schedule_free_adamw(0.0025, 100)
      True
    """
    rate = _with_warmup("schedule_free_adamw", learning_rate, warmup_steps)
    return schedule_free(
        _rms("schedule_free_adamw", rate, b2, eps, weight_decay, mask),
        rate,
        b1,
        weight_lr_power,
        state_dtype,
    )


@build.recorded
def schedule_free_radam(
    learning_rate: ScalarOrSchedule = 0.0025,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_lr_power: ScalarOrSchedule = 2.0,
    state_dtype: build.DType = None,
    mask: build.Mask = None,
) -> build.Transformation:
    """Schedule-free AdamW with RAdam's rectification in place of a warmup.

    RAdam's factor of the learning rate is 0 for the first steps (4 with b2 = 0.999): the parameters and the
    average stay.

    Args:
      learning_rate, b1, weight_lr_power, state_dtype, mask: as for `schedule_free_sgd`.
      b2: decay of the mean square, in (0.6, 1), or a schedule: below 0.6 RAdam's factor stays 0.
      eps, weight_decay: as for `schedule_free_adamw`.

    Returns:
      A transformation with a `ScheduleFreeState`; `update` needs the parameters. Evaluate at
      `schedule_free_eval_params(state, params)`.

    Example:
      >>> from optx_aliases import schedule_free_radam
      >>> schedule_free_radam() == schedule_free_radam(learning_rate=0.0025)
      True
    """
    build.check_number("schedule_free_radam", above=0.6, below=1, b2=b2)
    build.check_number("schedule_free_radam", low=0, learning_rate=learning_rate)
    rate = _warmup(learning_rate, None, b2)
    return schedule_free(
        _rms("schedule_free_radam", rate, b2, eps, weight_decay, mask),
        rate,
        b1,
        weight_lr_power,
        state_dtype,
    )


@build.rule(ScaleByRmsWithCountState)
def _divide_by_rms(
    g: Array, s: ScaleByRmsWithCountState, /, b2: build.Rate, eps: build.Positive
) -> tuple[Array, ScaleByRmsWithCountState]:
    """`scale_by_rms`, debiased, as one quotient: XLA:CPU writes out what two steps share."""
    g = build.squarable(g)
    v = b2 * s.nu + (1 - b2) * build.abs_squared(g)
    return g / (jnp.sqrt(v / (1 - b2**s.count)) + eps), s._replace(nu=v)


def _rms(
    where: str,
    rate: ScalarOrSchedule,
    b2: ScalarOrSchedule,
    eps: ScalarOrSchedule,
    weight_decay: ScalarOrSchedule,
    mask: build.Mask,
) -> build.Transformation:
    """Adam without a mean: the gradient over the root of its mean square."""
    build.check_number(where, low=0, below=1, b2=b2)
    build.check_number(where, above=0, eps=eps)
    return chain(_divide_by_rms(b2, eps), decayed(weight_decay, mask), scale_by_learning_rate(rate))
