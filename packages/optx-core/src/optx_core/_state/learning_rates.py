"""The effective learning rate of an optimizer: the product of all factors on its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optx_core import OptState, build
from optx_core._combinators.chain import chain, named_chain
from optx_core._combinators.masked import masked
from optx_core._combinators.partition import partition
from optx_core._protocol.kinds import Slot
from optx_core._protocol.recorded import returned_by
from optx_core._state.composition import (
    Place,
    is_transformation,
    members,
    parts_inside,
    recorded_of,
    schedule_count,
    shortest,
)
from optx_core._transforms.scale import scale, scale_by_learning_rate, scale_by_schedule
from optx_core._transforms.stateless import set_to_zero
from optx_core._wrappers.freeze import freeze, selective_transform
from optx_core._wrappers.inject_hyperparams import InjectStatefulHyperparamsState, current

Factors = dict[Place, Any]
"""The factor on the updates of each group, or None."""


def learning_rates(tx: Any, state: OptState) -> dict[str, Any]:
    """Returns the effective learning rate of each group at the next update.

    It is the product of all factors on a step: learning rates, `scale`, `scale_by_schedule` and state
    fields declared as `build.Factor` (the scale of `reduce_on_plateau`), with schedules evaluated and
    injected numbers read from the state. A factor before a whole optimizer scales its gradients, not its
    steps, and is ignored: that of `scale` in `chain(scale(0.5), adamw(1e-3))`, for example.

    Args:
      tx: a transformation created by recorded functions (such as all of optx's).
      state: its state, which may be traced.

    Returns:
      The learning rates: "learning_rate" if there is only one, otherwise by place,
      "1/decay/learning_rate"; those of a mask by "True" and "False", those of two transformations in one
      wrapper (`diloco`) by the names of its arguments. Frozen groups have 0.

    Raises:
      TypeError: if the transformation was not created by a recorded function.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import chain, learning_rates, partition, scale, scale_by_learning_rate, trace
      >>> sgd = chain(trace(0.9), scale_by_learning_rate(lambda count: 0.5**count))
      >>> groups = partition({"fast": sgd, "slow": scale(-0.25)}, {"w": "fast", "b": "slow"})
      >>> tx = chain(groups, scale(0.5))
      >>> state = tx.init({"w": jnp.ones(1), "b": jnp.ones(1)})
      >>> {place: float(rate) for place, rate in learning_rates(tx, state).items()}
      {'0/fast/learning_rate': 0.5, '0/slow/learning_rate': 0.125}
    """
    if build.call_of(recorded_of(tx)) is None:
        raise TypeError(
            f"learning_rates: {tx!r} was not made by a recorded function, so its factors are unknown"
        )
    rates = [
        ((*place, "learning_rate"), "", 0.0 - factor)
        for place, factor in _factors(tx, state).items()
        if factor is not None
    ]
    return shortest(rates)


def _factors(tx: Any, state: Any) -> Factors:
    """Returns the signed factors on the updates, negative for descent."""
    tx = recorded_of(tx)
    call = build.call_of(tx)
    if call is None:
        return {(): None}
    arguments = call.arguments

    def current_value(value: Any) -> Any:
        return build.evaluate(value, schedule_count(value, tx, state)) if callable(value) else value

    if isinstance(state, InjectStatefulHyperparamsState):
        return _factors(current(tx, state), state.inner_state)
    if call.function in _READERS:
        name, sign = _READERS[call.function](arguments)
        return {(): sign * current_value(arguments[name])}
    if call.function is set_to_zero:
        return {(): 0.0}
    if call.function in (chain, named_chain):
        return _chained(tx, state)
    parts = members(tx, state)
    if call.function is partition:
        return _grouped({label: _factors(part, own) for label, part, own in parts})
    if call.function is masked:
        return _grouped({"True": _factors(*parts[0][1:]), "False": {(): None}})
    if call.function is freeze:
        return _grouped({"True": {(): 0.0}, "False": {(): None}})
    if call.function is selective_transform:
        return _grouped({"train": _factors(*parts[0][1:]), "freeze": {(): 0.0}})
    own = _declared(state)
    inner = returned_by(tx)
    within: Factors = _factors(inner, state) if inner is not None else {(): None}
    if not _any(within) and parts:
        names = [name for name, value in arguments.items() if is_transformation(value)]
        if len(names) == len(parts) > 1:  # neither takes the updates of the other
            named = zip(names, parts, strict=True)
            within = _grouped({name: _factors(*part[1:]) for name, part in named})
        else:
            within = _chained(tx, state)
    rate = arguments.get("learning_rate")
    if rate is not None and not (_any(within) and _is_passed_on(rate, tx, state)):
        within = {(): -current_value(rate)}
        if inner is not None:
            # A transformation that was passed in scales its own steps only.
            given = {id(part) for _, member, own in parts for part in _with_parts(member, own)}
            states = {id(x): x for part, x in parts_inside(tx, state) if id(part) not in given}
            for x in states.values():  # each once
                within = _product(within, _declared(x))
    is_counted = inner is not None or any(part[2] is state for part in parts)  # by a part
    return within if is_counted else _product(within, own)


_READERS: dict[Any, Callable[[dict[str, Any]], tuple[str, float]]] = {
    scale: lambda arguments: ("step_size", 1.0),
    scale_by_schedule: lambda arguments: ("step_size_fn", 1.0),
    scale_by_learning_rate: lambda arguments: (
        "learning_rate",
        -1.0 if arguments["flip_sign"] else 1.0,
    ),
}


def _with_parts(tx: Any, state: Any) -> list[Any]:
    """Returns a transformation and the parts of it."""
    return [tx, *(part for part, _ in parts_inside(tx, state))]


def _chained(tx: Any, state: Any) -> Factors:
    total: Factors = {(): None}
    for label, part, own in members(tx, state):
        factors = _factors(part, own)
        if not _any(factors):
            continue
        if any(isinstance(leaf.kind, Slot) for leaf in build.leaf_kinds(own)):
            total = {(): None}  # factors before an optimizer scale its gradients
        if label is not None:
            factors = {(label, *place) if place else (): f for place, f in factors.items()}
        total = _product(total, factors)
    return total


def _is_passed_on(rate: Any, tx: Any, state: Any) -> bool:
    """Returns whether a learning rate, or a schedule built from it, is a factor of an inner part."""
    for part, _ in parts_inside(tx, state):
        call = build.call_of(part)
        if call is not None and call.function in _READERS:
            name, sign = _READERS[call.function](call.arguments)
            value = call.arguments[name]
            schedule = build.call_of(value)
            built = schedule is not None and any(
                item is rate for item in schedule.arguments.values()
            )
            if (value is rate or built) and (
                sign < 0 or call.function is not scale_by_learning_rate
            ):
                return True
    return False


def _grouped(groups: dict[str | None, Factors]) -> Factors:
    return {
        (str(label), *place): factor
        for label, factors in groups.items()
        for place, factor in factors.items()
    }


def _declared(state: Any) -> Factors:
    """Returns the product of the fields of a state that are declared as factors."""
    factor: Any = None
    for name, kind in build.kinds_of(type(state)).items():
        if isinstance(kind, build.Kind) and kind.name == "factor":
            value = getattr(state, name)
            factor = value if factor is None else factor * value
    return {(): factor}


def _any(factors: Factors) -> bool:
    return any(factor is not None for factor in factors.values())


def _product(one: Factors, other: Factors) -> Factors:
    return {
        (*a, *b): y if x is None else x if y is None else x * y
        for a, x in one.items()
        for b, y in other.items()
    }
