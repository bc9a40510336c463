"""What `minimize` returns, and why it stopped."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

import jax

from optx_core import OptState, PyTree


class MinimizeStatus(enum.IntEnum):
    """Why `minimize` stopped.

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
        "stopped: the line search finds no lower value; this is as far as rounding allows, or the gradient "
        "is not that of the function"
    ),
    MinimizeStatus.NOT_FINITE: (
        "stopped: the value or its gradient is not finite; x is the last point where both were, or x0"
    ),
}


class MinimizeResult(NamedTuple):
    """What `minimize` came to. Under `vmap` every field has the batch's leading axes.

    Attributes:
      x: the minimizer, like `x0`.
      value: the function there, scalar.
      grad: its gradient there, a tree like `x0`; zeros for integer leaves.
      aux: the auxiliary output there, or None.
      status: int32 scalar, a `MinimizeStatus`.
      num_steps: int32 scalar, the steps of the optimizer.
      num_evaluations: int32 scalar, how often the function was evaluated (nearly always together with its
        gradient) by the loop and by a line search.
      state: the optimizer's state.
    """

    x: PyTree
    value: jax.Array
    grad: PyTree
    aux: Any
    status: jax.Array
    num_steps: jax.Array
    num_evaluations: jax.Array
    state: OptState

    @property
    def success(self) -> jax.Array:
        """Whether a tolerance was met; a boolean scalar."""
        return (self.status >= MinimizeStatus.GRADIENT) & (self.status <= MinimizeStatus.PARAMS)

    @property
    def message(self) -> str:
        """Why it stopped, in words; of a single run, outside of `jit`."""
        return MinimizeStatus(int(self.status)).message
