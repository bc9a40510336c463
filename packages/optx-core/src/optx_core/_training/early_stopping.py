"""Early stopping: training ends when a measurement has stopped improving."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal


@dataclasses.dataclass
class EarlyStopping:
    """Detects when a measurement, such as the validation loss, has stopped improving.

    It runs on the host, between steps or epochs, and takes Python numbers or 0-d arrays. Its attributes are
    Python numbers; it can be pickled, copied and compared.

    Args:
      patience: the number of consecutive values without improvement after which to stop, an int of at
        least 1.
      min_delta: the smallest change that counts as an improvement, at least 0.
      mode: "min" if smaller values are better, "max" if greater ones are.
      check_finite: whether NaN or an infinite value stops immediately; otherwise it counts as a value
        without improvement.

    Attributes:
      best: the best value so far; None before the first finite one.
      best_step: the index of the call of `update` with the best value, 0 for the first.
      step: the number of calls so far.
      wait: the number of values since the last improvement.
      should_stop: whether to stop.

    Raises:
      ValueError: if an argument is out of range.

    Example:
      >>> from optx_core import EarlyStopping
      >>> stopping = EarlyStopping(patience=2)
      >>> for loss in [1.0, 0.5, 0.6, 0.55, 0.1]:
      ...     if stopping.update(loss):
      ...         break
      >>> stopping.best, stopping.best_step, stopping.step
      (0.5, 1, 4)
    """

    patience: int = 10
    min_delta: float = 0.0
    mode: Literal["min", "max"] = "min"
    check_finite: bool = True
    best: float | None = dataclasses.field(default=None, init=False)
    best_step: int = dataclasses.field(default=0, init=False)
    step: int = dataclasses.field(default=0, init=False)
    wait: int = dataclasses.field(default=0, init=False)
    should_stop: bool = dataclasses.field(default=False, init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.patience, int) or self.patience < 1:
            raise ValueError(
                f"EarlyStopping: patience must be an int of at least 1, not {self.patience!r}"
            )
        if not self.min_delta >= 0:
            raise ValueError(f"EarlyStopping: min_delta must be at least 0, not {self.min_delta!r}")
        if self.mode not in ("min", "max"):
            raise ValueError(f"EarlyStopping: mode must be 'min' or 'max', not {self.mode!r}")

    def update(self, value: Any) -> bool:
        """Processes the next value.

        Args:
          value: a real number, or a 0-d array.

        Returns:
          Whether to stop; also stored as `should_stop`.
        """
        value = float(value)
        finite = math.isfinite(value)
        sign = 1 if self.mode == "min" else -1
        if finite and (self.best is None or sign * (self.best - value) > self.min_delta):
            self.best, self.best_step, self.wait = value, self.step, 0
        else:
            self.wait += 1
        self.step += 1
        stop = self.wait >= self.patience or (self.check_finite and not finite)
        self.should_stop = self.should_stop or stop
        return self.should_stop

    @property
    def improved(self) -> bool:
        """True if the last value improved on the best: save a checkpoint then."""
        return self.step > 0 and self.wait == 0

    def state_dict(self) -> dict[str, Any]:
        """Returns the progress as a dict of Python numbers, for a checkpoint."""
        return {name: getattr(self, name) for name in _PROGRESS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the progress from `state_dict()`.

        Args:
          state: the dict.

        Raises:
          ValueError: if it has other keys.
        """
        if set(state) != set(_PROGRESS):
            raise ValueError(
                f"EarlyStopping: the state must have {', '.join(_PROGRESS)}; it has {', '.join(state)}"
            )
        best = state["best"]
        self.best = None if best is None else float(best)
        self.best_step, self.step, self.wait = (
            int(state[name]) for name in ("best_step", "step", "wait")
        )
        self.should_stop = bool(state["should_stop"])


_PROGRESS = ("best", "best_step", "step", "wait", "should_stop")
