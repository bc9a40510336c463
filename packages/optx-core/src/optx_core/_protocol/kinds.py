"""Declarations of the fields of states and of the arguments of transformations.

A declaration is the metadata of an annotation, `Annotated[PyTree, slot(dtype="mu_dtype")]`, or one of the
aliases below. `rule` (initial values, checks, schedules), `inject_hyperparams`, `hyperparams`, `metrics`,
`tree.map_params`, `quantize_state` and the conformance kit read the declarations.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import sys
import types
import typing
import weakref
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, TypeAlias, Union

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Number:
    """An argument that is a number.

    Attributes:
      low: the least value allowed.
      high: the greatest value allowed.
      above: values must be greater than this.
      below: values must be less than this.
      rate: whether equations receive the number as a decay rate, whose `1 - b` and `1 - b**t` are accurate.
      schedule: whether a schedule is accepted in its place.
      own_count: whether a schedule is evaluated at the state's own count, without a `ScheduledState`:
        at the first of several counts, or at the field of this name.
      finite: whether infinity is rejected; False for limits, where it means no limit.
      integer: whether the number is a Python int, which is a constant of the compiled program.
    """

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    rate: bool = False
    schedule: bool = True
    own_count: bool | str = False
    integer: bool = False
    finite: bool = True

    @property
    def bounds(self) -> dict[str, Any]:
        """The range, as keyword arguments of `check_number`."""
        names = ("low", "high", "above", "below", "finite")
        return {name: getattr(self, name) for name in names}


@dataclasses.dataclass(frozen=True)
class Slot:
    """A field with one array per parameter. `slot` creates it and describes the attributes."""

    dtype: str = ""
    nonnegative: bool = False
    fill: Any = 0.0
    init: Callable[..., jax.Array] | None = None
    constant: bool = False
    exact: bool = False


@dataclasses.dataclass(frozen=True)
class Kind:
    """Any other declaration of a field or an argument.

    Attributes:
      name: "count", "key", "inner", "number", "factor" (fields), "dtype", "names", "constant" (arguments; the
        last: a number that shapes depend on, which is neither scheduled nor injected).
      measured: whether `metrics` reports the field.
    """

    name: str
    measured: bool = False


def slot(
    *,
    dtype: str = "",
    nonnegative: bool = False,
    fill: Any = 0.0,
    init: Callable[..., jax.Array] | None = None,
    constant: bool = False,
    exact: bool = False,
) -> Slot:
    """Declares a field with one array per parameter.

    Args:
      dtype: the argument that sets the field's dtype, by default `<field>_dtype`. Without such an argument,
        or if it is None, the dtype is the parameter's, at least float32.
      nonnegative: whether all entries are nonnegative, as in second moments: real for complex parameters.
      fill: the initial value: a number; "params" for a copy of the parameter; or a function of the
        transformation's arguments (by keyword) that returns a number.
      init: `init(p, **arguments)` returns the initial array, of any shape (row sums, one number per
        array, preconditioners); p has at least float32. Without it the slot has the parameter's
        shape.
      constant: whether the equations only read the field.
      exact: whether `quantize_state` leaves the field unquantized.

    Returns:
      The declaration, for use in `Annotated[PyTree, slot(...)]`.

    Example:
      >>> from typing import Annotated, NamedTuple
      >>> from optx_core import PyTree
      >>> from optx_core.build import Count, slot
      >>> class State(NamedTuple):
      ...     count: Count
      ...     nu: Annotated[PyTree, slot(nonnegative=True)]
    """
    return Slot(dtype, nonnegative, fill, init, constant, exact)


# Fields of a state.
Count: TypeAlias = Annotated[Any, Kind("count")]
"""An int32 scalar: the number of updates so far. Equations receive the count of this update, from 1."""
Moment: TypeAlias = Annotated[Any, slot()]
"""A tree of arrays of the parameters' shapes and dtypes (at least float32), initially zero."""
SecondMoment: TypeAlias = Annotated[Any, slot(nonnegative=True)]
"""A `Moment` with nonnegative entries; real for complex parameters."""
Key: TypeAlias = Annotated[Any, Kind("key")]
"""A key of `jax.random`; also declares the argument of the same name, a key or a seed. Equations receive an
`ArrayKey`: `s.key.at(s.count)` is the key of this array at this update."""
InnerState: TypeAlias = Annotated[Any, Kind("inner")]
"""The state of an inner transformation, or a dict or tuple of such states."""
Measured: TypeAlias = Annotated[Any, Kind("number", measured=True)]
"""A measurement, or a dict of measurements, that `metrics` reports."""
Factor: TypeAlias = Annotated[Any, Kind("factor", measured=True)]
"""A scalar that the updates are multiplied by, or an array whose sum it is: `metrics` reports it,
`learning_rates` includes it."""
MeasuredCount: TypeAlias = Annotated[Any, Kind("count", measured=True)]
"""A count that `metrics` reports."""

# Arguments. Users may pass a schedule where equations receive a number, hence Any.
Real: TypeAlias = Annotated[Any, Number()]
"""A number."""
Nonnegative: TypeAlias = Annotated[Any, Number(low=0)]
"""A number of at least 0."""
Positive: TypeAlias = Annotated[Any, Number(above=0)]
"""A number greater than 0."""
Limit: TypeAlias = Annotated[Any, Number(above=0, finite=False)]
"""A number greater than 0, or infinity for no limit."""
Rate: TypeAlias = Annotated[Any, Number(low=0, below=1, rate=True)]
"""A decay rate b in [0, 1); equations use `1 - b` and `1 - b**t`, each rounded once."""
ClosedRate: TypeAlias = Annotated[Any, Number(low=0, high=1, rate=True)]
"""A decay rate in [0, 1]."""
LearningRate: TypeAlias = Annotated[Any, Number(low=0, own_count=True)]
"""A number of at least 0 whose schedules are evaluated at the state's own count."""
PositiveInt: TypeAlias = Annotated[int, Number(low=1, integer=True, schedule=False)]
"""An int of at least 1."""
NonnegativeInt: TypeAlias = Annotated[int, Number(low=0, integer=True, schedule=False)]
"""An int of at least 0."""
Names: TypeAlias = Annotated[str | tuple[str, ...] | None, Kind("names")]
"""A name, or a tuple of names, such as those of mesh axes."""
DType: TypeAlias = Annotated[Any, Kind("dtype")]
"""A dtype of a slot, or None for the parameter's, at least float32."""


_HINTS: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()


def hints_of(target: Any, namespace: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns the evaluated annotations of a function or a class, with the metadata of `Annotated`.

    Args:
      target: a function or a class.
      namespace: additional names for the evaluation, besides those of its module.

    Returns:
      The annotations by name, without those that cannot be evaluated.
    """
    if isinstance(target, functools.partial):
        target = target.func
    if not isinstance(target, type | types.FunctionType):
        return {}
    if target not in _HINTS:
        module = sys.modules.get(target.__module__ or "")
        names = dict(vars(module)) if isinstance(target, type) and module else {}
        names |= getattr(inspect.unwrap(target), "__globals__", {})
        hints = {}
        for name, raw in getattr(target, "__annotations__", {}).items():
            with contextlib.suppress(Exception):  # an annotation may be any expression
                hints[name] = _evaluated(raw, {**names, **(namespace or {})})
        _HINTS[target] = hints
    return _HINTS[target]


def _evaluated(raw: Any, names: dict[str, Any]) -> Any:
    text = getattr(raw, "__forward_arg__", raw)
    return eval(text, names) if isinstance(text, str) else text  # noqa: S307 (as `typing` does)


def declared(hint: Any) -> Any:
    """Returns the declaration in an annotation.

    Args:
      hint: an evaluated annotation.

    Returns:
      A `Number`, a `Slot`, a `Kind`, a tuple of these for an annotated tuple, or None.
    """
    if typing.get_origin(hint) is Annotated:
        for item in hint.__metadata__:
            if isinstance(item, Number | Slot | Kind):
                return item
        return declared(hint.__origin__)
    if typing.get_origin(hint) in (Union, types.UnionType):
        return next(filter(None, map(declared, typing.get_args(hint))), None)
    if typing.get_origin(hint) is tuple:
        parts = tuple(map(declared, typing.get_args(hint)))
        return parts if any(parts) else None
    return None


def is_count(kind: Any) -> bool:
    """Returns whether a declaration is that of a count of updates.

    Args:
      kind: a declaration, or None.

    Returns:
      A bool.
    """
    return isinstance(kind, Kind) and kind.name == "count"


def is_inner(kind: Any) -> bool:
    """Returns whether a declaration is that of the state of an inner transformation.

    Args:
      kind: a declaration, or None.

    Returns:
      A bool.
    """
    return isinstance(kind, Kind) and kind.name == "inner"


def kinds_of(target: Any, namespace: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns the declarations of the fields of a state class or of the arguments of a function.

    Args:
      target: a function or a class.
      namespace: additional names for the evaluation, besides those of its module.

    Returns:
      The declarations by name; undeclared fields and arguments are absent.
    """
    hints = hints_of(target, namespace)
    return {name: kind for name, hint in hints.items() if (kind := declared(hint))}


def is_number(kind: Any) -> bool:
    """Returns whether a declaration is that of a non-integer number, or of a tuple of such numbers.

    Args:
      kind: a declaration, or None.

    Returns:
      A bool.
    """
    if isinstance(kind, tuple):
        return all(map(is_number, kind))
    return isinstance(kind, Number) and not kind.integer


def admits_number(hint: Any) -> bool:
    """Returns whether an annotation without a declaration admits a float.

    Args:
      hint: the evaluated annotation, or None.

    Returns:
      True for float, arrays, `Any`, unions that contain one of these, and a missing annotation.
    """
    if hint is None or hint is Any or isinstance(hint, str | typing.TypeVar):
        return True
    if typing.get_origin(hint) in (Union, types.UnionType, Annotated):
        return any(map(admits_number, typing.get_args(hint)))
    return isinstance(hint, type) and issubclass(
        hint, float | complex | jax.Array | np.ndarray | np.number
    )


class LeafKind(NamedTuple):
    """A leaf as described by `leaf_kinds`.

    Attributes:
      path: its path as a Python expression: "[0].mu['w']".
      names: the fields, keys and indices above it.
      field: the index in `names` of the innermost field of a NamedTuple; -1 without one.
      kind: the declaration of the innermost declared field; None without one.
    """

    path: str
    names: tuple[str, ...]
    field: int
    kind: Any


def leaf_kinds(state: Any) -> list[LeafKind]:
    """Returns the names above each leaf of a state, and the declaration of its field.

    Args:
      state: a tree.

    Returns:
      A list aligned with `jax.tree.leaves(state)`.
    """
    leaves: list[LeafKind] = []
    _collect(state, LeafKind("", (), -1, None), leaves)
    return leaves


def _collect(node: Any, above: LeafKind, leaves: list[LeafKind]) -> None:
    pairs, _ = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    if len(pairs) == 1 and pairs[0][0] == ():
        leaves.append(above)
        return
    fields = getattr(node, "_fields", ())
    kinds = kinds_of(type(node)) if fields else {}
    for path, child in pairs:
        key = path[-1]
        name = str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key))))
        kind = kinds.get(name) if fields else above.kind
        place = len(above.names) if fields else above.field
        shown = above.path + jax.tree_util.keystr(path)
        _collect(child, LeafKind(shown, (*above.names, name), place, kind), leaves)
