"""Declarations: what a field of a state is, and what an argument of a transformation is.

A declaration is the metadata of an annotation, `Annotated[PyTree, slot(dtype="mu_dtype")]`, or one of the
aliases below. Whatever has to know reads the declaration: `rule` (initial values, checks, schedules),
`inject_hyperparams`, `hyperparams`, `metrics`, `tree.map_params`, `quantize_state` and the conformance kit.
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
      rate: whether equations see the number as a decay rate, whose `1 - b` and `1 - b**t` are exact.
      schedule: whether a schedule may be given in its place.
      own_count: whether a schedule is evaluated at the state's own count, without a `ScheduledState`;
        of several counts the first, or the field of this name.
      finite: whether infinity is refused; False for limits, where it means none.
      integer: whether the number is a plain int, which is part of the compiled program.
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
    """A field with one array for each parameter. `slot` makes it and describes the attributes."""

    dtype: str = ""
    nonnegative: bool = False
    fill: Any = 0.0
    init: Callable[..., jax.Array] | None = None
    constant: bool = False
    exact: bool = False


@dataclasses.dataclass(frozen=True)
class Kind:
    """A declaration of another kind of field or argument.

    Attributes:
      name: "count", "key", "inner", "number", "factor" (fields), "dtype" (arguments).
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
    """Declares a field with one array for each parameter.

    Args:
      dtype: the argument that names its dtype, by default `<field>_dtype`. Without such an argument, and
        for None, it is the parameter's, at least float32.
      nonnegative: whether it has no negative entries, as second moments: real for complex parameters.
      fill: the initial value: a number; "params" for a copy of the parameter; or a function of the
        transformation's arguments (by keyword) that returns a number.
      init: `init(p, **arguments)` returns the initial array, of a shape of its own (row sums, one number
        for each array, preconditioners); it sees p in at least float32. Without it the slot has the
        parameter's shape.
      constant: whether equations only read it.
      exact: whether `quantize_state` leaves it alone.

    Returns:
      The declaration, to be put into `Annotated[PyTree, slot(...)]`.

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
"""An int32 scalar: the number of updates so far. Equations see the number of this update, 1 at the first."""
Moment: TypeAlias = Annotated[Any, slot()]
"""A tree of arrays of the parameters' shapes and dtypes (at least float32), zero at first."""
SecondMoment: TypeAlias = Annotated[Any, slot(nonnegative=True)]
"""The same without negative entries; real for complex parameters."""
Key: TypeAlias = Annotated[Any, Kind("key")]
"""A key of `jax.random`, also the argument of that name that it comes from, a key or a seed. Equations see an
`ArrayKey`: `s.key.at(s.count)` is the key of this array at this update."""
InnerState: TypeAlias = Annotated[Any, Kind("inner")]
"""The state of a transformation inside this one, or a dict or tuple of them."""
Measured: TypeAlias = Annotated[Any, Kind("number", measured=True)]
"""A measurement, or a dict of measurements, that `metrics` reports."""
Factor: TypeAlias = Annotated[Any, Kind("factor", measured=True)]
"""A scalar that the updates are multiplied by: `metrics` reports it, `learning_rates` multiplies with it."""
MeasuredCount: TypeAlias = Annotated[Any, Kind("count", measured=True)]
"""A count that `metrics` reports."""

# Arguments. Equations see a number where a user may give a schedule, hence Any.
Real: TypeAlias = Annotated[Any, Number()]
"""A number."""
Nonnegative: TypeAlias = Annotated[Any, Number(low=0)]
"""A number of at least 0."""
Positive: TypeAlias = Annotated[Any, Number(above=0)]
"""A number greater than 0."""
Limit: TypeAlias = Annotated[Any, Number(above=0, finite=False)]
"""A number greater than 0, or infinity for no limit."""
Rate: TypeAlias = Annotated[Any, Number(low=0, below=1, rate=True)]
"""A decay rate b in [0, 1): equations write `1 - b` and `1 - b**t`, each rounded once."""
ClosedRate: TypeAlias = Annotated[Any, Number(low=0, high=1, rate=True)]
"""The same in [0, 1]."""
LearningRate: TypeAlias = Annotated[Any, Number(low=0, own_count=True)]
"""A number of at least 0 whose schedules are evaluated at the state's own count."""
PositiveInt: TypeAlias = Annotated[int, Number(low=1, integer=True, schedule=False)]
"""An int of at least 1."""
NonnegativeInt: TypeAlias = Annotated[int, Number(low=0, integer=True, schedule=False)]
"""An int of at least 0."""
DType: TypeAlias = Annotated[Any, Kind("dtype")]
"""A dtype of a slot, or None for the parameter's, at least float32."""


_HINTS: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()


def hints_of(target: Any, namespace: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The annotations of a function or a class, evaluated, with the metadata of `Annotated`.

    Args:
      target: a function or a class.
      namespace: where to look for names that its module does not have.

    Returns:
      The annotations by name, without those that cannot be evaluated.
    """
    if isinstance(target, functools.partial):
        target = target.func
    if not isinstance(target, type | types.FunctionType):
        return {}
    if target not in _HINTS:
        module = sys.modules.get(target.__module__)
        names = dict(vars(module)) if isinstance(target, type) and module else {}
        names |= getattr(inspect.unwrap(target), "__globals__", {})
        hints = {}
        for name, raw in getattr(target, "__annotations__", {}).items():
            with contextlib.suppress(Exception):  # an annotation may hold anything
                hints[name] = _evaluated(raw, {**names, **(namespace or {})})
        _HINTS[target] = hints
    return _HINTS[target]


def _evaluated(raw: Any, names: dict[str, Any]) -> Any:
    text = getattr(raw, "__forward_arg__", raw)
    return eval(text, names) if isinstance(text, str) else text  # noqa: S307 (as typing does)


def declared(hint: Any) -> Any:
    """The declaration in an annotation.

    Args:
      hint: an annotation, evaluated.

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
    """Whether a declaration is that of a count of updates.

    Args:
      kind: a declaration, or None.

    Returns:
      A bool.
    """
    return isinstance(kind, Kind) and kind.name == "count"


def is_inner(kind: Any) -> bool:
    """Whether a declaration is that of the state of another transformation.

    Args:
      kind: a declaration, or None.

    Returns:
      A bool.
    """
    return isinstance(kind, Kind) and kind.name == "inner"


def kinds_of(target: Any, namespace: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The declarations of a state class's fields or of a function's arguments.

    Args:
      target: a function or a class.
      namespace: where to look for names that its module does not have.

    Returns:
      The declarations by name; undeclared fields and arguments are absent.
    """
    hints = hints_of(target, namespace)
    return {name: kind for name, hint in hints.items() if (kind := declared(hint))}


def is_number(kind: Any) -> bool:
    """Whether a declaration is that of a number that need not be an int, or of a tuple of such numbers.

    Args:
      kind: a declaration, or None.

    Returns:
      A bool.
    """
    if isinstance(kind, tuple):
        return all(map(is_number, kind))
    return isinstance(kind, Number) and not kind.integer


def admits_number(hint: Any) -> bool:
    """Whether an annotation without a declaration admits a float.

    Args:
      hint: the annotation, evaluated; None where there is none.

    Returns:
      True for float, arrays, `Any`, unions that contain one of these, and where there is no annotation.
    """
    if hint is None or hint is Any or isinstance(hint, str | typing.TypeVar):
        return True
    if typing.get_origin(hint) in (Union, types.UnionType, Annotated):
        return any(map(admits_number, typing.get_args(hint)))
    return isinstance(hint, type) and issubclass(
        hint, float | complex | jax.Array | np.ndarray | np.number
    )


class LeafKind(NamedTuple):
    """What `leaf_kinds` tells of a leaf.

    Attributes:
      path: its path, as Python writes it: "[0].mu['w']".
      names: the fields, keys and places above it.
      field: the place in `names` of the innermost field of a NamedTuple; -1 without one.
      kind: the declaration of the innermost declared field; None without one.
    """

    path: str
    names: tuple[str, ...]
    field: int
    kind: Any


def leaf_kinds(state: Any) -> list[LeafKind]:
    """The names above each leaf of a state, and the declaration of the field that it belongs to.

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
