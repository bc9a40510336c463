"""The parts of an optimizer: its inner transformations, each with its place and its state.

A place is the path of labels to a part: its index in a `chain`, its name in a `named_chain`, its group in a
`partition`, its argument in a wrapper of several transformations. Wrappers of one add no label.
`hyperparams`, `metrics`, `learning_rates` and `summarize` name numbers by their places,
"1/decay/learning_rate", and `tree.get` finds those of the state by the same names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from optx_core import build
from optx_core._protocol.recorded import Part, returned_by
from optx_core._wrappers.multi_steps import MultiSteps

Place = tuple[str, ...]


def recorded_of(tx: Any) -> Any:
    """Returns the recorded transformation behind `tx` (`MultiSteps`, optax's pair), or `tx` itself."""
    if isinstance(tx, MultiSteps):
        return tx.gradient_transformation()
    update = getattr(tx, "update", None)
    if build.call_of(tx) is None and isinstance(update, Part):
        return update.call.replace()
    return tx


def is_transformation(value: Any) -> bool:
    """Returns whether a value has `init` and `update`."""
    return callable(getattr(value, "init", None)) and callable(getattr(value, "update", None))


def members(tx: Any, state: Any) -> list[tuple[str | None, Any, Any]]:
    """Returns the transformations among a call's arguments: label, object, state.

    The label is None for the one transformation of a wrapper, and the argument's name if there are several.
    """
    call = build.call_of(tx)
    if call is None:
        return []
    arguments = list(_arguments(call))
    if getattr(call.function, "keeps_inner_state", False):
        return [(label, recorded_of(member), state) for label, member in arguments]
    states = _inner_states(state, len(arguments))
    places = list(states)
    return [
        (
            label,
            recorded_of(member),
            states.get(label, states[places[k]] if k < len(places) else state),
        )
        for k, (label, member) in enumerate(arguments)
    ]


def schedule_count(schedule: Any, tx: Any, state: Any) -> Any:
    """Returns the count at which a schedule among a call's arguments is evaluated next.

    This is the count of the part to which the schedule was passed on (`adamw` passes its learning rate on to
    `scale_by_learning_rate`), by default the first count of the state.
    """
    for part, part_state in parts_inside(tx, state):
        call = build.call_of(part)
        if call is not None and any(item is schedule for item in _items(call)):
            return schedule_count(schedule, part, part_state)
    return first_count(state)


def first_count(state: Any) -> Any:
    """Returns the first count in a state, or None."""
    for name, kind in build.kinds_of(type(state)).items():
        if build.is_count(kind):
            return getattr(state, name)
    children = state.values() if isinstance(state, dict) else state
    if isinstance(state, tuple | list | dict):
        for child in children:
            count = first_count(child)
            if count is not None:
                return count
    return None


def shortest(entries: list[tuple[Place, str, Any]]) -> dict[str, Any]:
    """Names values by the last label of their place; if ambiguous by the place, then by the part too.

    Args:
      entries: the place, the call and the value of each entry.
    """
    lasts = [place[-1] for place, _, _ in entries]
    places = [place for place, _, _ in entries]
    named: dict[str, Any] = {}
    for k, (place, owner, value) in enumerate(entries):
        name = name_of = place[-1]
        if lasts.count(name) > 1:
            name = "/".join(place)
            if places.count(place) > 1:
                twin = sum((p, o) == (place, owner) for p, o, _ in entries[:k])
                name = "/".join((*place[:-1], f"{owner}[{twin}]" if twin else owner, name_of))
        named[name] = value
    return named


def parts_inside(tx: Any, state: Any) -> Iterator[tuple[Any, Any]]:
    """Yields the parts of a transformation with their states, recursively."""
    inner = returned_by(tx)
    if inner is not None:
        yield inner, state
        yield from parts_inside(inner, state)
    else:
        for _, member, member_state in members(tx, state):
            yield member, member_state
            yield from parts_inside(member, member_state)


def _items(call: build.Call) -> Iterator[Any]:
    for value in call.arguments.values():
        yield value
        if isinstance(value, tuple) and not is_transformation(value):
            yield from value


def _arguments(call: build.Call) -> Iterator[tuple[str | None, Any]]:
    several = sum(map(is_transformation, call.arguments.values())) > 1
    for name, value in call.arguments.items():
        if isinstance(value, Mapping):
            yield from ((str(k), tx) for k, tx in value.items() if is_transformation(tx))
        elif isinstance(value, tuple) and not is_transformation(value):
            for place, item in enumerate(value):
                named = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
                label, tx = item if named else (str(place), item)
                if is_transformation(tx):
                    yield label, tx
        elif is_transformation(value):
            yield name if several else None, value


def _inner_states(state: Any, count: int) -> dict[Any, Any]:
    """Returns the states of the inner transformations, by label or in order.

    JAX sorts the keys of a dict when it flattens it.
    """
    if isinstance(state, dict):
        return {str(key): part for key, part in state.items()}
    if not hasattr(state, "_fields"):
        whole = isinstance(state, tuple) and len(state) == count
        return {str(k): part for k, part in enumerate(state)} if whole else {}
    states: dict[Any, Any] = {}
    for name, kind in build.kinds_of(type(state)).items():
        if build.is_inner(kind):
            inner = getattr(state, name)
            if name == "inner_states":  # of a partition; that of a `named_chain` is a dict, too
                states |= {str(key): part.inner_state for key, part in inner.items()}
            else:
                states[name,] = inner
    return states
