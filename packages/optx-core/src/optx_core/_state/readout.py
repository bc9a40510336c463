"""What an optimizer is doing: its hyper-parameters and its measurements, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from optx_core import OptState, PyTree, build
from optx_core._wrappers.inject_hyperparams import (
    InjectStatefulHyperparamsState,
    WrappedScheduleState,
)


def hyperparams(tx: Any, state: OptState) -> dict[str, Any]:
    """The numbers an optimizer works with at its next update, schedules evaluated.

    Args:
      tx: a transformation made by recorded functions (all of optx's are).
      state: its state.

    Returns:
      The values by name: "learning_rate" where only one part has such a number, otherwise the path to
      it, such as "0/clip_by_global_norm/max_norm". Schedules are evaluated at the count kept in the
      state; injected hyper-parameters are read from it.

    Raises:
      TypeError: if the transformation was not made by a recorded function.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import chain, hyperparams, scale_by_learning_rate, trace
      >>> tx = chain(trace(0.9), scale_by_learning_rate(lambda count: 0.5**count))
      >>> _, state = tx.update(jnp.ones(1), tx.init(jnp.ones(1)))
      >>> {name: float(value) for name, value in hyperparams(tx, state).items()}
      {'decay': 0.9, 'learning_rate': 0.5}
    """
    if build.call_of(tx) is None:
        raise TypeError(
            f"hyperparams: {tx!r} was not made by a recorded function, so it has no names"
        )
    return _shortest(list(_walk(tx, state, ())))


def metrics(state: OptState) -> dict[str, Any]:
    """The measurements in an optimizer's state, by name.

    Args:
      state: the state of any transformation.

    Returns:
      What `monitor` and `snapshot` measured, what the wrappers that skip steps counted
      ("total_notfinite", "last_finite", "total_skipped", ...), the loss scale and the injected
      hyper-parameters: arrays by name, by path where a name stands for several.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import apply_if_finite, metrics, scale
      >>> sorted(metrics(apply_if_finite(scale(1.0), 3).init(jnp.ones(1))))
      ['last_finite', 'notfinite_count', 'total_notfinite']
    """
    return _shortest(list(_measured(state, ())))


def _walk(tx: Any, state: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    call = build.call_of(tx)
    if call is None:
        return
    if isinstance(state, InjectStatefulHyperparamsState):
        for name, value in state.hyperparams.items():
            yield (*path, call.name, name), _current(name, value, call.arguments, state)
        return
    members = list(_members(call))
    states = _inner_states(state, len(members))
    yield from _numbers(call, state, path)
    for place, (label, member) in enumerate(members):
        where = path if label is None else (*path, label)
        yield from _walk(member, states[place] if place < len(states) else state, where)


def _members(call: build.Call) -> Iterator[tuple[str | None, Any]]:
    """The transformations among the arguments of a call, with their labels in the path."""
    for value in call.arguments.values():
        if isinstance(value, Mapping):
            yield from ((str(k), tx) for k, tx in value.items() if _is_transformation(tx))
        elif isinstance(value, tuple) and not _is_transformation(value):
            for place, item in enumerate(value):
                named = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
                label, tx = item if named else (str(place), item)
                if _is_transformation(tx):
                    yield label, tx
        elif _is_transformation(value):
            yield None, value


def _is_transformation(value: Any) -> bool:
    return callable(getattr(value, "init", None)) and callable(getattr(value, "update", None))


def _inner_states(state: Any, count: int) -> list[Any]:
    """The states of the transformations inside one, in their order."""
    if isinstance(state, dict):
        return list(state.values())
    if not hasattr(state, "_fields"):
        return list(state) if isinstance(state, tuple) and len(state) == count else []
    found: list[Any] = []
    for name, kind in build.kinds_of(type(state)).items():
        if build.is_inner(kind):
            inner = getattr(state, name)
            parts = inner.values() if isinstance(inner, dict) else [inner]
            found += [x.inner_state if isinstance(inner, dict) else x for x in parts]
    return found


def _numbers(
    call: build.Call, state: Any, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    kinds, hints = build.kinds_of(call.function), build.hints_of(call.function)
    for name, value in call.arguments.items():
        kind = kinds.get(name)
        items = {name: value}
        if isinstance(value, tuple) and isinstance(kind, tuple):
            items = {f"{name}[{k}]": item for k, item in enumerate(value)}
        for label, item in items.items():
            if callable(item):
                number = build.is_number(kind) if kind else _admits_schedule(hints.get(name))
                count = _count_in(state) if number else None
                if count is not None:
                    yield (*path, call.name, label), build.evaluate(item, count)
            elif _is_readable(item) or (isinstance(item, int) and build.is_number(kind)):
                yield (*path, call.name, label), item


def _admits_schedule(hint: Any) -> bool:
    return hint is not None and build.admits_number(hint)


def _is_readable(value: Any) -> bool:
    if isinstance(value, jax.Array | np.ndarray) and not build.is_inexact(value):
        return False
    return isinstance(value, float | np.number | np.ndarray | jax.Array)


def _current(name: str, value: Any, arguments: dict[str, Any], state: Any) -> Any:
    """An injected value; a schedule's as it will be at the next update."""
    known = state.hyperparams_states.get(name)
    base, bracket, place = name.rstrip("]").partition("[")
    schedule = arguments.get(base)
    if bracket and isinstance(schedule, tuple):
        schedule = schedule[int(place)]
    plain = isinstance(known, WrappedScheduleState) and callable(schedule)
    return build.evaluate(schedule, known.count) if plain else value


def _count_in(state: Any) -> Any:
    """The first count in a state; those of one optimizer's parts go together."""
    for name, kind in build.kinds_of(type(state)).items():
        if build.is_count(kind):
            return getattr(state, name)
    children = state.values() if isinstance(state, dict) else state
    if isinstance(state, tuple | list | dict):
        for child in children:
            count = _count_in(child)
            if count is not None:
                return count
    return None


def _measured(node: PyTree, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    fields = getattr(node, "_fields", ()) if isinstance(node, tuple) else ()
    kinds = build.kinds_of(type(node)) if fields else {}
    measured = {name for name in fields if getattr(kinds.get(name), "measured", False)}
    for name in fields:
        if name in measured:
            value = getattr(node, name)
            values = value if isinstance(value, dict) else {name: value}
            yield from (((*path, label), item) for label, item in values.items())
    if fields:
        children = [(name, getattr(node, name)) for name in fields if name not in measured]
    elif isinstance(node, dict):
        children = [(str(key), child) for key, child in node.items()]
    elif isinstance(node, tuple | list):
        children = [(str(k), child) for k, child in enumerate(node)]
    else:
        return
    for name, child in children:
        yield from _measured(child, (*path, name))


def _shortest(found: list[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    """Each value under its last name, or under its whole path where that is ambiguous."""
    lasts = [path[-1] for path, _ in found]
    return {
        path[-1] if lasts.count(path[-1]) == 1 else "/".join(path): value for path, value in found
    }
