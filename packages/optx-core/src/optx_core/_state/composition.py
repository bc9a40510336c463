"""What an optimizer is made of: the transformations inside it, each with its place and its state.

A place is the path of labels to a part: its position in a `chain`, its name in a `named_chain`, its group
in a `partition`. Wrappers around one transformation add nothing to it. `hyperparams`, `metrics`,
`learning_rates` and `summarize` name numbers by their places, "1/decay/learning_rate", and `tree.get`
finds those of the state by the same names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from optx_core import build
from optx_core._protocol.recorded import Part, made_of
from optx_core._wrappers.multi_steps import MultiSteps

Place = tuple[str, ...]


def recorded_of(tx: Any) -> Any:
    """A transformation that carries its call, where one is behind `tx`: `MultiSteps`, optax's pair."""
    if isinstance(tx, MultiSteps):
        return tx.gradient_transformation()
    update = getattr(tx, "update", None)
    if build.call_of(tx) is None and isinstance(update, Part):
        return update.call.replace()
    return tx


def is_transformation(value: Any) -> bool:
    """Whether a value has `init` and `update`."""
    return callable(getattr(value, "init", None)) and callable(getattr(value, "update", None))


def members(tx: Any, state: Any) -> list[tuple[str | None, Any, Any]]:
    """The transformations among the arguments of a call: label (None for a wrapper's), object, state."""
    call = build.call_of(tx)
    if call is None:
        return []
    found = list(_arguments(call))
    states = _inner_states(state, len(found))
    places = list(states)
    return [
        (
            label,
            recorded_of(member),
            states.get(label, states[places[k]] if k < len(places) else state),
        )
        for k, (label, member) in enumerate(found)
    ]


def schedule_count(schedule: Any, tx: Any, state: Any) -> Any:
    """The count at which a schedule among a call's arguments is evaluated next.

    It is that of the part which the schedule was handed on to (`adamw` hands its learning rate on to
    `scale_by_learning_rate`), by default the first count of the state.
    """
    for part, part_state in parts_inside(tx, state):
        call = build.call_of(part)
        if call is not None and any(item is schedule for item in _items(call)):
            return schedule_count(schedule, part, part_state)
    return first_count(state)


def first_count(state: Any) -> Any:
    """The first count in a state, or None."""
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


def shortest(found: list[tuple[Place, str, Any]]) -> dict[str, Any]:
    """Values by the last step of their place; by the place where that is ambiguous; by the part too.

    Args:
      found: for each value its place, the call it belongs to, and the value.
    """
    lasts = [place[-1] for place, _, _ in found]
    places = [place for place, _, _ in found]
    named: dict[str, Any] = {}
    for k, (place, owner, value) in enumerate(found):
        name = name_of = place[-1]
        if lasts.count(name) > 1:
            name = "/".join(place)
            if places.count(place) > 1:
                twin = sum((p, o) == (place, owner) for p, o, _ in found[:k])
                name = "/".join((*place[:-1], f"{owner}[{twin}]" if twin else owner, name_of))
        named[name] = value
    return named


def parts_inside(tx: Any, state: Any) -> Iterator[tuple[Any, Any]]:
    """What a transformation is made of, with the states: what its function returned, and members."""
    inner = made_of(tx)
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
    for value in call.arguments.values():
        if isinstance(value, Mapping):
            yield from ((str(k), tx) for k, tx in value.items() if is_transformation(tx))
        elif isinstance(value, tuple) and not is_transformation(value):
            for place, item in enumerate(value):
                named = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
                label, tx = item if named else (str(place), item)
                if is_transformation(tx):
                    yield label, tx
        elif is_transformation(value):
            yield None, value


def _inner_states(state: Any, count: int) -> dict[Any, Any]:
    """The states of the transformations inside one, by label or in their order.

    The keys of a dict are in another order once `jax` has taken it apart.
    """
    if isinstance(state, dict):
        return {str(key): part for key, part in state.items()}
    if not hasattr(state, "_fields"):
        whole = isinstance(state, tuple) and len(state) == count
        return {str(k): part for k, part in enumerate(state)} if whole else {}
    found: dict[Any, Any] = {}
    for name, kind in build.kinds_of(type(state)).items():
        if build.is_inner(kind):
            inner = getattr(state, name)
            if isinstance(inner, dict):
                found |= {str(key): part.inner_state for key, part in inner.items()}
            else:
                found[name,] = inner
    return found
