"""Counts, hyper-parameters and checks of them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_core._protocol.types import Params


def safe_increment(count: jax.Array) -> jax.Array:
    """Adds one to a count; saturates at the largest value of its dtype.

    Args:
      count: an integer (or floating-point) array of any shape.

    Returns:
      The next count, of the same shape and dtype.

    Raises:
      ValueError: if the count is boolean or complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import safe_increment
      >>> safe_increment(jnp.int8(127))
      Array(127, dtype=int8)
    """
    count = jnp.asarray(count)
    integer = jnp.issubdtype(count.dtype, jnp.integer)
    if not (integer or jnp.issubdtype(count.dtype, jnp.floating)):
        raise ValueError(f"safe_increment: a count must be an integer, not {count.dtype}")
    largest = (jnp.iinfo if integer else jnp.finfo)(count.dtype).max
    top = jnp.asarray(largest, count.dtype)
    return jnp.where(count < top, count + jnp.ones_like(count), top)


def check_number(
    where: str,
    *,
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
    above: float | None = None,
    finite: bool = True,
    **values: Any,
) -> None:
    """Raises an error if a hyper-parameter is a plain number out of its range.

    Args:
      where: the function to name.
      low: the least value allowed.
      high: the greatest value allowed.
      below: values must be less than this.
      above: values must be greater than this.
      finite: whether infinity is rejected; False for limits, where it means no limit.
      **values: the hyper-parameters by name. Arrays, traced values and schedules are not checked;
        None is accepted.

    Raises:
      TypeError: if a value is not a number.
      ValueError: if a value is NaN, infinite or out of range.

    Example:
      >>> from optx_core.build import check_number
      >>> check_number("my_optimizer", low=0, below=1, b1=1.5)
      Traceback (most recent call last):
      ...
      ValueError: my_optimizer: b1 must be less than 1, not 1.5
    """
    for name, value in values.items():
        if value is None or callable(value) or isinstance(value, jax.Array | np.ndarray):
            continue
        is_number = (
            jnp.issubdtype(value.dtype, np.number)
            if isinstance(value, np.generic)
            else (isinstance(value, int | float) and not isinstance(value, bool))
        )
        if not is_number:
            raise TypeError(f"{where}: {name} must be a number, not {value!r}")
        bounds = [
            (low is not None and not value >= low, f"at least {low}"),
            (high is not None and not value <= high, f"at most {high}"),
            (below is not None and not value < below, f"less than {below}"),
            (above is not None and not value > above, f"greater than {above}"),
            (value != value, "a number"),  # noqa: PLR0124 (NaN)
            (finite and abs(value) == float("inf"), "finite"),
        ]
        broken = [text for is_broken, text in bounds if is_broken]
        if broken:
            raise ValueError(f"{where}: {name} must be {broken[0]}, not {value!r}")


def check_scalar(where: str, **given: Any) -> None:
    """`check_number` for functions without schedules: refuses None, functions and arrays with axes too.

    Args:
      where: the function to name.
      **given: bounds, as for `check_number`, and the arguments by name.

    Raises:
      TypeError: if a value is not a number.
      ValueError: if a value is NaN, infinite, out of range or not a scalar.

    Example:
      >>> from optx_core.build import check_scalar
      >>> check_scalar("my_loss", above=0, scale=None)
      Traceback (most recent call last):
      ...
      TypeError: my_loss: scale must be a number, not None
    """
    check_number(where, **given)
    for name, value in given.items():
        if name in _BOUNDS:
            continue
        if value is None or callable(value):
            raise TypeError(f"{where}: {name} must be a number, not {value!r}")
        if getattr(value, "ndim", 0):
            raise ValueError(f"{where}: {name} is {value.shape}; it must be a scalar")


_BOUNDS = {"low", "high", "below", "above", "finite"}


def need_params(where: str, params: Params) -> Params:
    """Returns the parameters, or raises an error that says how to pass them.

    Args:
      where: the function to name.
      params: the argument of `update`.

    Returns:
      The parameters.

    Raises:
      ValueError: if they are None.

    Example:
      >>> from optx_core.build import need_params
      >>> need_params("my_optimizer", None)
      Traceback (most recent call last):
      ...
      ValueError: my_optimizer needs the parameters: call update(updates, state, params)
    """
    if params is None:
        raise ValueError(f"{where} needs the parameters: call update(updates, state, params)")
    return params


def zero_count() -> jax.Array:
    """Returns a count of steps at zero.

    Returns:
      An int32 scalar.

    Example:
      >>> from optx_core.build import zero_count
      >>> zero_count()
      Array(0, dtype=int32)
    """
    return jnp.zeros((), jnp.int32)
