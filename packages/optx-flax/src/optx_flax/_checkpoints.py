"""Checkpoints of a model and its optimizer: the target of a restore, and a complete update from it.

`nnx.update(objects, restored)` silently ignores missing arrays and accepts another dtype or shape.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flax import nnx
from optx_flax._digest import check_digest
from optx_flax._late_start import (
    Ages,
    Cohorts,
    inner_state_of,
    is_late,
    moments,
    own_counts,
    remove_late_start,
    set_ages,
)
from optx_flax._layout import annotation, known_sharding, layout_of, trimmed
from optx_flax._paths import Path, leaves_with_paths, listed, structure_of
from optx_flax._place_opt_state import opt_state_shardings


def abstract_state(model: Any, optimizer: nnx.Optimizer, mesh: Mesh | None = None) -> nnx.State:
    """The abstract arrays to restore a checkpoint of `nnx.state((model, optimizer))` as.

    Args:
      model: the model, or an abstract one (`nnx.eval_shape`).
      optimizer: its `nnx.Optimizer`, or an abstract one.
      mesh: the mesh to restore onto, which may differ from that of the checkpoint; None for the layout of
        the objects' own arrays.

    Returns:
      A state with the structure of `nnx.state((model, optimizer))` and a `jax.ShapeDtypeStruct` with a
      sharding for each array: the target of a restore, of Orbax for example.

    Raises:
      ValueError: if an annotation does not fit the mesh.

    Example:
      >>> from flax import nnx
      >>> from optx_core import trace
      >>> from optx_flax import abstract_state
      >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      >>> optimizer = nnx.Optimizer(model, trace(0.9), wrt=nnx.Param)
      >>> abstract_state(model, optimizer)[1]["opt_state"]["trace"]["kernel"].get_value().shape
      (2, 3)
    """
    state = nnx.state((model, optimizer))
    if mesh is None:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None)),
            state,
        )
    params = nnx.state(model, optimizer.wrt)
    layout = layout_of("abstract_state", params, mesh)
    specs = {
        ("0", *path): NamedSharding(mesh, trimmed(spec))
        for path, spec in zip(layout.paths, layout.specs, strict=True)
    }
    slots = opt_state_shardings("abstract_state", optimizer, mesh, model)
    shardings = {("1", "opt_state", *path): s for path, s in leaves_with_paths(slots)}
    known = {**specs, **shardings}

    annotations = {path: annotation(x) for path, x in leaves_with_paths(state)}

    def leaf(path: Path, x: Any) -> Any:
        sharding = known.get(path)
        if sharding is None:
            lies = known_sharding(x)
            spec = lies.spec if lies is not None else annotations.get(path) or PartitionSpec()
            sharding = NamedSharding(mesh, trimmed(spec))
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    pairs = leaves_with_paths(nnx.as_pure(state))
    return structure_of(state).unflatten([leaf(path, x) for path, x in pairs])


class RestoreReport(NamedTuple):
    """The result of `restore_into`; paths as strings.

    Attributes:
      restored: the arrays that were restored.
      missing: arrays of the objects that the checkpoint lacks (or has as None); they kept their values.
      unexpected: arrays of the checkpoint that the objects have no place for.
      mismatched: arrays of another shape or dtype, with both; the objects kept theirs.
      late: the parameters whose moments were not all restored, beside others whose moments were. They
        kept their moments and have counts of their own: `late_start` is put around the optimizer.
    """

    restored: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    late: Cohorts = ()


def restore_into(
    objects: Any, restored: Any, strict: bool = True, *, digest: dict[str, str] | None = None
) -> RestoreReport:
    """Updates a model and its optimizer from restored arrays.

    Args:
      objects: the objects in the order in which their state was saved: `(model, optimizer)`.
      restored: the restored state: an `nnx.State` or nested dicts, with or without Variables. Indices
        may be strings.
      strict: whether to refuse a checkpoint that does not fit exactly, before anything is changed.
      digest: what `optx_flax.digest` returned for the objects that were saved; the restored arrays are
        compared with it, bit by bit, before anything is changed.

    Returns:
      A `RestoreReport`. Each array takes the devices and the layout of the one it replaces.

    Raises:
      ValueError: with `strict`, if an array is missing, unexpected or of another shape or dtype; lists
        the paths, and the cure. With `digest`, if an array differs from its digest, lacks one or is
        missing; names the paths.

    Example:
      >>> from flax import nnx
      >>> from optx_core import trace
      >>> from optx_flax import restore_into
      >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      >>> optimizer = nnx.Optimizer(model, trace(0.9), wrt=nnx.Param)
      >>> saved = nnx.as_pure(nnx.state((model, optimizer)))
      >>> restore_into((model, optimizer), saved).missing
      ()
      >>> del saved[1]["opt_state"]["trace"]["kernel"]
      >>> restore_into((model, optimizer), saved, strict=False).missing
      ('1/opt_state/trace/kernel',)
    """
    if digest is not None:
        check_digest(arrays_by_path(restored, {tuple(p.split("/")) for p in digest}), digest)
    optimizers = {
        tuple(map(str, path)): node
        for path, node in nnx.iter_graph(objects)
        if isinstance(node, nnx.Optimizer)
    }
    before = {path: (node.tx, node.opt_state) for path, node in optimizers.items()}
    for path, node in optimizers.items():
        _fit_late_start(node, path, restored)
    state = nnx.state(objects)
    places = leaves_with_paths(nnx.as_pure(state))
    given = dict(arrays_by_path(restored, {path for path, _ in places}))
    values = dict(places)
    put, missing, mismatched = [], [], []
    for path, old in places:
        if path not in given:
            missing.append(path)
            continue
        new = given.pop(path)
        if tuple(np.shape(new)) != tuple(old.shape) or new.dtype != old.dtype:
            kinds = f"{new.dtype}{list(np.shape(new))} for {old.dtype}{list(old.shape)}"
            mismatched.append(f"{'/'.join(path)} ({kinds})")
            continue
        values[path] = in_place_of(old, new)
        put.append(path)
    absent = list(map("/".join, missing))
    unexpected = list(map("/".join, given))
    if strict and (missing or unexpected or mismatched):
        for path, (tx, opt_state) in before.items():
            optimizers[path].tx, optimizers[path].opt_state = tx, nnx.data(opt_state)
        parts = [f"missing in the checkpoint: {listed(absent)}"] if missing else []
        parts += [f"without a place: {listed(unexpected)}"] if unexpected else []
        parts += [f"of another kind: {listed(mismatched)}"] if mismatched else []
        raise ValueError(
            f"restore_into: {'; '.join(parts)}. Use migrate_opt_state where the optimizer or the "
            "trained parameters changed, or strict=False to keep what does not fit and report it"
        )
    restored_paths = set(put)
    ages = {
        path: _ages(node, path, dict(places), values, restored_paths)
        for path, node in optimizers.items()
        if not strict
    }
    nnx.update(objects, structure_of(state).unflatten([values[path] for path, _ in places]))
    late = [cohort for path, told in ages.items() for cohort in set_ages(optimizers[path], *told)]
    return RestoreReport(
        tuple("/".join(path) for path in put if path in restored_paths),
        tuple(absent),
        tuple(unexpected),
        tuple(mismatched),
        tuple(late),
    )


def _fit_late_start(optimizer: nnx.Optimizer, path: Path, restored: Any) -> None:
    """Gives an optimizer the form of the checkpoint: with parameters that joined later, or without."""
    start = (*path, "opt_state", "counts")
    pairs = arrays_by_path(restored, set())
    counts = {p[len(start) :]: x for p, x in pairs if p[: len(start)] == start}
    if not counts:
        if any(p[: len(start) - 1] == start[:-1] for p, _ in pairs):
            remove_late_start(optimizer)
        return
    inner = inner_state_of(optimizer)
    own = own_counts(inner)
    ages: Ages = {
        place: {p[len(place) :]: int(x) for p, x in counts.items() if p[: len(place)] == place}
        for place in own
    }
    # Ages that no count has: parameters of one age become a cohort; the values are restored afterwards.
    set_ages(optimizer, ages, dict.fromkeys(own, -1))


def _ages(
    optimizer: nnx.Optimizer,
    path: Path,
    old: dict[Path, Any],
    values: dict[Path, Any],
    restored: set[Path],
) -> tuple[Ages, dict[Path, int]]:
    """The count that goes with the moments of each parameter, and the optimizer's own, at each count.

    Moments that were restored in part are kept as a whole: `values` and `restored` lose the others.
    """
    within = (*path, "opt_state")
    late = is_late(optimizer.tx)
    start = (*within, "inner_state") if late else within
    ages: Ages = {}
    common: dict[Path, int] = {}
    for place, of in moments(inner_state_of(optimizer)).items():
        ages[place] = {}
        count = (*start, *place)
        common[place] = int(values[count])
        for p, slots in of.items():
            own = (*within, "counts", *place, *p) if late else ()
            own = own if own in values else count
            whole = [(*start, *slot) for slot in slots]
            kept = not restored.issuperset(whole)
            if kept:
                values.update({slot: old[slot] for slot in whole})
                restored.difference_update(whole)
            ages[place][p] = int((old if kept else values)[own])
    return ages, common


def arrays_by_path(state: Any, wanted: set[Path]) -> list[tuple[Path, Any]]:
    """The arrays of a restored state by path, without Nones and abstract arrays.

    The path of a Variable that was saved as a container ends with "value", which is dropped unless it is
    part of a wanted path.
    """
    pairs = []
    for path, value in leaves_with_paths(nnx.as_pure(state)):
        if not isinstance(value, jax.ShapeDtypeStruct):
            short = path[-1:] == ("value",) and path not in wanted
            array = value if hasattr(value, "dtype") else np.asarray(value)
            pairs.append((path[:-1] if short else path, array))
    return pairs


def in_place_of(old: Any, new: Any) -> Any:
    """An array with the devices and the layout of the one it replaces."""
    sharding = getattr(old, "sharding", None)
    if sharding is None or isinstance(old, jax.ShapeDtypeStruct):
        return jnp.asarray(new)
    if isinstance(new, jax.Array) and new.sharding == sharding:
        return new
    return jax.device_put(new, sharding)
