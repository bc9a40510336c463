"""A table of the parameters of an optimizer: groups, hyper-parameters, bytes of state."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import Params, build, tree
from optx_core._combinators.masked import masked
from optx_core._combinators.partition import PartitionState, partition
from optx_core._engine.labels import mask_like, spread
from optx_core._protocol.kinds import Slot
from optx_core._state.composition import members, parts_inside, recorded_of, shortest
from optx_core._state.readout import numbers_of
from optx_core._transforms.add_decayed_weights import add_decayed_weights
from optx_core._wrappers.freeze import freeze, selective_transform

Leaves = frozenset[int]
Entry = tuple[tuple[str, ...], str, Any, Leaves]
"""A number: its place, its call, its value, and the leaves to which it applies."""


@dataclasses.dataclass(frozen=True)
class SummaryRow:
    """A parameter in the summary of an optimizer.

    Attributes:
      path: its path as a Python expression: "['dense']['kernel']".
      shape: its shape.
      dtype: its dtype.
      group: the labels of its groups, joined by "/"; "" outside of all groups.
      hyperparams: its hyper-parameters at the first update, named as by `hyperparams`.
      state_bytes: the number of bytes of its state.
    """

    path: str
    shape: tuple[int, ...]
    dtype: Any
    group: str
    hyperparams: dict[str, Any]
    state_bytes: int


@dataclasses.dataclass(frozen=True)
class Summary:
    """The result of `summarize`, which prints as a table.

    Attributes:
      rows: one row per parameter.
      shared_bytes: the number of bytes of state that belong to no parameter, such as counts.
    """

    rows: tuple[SummaryRow, ...]
    shared_bytes: int

    @property
    def state_bytes(self) -> int:
        """The number of bytes of the whole state."""
        return self.shared_bytes + sum(row.state_bytes for row in self.rows)

    @property
    def groups(self) -> dict[str, tuple[SummaryRow, ...]]:
        """The rows by group."""
        names = dict.fromkeys(row.group for row in self.rows)
        return {name: tuple(r for r in self.rows if r.group == name) for name in names}

    def __str__(self) -> str:
        kinds = list(dict.fromkeys((r.group, tuple(_shown(r.hyperparams))) for r in self.rows))
        many = len(kinds) > 1
        lines = [("parameter", "shape", "dtype", "group", "state")]
        for row in self.rows:
            number = 1 + kinds.index((row.group, tuple(_shown(row.hyperparams))))
            group = " ".join(filter(None, [f"[{number}]" if many else "", row.group]))
            shape = "×".join(map(str, row.shape)) or "scalar"
            lines.append((row.path, shape, str(row.dtype), group, _bytes(row.state_bytes)))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = [
            "  ".join(
                text.rjust(width) if k in (1, 4) else text.ljust(width)
                for k, (text, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        table.insert(1, "-" * max(map(len, table)))
        for number, (group, numbers) in enumerate(kinds, 1):
            label = " ".join(filter(None, [f"[{number}]" if many else "", group]))
            table.append(f"{label + ': ' if label else ''}{', '.join(numbers) or 'no numbers'}")
        size = sum(math.prod(row.shape) for row in self.rows)
        table.append(
            f"{len(self.rows)} parameters with {size:,} entries; {_bytes(self.state_bytes)} of "
            f"state, of which {_bytes(self.shared_bytes)} belong to no parameter"
        )
        return "\n".join(table)

    __repr__ = __str__


def summarize(tx: Any, params: Params) -> Summary:
    """Summarizes how an optimizer treats each parameter, without allocating arrays.

    Args:
      tx: a transformation; groups and numbers are known for those created by recorded functions.
      params: the parameters, arrays or `jax.ShapeDtypeStruct`s.

    Returns:
      A `Summary`, which prints as a table of each parameter's group (of `partition`,
      `selective_transform`, `freeze`), hyper-parameters at the first update, and bytes of state.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_core import chain, partition, scale_by_learning_rate, summarize, trace
      >>> def sgd(rate):
      ...     return chain(trace(0.9), scale_by_learning_rate(rate))
      >>> tx = partition({"slow": sgd(0.01), "fast": sgd(0.1)}, {"w": "slow", "b": "fast"})
      >>> shapes = jax.eval_shape(lambda: {"w": jnp.ones((512, 256)), "b": jnp.ones(256)})
      >>> print(summarize(tx, shapes))
      parameter    shape  dtype    group         state
      ------------------------------------------------
      ['b']          256  float32  [1] fast    1.0 KiB
      ['w']      512×256  float32  [2] slow  512.0 KiB
      [1] fast: decay=0.9, learning_rate=0.1
      [2] slow: decay=0.9, learning_rate=0.01
      2 parameters with 131,328 entries; 513.0 KiB of state, of which 0 B belong to no parameter
    """
    tx = recorded_of(tx)
    leaves, _ = tree.flatten(params)
    present = [k for k, p in enumerate(leaves) if not tree.is_placeholder(p)]
    kinds = build.leaf_kinds(params)
    names = {kind.names: k for kind, k in zip(kinds, present, strict=True)}
    abstract = jax.eval_shape(tx.init, params)
    own, shared = dict.fromkeys(present, 0), 0
    for leaf, kind in zip(jax.tree.leaves(abstract), build.leaf_kinds(abstract), strict=True):
        size = math.prod(leaf.shape) * _itemsize(leaf.dtype)
        place = names.get(kind.names[kind.field + 1 :]) if isinstance(kind.kind, Slot) else None
        if place is None:
            shared += size
        else:
            own[place] += size
    groups: dict[int, tuple[str, ...]] = dict.fromkeys(present, ())
    entries = list(_visit(tx, _at_zero(abstract), (), params, frozenset(present), groups, names))
    rows = []
    for kind, k in zip(kinds, present, strict=True):
        numbers = shortest([(place, owner, x) for place, owner, x, used in entries if k in used])
        p = leaves[k]
        dtype = build.dtype_of(p)
        row = SummaryRow(
            kind.path, tuple(jnp.shape(p)), dtype, "/".join(groups[k]), numbers, own[k]
        )
        rows.append(row)
    return Summary(tuple(rows), shared)


def _visit(
    tx: Any,
    state: Any,
    place: tuple[str, ...],
    params: Params,
    active: Leaves,
    groups: dict[int, tuple[str, ...]],
    names: dict[tuple[str, ...], int],
) -> Iterator[Entry]:
    """Yields the numbers of a transformation and its parts; records the groups of the leaves."""
    call = build.call_of(tx)
    if call is None or not active:
        return

    def labelled(labels: Any) -> list[Any]:
        return tree.flatten(spread(labels, params, "summarize"))[0]

    def flagged(mask: Any) -> Leaves:
        return frozenset(
            k for k, flag in enumerate(tree.flatten(mask_like(mask, params))[0]) if flag is True
        )

    def enter(label: str, inside: Leaves) -> None:
        groups.update({k: (*groups[k], label) for k in inside})

    arguments = call.arguments
    parts = members(tx, state)
    if call.function is partition:
        labels = labelled(arguments["param_labels"])
        for label, part, own in parts:
            inside = frozenset(k for k in active if str(labels[k]) == label)
            enter(str(label), inside)
            yield from _visit(part, own, (*place, str(label)), params, inside, groups, names)
        return
    if call.function in (selective_transform, freeze):
        frozen = flagged(arguments["freeze_mask" if parts else "mask"]) & active
        enter("frozen", frozen)
        active -= frozen
    elif call.function is masked and arguments["mask"] is not None:
        active &= flagged(arguments["mask"])
    elif not parts:
        _enter_hidden_groups(state, enter, active, names)
    restricted = [
        (part, flagged(mask))
        for part, _ in parts_inside(tx, state)
        if (part_call := build.call_of(part)) is not None
        and part_call.function is add_decayed_weights
        if (mask := part_call.arguments["mask"]) is not None
    ]
    for where, owner, value in numbers_of(tx, state, place):
        used = active
        for part, flags in restricted:
            given = build.call_of(part).arguments["weight_decay"]  # type: ignore[union-attr]
            if given is arguments.get(where[-1]):
                used &= flags
        yield where, owner, value, used
    for label, part, own in parts:
        inner_place = place if label is None else (*place, label)
        yield from _visit(part, own, inner_place, params, active, groups, names)


def _enter_hidden_groups(
    state: Any, enter: Any, active: Leaves, names: dict[tuple[str, ...], int]
) -> None:
    """Records the groups that an optimizer forms itself, such as the matrices of muon, from its state."""
    if isinstance(state, PartitionState):
        for label, part in state.inner_states.items():
            kinds = build.leaf_kinds(part)
            inside = {names.get(kind.names[kind.field + 1 :]) for kind in kinds}
            enter(str(label), frozenset(k for k in inside if k is not None) & active)
    elif isinstance(state, tuple | list):
        for child in state:
            _enter_hidden_groups(child, enter, active, names)


def _at_zero(abstract: Any) -> Any:
    """Returns a state with concrete counts of 0; the other leaves stay abstract."""
    kinds = build.leaf_kinds(abstract)
    leaves, structure = build.tree_flatten(abstract)
    return structure.unflatten(
        [
            jnp.zeros((), x.dtype) if build.is_count(kind.kind) and x.ndim == 0 else x
            for x, kind in zip(leaves, kinds, strict=True)
        ]
    )


def _itemsize(dtype: Any) -> int:
    return dtype.itemsize if hasattr(dtype, "itemsize") else jnp.dtype(dtype).itemsize


def _shown(numbers: dict[str, Any]) -> list[str]:
    return [f"{name}={_number(value)}" for name, value in numbers.items()]


def _number(value: Any) -> str:
    if isinstance(value, jax.ShapeDtypeStruct | jax.core.Tracer):
        return f"{value.dtype}{list(value.shape)}"
    try:
        return f"{float(value):.6g}"
    except TypeError:
        return str(value)


def _bytes(count: int) -> str:
    if count < 1024:
        return f"{count} B"
    size = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"
