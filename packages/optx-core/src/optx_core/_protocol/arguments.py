"""Checks of arguments by the types in their annotations.

Arguments may come from a file or a command line: a text for a number, a dict for a function. What their
annotations do not admit is refused when a transformation is made, not when it is first used.
"""

from __future__ import annotations

import collections.abc
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union

import jax
import numpy as np

from optx_core._protocol.diagnosis import short_repr
from optx_core._protocol.dtypes import check_dtype
from optx_core._protocol.kinds import Kind, Number, declared, hints_of, is_number

Result = TypeVar("Result")


class Type(NamedTuple):
    """A type of values that an annotation admits.

    Attributes:
      name: its name, for errors.
      admits: returns whether a value may be given.
    """

    name: str
    admits: Callable[[Any], bool]


def check_before_call(where: str, name: str, hint: Any, value: Any) -> None:
    """Raises an error if an argument is no dtype, or neither True nor False, where its annotation says so.

    These say nothing themselves: any text, list or function counts as True.

    Args:
      where: the function to name.
      name: the argument to name.
      hint: its evaluated annotation, or None.
      value: its value.

    Raises:
      TypeError: if it is of another type.
    """
    if declared(hint) == Kind("dtype"):
        check_dtype(where, name, value)
    if hint is bool and value is not None and not _is_switch(value):
        raise TypeError(f"{where}: {name} must be True or False, not {short_repr(value)}")


def call_checked(
    function: Callable[..., Result],
    bound: inspect.BoundArguments,
    admitted: Callable[[], Mapping[str, list[Type]]],
) -> Result:
    """Calls a function, and raises an error if an argument is of no type that its annotation admits.

    The types are checked after the call, as the function's own errors say more, unless they are Python's.

    Args:
      function: a function.
      bound: its arguments.
      admitted: returns what the annotations admit, as from `admitted_types`.

    Returns:
      What the function returns.

    Raises:
      TypeError: if a value is of another type. Where the function returns, None is always admitted.
      ValueError: if it is NaN.
    """
    try:
        result = function(*bound.args, **bound.kwargs)
    except (AttributeError, TypeError, ValueError) as error:
        if function.__name__ not in str(error) and not _NAMES_A_CALL.match(str(error)):
            _check(function.__name__, admitted(), bound.arguments)
        raise
    given = {name: value for name, value in bound.arguments.items() if value is not None}
    _check(function.__name__, admitted(), given)
    return result


_NAMES_A_CALL = re.compile(r"[\w.]+: ")  # as our own errors do


def _check(where: str, admitted: Mapping[str, list[Type]], arguments: Mapping[str, Any]) -> None:
    for name, kinds in admitted.items():
        if name not in arguments:
            continue
        value = arguments[name]
        if not any(one.admits(value) for one in kinds):
            names = " or ".join(dict.fromkeys(one.name for one in kinds))
            raise TypeError(f"{where}: {name} must be {names}, not {short_repr(value)}")
        if isinstance(value, float) and value != value:  # noqa: PLR0124 (NaN)
            raise ValueError(f"{where}: {name} must be a number, not {value}")


def admitted_types(function: Callable[..., Any]) -> dict[str, list[Type]]:
    """Returns what the annotations of a function's arguments admit.

    Args:
      function: a function. A private one leaves the errors to its public callers.

    Returns:
      A dict by argument; those whose annotation admits anything (`Any`, most classes) are absent, as are
      `*args` and `**kwargs`.
    """
    if function.__name__.startswith("_"):
        return {}
    many = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters, hints = inspect.signature(function).parameters, hints_of(function)
    single = [name for name, x in parameters.items() if x.kind not in many]
    found = {name: _types(hints.get(name)) for name in single}
    return {name: kinds for name, kinds in found.items() if kinds is not None}


def _types(hint: Any) -> list[Type] | None:
    """Returns what an annotation admits; None for anything."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        admitted = [_types(part) for part in parts]
        return None if None in admitted else [one for some in admitted for one in some or ()]
    if origin is Annotated:
        return _types_of_kind(declared(hint)) or _types(hint.__origin__)
    if origin is Literal:
        return [Type(f"one of {', '.join(map(repr, parts))}", lambda x: _is_one_of(x, parts))]
    if origin is tuple and is_number(kinds := declared(hint)):
        return [Type(f"{len(kinds)} numbers", lambda x: type(x) in (tuple, list))]
    if origin in (tuple, collections.abc.Sequence) and parts[1:] in ((), (...,)):
        items = _types(parts[0])
        return None if items is None else [_sequence(items)]
    if origin is collections.abc.Mapping:
        return [Type("a mapping", lambda x: isinstance(x, Mapping))]
    if origin is collections.abc.Callable:
        return [Type("a function", callable)]
    return [_PLAIN[hint]] if hint in _PLAIN else None


def _sequence(items: list[Type]) -> Type:
    """Returns the type of a sequence of items; one string is a sequence of strings."""

    def admits(x: Any) -> bool:
        if isinstance(x, str):
            return _PLAIN[str] in items
        is_one = isinstance(x, collections.abc.Sequence)
        return _is_array(x) or (
            is_one and all(any(one.admits(item) for one in items) for item in x)
        )

    return Type(f"a sequence, each item {' or '.join(one.name for one in items)}", admits)


def _types_of_kind(kind: Any) -> list[Type] | None:
    if isinstance(kind, Number):
        return [_PLAIN[int]] if kind.integer else [NUMBER, SCHEDULE] if kind.schedule else [NUMBER]
    if kind == Kind("key"):
        return [Type("a key or a seed", _is_integer)]
    return None


def _is_one_of(value: Any, values: tuple[Any, ...]) -> bool:
    return any(isinstance(value, type(one)) and value == one for one in values)


def _is_array(value: Any) -> bool:
    return isinstance(value, jax.Array | np.ndarray)


def _is_switch(value: Any) -> bool:
    is_int = type(value) is int and value in (0, 1)
    return is_int or isinstance(value, bool | np.bool_) or _is_scalar_array(value)


def _is_integer(value: Any) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    is_one = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return is_one or _is_scalar_array(value)


def _is_scalar_array(value: Any) -> bool:
    return _is_array(value) and value.ndim == 0


def _is_number(value: Any) -> bool:
    """Returns whether a value may be a number: not whether it is one, as arrays have many types."""
    no_number = bool | np.bool_ | str | bytes | Mapping | list | tuple | None
    return not isinstance(value, no_number) and not callable(value)


def _is_schedule(value: Any) -> bool:
    """Returns whether a value may be a schedule: a function, but not one that makes a transformation."""
    return callable(value) and not hasattr(value, "records_call")


NUMBER = Type("a number", _is_number)
SCHEDULE = Type("a schedule", _is_schedule)
_PLAIN: dict[Any, Type] = {
    bool: Type("True or False", _is_switch),
    int: Type("an int", _is_integer),
    float: Type("a number", lambda x: _is_number(x) or _is_schedule(x)),
    str: Type("a string", lambda x: isinstance(x, str)),
    jax.Array: Type("an array", _is_number),
    types.NoneType: Type("None", lambda x: x is None),
}
