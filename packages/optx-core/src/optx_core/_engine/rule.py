"""`rule`: transformations from their equations for one array.

    class ScaleByLionState(NamedTuple):
        count: Count
        mu: Annotated[PyTree, slot(dtype="mu_dtype")]

    @rule(ScaleByLionState)
    def scale_by_lion(g, s, /, b1: Rate = 0.9, b2: Rate = 0.99, mu_dtype: DType = None):
        return jnp.sign(b1 * s.mu + (1 - b1) * g), s._replace(mu=b2 * s.mu + (1 - b2) * g)

The state's class declares each field, the annotations declare each argument (`optx_core.build`).
Everything else is derived: `init`, `update`, range checks, schedules, the recorded call, operands that do
not trigger recompilation, and one pass over each array, fused with the neighbours in a chain.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, Literal, ParamSpec, TypeAlias, overload

import jax
import jax.numpy as jnp

from optx_core._engine.factory import choices, factory
from optx_core._engine.keys import ArrayKey, key_of, numbered
from optx_core._engine.leafwise import LeafStep
from optx_core._engine.numbers import need_params, safe_increment, zero_count
from optx_core._engine.rates import rate_of
from optx_core._engine.scheduled import evaluate
from optx_core._engine.slots import copy_of, map_slots, slots_like
from optx_core._engine.staged import leafwise
from optx_core._protocol.diagnosis import check_state
from optx_core._protocol.dtypes import at_least_float32
from optx_core._protocol.kinds import Kind, Number, Slot, hints_of, is_count, kinds_of
from optx_core._protocol.kinds import declared as declared_kind
from optx_core._protocol.types import (
    EmptyState,
    GradientTransformationExtraArgs,
    OptState,
    Params,
    PyTree,
)

P = ParamSpec("P")
Factory = Callable[P, GradientTransformationExtraArgs]
Check: TypeAlias = Callable[..., None] | None
Around: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]] | None
Fields: TypeAlias = Mapping[str, Slot] | None


@overload
def rule(
    state: None = None,
    /,
    *,
    params: Literal[False] = False,
    fields: Fields = None,
    check: Check = None,
    around: Around = None,
) -> Callable[[Callable[Concatenate[Any, P], Any]], Factory[P]]: ...
@overload
def rule(
    state: None = None,
    /,
    *,
    params: Literal[True],
    fields: Fields = None,
    check: Check = None,
    around: Around = None,
) -> Callable[[Callable[Concatenate[Any, Any, P], Any]], Factory[P]]: ...
@overload
def rule(
    state: type,
    /,
    *,
    params: Literal[False] = False,
    fields: Fields = None,
    check: Check = None,
    around: Around = None,
) -> Callable[[Callable[Concatenate[Any, Any, P], Any]], Factory[P]]: ...
@overload
def rule(
    state: type,
    /,
    *,
    params: Literal[True],
    fields: Fields = None,
    check: Check = None,
    around: Around = None,
) -> Callable[[Callable[Concatenate[Any, Any, Any, P], Any]], Factory[P]]: ...
def rule(
    state: type | None = None,
    /,
    *,
    params: bool = False,
    fields: Fields = None,
    check: Check = None,
    around: Around = None,
) -> Any:
    """Makes a transformation from the equations for one array.

    Args:
      state: the class of the state, a NamedTuple whose fields are declared (`Count`, `Moment`,
        `Annotated[PyTree, slot(...)]`); None for equations without a state.
      params: whether the equations take the parameter. `update` then needs the parameters.
      fields: declarations by field that replace those of the class, such as other initial values.
      check: `check(**arguments)`, called with the arguments of each call, to reject combinations that the
        annotations cannot express.
      around: a decorator of the lifted equations `(g, *slots, p) -> (update, *slots)`, such as one that
        gathers whole matrices.

    Returns:
      A decorator of `equations(g, s, /, ...)`, or `equations(g, p, s, /, ...)` with `params`; s is left out
      if there is no state. g is the update, p the parameter and s the state of this array; the others are
      the transformation's arguments. The equations return the new update, or the pair of the new update
      and `s._replace(...)`. Arrays have at least float32. The decorated function takes the arguments and
      returns the transformation; its errors name it without leading underscores.

    Raises:
      TypeError: when the module is imported, if a field or an argument lacks a declaration that it needs.

    Example:
      >>> import jax.numpy as jnp
      >>> from typing import NamedTuple
      >>> from optx_core.build import ClosedRate, Moment, rule
      >>> class HeavyBallState(NamedTuple):
      ...     velocity: Moment
      >>> @rule(HeavyBallState)
      ... def heavy_ball(g, s, /, decay: ClosedRate = 0.9):
      ...     velocity = decay * s.velocity + g
      ...     return velocity, s._replace(velocity=velocity)
      >>> tx = heavy_ball(0.5)
      >>> tx
      heavy_ball(decay=0.5)
      >>> updates, state = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
      >>> tx.update(jnp.ones(2), state)[0]
      Array([1.5, 1.5], dtype=float32)
    """

    def decorate(equations: Callable[..., Any]) -> Any:
        kind = state or EmptyState
        return _Rule(equations, kind, params=params, fields=fields, around=around).factory(check)

    return decorate


class _Rule:
    """The equations for one array, and their declarations."""

    def __init__(
        self,
        equations: Callable[..., Any],
        state: Any,
        *,
        params: bool,
        fields: Fields,
        around: Any,
    ) -> None:
        self.equations, self.state, self.params = equations, state, params
        self.where = equations.__name__.lstrip("_")
        signature = inspect.signature(equations)
        self.inputs = [*"g", *"p" * params, *"s" * (state is not EmptyState)]
        first = [name.lstrip("_") for name in list(signature.parameters)[: len(self.inputs)]]
        if first != self.inputs:
            raise TypeError(f"{self.where}: the equations must begin with {', '.join(self.inputs)}")
        self.arguments = list(signature.parameters.values())[len(self.inputs) :]
        self.signature = signature.replace(
            parameters=self.arguments, return_annotation=GradientTransformationExtraArgs
        )
        self.hints = {p.name: hints_of(equations).get(p.name) for p in self.arguments}
        self.numbers = {k: kind for k, h in self.hints.items() if (kind := declared_kind(h))}
        self._declare_fields({**kinds_of(state, equations.__globals__), **(fields or {})})
        self._check_declarations()
        self.leaf = self._lift(around)

    def _declare_fields(self, kinds: Mapping[str, Any]) -> None:
        fields = {
            name: dataclasses.replace(kind, dtype=f"{name}_dtype")
            if isinstance(kind, Slot) and not kind.dtype and f"{name}_dtype" in self.hints
            else kind
            for name, kind in kinds.items()
        }
        slots = {name: kind for name, kind in fields.items() if isinstance(kind, Slot)}
        self.fields = fields
        self.slots = [n for n, kind in slots.items() if not kind.constant and kind.init is None]
        self.reduced = [n for n, kind in slots.items() if not kind.constant and kind.init]
        self.constants = [n for n, kind in slots.items() if kind.constant]
        self.counts = [n for n, kind in fields.items() if is_count(kind)]
        self.keys = [n for n, kind in fields.items() if kind == Kind("key")]

    def _check_declarations(self) -> None:
        known = {*self.slots, *self.reduced, *self.constants, *self.counts, *self.keys}
        for name in getattr(self.state, "_fields", ()):
            if name not in known:
                raise TypeError(
                    f"{self.where}: {self.state.__name__}.{name} needs a declaration: Count, Moment or "
                    "Annotated[PyTree, slot(...)]"
                )
        for parameter in self.arguments:
            kind = self.numbers.get(parameter.name)
            named = kind or choices(self.hints[parameter.name])
            if not named and type(parameter.default) in (float, int):
                raise TypeError(
                    f"{self.where}: {parameter.name} needs a declaration: Rate, Positive, "
                    "Nonnegative, Real, PositiveInt, ..."
                )
            if kind == Kind("key") and parameter.name not in self.keys:
                raise TypeError(
                    f"{self.where}: {parameter.name} needs a state field of the same name, `Key`"
                )
            if getattr(kind, "own_count", False) and not self.counts:
                raise TypeError(f"{self.where}: {parameter.name} needs a state with a Count")
        for name in self.keys:
            if self.numbers.get(name) != Kind("key"):
                raise TypeError(f"{self.where}: {name} must also be an argument, `{name}: Key`")
        for name, kind in self.fields.items():
            if isinstance(kind, Slot) and kind.dtype and kind.dtype not in self.hints:
                raise TypeError(f"{self.where}: {name}'s dtype {kind.dtype!r} is not an argument")
        self.dtypes = {kind.dtype for kind in self.fields.values() if isinstance(kind, Slot)}

    def _lift(self, around: Any) -> Callable[..., Any]:
        """The equations as a `LeafStep` calls them: `(g, *slots, p) -> (update, *slots)`."""
        names = [*self.slots, *self.reduced, *self.constants, *"p" * self.params]
        names += ["index"] * bool(self.keys)
        renewed = [*self.slots, *self.reduced]
        state, equations, inputs, counts = self.state, self.equations, self.inputs, self.counts
        keys = self.keys

        def leaf(g: Any, *arrays: Any, **operands: Any) -> Any:
            given = dict(zip(names, arrays, strict=True))
            p, index = given.pop("p", None), given.pop("index", None)
            array_keys = {n: ArrayKey(operands.pop(n), index) for n in keys}
            s = state(**given, **{n: operands.pop(n) for n in counts}, **array_keys)
            available = {"g": g, "p": p, "s": s}
            result = equations(*(available[name] for name in inputs), **operands)
            if not renewed:
                return result[0] if type(result) is tuple else result
            update, new = result if type(result) is tuple else (result, s)
            return (update, *(getattr(new, name) for name in renewed))

        leaf.__module__, leaf.__name__ = equations.__module__, equations.__name__
        leaf.__qualname__ = equations.__qualname__
        lifted: Any = leaf if around is None else around(leaf)
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        lifted.__signature__ = inspect.Signature(
            [inspect.Parameter(n, kind) for n in ("update" if "g" in names else "g", *names)]
        )
        return lifted

    def factory(self, check: Callable[..., None] | None) -> Any:
        """Returns the function that makes the transformation."""

        def make(*args: Any, **kwargs: Any) -> GradientTransformationExtraArgs:
            bound = self.signature.bind(*args, **kwargs)
            bound.apply_defaults()
            if check is not None:
                check(**bound.arguments)
            return self._transformation(bound.arguments)

        functools.update_wrapper(make, self.equations)
        del make.__wrapped__  # type: ignore[attr-defined]
        make.__annotations__ = {**self.hints, "return": GradientTransformationExtraArgs}
        make.__signature__ = self.signature  # type: ignore[attr-defined]
        return factory(make)

    def _transformation(self, arguments: dict[str, Any]) -> GradientTransformationExtraArgs:
        fixed = {
            name: self._operand(name, value)
            for name, value in arguments.items()
            if name not in self.dtypes and name not in self.keys
        }
        scheduled = {
            name: kind.own_count if isinstance(kind.own_count, str) else self.counts[0]
            for name, kind in self.numbers.items()
            if getattr(kind, "own_count", False) and callable(arguments[name])
        }

        def init(params: Params) -> OptState:
            slots = {
                name: _initial(kind, params, arguments)
                for name, kind in self.fields.items()
                if isinstance(kind, Slot)
            }
            keys = {name: key_of(arguments[name]) for name in self.keys}
            return self.state(**{name: zero_count() for name in self.counts}, **keys, **slots)

        def step(flow: Any, state: OptState, params: Params = None, **_: Any) -> LeafStep:
            check_state(flow.trail, self.state, state)
            trees = {name: getattr(state, name) for name in self.fields}
            counts = {name: safe_increment(trees[name]) for name in self.counts}
            at = {
                name: self._operand(name, evaluate(arguments[name], trees[count]))
                for name, count in scheduled.items()
            }
            rest = {name: trees[name] for name in self.constants}
            keys = {name: trees[name] for name in self.keys}

            def close(*new: PyTree) -> OptState:
                named = zip((*self.slots, *self.reduced), new, strict=True)
                return self.state(**dict(named), **rest, **counts, **keys)

            return LeafStep(
                self.leaf,
                slots=tuple(trees[name] for name in self.slots),
                reduced=tuple(trees[name] for name in self.reduced),
                reads=(
                    *rest.values(),
                    *((need_params(flow.trail, params),) if self.params else ()),
                    *((numbered(flow.skeleton),) if keys else ()),
                ),
                close=close,
                operands={**fixed, **at, **counts, **keys},
            )

        return leafwise(step, init)

    def _operand(self, name: str, value: Any) -> Any:
        kind = self.numbers.get(name)
        if self.hints[name] is bool:
            return bool(value)
        if isinstance(kind, tuple):
            return tuple(_operand(k, v) for k, v in zip(kind, value, strict=True))
        return _operand(kind, value)


def _operand(kind: Any, value: Any) -> Any:
    """Converts an argument for the equations: numbers to floats, decay rates to `DecayRate`."""
    if not isinstance(kind, Number) or kind.integer or value is None or callable(value):
        return value
    value = float(value) if isinstance(value, int) else value
    return rate_of(value) if kind.rate else value


def _initial(kind: Slot, params: Params, arguments: dict[str, Any]) -> PyTree:
    dtype = arguments[kind.dtype] if kind.dtype else None
    if kind.init is not None:
        make = functools.partial(kind.init, **arguments)
        return map_slots(lambda p: make(_wide(p, kind)), params)
    if kind.fill == "params":
        return copy_of(params, dtype)
    fill = kind.fill(**arguments) if callable(kind.fill) else kind.fill
    return slots_like(params, dtype, real=kind.nonnegative, fill_value=fill)


def _wide(p: Any, kind: Slot) -> Any:
    """The parameter for `slot(init=...)`: in at least float32, real for a second moment."""
    if isinstance(
        p, jax.ShapeDtypeStruct
    ):  # enough where the initial value depends on the shape alone
        return jax.eval_shape(lambda x: _wide(x, kind), p)
    p = jnp.asarray(p)
    p = p.real if kind.nonnegative else p
    return p.astype(at_least_float32(p.dtype))
