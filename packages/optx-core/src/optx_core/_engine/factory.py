"""Factories of transformations: declared arguments, schedules, recorded calls."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

from optx_core._engine.numbers import check_number
from optx_core._engine.scheduled import schedulable
from optx_core._protocol.kinds import Kind, Number, declared, hints_of, is_number
from optx_core._protocol.recorded import recorded
from optx_core._protocol.types import GradientTransformationExtraArgs

P = ParamSpec("P")
T = TypeVar("T", bound=GradientTransformationExtraArgs)


def factory(make: Callable[P, T]) -> Callable[P, T]:
    """Declares a factory of transformations, whose arguments are declared by their annotations.

    Args:
      make: the function. An argument annotated `Positive`, `Rate`, `Literal[...]` and so on is checked;
        one that may be a schedule (`Number.schedule`) reaches the function as its value at this update.

    Returns:
      The function, with recorded calls. `rule` does the same for equations of one array.

    Example:
      >>> from optx_core.build import LeafStep, Positive, factory, leafwise
      >>> def leaf(g, *, factor):
      ...     return factor * g
      >>> @factory
      ... def times(factor: Positive = 2.0):
      ...     return leafwise(lambda flow, state, params, **_: LeafStep(leaf, operands={"factor": factor}))
      >>> times()
      times(factor=2.0)
      >>> times(-1.0)
      Traceback (most recent call last):
      ...
      ValueError: times: factor must be greater than 0, not -1.0
    """
    signature, hints = inspect.signature(make), hints_of(make)
    where = make.__name__.lstrip("_")
    kinds = {name: declared(hints.get(name)) for name in signature.parameters}

    @functools.wraps(make)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            optional = signature.parameters[name].default is None or _admits_none(hints.get(name))
            if value is not None or not optional:
                _check(where, name, kinds[name], value, choices(hints.get(name)))
        return make(*args, **kwargs)

    scheduled = [name for name, kind in kinds.items() if is_number(kind) and _moves(kind)]
    return recorded(schedulable(*scheduled)(checked))  # type: ignore[arg-type]


def choices(hint: Any) -> tuple[Any, ...]:
    """Returns the values that a `Literal` annotation allows; () for other annotations."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) not in (Union, types.UnionType):
        return ()
    parts = [choices(part) for part in get_args(hint) if part is not types.NoneType]
    return sum(parts, ()) if all(parts) else ()


def _admits_none(hint: Any) -> bool:
    return types.NoneType in get_args(hint)


def _moves(kind: Any) -> bool:
    return isinstance(kind, tuple) or (kind.schedule and not kind.own_count)


def _check(where: str, name: str, kind: Any, value: Any, allowed: tuple[Any, ...]) -> None:
    if isinstance(kind, tuple):
        if not isinstance(value, tuple | list) or len(value) != len(kind):
            raise TypeError(f"{where}: {name} must be {len(kind)} numbers, not {value!r}")
        for place, (one, item) in enumerate(zip(kind, value, strict=True)):
            _check(where, f"{name}[{place}]", one, item, ())
    elif isinstance(kind, Number):
        _check_number(where, name, kind, value)
    elif isinstance(kind, Kind) and kind.name == "names":
        names = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(x, str) for x in names):
            raise TypeError(f"{where}: {name} must be a name or a tuple of names, not {value!r}")
    elif allowed and value not in allowed:
        shown = ", ".join(map(repr, allowed))
        raise ValueError(f"{where}: {name} must be one of {shown}, not {value!r}")


def _check_number(where: str, name: str, kind: Number, value: Any) -> None:
    if value is None:
        raise TypeError(f"{where}: {name} must be a number, not None")
    if kind.integer and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f"{where}: {name} must be an int of at least {kind.low}, not {value!r}")
    check_number(where, **kind.bounds, **{name: value})
