"""The hyper-parameters and the measurements of an optimizer, by name."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from optx_core import OptState, PyTree, build
from optx_core._state.composition import Place, members, recorded_of, schedule_count, shortest
from optx_core._transforms.weight_decays import CautiousDecay
from optx_core._wrappers.inject_hyperparams import (
    current_values,
    is_injected,
)


def hyperparams(tx: Any, state: OptState) -> dict[str, Any]:
    """Returns the hyper-parameters of an optimizer at its next update, with schedules evaluated.

    Args:
      tx: a transformation created by recorded functions (such as all of optx's).
      state: its state.

    Returns:
      The values by name: "learning_rate" if only one part has a number of this name, otherwise by place,
      the labels of the chains and groups above it: "1/decay/learning_rate". `metrics`, `learning_rates`
      and, for numbers in the state, `tree.get` use the same places. Schedules are evaluated at the count
      of their part; injected hyper-parameters are read from the state.

    Raises:
      TypeError: if the transformation was not created by a recorded function.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import chain, hyperparams, scale_by_learning_rate, trace
      >>> tx = chain(trace(0.9), scale_by_learning_rate(lambda count: 0.5**count))
      >>> _, state = tx.update(jnp.ones(1), tx.init(jnp.ones(1)))
      >>> {name: float(value) for name, value in hyperparams(tx, state).items()}
      {'decay': 0.9, 'learning_rate': 0.5}
    """
    if build.call_of(recorded_of(tx)) is None:
        raise TypeError(
            f"hyperparams: {tx!r} was not made by a recorded function, so it has no names"
        )
    return shortest(list(_walk(tx, state, ())))


def metrics(state: OptState) -> dict[str, Any]:
    """Returns the measurements in an optimizer's state, by name.

    Args:
      state: the state of any transformation.

    Returns:
      The measurements of `monitor` and `snapshot`, the counts of the wrappers that skip steps
      ("total_notfinite", "last_finite", "total_skipped", ...), the loss scale, the scale of
      `reduce_on_plateau` and the injected hyper-parameters: arrays by name, or by place (as for
      `hyperparams`) if a name is ambiguous.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import apply_if_finite, metrics, scale
      >>> sorted(metrics(apply_if_finite(scale(1.0), 3).init(jnp.ones(1))))
      ['last_finite', 'notfinite_count', 'total_notfinite']
    """
    return shortest(list(_measured(state, (), "")))


def _walk(tx: Any, state: Any, place: Place) -> Iterator[tuple[Place, str, Any]]:
    tx = recorded_of(tx)
    call = build.call_of(tx)
    if call is None:
        return
    yield from numbers_of(tx, state, place)
    if is_injected(tx):
        return
    for label, member, member_state in members(tx, state):
        yield from _walk(member, member_state, place if label is None else (*place, label))


def numbers_of(tx: Any, state: Any, place: Place) -> Iterator[tuple[Place, str, Any]]:
    """Yields the numbers among a call's own arguments: place, name of the call, value."""
    call = build.call_of(tx)
    if call is None:
        return
    if is_injected(tx):
        for name, value in current_values(tx, state).items():
            yield (*place, name), call.name, value
        return
    kinds, hints = build.kinds_of(call.function), build.hints_of(call.function)
    for name, value in call.arguments.items():
        kind = kinds.get(name)
        items = {name: value}
        if isinstance(value, tuple) and isinstance(kind, tuple):
            items = {f"{name}[{k}]": item for k, item in enumerate(value)}
        for label, item in items.items():
            if isinstance(item, CautiousDecay) and not callable(item.weight_decay):
                yield (*place, label), call.name, item.weight_decay
            elif callable(item):
                schedule = item.weight_decay if isinstance(item, CautiousDecay) else item
                number = build.is_number(kind) if kind else _admits_schedule(hints.get(name))
                count = schedule_count(item, tx, state) if number else None
                if count is not None:
                    yield (*place, label), call.name, build.evaluate(schedule, count)
            elif _is_readable(item) or (isinstance(item, int) and build.is_number(kind)):
                yield (*place, label), call.name, item


def _admits_schedule(hint: Any) -> bool:
    """Returns whether a function for an argument without a declaration is a schedule, not one of trees."""
    is_of_trees = Any in typing.get_args(hint)  # `PyTree | Callable`: a mask, labels
    return hint is not None and not is_of_trees and build.admits_number(hint)


def _is_readable(value: Any) -> bool:
    if isinstance(value, jax.Array | np.ndarray) and not build.is_inexact(value):
        return False
    return isinstance(value, float | np.number | np.ndarray | jax.Array)


def _measured(node: PyTree, place: Place, owner: str) -> Iterator[tuple[Place, str, Any]]:
    fields = getattr(node, "_fields", ()) if isinstance(node, tuple) else ()
    if fields:
        kinds, owner = build.kinds_of(type(node)), type(node).__name__
        for name in fields:
            child = getattr(node, name)
            if getattr(kinds.get(name), "measured", False):
                values = child if isinstance(child, dict) else {name: child}
                for label, item in values.items():
                    yield (*place, label), owner, item
            else:
                yield from _measured(child, place, owner)
    elif isinstance(node, dict):
        for key, child in node.items():
            yield from _measured(child, (*place, str(key)), owner)
    elif isinstance(node, tuple | list):
        for k, child in enumerate(node):
            yield from _measured(child, (*place, str(k)), owner)
