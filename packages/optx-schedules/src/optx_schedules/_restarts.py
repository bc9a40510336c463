"""Cosine decay with warm restarts.

s(n) = peakᵢ·((1 − alpha)·sin²(π·left / 2) + alpha)        (in cycle i)
peakᵢ = init·decayⁱ,   Tᵢ = round(T₀·multiplierⁱ)

where Tᵢ is the length of cycle i, counted from 0, T₀ that of the first, and left the remaining fraction of
the cycle.

Reference: Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, equation 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import Scalar
from optx_core.build import check_number, recorded
from optx_schedules._checks import check_value, whole
from optx_schedules._join import join
from optx_schedules._progress import (
    Progress,
    along_cosine,
    between,
    is_whole,
    progress,
    rate_power,
    real,
    since,
    within,
)
from optx_schedules._schedule import Schedule
from optx_schedules._warmup import warmup_cosine_decay_schedule

_MOST_CYCLES = 2**16
"""Cycles after this many keep their length: their first steps stand in a table."""


@recorded
def sgdr_schedule(cosine_kwargs: Sequence[Mapping[str, Any]]) -> Schedule:
    """Repeats linear warm-up and cosine decay with arguments of its own for each cycle.

    Args:
      cosine_kwargs: a list or tuple of dicts, the arguments of `warmup_cosine_decay_schedule` for each
        cycle. A cycle lasts `decay_steps` steps.

    Returns:
      A schedule.

    Raises:
      TypeError: if `cosine_kwargs` is not a list of dicts.
      ValueError: if it is empty, or an argument is out of range.

    Example:
      >>> from optx_schedules import sgdr_schedule, sketch
      >>> cycles = [
      ...     {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 5, "decay_steps": 25},
      ...     {"init_value": 0.0, "peak_value": 0.5, "warmup_steps": 5, "decay_steps": 30},
      ... ]
      >>> print(sketch(sgdr_schedule(cycles), 60))
      1 |     *****
        |    *     ***
        |   *         ***              *
        |  *             **          ** **********
        | *                ***     **             *******
      0 |*                    *****                      ************
    """
    if not isinstance(cosine_kwargs, Sequence) or isinstance(cosine_kwargs, str):
        raise TypeError(
            f"sgdr_schedule: cosine_kwargs must be a list of dicts, not {cosine_kwargs!r}"
        )
    if not cosine_kwargs:
        raise ValueError("sgdr_schedule: cosine_kwargs is empty; give at least one cycle")
    cycles, boundaries, end = [], [], 0
    for i, kwargs in enumerate(cosine_kwargs):
        if not isinstance(kwargs, Mapping) or "decay_steps" not in kwargs:
            raise TypeError(
                f"sgdr_schedule: cosine_kwargs[{i}] must be a dict of arguments of "
                f"warmup_cosine_decay_schedule, including decay_steps, not {kwargs!r}"
            )
        try:
            cycles.append(warmup_cosine_decay_schedule(**kwargs))
        except (TypeError, ValueError) as error:
            raise type(error)(f"sgdr_schedule: cosine_kwargs[{i}]: {error}") from None
        end += whole("sgdr_schedule", f"cosine_kwargs[{i}]: decay_steps", kwargs["decay_steps"])
        boundaries.append(end)
    return join(cycles, boundaries[:-1])


@recorded
def cosine_restarts_schedule(
    init_value: Scalar,
    first_steps: int,
    multiplier: float = 1.0,
    decay: Scalar = 1.0,
    alpha: Scalar = 0.0,
) -> Schedule:
    """Decays along half a cosine wave, restarts, and repeats indefinitely.

    Args:
      init_value: the value at step 0.
      first_steps: T₀, the length of the first cycle in steps, at least 1.
      multiplier: the ratio of a cycle's length to the previous one's, at least 1. After 65,536 cycles
        the lengths stay constant.
      decay: the ratio of a cycle's peak to the previous one's, at least 0.
      alpha: the final value of a cycle as a fraction of its peak.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is not a number.
      ValueError: if a number is out of range.

    Example:
      >>> from optx_schedules import cosine_restarts_schedule, sketch
      >>> print(sketch(cosine_restarts_schedule(1.0, 9, multiplier=2, decay=0.8), 60))
            1 |**
              |  **     *****
              |    *         ***          ************
              |     *           ***                   *******
              |      **            ***                       ********
      0.00608 |        *              ****                           ******
    """
    where = "cosine_restarts_schedule"
    check_value(where, init_value=init_value, alpha=alpha)
    check_value(where, low=0, decay=decay)
    if not isinstance(multiplier, int | float):
        raise TypeError(f"{where}: multiplier must be a Python number, not {multiplier!r}")
    check_number(where, low=1, multiplier=multiplier)
    first = whole(where, "first_steps", first_steps, least=1)
    if not isinstance(first, int) and multiplier != 1:
        raise TypeError(f"{where}: first_steps must be a Python int where the cycles grow")
    starts = None if multiplier == 1 else _starts(first, multiplier)

    def at(count: jax.Array) -> jax.Array:
        turn, left = _cycle(since(count, 0), first, starts)
        share = along_cosine(Progress(1 - left, left))
        return real(init_value) * rate_power(decay, turn) * between(1.0, alpha, share)

    known = starts[1:].tolist() if starts is not None else [first] if isinstance(first, int) else []
    return Schedule(at, tuple(known))


def _starts(first: int, multiplier: float) -> np.ndarray:
    """The first steps of all cycles that a count can reach, and of one more."""
    starts, length = [0, first], float(first)
    while starts[-1] < 2**62 and len(starts) <= _MOST_CYCLES:
        length *= multiplier
        starts.append(starts[-1] + round(length))
    return np.array(starts, dtype=object)


def _cycle(gone: jax.Array, first: Any, starts: np.ndarray | None) -> tuple[jax.Array, jax.Array]:
    """The index of the cycle, and the remaining fraction of it."""
    if starts is None:
        length = within(gone, first)
        return real(gone // length), progress(gone % length, first).left
    most = jnp.iinfo(gone.dtype).max if is_whole(gone) else 2**63
    known = starts[:-1][starts[:-1] <= most]
    turn = jnp.searchsorted(jnp.asarray(known.astype(gone.dtype)), gone, side="right") - 1
    lengths = np.diff(starts)[: len(known)]
    clipped = np.minimum(lengths, most)  # the last cycle may exceed the count's dtype
    length, beyond = jnp.asarray(clipped.astype(gone.dtype))[turn], (lengths - clipped)[-1]
    own = gone - jnp.asarray(known.astype(gone.dtype))[turn]
    # More than a length can have passed only in the last cycle of the table.
    left = real(length - own % length)
    if beyond:
        left = left + jnp.where(turn == len(known) - 1, real(float(beyond)), 0)
    left = left / real(lengths.astype(np.float64))[turn]
    return real(turn + jnp.asarray(own // length, turn.dtype)), left
