"""Decoupled weight decay that costs nothing where it is off: u = g + λ·p."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    ScalarOrSchedule,
    add_decayed_weights,
    identity,
    masked,
)


def decayed(
    weight_decay: ScalarOrSchedule, mask: PyTree | Callable[[Params], PyTree] | None = None
) -> GradientTransformationExtraArgs:
    """`add_decayed_weights`, or for λ = 0 an identity with the same state that reads no parameters."""
    if not is_zero(weight_decay):
        return add_decayed_weights(weight_decay, mask)
    return identity() if mask is None else masked(identity(), mask)


def is_zero(number: Any) -> bool:
    """Whether a hyper-parameter is the Python number 0, which no call will change."""
    return isinstance(number, int | float) and number == 0
