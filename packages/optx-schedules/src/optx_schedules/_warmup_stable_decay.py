"""Linear warm-up, a plateau, and a short decay.

s(n) = init → peak in `warmup_steps`, peak for `stable_steps`, then end + (peak − end)·f

linear: f = left;   cosine: f = sin²(π·left / 2);   1-sqrt: f = 1 − √done = left / (1 + √done)

where done is the fraction of `decay_steps` that is over and left = 1 − done.

References: Hu et al., "MiniCPM", 2024; Hägele et al., "Scaling Laws and Compute-Optimal Training
Beyond Fixed Training Durations", 2024, for the tails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import Scalar
from optx_core.build import recorded
from optx_schedules._checks import check_value, whole
from optx_schedules._progress import Progress, along_cosine, between, progress
from optx_schedules._schedule import Schedule
from optx_schedules._warmup import after_warmup


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
    """Warms up linearly, stays constant, and decays at the end.

    Args:
      init_value: the value at step 0.
      peak_value: the value of the plateau.
      warmup_steps: the length of the warm-up in steps; 0 for none.
      stable_steps: the length of the plateau in steps; 0 for none.
      decay_steps: the length of the decay in steps, counted from the end of the plateau, at least 1.
      end_value: the value after the decay.
      decay_type: "linear", "cosine" or "1-sqrt" (fastest at first).

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is not a number.
      ValueError: if a number is out of range, or the decay type is unknown.

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
    check_value(where, end_value=end_value)
    if decay_type not in _DECAYS:
        raise ValueError(f"{where}: decay_type must be one of {list(_DECAYS)}, not {decay_type!r}")
    stable = whole(where, "stable_steps", stable_steps)
    decay = whole(where, "decay_steps", decay_steps, least=1)

    def tail(count: jax.Array) -> jax.Array:
        share = _DECAYS[decay_type](progress(count, decay, stable))
        return between(peak_value, end_value, share)

    turns: tuple[Any, ...] = ()
    if isinstance(stable, int) and isinstance(decay, int):
        turns = (stable, stable + decay) if stable else (decay,)
    return after_warmup(where, init_value, peak_value, warmup_steps, Schedule(tail, turns))


def _along_one_minus_sqrt(share: Progress) -> Progress:
    begun = share.done > 0
    root = jnp.where(begun, jnp.sqrt(jnp.where(begun, share.done, 1)), 0)
    return Progress(root, share.left / (1 + root))


_DECAYS: dict[str, Callable[[Progress], Progress]] = {
    "linear": lambda share: share,
    "cosine": along_cosine,
    "1-sqrt": _along_one_minus_sqrt,
}
