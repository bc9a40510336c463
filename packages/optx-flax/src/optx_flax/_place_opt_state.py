"""Placement of an existing optimizer state on a mesh."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flax import nnx
from optx_core import PyTree, state_sharding
from optx_flax._late_start import base_of
from optx_flax._layout import annotation, has_array, known_sharding, layout_of, trimmed, value_of
from optx_flax._paths import flatten, is_variable
from optx_flax._shard_state import is_sharded


def place_opt_state(optimizer: Any, mesh: Mesh, *, model: Any = None) -> None:
    """Lays the state of an `nnx.Optimizer` out on a mesh, in place.

    For an optimizer that was created off the mesh. `shard_state` and `create_sharded` need no such step.

    Args:
      optimizer: the `nnx.Optimizer`.
      mesh: the mesh.
      model: the model, whose parameters lie on the mesh or are annotated. With it JAX derives the layout
        of each slot. Without it the annotations that `nnx.Optimizer` copied from the parameters are
        used, which fit slots of the parameters' shape only.

    Raises:
      ValueError: if a slot has another rank than its annotation.

    Example:
      >>> import jax
      >>> from flax import nnx
      >>> from optx_core import trace
      >>> from optx_flax import place_opt_state
      >>> mesh = jax.make_mesh((1,), ("data",))
      >>> model = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
      >>> optimizer = nnx.Optimizer(model, trace(0.9), wrt=nnx.Param)
      >>> place_opt_state(optimizer, mesh, model=model)
      >>> optimizer.opt_state.trace.kernel.sharding.mesh == mesh
      True
    """
    shardings = opt_state_shardings("place_opt_state", optimizer, mesh, model)
    pure = nnx.as_pure(optimizer.opt_state)
    placed = jax.tree.map(jax.device_put, pure, shardings)
    jax.tree.map(_put, optimizer.opt_state, placed, is_leaf=is_variable)
    step = jax.device_put(optimizer.step.get_value(), NamedSharding(mesh, PartitionSpec()))
    optimizer.step.set_value(step)


def opt_state_shardings(where: str, optimizer: Any, mesh: Mesh, model: Any = None) -> PyTree:
    """The sharding of each leaf of an optimizer's state, on a mesh; a tree without Variables."""
    if model is not None and not is_sharded(base_of(optimizer.tx)):
        params = nnx.state(model, optimizer.wrt)
        layout = layout_of(where, params, mesh)
        leaves, structure = flatten(nnx.as_pure(params))
        placed = [
            jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=NamedSharding(mesh, spec))
            for x, spec in zip(leaves, layout.specs, strict=True)
        ]
        return state_sharding(optimizer.tx, structure.unflatten(placed), mesh=mesh)

    def leaf(path: Any, slot: Any) -> Any:
        value = value_of(slot)
        if not has_array(slot):
            return value
        lies = known_sharding(slot)
        spec = annotation(slot)
        if spec is None:
            spec = lies.spec if lies is not None else PartitionSpec()
        elif len(spec) != np.ndim(value) and not is_sharded(base_of(optimizer.tx)):
            name = jax.tree_util.keystr(path)
            raise ValueError(
                f"{where}: opt_state{name} of shape {np.shape(value)} carries its parameter's "
                f"annotation {spec}, which does not fit; pass model=, or make the optimizer with "
                "shard_state(tx, model)"
            )
        kind = None if lies is None else lies.memory_kind
        return NamedSharding(mesh, trimmed(spec), memory_kind=kind)

    return jax.tree_util.tree_map_with_path(leaf, optimizer.opt_state, is_leaf=is_variable)


def _put(slot: Any, value: Any) -> None:
    slot.set_value(value)
