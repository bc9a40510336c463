"""What an optimizer is doing: its hyper-parameters and its measurements, by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from optx_core._engine.scheduled import evaluate
from optx_core._protocol.recorded import Call, call_of
from optx_core._protocol.types import OptState, PyTree

# Where a wrapper keeps the state of the transformation it wraps.
_INNER_STATES = ("inner_state", "inner_opt_state", "fast_state")
_INNER_ARGUMENTS = ("inner", "optimizer", "fast_optimizer", "base_optimizer")
_COUNTERS = (
    "notfinite_count",
    "last_finite",
    "total_notfinite",
    "total_skipped",
    "last_skipped",
    "loss_scale",
    "mini_step",
    "gradient_step",
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
    if call_of(tx) is None:
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
    call = call_of(tx)
    if call is None:
        return
    arguments = call.arguments
    injected = getattr(state, "hyperparams", None)
    if injected is not None:
        for name, value in injected.items():
            value = _current(name, value, arguments, state)  # noqa: PLW2901
            yield (*path, call.name, name), value
        return
    members = arguments.get("transformations")
    if members is not None:
        parts = state.values() if isinstance(state, dict) else state
        for k, (member, part) in enumerate(zip(members, parts, strict=True)):
            named = isinstance(member, tuple) and isinstance(member[0], str)
            where = member[0] if named else str(k)
            yield from _walk(member[1] if named else member, part, (*path, where))
        return
    transforms = arguments.get("transforms")
    if transforms is not None and hasattr(state, "inner_states"):
        for label, member in transforms.items():
            inner = state.inner_states[label].inner_state
            yield from _walk(member, inner, (*path, str(label)))
        return
    yield from _numbers(call, state, path)
    for name in _INNER_ARGUMENTS:
        if name in arguments:
            kept = [getattr(state, field) for field in _INNER_STATES if hasattr(state, field)]
            yield from _walk(arguments[name], kept[0] if kept else state, path)


def _numbers(
    call: Call, state: Any, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    parameters = inspect.signature(call.function).parameters
    for name, value in call.arguments.items():
        if isinstance(value, float | np.number | np.ndarray | jax.Array):
            yield (*path, call.name, name), value
        elif callable(value) and "Schedule" in str(parameters[name].annotation):
            count = _count_in(state)
            if count is not None:
                yield (*path, call.name, name), evaluate(value, count)


def _current(name: str, value: Any, arguments: dict[str, Any], state: Any) -> Any:
    """An injected value; a schedule's as it will be at the next update."""
    known = state.hyperparams_states.get(name)
    schedule = arguments.get(name)
    return evaluate(schedule, known.count) if hasattr(known, "count") and schedule else value


def _count_in(state: Any) -> Any:
    """The first count in a state; those of one optimizer's parts go together."""
    for field in ("count", "gradient_step"):
        if field in getattr(state, "_fields", ()):
            return getattr(state, field)
    children = state.values() if isinstance(state, dict) else state
    if isinstance(state, tuple | list | dict):
        for child in children:
            found = _count_in(child)
            if found is not None:
                return found
    return None


def _measured(node: PyTree, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    fields = getattr(node, "_fields", ()) if isinstance(node, tuple) else ()
    if "measurement" in fields or "measurements" in fields:
        values = node.measurement if "measurement" in fields else node.measurements
        yield from (((*path, name), value) for name, value in values.items())
        return
    if "hyperparams" in fields:
        yield from (((*path, name), value) for name, value in node.hyperparams.items())
    for field in fields:
        if field in _COUNTERS:
            yield (*path, field), getattr(node, field)
    if fields:
        children = [(name, getattr(node, name)) for name in fields]
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
