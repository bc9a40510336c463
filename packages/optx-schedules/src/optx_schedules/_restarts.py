"""Cosine decay with warm restarts (Loshchilov, Hutter, "SGDR", 2017).

Cycle i is `multiplier` times as long as the one before, Tᵢ = round(T₀·multiplierⁱ), and starts at
peakᵢ = init·decayⁱ; in it s(n) = peakᵢ·((1 − alpha)·sin²(π·left / 2) + alpha).
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
from optx_schedules._cosine import cosine_weight
from optx_schedules._join import join
from optx_schedules._progress import is_whole, real, since
from optx_schedules._schedule import Schedule
from optx_schedules._warmup import warmup_cosine_decay_schedule

_MOST_CYCLES = 4096  # cycles told apart where their lengths grow


@recorded
def sgdr_schedule(cosine_kwargs: Sequence[Mapping[str, Any]]) -> Schedule:
    """Warm-ups with cosine decays, one after another.

    Args:
      cosine_kwargs: for each cycle the arguments of `warmup_cosine_decay_schedule`; a cycle lasts
        `decay_steps` steps. A list or a tuple.

    Returns:
      A schedule.

    Raises:
      TypeError: if the cycles are no list of dicts.
      ValueError: if there are none, or an argument of one is out of its range.

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
                f"warmup_cosine_decay_schedule, decay_steps among them, not {kwargs!r}"
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
    """Falls along half a cosine wave, jumps back up, and so on for ever.

    Args:
      init_value: the value at step 0.
      first_steps: T₀, the length of the first cycle in steps, at least 1.
      multiplier: the length of a cycle over the length of the one before, at least 1.
      decay: the first value of a cycle over that of the one before, greater than 0.
      alpha: the last value of a cycle as a fraction of its first.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is no number.
      ValueError: if a number is out of its range.

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
    check_value(where, above=0, decay=decay)
    if not isinstance(multiplier, int | float):
        raise TypeError(f"{where}: multiplier must be a Python number, not {multiplier!r}")
    check_number(where, low=1, multiplier=multiplier)
    first = whole(where, "first_steps", first_steps, least=1)
    if not isinstance(first, int) and multiplier != 1:
        raise TypeError(f"{where}: first_steps must be a Python int where the cycles grow")
    starts = None if multiplier == 1 else _starts(first, multiplier)

    def at(count: jax.Array) -> jax.Array:
        turn, left = _cycle(since(count, 0), first, starts)
        w = cosine_weight(left)
        return real(init_value) * real(decay) ** turn * ((1 - real(alpha)) * w + real(alpha))

    known = starts[1:].tolist() if starts is not None else [first] if isinstance(first, int) else []
    return Schedule(at, tuple(known))


def _starts(first: int, multiplier: float) -> np.ndarray:
    """The first steps of all cycles that a count can reach."""
    starts, length, start = [0], float(first), first
    while start < 2**62 and len(starts) < _MOST_CYCLES:
        starts.append(start)
        length *= multiplier
        start += round(length)
    starts.append(start)
    return np.array(starts, dtype=object)


def _cycle(gone: jax.Array, first: Any, starts: np.ndarray | None) -> tuple[jax.Array, jax.Array]:
    """The number of the cycle, and the share of it ahead."""
    if starts is None:
        length = jnp.asarray(first, gone.dtype)
        return real(gone // length), real(length - gone % length) / real(length)
    top = jnp.iinfo(gone.dtype).max if is_whole(gone) else float(2**63)
    known = starts[starts <= top].astype(gone.dtype)
    turn = jnp.searchsorted(jnp.asarray(known), gone, side="right") - 1
    lengths = np.diff(starts)[: len(known)].astype(np.float64)
    if len(lengths) < len(known):  # the last known cycle repeats its length
        lengths = np.append(lengths, lengths[-1])
    length = real(lengths)[turn]
    done = real(gone - jnp.asarray(known)[turn])
    return real(turn), jnp.clip((length - done) / length, 0, 1)
