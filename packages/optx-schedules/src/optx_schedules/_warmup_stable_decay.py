"""Warm-up, a plateau, and a short decay.

s(n) = init → peak in `warmup_steps`, peak for `stable_steps`, then end + (peak − end)·f(done), with

linear: f = left;   cosine: f = sin²(π·left / 2);   1-sqrt: f = 1 − √done = left / (1 + √done)

References: Hu et al., "MiniCPM", 2024; Hägele et al., "Scaling Laws and Compute-Optimal Training
Beyond Fixed Training Durations", 2024, for the tails.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_core import Scalar
from optx_core.build import recorded
from optx_schedules._checks import check_value, whole
from optx_schedules._cosine import cosine_weight
from optx_schedules._join import join
from optx_schedules._polynomial import linear_schedule
from optx_schedules._progress import Progress, progress, real
from optx_schedules._schedule import Schedule


@recorded
def warmup_stable_decay_schedule(
    init_value: Scalar,
    peak_value: Scalar,
    warmup_steps: int,
    stable_steps: int,
    decay_steps: int,
    end_value: Scalar = 0.0,
    decay_type: str = "linear",
) -> Schedule:
    """Rises along a straight line, stays, and falls at the end.

    Args:
      init_value: the value at step 0.
      peak_value: the value of the plateau.
      warmup_steps: how many steps the warm-up takes; 0 for none.
      stable_steps: how many steps the plateau lasts; 0 for none.
      decay_steps: how many steps the decay takes, counted from the end of the plateau, at least 1.
      end_value: the value after the decay.
      decay_type: "linear", "cosine", or "1-sqrt" (falls fastest at first).

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is no number.
      ValueError: if a number is out of its range, or the decay of another type.

    Example:
      >>> from optx_schedules import sketch, warmup_stable_decay_schedule
      >>> print(sketch(warmup_stable_decay_schedule(0.0, 1.0, 10, 30, 15), 60))
      1 |         *********************************
        |       **                                 ***
        |     **                                      ***
        |   **                                           ***
        | **                                                ***
      0 |*                                                     ******
      >>> print(sketch(warmup_stable_decay_schedule(0.0, 1.0, 10, 25, 20, 0.0, "1-sqrt"), 60))
      1 |         ***************************
        |       **                           *
        |     **                              ****
        |   **                                    ****
        | **                                          *******
      0 |*                                                   ********
    """
    where = "warmup_stable_decay_schedule"
    check_value(where, init_value=init_value, peak_value=peak_value, end_value=end_value)
    if decay_type not in _WEIGHTS:
        raise ValueError(f"{where}: decay_type must be one of {list(_WEIGHTS)}, not {decay_type!r}")
    warmup = whole(where, "warmup_steps", warmup_steps)
    stable = whole(where, "stable_steps", stable_steps)
    decay = whole(where, "decay_steps", decay_steps, least=1)

    def tail(count: jax.Array) -> jax.Array:
        ahead, behind = _WEIGHTS[decay_type](progress(count, decay, stable))
        return real(peak_value) * ahead + real(end_value) * behind

    turns: tuple[Any, ...] = ()
    if isinstance(stable, int) and isinstance(decay, int):
        turns = (stable, stable + decay) if stable else (decay,)
    rest = Schedule(tail, turns)
    if isinstance(warmup, int) and warmup == 0:
        return join([rest], [])
    return join([linear_schedule(init_value, peak_value, warmup), rest], [warmup])


def _linear(share: Progress) -> tuple[jax.Array, jax.Array]:
    return share.left, share.done


def _cosine(share: Progress) -> tuple[jax.Array, jax.Array]:
    return cosine_weight(share.left), cosine_weight(share.done)


def _one_minus_sqrt(share: Progress) -> tuple[jax.Array, jax.Array]:
    begun = share.done > 0
    root = jnp.where(begun, jnp.sqrt(jnp.where(begun, share.done, 1)), 0)
    return share.left / (1 + root), root


_WEIGHTS = {"linear": _linear, "cosine": _cosine, "1-sqrt": _one_minus_sqrt}
