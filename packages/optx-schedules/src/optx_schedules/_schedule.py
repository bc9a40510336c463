"""Schedules: functions of the step that print, compare and support arithmetic.

(s1 + s2)(n) = s1(n) + s2(n), and likewise for −, ·, /, ** and unary −; numbers are constants.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from optx_core.build import Recorded, call_of, recorded
from optx_schedules._checks import check_value
from optx_schedules._progress import as_count, real

_SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "pow": "**"}


class Schedule(Recorded):
    """A value as a function of the step.

    Call it with a step count, 0 for the first step: a Python number, an array of any shape or a
    traced value, integer or float. It returns a value of the same shape, float32 (float64 if
    jax_enable_x64 is set), and works under jit, vmap and grad.

    Schedules support +, −, *, / and ** with each other, with numbers, and with any function of the
    step. They print as the call that created them, compare and hash by that call, and can be pickled.

    Args:
      at: a function from a count, an array of at least 32 bits, to the value.
      boundaries: the steps at which the formula changes; `plot` and `table` mark them.

    Example:
      >>> from optx_schedules import linear_schedule
      >>> s = 0.5 * linear_schedule(1.0, 0.0, 10) + 0.5
      >>> s
      0.5 * linear_schedule(init_value=1.0, end_value=0.0, transition_steps=10, transition_begin=0) + 0.5
      >>> s(5)
      Array(0.75, dtype=float32)
      >>> s == 0.5 * linear_schedule(1.0, 0.0, 10) + 0.5
      True
    """

    def __init__(self, at: Callable[[jax.Array], Any], boundaries: tuple[Any, ...] = ()) -> None:
        self._at = at
        self._boundaries = boundaries

    @property
    def boundaries(self) -> tuple[int, ...]:
        """The steps at which the formula changes, sorted, except those given as arrays."""
        return tuple(sorted({b for b in self._boundaries if isinstance(b, int)}))

    def __call__(self, count: Any) -> jax.Array:
        """Returns the value at a step count."""
        return real(self._at(as_count(count)))

    def __repr__(self) -> str:
        call = call_of(self)
        if call is None or call.function is not combine:
            return super().__repr__()
        operation, left, right = call.arguments.values()
        if operation == "neg":
            return f"-{_bracketed(left, 'neg', right_hand=False)}"
        a = _bracketed(left, operation, right_hand=False)
        b = _bracketed(right, operation, right_hand=True)
        return f"{a} {_SYMBOLS[operation]} {b}"

    __array_ufunc__ = None  # NumPy's operators defer to these

    def __add__(self, other: Any) -> Schedule:
        return _combined("add", self, other)

    def __radd__(self, other: Any) -> Schedule:
        return _combined("add", other, self)

    def __sub__(self, other: Any) -> Schedule:
        return _combined("sub", self, other)

    def __rsub__(self, other: Any) -> Schedule:
        return _combined("sub", other, self)

    def __mul__(self, other: Any) -> Schedule:
        return _combined("mul", self, other)

    def __rmul__(self, other: Any) -> Schedule:
        return _combined("mul", other, self)

    def __truediv__(self, other: Any) -> Schedule:
        return _combined("truediv", self, other)

    def __rtruediv__(self, other: Any) -> Schedule:
        return _combined("truediv", other, self)

    def __pow__(self, other: Any) -> Schedule:
        return _combined("pow", self, other)

    def __rpow__(self, other: Any) -> Schedule:
        return _combined("pow", other, self)

    def __neg__(self) -> Schedule:
        return combine("neg", self)

    def __pos__(self) -> Schedule:
        return self


@recorded
def combine(operation: str, left: Any, right: Any = None) -> Schedule:
    """Returns a schedule that applies an operator to the values of two others."""
    bounds = (*boundaries_of(left), *boundaries_of(right))
    if operation == "neg":
        return Schedule(lambda count: -value_at(left, count), bounds)
    apply = getattr(operator, operation)
    return Schedule(lambda count: apply(value_at(left, count), value_at(right, count)), bounds)


def value_at(value: Any, count: Any) -> jax.Array:
    """Returns the value of a schedule, or of a constant, at a count."""
    if not callable(value):
        return real(value)
    result = value(count)
    if result is None or isinstance(result, tuple | list | dict):
        raise TypeError(
            f"a schedule must return a number, but {value!r} returned {result!r}"
            + ("; remove the comma" if isinstance(result, tuple) and len(result) == 1 else "")
        )
    return real(result)


def values_at(schedule: Callable[[Any], Any], counts: np.ndarray) -> np.ndarray:
    """Returns the values of a schedule at an array of counts, as float64."""
    values = np.asarray(value_at(schedule, counts), dtype=np.float64)
    return np.broadcast_to(values, counts.shape)


def boundaries_of(value: Any) -> tuple[int, ...]:
    """Returns the boundaries of a schedule; any other value has none."""
    return value.boundaries if isinstance(value, Schedule) else ()


def check_schedule(where: str, **schedules: Any) -> None:
    """Checks that arguments are functions of the step."""
    for name, schedule in schedules.items():
        if isinstance(schedule, type) or not callable(schedule):
            hint = f"; constant_schedule({schedule!r}) is one" if _is_number(schedule) else ""
            raise TypeError(
                f"{where}: {name} must be a schedule, a function of the step, "
                f"not {schedule!r}{hint}"
            )


def _combined(operation: str, left: Any, right: Any) -> Schedule:
    for other in (left, right):
        if not callable(other):
            if not (_is_number(other) or hasattr(other, "dtype")):
                return NotImplemented
            check_value("arithmetic on schedules", operand=other)
    return combine(operation, left, right)


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)


_BINDS = {"add": 1, "sub": 1, "mul": 2, "truediv": 2, "neg": 3, "pow": 4}


def _bracketed(value: Any, operation: str, *, right_hand: bool) -> str:
    """Formats an operand, in parentheses if it binds less tightly than the operation around it."""
    text = repr(value)
    call = call_of(value)
    if call is not None and call.function is combine:
        inner = _BINDS[call.arguments["operation"]]
    else:
        inner = _BINDS["neg"] if text.startswith("-") else 5
    outer = _BINDS[operation]
    loose = right_hand if operation != "pow" else not right_hand
    return f"({text})" if inner < outer or (inner == outer and loose) else text
