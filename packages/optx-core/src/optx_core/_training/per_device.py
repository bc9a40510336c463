"""A function on each device's own examples, with one reduction over the devices.

`jax.shard_map` runs it over the mesh axes of the batch alone; other axes (of tensor parallelism) stay as
they are. All float arrays vary over those axes inside, so that derivatives are the device's own: the
derivative with respect to an array that does not vary is a sum over the devices, at each slice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from optx_core import PyTree, build, tree
from optx_core._engine.run_if import varying_axes


def names_of(mesh_axes: str | Sequence[str] | None) -> tuple[str, ...]:
    """Returns mesh axes as a tuple."""
    if mesh_axes is None:
        return ()
    return (mesh_axes,) if isinstance(mesh_axes, str) else tuple(mesh_axes)


def mesh_of(where: str, names: tuple[str, ...], arrays: PyTree) -> Any:
    """Returns the current mesh, or that of the arrays; it must have the axes."""
    mesh: Any = jax.sharding.get_abstract_mesh()
    for x in jax.tree.leaves(arrays):
        if mesh.empty and isinstance(x, jax.Array):
            mesh = getattr(jax.typeof(x).sharding, "mesh", mesh)
    if mesh.empty:
        raise ValueError(
            f"{where}: mesh_axes={names} needs a mesh; call within jax.set_mesh(mesh), or place the batch"
        )
    if missing := [name for name in names if name not in mesh.axis_names]:
        raise ValueError(f"{where}: the mesh has the axes {mesh.axis_names}, not {missing[0]!r}")
    if manual := [name for name in names if name in mesh.manual_axes]:
        raise ValueError(
            f"{where}: within jax.shard_map over {manual[0]!r} each device has its own examples already; "
            "leave mesh_axes out, differentiate at parameters that vary (jax.lax.pcast), and reduce the "
            "result with jax.lax.pmean"
        )
    return mesh


def on_each_device(
    function: Callable[..., PyTree],
    batch_axes: PyTree,
    out_specs: PyTree,
    mesh: Any,
    names: tuple[str, ...],
) -> Callable[..., PyTree]:
    """Returns a function that calls another on each device, with the device's part of the batches.

    Args:
      function: a function of trees of arrays and of other values, which are handed on as they are.
      batch_axes: a tree prefix of its arguments: the axis of the examples, None for what all devices share.
      out_specs: a tree prefix of its results; they agree on all devices where the spec is empty.
      mesh: the mesh.
      names: its axes over which the batches are split.
    """

    def run(*args: Any) -> PyTree:
        leaves, structure = build.tree_flatten(args, is_leaf=_is_none)
        axes = jax.tree.leaves(
            jax.tree.broadcast(batch_axes, args, is_leaf=_is_none), is_leaf=_is_none
        )
        places = [k for k, x in enumerate(leaves) if isinstance(x, jax.Array | np.ndarray)]

        def local(*arrays: Any) -> PyTree:
            filled = dict(zip(places, arrays, strict=True))
            return function(*structure.unflatten(filled.get(k, x) for k, x in enumerate(leaves)))

        mapped = jax.shard_map(
            local,
            mesh=mesh,
            in_specs=tuple(_spec(axes[k], names) for k in places),
            out_specs=out_specs,
            axis_names=set(names),
        )
        # Without jit, a shard_map over a part of the mesh's axes is refused.
        return jax.jit(mapped)(*[_laid_out(leaves[k], axes[k], mesh, names) for k in places])

    return run


def _is_none(x: Any) -> bool:
    return x is None


def varied(arrays: PyTree, names: tuple[str, ...]) -> PyTree:
    """Returns the float arrays as the device's own, so that derivatives with respect to them are, too."""
    return jax.tree.map(
        lambda x: (
            lax.pcast(x, names, to="varying")
            if isinstance(x, jax.Array) and build.is_inexact(x)
            else x
        ),
        arrays,
    )


def check_varies(where: str, results: PyTree, names: tuple[str, ...]) -> None:
    """Checks that each result of a slice is the device's own."""
    for path, x in jax.tree_util.tree_leaves_with_path(results):
        if missing := set(names) - varying_axes(x):
            name = sorted(missing)[0]
            raise ValueError(
                f"{where}: the result{tree.show_path(path)} of a slice is the same on all devices of "
                f"{name!r}: the function reduces over them itself, or takes the gradient of an array it "
                "closes over. Pass that array as an argument, or leave mesh_axes out; a constant becomes "
                f"a device's own by jax.lax.pcast(x, {name!r}, to='varying')"
            )


def check_own(where: str, updates: PyTree, axis_name: str | Sequence[str]) -> None:
    """Checks that gradients differ between the devices of mapped axes, as far as their types tell."""
    for name in names_of(axis_name):
        if name not in varying_axes(lax.axis_index(name)):
            continue  # jax.vmap, or jax.shard_map with check_vma=False
        for path, g in jax.tree_util.tree_leaves_with_path(updates):
            if name not in varying_axes(g):
                raise ValueError(
                    f"{where}: the gradient at {tree.show_path(path)!r} is the same on all devices of "
                    f"{name!r}: jax.grad sums over them where the parameters do not vary. Differentiate at "
                    f"parameters of the device's own: jax.lax.pcast(params, {name!r}, to='varying')"
                )


def laid_out_as(example: Any, x: Any) -> Any:
    """Lays an array out as another, where layouts are types."""
    own = getattr(jax.typeof(example), "sharding", None)
    return jax.sharding.reshard(x, own) if is_explicit(own) else x


def layout_of(shape: Any) -> Any:
    """Returns the sharding of a `ShapeDtypeStruct` where layouts are types and it is split, else None."""
    sharding: Any = shape.sharding
    return sharding if is_explicit(sharding) and any(sharding.spec) else None


def is_explicit(sharding: Any) -> bool:
    """Returns whether a sharding is on a mesh with Explicit axes, where it is part of an array's type."""
    mesh = getattr(sharding, "mesh", None)
    return mesh is not None and AxisType.Explicit in mesh.axis_types


def _spec(axis: int | None, names: tuple[str, ...]) -> PartitionSpec:
    return PartitionSpec() if axis is None else PartitionSpec(*(None,) * axis, names)


def _laid_out(x: Any, axis: int | None, mesh: Any, names: tuple[str, ...]) -> Any:
    """Lays an argument out over the mesh axes, as `jax.shard_map` needs where layouts are types."""
    if not any(kind == AxisType.Explicit for kind in mesh.axis_types):
        return x
    sharding = getattr(jax.typeof(x), "sharding", None)
    own: Any = getattr(sharding, "spec", ()) if is_explicit(sharding) else ()

    def without(part: Any) -> Any:
        left = tuple(
            name
            for name in (part if isinstance(part, tuple) else (part,))
            if name and name not in names
        )
        return left or None

    parts = [without(part) for part in own] + [None] * (np.ndim(x) - len(own))
    if axis is not None:
        parts[axis] = (*names, *(parts[axis] or ()))
    return jax.sharding.reshard(x, NamedSharding(mesh, PartitionSpec(*parts)))
