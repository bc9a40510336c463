"""The effective learning rate of an optimizer: the product of all factors on its steps."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from optx_core import OptState, build
from optx_core._combinators.chain import chain, named_chain
from optx_core._combinators.masked import masked
from optx_core._combinators.partition import partition
from optx_core._protocol.kinds import Slot
from optx_core._protocol.recorded import returned_by
from optx_core._state.composition import (
    Place,
    members,
    parts_inside,
    recorded_of,
    schedule_count,
    shortest,
)
from optx_core._transforms.scale import scale, scale_by_learning_rate, scale_by_schedule
from optx_core._transforms.stateless import set_to_zero
from optx_core._wrappers.freeze import freeze, selective_transform
from optx_core._wrappers.inject_hyperparams import current, is_injected

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
        (_named(place), "", 0.0 - factor)
        for place, factor in _factors(tx, state).items()
        if factor is not None
    ]
    return shortest(rates)


def _named(place: Place) -> Place:
    """Returns the name of a factor: its place, then the argument of its group or "learning_rate"."""
    own = [label for label in place if label.endswith(_OF_GROUP)]
    return (*(label for label in place if label not in own), *(own or ["learning_rate"]))


def _factors(tx: Any, state: Any) -> Factors:
    """Returns the signed factors on the updates, negative for descent."""
    tx = recorded_of(tx)
    call = build.call_of(tx)
    if call is None:
        return {(): None}
    if is_injected(tx):
        return _factors(current(tx, state), state.inner_state)
    if call.function in _NUMBERS:
        name, sign = _NUMBERS[call.function](call.arguments)
        return {(): _current(sign, call.arguments[name], tx, state)}
    return _readers().get(call.function, _of_call)(tx, state)


def _of_call(tx: Any, state: Any) -> Factors:
    """Returns the factors of its parts, or its learning rates, and those that its state declares."""
    arguments, inner = build.call_of(tx).arguments, returned_by(tx)  # type: ignore[union-attr]
    within = _of_parts(tx, state) if inner is None else _factors(inner, state)
    rate = arguments.get("learning_rate")
    # The rate of a wrapper that hides its steps is that of the transformation inside, for other uses.
    if rate is None or (_any(within) and (inner is None or _is_passed_on(rate, tx, state))):
        return within if inner is not None else _product(within, _declared(tx, state))
    names = (f"{label}{_OF_GROUP}" for label in getattr(state, "inner_states", ()))
    given: Factors = {(): rate, **{(name,): arguments.get(name) for name in names}}
    rates: Factors = {
        place: _current(-1.0, value, tx, state)
        for place, value in given.items()
        if value is not None
    }
    return _product(rates, _declared(tx, state))


def _of_parts(tx: Any, state: Any) -> Factors:
    """Returns the factors of the transformations passed to a wrapper."""
    arguments = build.call_of(tx).arguments  # type: ignore[union-attr]
    apart = [label in arguments for label, _, _ in members(tx, state)]
    return _of_groups(tx, state) if apart and all(apart) else _of_chain(tx, state)


def _of_chain(tx: Any, state: Any) -> Factors:
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


def _of_groups(tx: Any, state: Any) -> Factors:
    return _grouped({label: _factors(part, own) for label, part, own in members(tx, state)})


def _of_mask(tx: Any, state: Any) -> Factors:
    return _grouped({"True": _of_chain(tx, state), "False": {(): None}})


def _of_selection(tx: Any, state: Any) -> Factors:
    return _grouped({"train": _of_chain(tx, state), "freeze": {(): 0.0}})


_OF_GROUP = "_learning_rate"  # the argument of a group, such as muon's adam_learning_rate
_NUMBERS: dict[Any, Callable[[dict[str, Any]], tuple[str, float]]] = {
    scale: lambda arguments: ("step_size", 1.0),
    scale_by_schedule: lambda arguments: ("step_size_fn", 1.0),
    scale_by_learning_rate: lambda arguments: (
        "learning_rate",
        -1.0 if arguments["flip_sign"] else 1.0,
    ),
}


def _readers() -> dict[Any, Callable[[Any, Any], Factors]]:
    return {
        chain: _of_chain,
        named_chain: _of_chain,
        partition: _of_groups,
        masked: _of_mask,
        selective_transform: _of_selection,
        freeze: lambda tx, state: _grouped({"True": {(): 0.0}, "False": {(): None}}),
        set_to_zero: lambda tx, state: {(): 0.0},
    }


def _current(sign: float, value: Any, tx: Any, state: Any) -> Any:
    """Returns a number, or the value of a schedule at the next update, with a sign."""
    count: Any = schedule_count(value, tx, state) if callable(value) else None
    return sign * build.evaluate(value, count)


def _is_passed_on(rate: Any, tx: Any, state: Any) -> bool:
    """Returns whether a learning rate, or a schedule built from it, is a factor of an inner part."""
    for part, _ in parts_inside(tx, state):
        call = build.call_of(part)
        if call is not None and call.function in _NUMBERS:
            name, sign = _NUMBERS[call.function](call.arguments)
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


def _declared(tx: Any, state: Any) -> Factors:
    """Returns the product of the factors that a state declares, less those of transformations passed in."""
    given = {
        id(part)
        for _, member, own in members(tx, state)
        for part in (member, *(part for part, _ in parts_inside(member, own)))
    }
    inside = list(parts_inside(tx, state))
    theirs = {id(x) for part, x in inside if id(part) in given}
    states = {id(x): x for x in (state, *(x for _, x in inside)) if id(x) not in theirs}
    factors = [
        jnp.sum(getattr(x, name))
        for x in states.values()
        for name, kind in build.kinds_of(type(x)).items()
        if isinstance(kind, build.Kind) and kind.name == "factor"
    ]
    return {(): functools.reduce(operator.mul, factors) if factors else None}


def _grouped(groups: dict[str | None, Factors]) -> Factors:
    return {
        (str(label), *place): factor
        for label, factors in groups.items()
        for place, factor in factors.items()
    }


def _any(factors: Factors) -> bool:
    return any(factor is not None for factor in factors.values())


def _product(one: Factors, other: Factors) -> Factors:
    return {
        (*a, *b): y if x is None else x if y is None else x * y
        for a, x in one.items()
        for b, y in other.items()
    }
