"""Optimizer state carried over to another optimizer, or another set of trained parameters.

A slot is known by what it is, not by where it stands: the field that holds it (`mu`), the fields beside
that one (`count`, `nu`) and the parameter it belongs to. So a clip in front of the chain, a wrapper around
it, or a group of its own changes nothing.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any, NamedTuple

import jax
import numpy as np

from flax import nnx
from optx_flax._checkpoints import arrays_by_path, in_place_of
from optx_flax._paths import Path, is_variable, leaves_with_paths, params_of, structure_of


class MigrationReport(NamedTuple):
    """What `migrate_opt_state` did; paths as strings.

    Attributes:
      carried: slots of the new state that hold a value of the old one, with its path.
      fresh: slots of the new state as it was made: the old one has none such.
      dropped: slots of the old state that the new one has no place for.
      ambiguous: slots of the new state, as it was made, for which the old has several that may be meant.
    """

    carried: dict[str, str]
    fresh: tuple[str, ...]
    dropped: tuple[str, ...]
    ambiguous: tuple[str, ...]


class _Slot(NamedTuple):
    """An array of a state: its path, what it is, the names on the way to it, the class it is in."""

    path: Path
    kind: tuple[Any, ...]
    way: tuple[str, ...]
    home: str | None
    value: Any


def migrate_opt_state(old: Any, model: Any, optimizer: nnx.Optimizer) -> MigrationReport:
    """Fills a new optimizer with all that an old one's state has for it.

    Moments and counts go to the same field among the same fields (and of the same class, where the
    old state still knows its classes), moments to the same parameter. A slot of another shape is not
    carried; dtypes become the new slot's. Hyper-parameters that `inject_hyperparams` keeps in the
    state are settings, and stay the new optimizer's. Counts are shared by all parameters of an
    optimizer: those newly trained have no warm-up of their own, unless they are a group of their own
    (`partition`).

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
    known = {path for path, _ in leaves_with_paths(params_of(model, nnx.Variable))}
    given = nnx.state(old) if isinstance(old, nnx.Optimizer) else old
    homes = _homes(old.opt_state) if isinstance(old, nnx.Optimizer) else {}
    state = nnx.state(optimizer)
    places = leaves_with_paths(nnx.as_pure(state))
    before = _slots(_under_opt_state(_given(given)), known, homes)
    after = _slots(places, known, _homes(optimizer.opt_state))
    by_kind: dict[Any, list[_Slot]] = {}
    for slot in before:
        by_kind.setdefault(slot.kind, []).append(slot)

    carried: dict[str, str] = {}
    fresh: list[str] = []
    ambiguous: list[str] = []
    used: set[Path] = set()
    values = []
    for slot in after:
        name = "/".join(slot.path)
        values.append(slot.value)
        like = [old for old in by_kind.get(slot.kind, []) if _may_be(old, slot)]
        best = _nearest(slot, like)
        if not like or "hyperparams" in slot.path:
            fresh.append(name)
        elif best is None:
            ambiguous.append(name)
        else:
            values[-1] = in_place_of(slot.value, _cast(best.value, slot.value))
            carried[name] = "/".join(best.path)
            used.add(best.path)
    if any(s.path[0] == "opt_state" for s in before) and set(carried) <= {"step"}:
        raise ValueError(
            "migrate_opt_state: the old state has nothing that the new optimizer could use; it holds "
            f"{', '.join('/'.join(s.path) for s in before[:3])}"
        )
    nnx.update(optimizer, structure_of(state).unflatten(values))
    dropped = tuple("/".join(s.path) for s in before if s.path not in used)
    return MigrationReport(carried, tuple(fresh), dropped, tuple(ambiguous))


def _given(old: Any) -> list[tuple[Path, Any]]:
    """The arrays of the old state, whose Variables may have been saved as containers of their value."""
    pairs = arrays_by_path(old, {path for path, _ in leaves_with_paths(nnx.as_pure(old))})
    if all(path[-1:] == ("value",) for path, _ in pairs):
        return [(path[:-1], value) for path, value in pairs]
    return pairs


def _under_opt_state(pairs: list[tuple[Path, Any]]) -> list[tuple[Path, Any]]:
    """The optimizer's part of a checkpoint, its paths as in `nnx.state(optimizer)`."""
    starts = {path[: path.index("opt_state")] for path, _ in pairs if "opt_state" in path}
    if not starts:
        return [(("opt_state", *path), value) for path, value in pairs]
    start = min(starts, key=len)
    within = [(path[len(start) :], value) for path, value in pairs if path[: len(start)] == start]
    return [(path, value) for path, value in within if path[0] in ("opt_state", "step")]


def _slots(pairs: list[tuple[Path, Any]], params: set[Path], homes: dict[Path, str]) -> list[_Slot]:
    split = [(path, value, _owner(path, params)) for path, value in pairs]
    fields: dict[Path, set[str]] = {}
    for path, _, owner in split:
        stem = path[: len(path) - len(owner)]
        for k in range(len(stem)):
            fields.setdefault(stem[:k], set()).add(stem[k])
    made = []
    for path, value, owner in split:
        stem = path[: len(path) - len(owner)]
        beside = tuple(sorted(fields[stem[:-1]])) if len(stem) > 1 else ()
        way = tuple(k for k in stem[:-1] if not k.isdigit())
        made.append(_Slot(path, (stem[-1:], beside, owner), way, homes.get(stem[:-1]), value))
    return made


def _owner(path: Path, params: set[Path]) -> Path:
    """The parameter whose path ends a slot's path; () for a count and the like."""
    for k in range(1, len(path)):
        if path[k:] in params:
            return path[k:]
    return ()


def _homes(opt_state: Any, path: Path = ("opt_state",)) -> dict[Path, str]:
    """The class of each NamedTuple of a state, by its path."""
    if is_variable(opt_state) or not isinstance(opt_state, tuple | list | dict):
        return {}
    if hasattr(opt_state, "_fields"):
        found = {path: type(opt_state).__name__}
        children = list(zip(opt_state._fields, opt_state, strict=True))
    else:
        found = {}
        items = opt_state.items() if isinstance(opt_state, dict) else enumerate(opt_state)
        children = [(str(key), child) for key, child in items]
    for key, child in children:
        found.update(_homes(child, (*path, key)))
    return found


def _may_be(old: _Slot, new: _Slot) -> bool:
    same_class = None in (old.home, new.home) or old.home == new.home
    return same_class and np.shape(old.value) == np.shape(new.value)


def _nearest(slot: _Slot, like: list[_Slot]) -> _Slot | None:
    """The one that stands nearest to where the slot stands; None if two, of other values, are as near."""
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
