"""The sharding of optimizer state on a mesh, derived by JAX.

`init` is evaluated abstractly on parameters whose types include their shardings, on an abstract copy of
their mesh with all axes Explicit; the types of the state then give the sharding of each leaf. Every slot
is computed from its parameter by jnp operations, so row sums, stacked memories and casts get the correct
shardings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from optx_core import OptState, Params, PyTree, build, tree, with_extra_args_support
from optx_core._engine.staged import staged


def state_sharding(tx: Any, params: Params, *, mesh: Mesh | None = None) -> PyTree:
    """Returns the sharding of each leaf of a transformation's state.

    Args:
      tx: a transformation.
      params: a tree of arrays (or `jax.ShapeDtypeStruct`) with shardings.
      mesh: their mesh; needed only if no parameter has one.

    Returns:
      A tree of `NamedSharding` with the state's structure: for `jax.jit(tx.init, out_shardings=...)`,
      for the targets of a checkpoint, for `jax.device_put`. The memory kind of what `offload` keeps on the
      host is "pinned_host".

    Raises:
      ValueError: if no mesh is known, or the parameters are on several.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_core import state_sharding, trace
      >>> mesh = jax.make_mesh((1,), ("data",))
      >>> rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
      >>> params = {"w": jax.device_put(jnp.ones((4, 2)), rows)}
      >>> tuple(state_sharding(trace(0.9), params).trace["w"].spec)
      ('data',)
    """
    build.check_transformation_like("state_sharding", tx)
    mesh = _mesh_of(params) if mesh is None else mesh
    if mesh is None:
        raise ValueError(
            "state_sharding: no parameter is on a mesh; place them with jax.device_put and a "
            "NamedSharding, or pass mesh="
        )
    abstract, on_host = _abstract_state(tx, params, mesh)
    return jax.tree.map(lambda x, host: _on(mesh, _spec_of(x), host), abstract, on_host)


def _on(mesh: Any, spec: PartitionSpec, on_host: bool = False) -> NamedSharding:
    kind = {"memory_kind": "pinned_host"} if on_host else {}
    return NamedSharding(mesh, _trimmed(spec), **kind)


def _is_on_host(x: Any) -> bool:
    return bool(getattr(x, "memory_space", None) == jax.memory.Space.Host)


def _abstract_state(
    tx: Any, params: Params, mesh: Any, specs: PyTree = None
) -> tuple[PyTree, PyTree]:
    """Returns the state's shapes, dtypes and shardings for parameters laid out as given, or by `specs`.

    Beside them, whether each array is in the host's memory.
    """
    abstract_mesh = AbstractMesh(
        mesh.axis_sizes, mesh.axis_names, (AxisType.Explicit,) * len(mesh.axis_names)
    )

    def typed(x: Any, spec: PartitionSpec) -> Any:
        return jax.ShapeDtypeStruct(
            np.shape(x), x.dtype, sharding=NamedSharding(abstract_mesh, spec)
        )

    specs = jax.tree.map(_spec_of, params) if specs is None else specs
    with jax.sharding.use_abstract_mesh(abstract_mesh):
        typed_params = jax.tree.map(typed, params, specs)
        closed, state = jax.make_jaxpr(tx.init, return_shape=True)(typed_params)
    on_host = map(_is_on_host, closed.out_avals)
    return state, jax.tree.unflatten(jax.tree.structure(state), on_host)


def _spec_of(x: Any) -> PartitionSpec:
    sharding = getattr(x, "sharding", None)
    if isinstance(x, jax.core.Tracer):
        sharding = jax.typeof(x).sharding
    spec = sharding.spec if isinstance(sharding, NamedSharding) else PartitionSpec()
    return PartitionSpec(*spec, *(None,) * (np.ndim(x) - len(spec)))


def _trimmed(spec: PartitionSpec) -> PartitionSpec:
    """Returns the spec without trailing Nones, as XLA's are: the cache of `jax.jit` distinguishes the two."""
    parts = list(spec)
    while parts and parts[-1] is None:
        parts.pop()
    return PartitionSpec(*parts)


def _mesh_of(params: Params) -> Mesh | None:
    meshes = {
        x.sharding.mesh
        for x in jax.tree.leaves(params)
        if not isinstance(x, jax.core.Tracer)
        and isinstance(getattr(x, "sharding", None), NamedSharding)
    }
    if len(meshes) > 1:
        raise ValueError(f"state_sharding: the parameters are on {len(meshes)} different meshes")
    return next(iter(meshes), None)


def zero1_rule(
    axis: str, size: int, min_size: int = 1
) -> Callable[[tuple[int, ...], PartitionSpec], PartitionSpec]:
    """Returns the layout rule of ZeRO-1, which splits each array over one more mesh axis.

    Args:
      axis: the mesh axis, usually that of the data.
      size: its size.
      min_size: arrays of fewer entries keep their layout.

    Returns:
      A function of an array's shape and its `PartitionSpec` that returns the new one: the axis is
      assigned to the first unsharded dimension whose size it divides; an array without one, or already
      split over the axis, keeps its layout.

    Example:
      >>> from jax.sharding import PartitionSpec
      >>> from optx_core import zero1_rule
      >>> tuple(zero1_rule("data", 4)((3, 8), PartitionSpec(None, None)))
      (None, 'data')
    """

    def rule(shape: tuple[int, ...], spec: PartitionSpec) -> PartitionSpec:
        used = {
            name for part in spec if part for name in (part if isinstance(part, tuple) else (part,))
        }
        if axis in used or int(np.prod(shape)) < min_size:
            return spec
        for k, (n, part) in enumerate(zip(shape, spec, strict=True)):
            if part is None and n and n % size == 0:
                return PartitionSpec(*spec[:k], axis, *spec[k + 1 :])
        return spec

    return rule


@build.keeps_inner_state
@build.recorded
def zero1(
    inner: Any,
    axis: str,
    *,
    mesh: Mesh | None = None,
    param_shardings: PyTree = None,
    min_size: int = 1024,
) -> build.Transformation:
    """Shards an optimizer's state over one more mesh axis: ZeRO-1.

    The gradients are split over the axis before the optimizer, and the updates are gathered to the
    parameters' layout: the state takes 1/N of the memory on each device, and the parameters keep their
    layout. Works on meshes with Auto and with Explicit axes.

    Args:
      inner: the optimizer; an elementwise one, or one that sums over axes.
      axis: the name of the mesh axis.
      mesh: the mesh; by default the current one (`jax.set_mesh`), or that of the parameters.
      param_shardings: the parameters' layout, a tree of `NamedSharding` or `PartitionSpec` with
        their structure, such as `jax.tree.map(lambda p: p.sharding, params)`. On Explicit meshes
        it is part of the types; on Auto meshes a traced parameter has none, and is assumed to be
        replicated by default.
      min_size: arrays of fewer entries keep their layout.

    Returns:
      A transformation; its state is the inner one's.

    Raises:
      ValueError: from `init` and `update`, if no mesh is known, or it lacks the axis.

    Reference: Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter
    Models", 2020, section 5.1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_core import trace, zero1
      >>> mesh = jax.make_mesh((1,), ("data",))
      >>> tx = zero1(trace(0.9), "data", mesh=mesh, min_size=1)
      >>> jax.jit(tx.init)(jnp.ones((4, 2))).trace.shape
      (4, 2)
    """
    build.check_transformation_like("zero1", inner)
    inner = with_extra_args_support(inner)

    def mesh_for(params: PyTree) -> Mesh:
        chosen = mesh if mesh is not None else _current_mesh(params)
        if chosen is None:
            raise ValueError(
                "zero1: no mesh is known; pass mesh=, or call within jax.set_mesh(mesh)"
            )
        if axis not in chosen.axis_names:
            raise ValueError(f"zero1: the mesh has the axes {chosen.axis_names}, not {axis!r}")
        return chosen

    def specs_of(params: PyTree) -> PyTree:
        """Returns the parameters' layout, a `PartitionSpec` for each."""
        if param_shardings is None:
            return jax.tree.map(_spec_of, params)
        is_spec = lambda x: isinstance(x, PartitionSpec | NamedSharding)  # noqa: E731
        given: list[Any] = [
            getattr(s, "spec", s) for s in jax.tree.leaves(param_shardings, is_leaf=is_spec)
        ]
        leaves, structure = build.tree_flatten(params)
        if len(given) != len(leaves):
            raise ValueError(
                f"zero1: param_shardings has {len(given)} leaves, the parameters have {len(leaves)}"
            )
        padded = [
            PartitionSpec(*spec, *(None,) * (np.ndim(x) - len(spec)))
            for spec, x in zip(given, leaves, strict=True)
        ]
        return structure.unflatten(padded)

    def plan(params: PyTree) -> tuple[Any, PyTree, PyTree]:
        """Returns the mesh, and the own and the split layout of each parameter."""
        chosen = mesh_for(params)
        own = specs_of(params)
        rule = zero1_rule(axis, chosen.shape[axis], min_size)
        leaves, structure = build.tree_flatten(params)
        split = [
            rule(np.shape(x), spec)
            for x, spec in zip(leaves, structure.flatten_up_to(own), strict=True)
        ]
        return chosen, own, structure.unflatten(split)

    def lay_out(arrays: PyTree, specs: PyTree, chosen: Any) -> PyTree:
        return jax.tree.map(
            lambda x, spec: x if tree.is_absent(x) else _constrain(x, spec, chosen),
            arrays,
            specs,
            is_leaf=tree.is_placeholder,
        )

    def lay_out_state(state: OptState, params: PyTree, split: PyTree, chosen: Any) -> OptState:
        abstract, _ = _abstract_state(inner, params, chosen, split)
        return jax.tree.map(lambda x, a: _constrain(x, _spec_of(a), chosen), state, abstract)

    def init(params: Params) -> OptState:
        chosen, _, split = plan(params)
        return lay_out_state(inner.init(lay_out(params, split, chosen)), params, split, chosen)

    def stages(
        flow: build.Flow, state: OptState, params: Params = None, **extra_args: Any
    ) -> Callable[[], OptState]:
        build.need_params("zero1", params)
        chosen, own, split = plan(params)
        parts = lay_out(params, split, chosen)
        updates = lay_out(flow.present, split, chosen)
        new, new_state = inner.update(updates, state, parts, **extra_args)
        new_state = lay_out_state(new_state, params, split, chosen)
        flow.updates = flow.restore(lay_out(new, own, chosen))
        return lambda: new_state

    return staged(init, stages)


def _current_mesh(params: PyTree) -> Any:
    for x in jax.tree.leaves(params):
        sharding = (
            jax.typeof(x).sharding
            if isinstance(x, jax.core.Tracer)
            else getattr(x, "sharding", None)
        )
        if isinstance(sharding, NamedSharding) and not sharding.mesh.empty:
            return sharding.mesh
    current = jax.sharding.get_abstract_mesh()
    return None if current.empty else current


def _constrain(x: Any, spec: PartitionSpec, mesh: Any) -> Any:
    if all(kind == AxisType.Explicit for kind in mesh.axis_types):
        return jax.sharding.reshard(x, _on(mesh, spec))  # in its own memory
    return jax.lax.with_sharding_constraint(x, _on(mesh, spec, _is_on_host(jax.typeof(x))))
