"""Checkpoints of a model and its optimizer: what to restore into, and putting it back without gaps.

`nnx.update(objects, restored)` passes over what is missing and takes another dtype or shape in silence.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flax import nnx
from optx_flax._layout import annotation, known_sharding, layout_of, trimmed
from optx_flax._paths import Path, leaves_with_paths, listed, structure_of
from optx_flax._place_opt_state import opt_state_shardings


def abstract_state(model: Any, optimizer: nnx.Optimizer, mesh: Mesh | None = None) -> nnx.State:
    """What a checkpoint of `nnx.state((model, optimizer))` is to be restored as.

    Args:
      model: the model, or an abstract one (`nnx.eval_shape`).
      optimizer: its `nnx.Optimizer`, or an abstract one.
      mesh: the mesh to restore onto, which may be another one than that of the checkpoint; None for
        the places where the objects' own arrays lie.

    Returns:
      A state of the structure of `nnx.state((model, optimizer))` with a `jax.ShapeDtypeStruct`, its
      sharding included, for each array: the target of a restore, of Orbax say.

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
    """What `restore_into` did; paths as strings.

    Attributes:
      restored: the arrays that were put back.
      missing: arrays of the objects that the checkpoint lacks (or has as None); they kept their values.
      unexpected: arrays of the checkpoint that the objects have no place for.
      mismatched: arrays of another shape or dtype, with both; the objects kept theirs.
    """

    restored: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]


def restore_into(objects: Any, restored: Any, strict: bool = True) -> RestoreReport:
    """Puts restored arrays back into a model and its optimizer.

    Args:
      objects: the objects, as their state was saved: `(model, optimizer)`.
      restored: the restored state: an `nnx.State` or nested dicts, with or without Variables; indices
        may have become strings.
      strict: whether to refuse, before anything is changed, a checkpoint that does not fit exactly.

    Returns:
      A `RestoreReport`. Each array is brought to the place of the one it replaces.

    Raises:
      ValueError: with `strict`, if an array is missing, unexpected or of another shape or dtype; lists
        the paths, and the cure.

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
    state = nnx.state(objects)
    places = leaves_with_paths(nnx.as_pure(state))
    given = dict(arrays_by_path(restored, {path for path, _ in places}))
    put, missing, mismatched, values = [], [], [], []
    for path, old in places:
        name = "/".join(path)
        values.append(old)
        if path not in given:
            missing.append(name)
            continue
        new = given.pop(path)
        if tuple(np.shape(new)) != tuple(old.shape) or new.dtype != old.dtype:
            mismatched.append(
                f"{name} ({new.dtype}{list(np.shape(new))} for {old.dtype}{list(old.shape)})"
            )
            continue
        values[-1] = in_place_of(old, new)
        put.append(name)
    unexpected = list(map("/".join, given))
    if strict and (missing or unexpected or mismatched):
        parts = [f"missing in the checkpoint: {listed(missing)}"] if missing else []
        parts += [f"without a place: {listed(unexpected)}"] if unexpected else []
        parts += [f"of another kind: {listed(mismatched)}"] if mismatched else []
        raise ValueError(
            f"restore_into: {'; '.join(parts)}. Use migrate_opt_state where the optimizer or the "
            "trained parameters changed, or strict=False to keep what does not fit and have it told"
        )
    nnx.update(objects, structure_of(state).unflatten(values))
    return RestoreReport(tuple(put), tuple(missing), tuple(unexpected), tuple(mismatched))


def arrays_by_path(state: Any, wanted: set[Path]) -> list[tuple[Path, Any]]:
    """The arrays of a restored state by path; Nones and abstract arrays are not there.

    A Variable that was saved as a container leaves the name of its value behind: it is dropped, unless
    there is a wanted path of that name.
    """
    pairs = []
    for path, value in leaves_with_paths(nnx.as_pure(state)):
        if not isinstance(value, jax.ShapeDtypeStruct):
            short = path[-1:] == ("value",) and path not in wanted
            array = value if hasattr(value, "dtype") else np.asarray(value)
            pairs.append((path[:-1] if short else path, array))
    return pairs


def in_place_of(old: Any, new: Any) -> Any:
    """An array brought to where the one it replaces lies."""
    sharding = getattr(old, "sharding", None)
    if sharding is None or isinstance(old, jax.ShapeDtypeStruct):
        return jnp.asarray(new)
    if isinstance(new, jax.Array) and new.sharding == sharding:
        return new
    return jax.device_put(new, sharding)
