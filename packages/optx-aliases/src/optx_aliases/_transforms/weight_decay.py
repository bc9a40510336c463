"""Decoupled weight decay, at no cost where it is off: u = g + λ·p."""

from __future__ import annotations

from typing import Any

from optx_core import ScalarOrSchedule, add_decayed_weights, build, identity, masked


def decayed(weight_decay: ScalarOrSchedule, mask: build.Mask = None) -> build.Transformation:
    """`add_decayed_weights`, or for λ = 0 an identity with the same state that reads no parameters."""
    if not is_zero(weight_decay):
        return add_decayed_weights(weight_decay, mask)
    return identity() if mask is None else masked(identity(), mask)


def is_zero(number: Any) -> bool:
    """Returns whether a hyper-parameter is the Python number 0, which is constant."""
    return isinstance(number, int | float) and number == 0
