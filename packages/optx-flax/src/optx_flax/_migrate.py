"""Migration of optimizer state to another optimizer, or another set of trained parameters.

A slot is identified by its field (`mu`), the fields beside it (`count`, `nu`) and its parameter, not by its
position. A clip in front of the chain, a wrapper around it or a group of its own changes nothing.
"""

from __future__ import annotations

from collections import Counter
from difflib import SequenceMatcher
from typing import Any, NamedTuple

import jax
import numpy as np

from flax import nnx
from optx_flax._checkpoints import arrays_by_path, in_place_of
from optx_flax._late_start import (
    Ages,
    Cohorts,
    inner_state_of,
    moments,
    owner,
    remove_late_start,
    set_ages,
)
from optx_flax._paths import Path, is_variable, leaves_with_paths, params_of, structure_of


class MigrationReport(NamedTuple):
    """The result of `migrate_opt_state`; paths as strings.

    Attributes:
      carried: slots of the new state that hold a value of the old one, with its path.
      fresh: slots that keep their initial values, as the old state has no such slot.
      dropped: slots of the old state that the new one has no place for.
      ambiguous: slots that keep their initial values, as several slots of the old state may be meant.
      late: the parameters that start now, beside others whose moments were carried. They have counts of
        their own: `late_start` is put around the optimizer.
    """

    carried: dict[str, str]
    fresh: tuple[str, ...]
    dropped: tuple[str, ...]
    ambiguous: tuple[str, ...]
    late: Cohorts = ()


class _Slot(NamedTuple):
    """An array of a state: its path, its kind, the names above it, the class of its state, its value."""

    path: Path
    kind: tuple[Any, ...]
    way: tuple[str, ...]
    home: str | None
    value: Any


def migrate_opt_state(old: Any, model: Any, optimizer: nnx.Optimizer) -> MigrationReport:
    """Fills a new optimizer from the state of an old one.

    Moments and counts go to the same field among the same fields (and of the same class, where the
    old state still knows its classes), moments to the same parameter. A slot of another shape is not
    carried; dtypes become the new slot's. Hyper-parameters that `inject_hyperparams` keeps in the
    state are settings, and stay the new optimizer's.

    Moments go with their count. A parameter that starts now among others that go on (it was frozen,
    or is new in the model, as LoRA's) gets counts of its own, so that it moves as with a new optimizer:
    `optimizer.tx` becomes `late_start(optimizer.tx, ...)`. Schedules go on.

    Args:
      old: the old `nnx.Optimizer`, its state, or the nested dicts a checkpoint of it was restored
        to (as a whole, or its `opt_state` alone).
      model: the model, whose parameters name the slots.
      optimizer: the new `nnx.Optimizer`; changed in place.

    Returns:
      A `MigrationReport`.

    Raises:
      ValueError: if nothing at all can be carried.

    Example:
      >>> from flax import nnx
      >>> from optx_core import chain, clip_by_global_norm, trace
      >>> from optx_flax import migrate_opt_state
      >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      >>> old = nnx.Optimizer(model, trace(0.9), wrt=nnx.Param)
      >>> new = nnx.Optimizer(model, chain(clip_by_global_norm(1.0), trace(0.9)), wrt=nnx.Param)
      >>> migrate_opt_state(old, model, new).carried["opt_state/1/trace/bias"]
      'opt_state/trace/bias'
    """
    params = params_of("migrate_opt_state", model, nnx.Variable)
    known = {path for path, _ in leaves_with_paths(params)}
    live = isinstance(old, nnx.Optimizer)
    pairs = _under_opt_state(_given(nnx.state(old) if live else old))
    given, late = _without_late_start(pairs, known)
    remove_late_start(optimizer)
    state = nnx.state(optimizer)
    places = leaves_with_paths(nnx.as_pure(state))
    before = _slots(given, known, _homes(inner_state_of(old)) if live else {})
    after = _slots(places, known, _homes(optimizer.opt_state))
    by_kind: dict[Any, list[_Slot]] = {}
    for slot in before:
        by_kind.setdefault(slot.kind, []).append(slot)

    matches: dict[Path, _Slot] = {}
    ambiguous: list[Path] = []
    for slot in after:
        like = [old for old in by_kind.get(slot.kind, []) if _may_be(old, slot)]
        best = _nearest(slot, like)
        if best is not None and "hyperparams" not in slot.path:
            matches[slot.path] = best
        elif like and best is None:
            ambiguous.append(slot.path)
    own = {path: slot for path, slot in places if path[0] == "opt_state"}
    ages, common = _ages(optimizer.opt_state, own, matches, ambiguous, dict(given), late)
    values = [
        in_place_of(slot.value, _cast(matches[slot.path].value, slot.value))
        if slot.path in matches
        else slot.value
        for slot in after
    ]
    carried = {"/".join(path): "/".join(match.path) for path, match in matches.items()}
    if any(s.path[0] == "opt_state" for s in before) and set(carried) <= {"step"}:
        raise ValueError(
            "migrate_opt_state: the old state has nothing that the new optimizer can use; it holds "
            f"{', '.join('/'.join(s.path) for s in before[:3])}"
        )
    nnx.update(optimizer, structure_of(state).unflatten(values))
    cohorts = set_ages(optimizer, ages, common)
    used = {match.path for match in matches.values()}
    left = [slot.path for slot in after if slot.path not in matches]
    return MigrationReport(
        carried,
        fresh=tuple("/".join(path) for path in left if path not in ambiguous),
        dropped=tuple("/".join(s.path) for s in before if s.path not in used),
        ambiguous=tuple(map("/".join, ambiguous)),
        late=cohorts,
    )


def _without_late_start(
    pairs: list[tuple[Path, Any]], params: set[Path]
) -> tuple[list[tuple[Path, Any]], Ages]:
    """The state of the optimizer within `late_start`, and the counts of those that joined later."""
    if not any(path[1:2] == ("counts",) for path, _ in pairs):
        return pairs, {}
    inner: list[tuple[Path, Any]] = []
    late: Ages = {}
    for path, value in pairs:
        if path[1:2] == ("inner_state",):
            inner.append((path[:1] + path[2:], value))
        elif path[1:2] == ("counts",):
            p = owner(path, params)
            place = ("opt_state", *path[2 : len(path) - len(p)])
            late.setdefault(place, {})[p] = int(value)
        else:
            inner.append((path, value))
    return inner, late


def _ages(
    opt_state: Any,
    own: dict[Path, Any],
    matches: dict[Path, _Slot],
    ambiguous: list[Path],
    given: dict[Path, Any],
    late: Ages,
) -> tuple[Ages, dict[Path, int]]:
    """The count that goes with the moments of each parameter, and the most common one, at each count.

    Moments of which a part is missing start anew as a whole: `matches` loses the others.
    """
    ages: Ages = {}
    common: dict[Path, int] = {}
    for place, of in moments(opt_state).items():
        path = ("opt_state", *place)
        start = int(own[path])
        ages[place] = {}
        going_on: list[tuple[int, Path]] = []
        for p, slots in of.items():
            told = [matches.get(("opt_state", *slot)) for slot in slots]
            sources = {(*old.path[: -len(p) - 1], place[-1]) for old in told if old is not None}
            if None in told or not sources <= given.keys():
                for slot in slots:
                    matches.pop(("opt_state", *slot), None)
                ages[place][p] = start
                continue
            source = min(sources)
            ages[place][p] = late.get(source, {}).get(p, int(given[source]))
            going_on.append((ages[place][p], source))
        matches.pop(path, None)
        if path in ambiguous:
            ambiguous.remove(path)
        common[place] = start
        if going_on:
            (common[place], source), _ = Counter(going_on).most_common(1)[0]
            matches[path] = _Slot(source, (), (), None, np.int32(common[place]))
    return ages, common


def _given(old: Any) -> list[tuple[Path, Any]]:
    """The arrays of the old state. Its Variables may have been saved as containers of their values."""
    pairs = arrays_by_path(old, {path for path, _ in leaves_with_paths(nnx.as_pure(old))})
    if all(path[-1:] == ("value",) for path, _ in pairs):
        return [(path[:-1], value) for path, value in pairs]
    return pairs


def _under_opt_state(pairs: list[tuple[Path, Any]]) -> list[tuple[Path, Any]]:
    """The optimizer's part of a checkpoint, with paths as in `nnx.state(optimizer)`."""
    starts = {path[: path.index("opt_state")] for path, _ in pairs if "opt_state" in path}
    if not starts:
        return [(("opt_state", *path), value) for path, value in pairs]
    start = min(starts, key=len)
    within = [(path[len(start) :], value) for path, value in pairs if path[: len(start)] == start]
    return [(path, value) for path, value in within if path[0] in ("opt_state", "step")]


def _slots(pairs: list[tuple[Path, Any]], params: set[Path], homes: dict[Path, str]) -> list[_Slot]:
    split = [(path, value, owner(path, params)) for path, value in pairs]
    fields: dict[Path, set[str]] = {}
    for path, _, param in split:
        stem = path[: len(path) - len(param)]
        for k in range(len(stem)):
            fields.setdefault(stem[:k], set()).add(stem[k])
    slots = []
    for path, value, param in split:
        stem = path[: len(path) - len(param)]
        beside = tuple(sorted(fields[stem[:-1]])) if len(stem) > 1 else ()
        way = tuple(k for k in stem[:-1] if not k.isdigit())
        slots.append(_Slot(path, (stem[-1:], beside, param), way, homes.get(stem[:-1]), value))
    return slots


def _homes(opt_state: Any, path: Path = ("opt_state",)) -> dict[Path, str]:
    """The class of each NamedTuple of a state, by its path."""
    if is_variable(opt_state) or not isinstance(opt_state, tuple | list | dict):
        return {}
    if hasattr(opt_state, "_fields"):
        homes = {path: type(opt_state).__name__}
        children = list(zip(opt_state._fields, opt_state, strict=True))
    else:
        homes = {}
        items = opt_state.items() if isinstance(opt_state, dict) else enumerate(opt_state)
        children = [(str(key), child) for key, child in items]
    for key, child in children:
        homes.update(_homes(child, (*path, key)))
    return homes


def _may_be(old: _Slot, new: _Slot) -> bool:
    same_class = None in (old.home, new.home) or old.home == new.home
    return same_class and np.shape(old.value) == np.shape(new.value)


def _nearest(slot: _Slot, like: list[_Slot]) -> _Slot | None:
    """The candidate with the most similar position; None for a tie between different values."""
    if not like:
        return None
    scores = [SequenceMatcher(None, slot.way, s.way).ratio() for s in like]
    nearest = [s for s, score in zip(like, scores, strict=True) if score == max(scores)]
    first = nearest[0]
    if all(s is first or bool(np.all(s.value == first.value)) for s in nearest):
        return first
    return None


def _cast(value: Any, like: Any) -> Any:
    return value if value.dtype == like.dtype else jax.numpy.asarray(value, like.dtype)
