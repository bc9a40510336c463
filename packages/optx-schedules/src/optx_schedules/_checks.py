"""Checks of a schedule's arguments, made when the schedule is built."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_core.build import check_number


def check_value(
    where: str,
    *,
    low: float | None = None,
    above: float | None = None,
    finite: bool = True,
    **values: Any,
) -> None:
    """Checks that arguments are real numbers within a range.

    The range of arrays and traced values is not checked.
    """
    for name, value in values.items():
        if callable(value):
            raise TypeError(
                f"{where}: {name} must be a number, not the function {value!r}; schedules are "
                "combined by arithmetic (s1 * s2) or join_schedules"
            )
        if value is None:
            raise TypeError(f"{where}: {name} must be a number, not None")
        if isinstance(value, jax.Array | np.ndarray) and not _is_real(value):
            raise TypeError(f"{where}: {name} must be real, not of dtype {value.dtype}")
        check_number(where, low=low, above=above, **{name: value})
        if finite and is_plain(value) and math.isinf(value):
            raise ValueError(f"{where}: {name} must be finite, not {value!r}")


def is_plain(*values: Any) -> bool:
    """Whether all values are Python or NumPy scalars, whose value is known when a schedule is built."""
    return all(isinstance(value, int | float | np.number) for value in values)


def whole(where: str, name: str, value: Any, *, least: int = 0) -> Any:
    """Converts a number of steps to an int; integer arrays and traced values are returned as they are.

    Floats with an integer value (1e5, np.float64(10)) are accepted.
    """
    if isinstance(value, jax.Array | np.ndarray):
        if not jnp.issubdtype(value.dtype, jnp.integer):
            raise TypeError(
                f"{where}: {name} must be an integer, not of dtype {value.dtype}; cast it to int32"
            )
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{where}: {name} must be a whole number of steps, not {value!r}")
    if value != value or abs(value) == float("inf") or int(value) != value:  # noqa: PLR0124 (NaN)
        raise ValueError(
            f"{where}: {name} must be a whole number of steps, not {value!r}; round it"
        )
    if value < least:
        raise ValueError(f"{where}: {name} must be at least {least}, not {value!r}")
    return int(value)


def check_after(where: str, decay_steps: Any, warmup_steps: Any) -> None:
    """Checks that a decay ends after the warm-up."""
    if isinstance(decay_steps, int) and isinstance(warmup_steps, int):  # noqa: SIM102
        if decay_steps <= warmup_steps:
            raise ValueError(
                f"{where}: decay_steps={decay_steps} counts from step 0 and must exceed "
                f"warmup_steps={warmup_steps}"
            )


def check_boundaries(where: str, boundaries: Sequence[Any]) -> list[Any]:
    """Checks that boundaries are whole numbers in increasing order, and returns them."""
    steps = [whole(where, f"boundaries[{i}]", b) for i, b in enumerate(boundaries)]
    known = [step for step in steps if isinstance(step, int)]
    if known != sorted(known):
        raise ValueError(f"{where}: boundaries must be in increasing order, not {known}")
    return steps


def check_scales(
    where: str, boundaries_and_scales: Mapping[Any, Any] | None
) -> list[tuple[int, Any]]:
    """Checks a dict from boundaries to factors, and returns its items sorted by boundary."""
    if boundaries_and_scales is None:
        return []
    if not isinstance(boundaries_and_scales, Mapping):
        raise TypeError(
            f"{where}: boundaries_and_scales must be a dict {{step: factor}}, "
            f"not {boundaries_and_scales!r}"
        )
    pairs = []
    for step, factor in boundaries_and_scales.items():
        at = whole(where, f"the boundary {step!r}", step)
        check_value(where, low=0, **{f"the factor at step {at}": factor})
        pairs.append((at, factor))
    return sorted(pairs, key=lambda pair: pair[0])


def _is_real(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
