"""The result of `minimize`, and the reasons for which it stops."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

from jax import Array

from optx_core import OptState, PyTree


class MinimizeStatus(enum.IntEnum):
    """The reason for which `minimize` stopped.

    Example:
      >>> from optx_aliases import MinimizeStatus
      >>> MinimizeStatus(4).message
      'stopped: max_steps steps were taken'
    """

    RUNNING = 0
    GRADIENT = 1
    VALUE = 2
    PARAMS = 3
    MAX_STEPS = 4
    NO_DECREASE = 5
    NOT_FINITE = 6
    UNBOUNDED = 7

    @property
    def message(self) -> str:
        """The status in words."""
        return _MESSAGES[self]


_MESSAGES = {
    MinimizeStatus.RUNNING: "running",
    MinimizeStatus.GRADIENT: "converged: the gradient is at most gtol",
    MinimizeStatus.VALUE: "converged: the value changed by at most ftol",
    MinimizeStatus.PARAMS: "converged: x changed by at most xtol",
    MinimizeStatus.MAX_STEPS: "stopped: max_steps steps were taken",
    MinimizeStatus.NO_DECREASE: (
        "stopped: the line search finds no lower value, but the gradient is not small; it may be wrong, or "
        "the function not smooth"
    ),
    MinimizeStatus.NOT_FINITE: (
        "stopped: the value or its gradient is not finite; x is the last point with finite ones, or x0"
    ),
    MinimizeStatus.UNBOUNDED: "stopped: the value falls without a bound",
}


class MinimizeResult(NamedTuple):
    """The result of `minimize`. Under `vmap` every field has the batch's leading axes.

    Attributes:
      x: the minimizer, like `x0`.
      value: the function there, scalar.
      grad: its gradient there, a tree like `x0`; zeros for integer leaves.
      aux: the auxiliary output there, or None.
      status: int32 scalar, a `MinimizeStatus`.
      num_steps: int32 scalar, the number of steps of the optimizer.
      num_evaluations: int32 scalar, the number of evaluations of the function (nearly always together with
        its gradient) by the loop and by a line search.
      state: the optimizer's state.
    """

    x: PyTree
    value: Array
    grad: PyTree
    aux: Any
    status: Array
    num_steps: Array
    num_evaluations: Array
    state: OptState

    @property
    def success(self) -> Array:
        """A boolean scalar: whether the iteration converged."""
        return (self.status >= MinimizeStatus.GRADIENT) & (self.status <= MinimizeStatus.PARAMS)

    @property
    def message(self) -> str:
        """The reason for which it stopped; of a single run, outside of `jit`."""
        return MinimizeStatus(int(self.status)).message
