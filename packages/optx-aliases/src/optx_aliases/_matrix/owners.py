"""Whole matrices on a mesh: each has one owner, the device that computes with it.

`on_owners` sends the parts of each matrix, and of all arrays that belong to it, from the devices that hold
them to the owner, applies a function there, and sends the results back to where the arrays lie: one
all-to-all there and one back for each dtype, however many arrays there are. What every device holds is not
sent. Matrices of one shape are shared out evenly, as stacks; those left over are assigned by their cost,
the most expensive first, each to the device that has least to do.

The layouts are read from the types on a mesh with Explicit axes (`jax.shard_map`). With Auto axes only the
compiler knows them, and asks (`custom_partitioning`). Derivatives and `jax.vmap` on Auto axes run the same
function without owners.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding

from optx_aliases._matrix.explicit_mesh import explicit_sharding
from optx_aliases._matrix.matrices import Axes
from optx_aliases._matrix.mesh_layouts import Fresh, Spec, job_of, partition_spec, spec_in, spec_of
from optx_aliases._matrix.visits import visited
from optx_core import build

OwnerAxes: TypeAlias = build.Names
"""The mesh axes whose devices may own matrices; None for all."""

VERSION = 1  # of the program that the compiler is given for the same equations: counts its changes


def mesh_of(arrays: Iterable[Any]) -> Any:
    """Returns the mesh of the first array that is on one of several devices, or of Explicit axes; or None.

    Inside `jax.shard_map`, where each device works for itself, there is none; inside `per_slice` XLA
    divides the work.

    Raises:
      TypeError: inside `per_slice`, on a mesh with Explicit axes.
    """
    for x in arrays:
        mesh: Any = getattr(jax.typeof(x).sharding, "mesh", None)
        kinds = getattr(mesh, "axis_types", None) or ()
        if build.sees_slices() and AxisType.Explicit in kinds:
            raise TypeError(
                "per_slice: on a mesh with Explicit axes the matrices of each array have owners, which "
                "cannot be chosen slice by slice. Leave this optimizer out of per_slice: it takes an array "
                "of three axes for a stack of matrices, and muon has dimension numbers for others"
            )
        if kinds and (mesh.size > 1 or AxisType.Explicit in kinds):
            return None if AxisType.Manual in kinds or build.sees_slices() else mesh
    return None


def owner_axes_of(where: str, mesh: Any, chosen: OwnerAxes) -> tuple[str, ...]:
    """Returns the mesh axes whose devices own matrices, in the mesh's order.

    Args:
      where: the name of the function, for errors.
      mesh: the mesh.
      chosen: the argument `owner_axes`.

    Returns:
      Those of more than one device; on a mesh with Explicit and Auto axes, only Explicit ones.

    Raises:
      ValueError: if the mesh lacks a chosen axis.
    """
    names = (chosen,) if isinstance(chosen, str) else chosen
    for name in names or ():
        if name not in mesh.axis_names:
            raise ValueError(
                f"{where}: owner_axes names {name!r}, but the mesh has the axes {mesh.axis_names}"
            )
    kind = AxisType.Explicit if AxisType.Explicit in mesh.axis_types else AxisType.Auto
    return tuple(
        name
        for name in _axes_of_kind(mesh, kind)
        if mesh.shape[name] > 1 and (names is None or name in names)
    )


def _axes_of_kind(mesh: Any, kind: AxisType) -> list[str]:
    pairs = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return [name for name, own in pairs if own == kind]


def kept_by_owners(
    slot: Array, like: Array, owner_axes: OwnerAxes, *, has_batch: bool = True
) -> Array:
    """Lays the matrices (batch, ...) of an array out over their owners.

    A stack that the owners divide evenly lies with them, in whole matrices. Others are split evenly along
    their rows and columns, as far as these can be divided, and visit their owners at each step.

    Args:
      slot: an array whose first axis is the batch of `like`.
      like: the array; the batch is its first axis if it has three.
      owner_axes: the argument of the optimizer.
      has_batch: False for a single matrix without that axis.

    Returns:
      The same numbers.
    """
    mesh = mesh_of([like])
    if mesh is None or slot.ndim < 2:
        return slot
    axes = owner_axes_of("init", mesh, owner_axes)
    is_stack = has_batch and like.ndim == 3 and explicit_sharding(like) is not None
    home = spec_of(like)[0] if is_stack else ()
    moved = [name for name in axes if name not in home]
    split: list[tuple[str, ...]] = [home, *((),) * (slot.ndim - 1)]
    room = [
        n // math.prod(mesh.shape[a] for a in part)
        for n, part in zip(slot.shape, split, strict=True)
    ]
    if has_batch and room[0] % math.prod(mesh.shape[name] for name in moved) == 0:
        split[0] = (*home, *moved)
    else:
        for name in moved:
            for k in range(has_batch, slot.ndim):
                if room[k] % mesh.shape[name] == 0:
                    split[k], room[k] = (*split[k], name), room[k] // mesh.shape[name]
                    break
    return laid_out(slot, NamedSharding(mesh, partition_spec(split)))


def laid_out(x: Array, sharding: NamedSharding) -> Array:
    """Lays an array out, on a mesh with Explicit or with Auto axes."""
    if AxisType.Explicit in sharding.mesh.axis_types:
        return jax.sharding.reshard(x, sharding)
    return lax.with_sharding_constraint(x, sharding)


def on_owners(
    function: Callable[[tuple[Array, ...], list[Array]], tuple[Array, ...]],
    rows: Sequence[tuple[Array, ...]],
    axes: Sequence[tuple[Axes | Fresh | None, ...]],
    *,
    where: str,
    renewed: int = 1,
    main: int = 0,
    shared: Sequence[Array] = (),
    owner_axes: OwnerAxes = None,
    mesh: Any = None,
) -> list[tuple[Array, ...]]:
    """Applies a function to all matrices, each on its owner.

    Args:
      function: `function(arrays, shared)`, from the arrays of n matrices to the renewed ones: stacks
        (n, rows, columns), other arrays of a matrix (n, 1, ...), and those of its leaf (n, ...).
      rows: the arrays of each leaf: the matrices, and what belongs to them.
      axes: the batch, row and column axes of each array; without columns for other arrays of a matrix; None
        for an array that all matrices of the leaf share; `Fresh` for one that the function gets as zeros.
      where: the name of the function, for errors.
      renewed: how many of the arrays, the first ones, are renewed. Shared ones of shape (1,) stay.
      main: which of the arrays holds the matrices themselves.
      shared: further arrays for the function, known to every device.
      owner_axes: the mesh axes whose devices may own matrices.
      mesh: the mesh (`mesh_of`); None for the device at hand.

    Returns:
      The renewed arrays of each row, with the layouts of the old ones.
    """
    if not rows:
        return []
    owners = () if mesh is None else owner_axes_of(where, mesh, owner_axes)
    widths, keys = [len(row) for row in rows], [_key_kind(x) for x in shared]
    flat = [*itertools.chain(*rows), *map(_key_data, shared)]
    shapes = [x.shape for x in flat]
    kinds = [*itertools.chain(*axes)]

    def with_layouts(specs: Sequence[Spec], sizes: dict[str, int], owners: tuple[str, ...]) -> Any:
        """Returns the layouts that the function needs, and the function of the parts on each device."""
        jobs, wanted = [], []
        for start, width in zip(starts, widths, strict=True):
            part = slice(start, start + width)
            job, own = job_of(shapes[part], specs[part], kinds[part], main, sizes, owners)
            jobs.append(job)
            wanted += own
        wanted += [((),) * len(spec) for spec in specs[len(wanted) :]]

        def local(*parts: Array) -> tuple[Array, ...]:
            taken = iter(parts)
            blocks = [tuple(itertools.islice(taken, width)) for width in widths]
            rest = [
                x if kind is None else jax.random.wrap_key_data(x, impl=kind)
                for kind, x in zip(keys, taken, strict=False)
            ]
            work = lambda arrays: function(arrays, rest)  # noqa: E731
            return tuple(itertools.chain(*visited(work, jobs, blocks, renewed)))

        return wanted, local

    def alone(*flat: Array) -> tuple[Array, ...]:
        return with_layouts([((),) * len(shape) for shape in shapes], {}, ())[1](*flat)

    starts = list(itertools.accumulate([0, *widths[:-1]]))
    results = [start + k for start in starts for k in range(renewed)]
    if mesh is None:
        done: Any = alone(*flat)
    elif AxisType.Explicit in mesh.axis_types:
        specs = [spec_of(x) for x in flat]
        wanted, local = with_layouts(specs, dict(mesh.shape), owners)
        relaid = [
            x if new == old else laid_out(x, NamedSharding(mesh, partition_spec(new)))
            for x, old, new in zip(flat, specs, wanted, strict=True)
        ]
        mapped = jax.shard_map(
            local,
            mesh=mesh,
            axis_names=set(_axes_of_kind(mesh, AxisType.Explicit)),
            in_specs=tuple(map(partition_spec, wanted)),
            out_specs=tuple(partition_spec(wanted[k]) for k in results),
            check_vma=False,
        )
        done = [
            laid_out(x, NamedSharding(mesh, partition_spec(specs[k])))
            if wanted[k] != specs[k]
            else x
            for k, x in zip(results, mapped(*relaid), strict=True)
        ]
    else:
        done = _by_compiler(alone, with_layouts, flat, results, owners)
    taken = iter(done)
    return [tuple(itertools.islice(taken, renewed)) for _ in rows]


def _by_compiler(
    alone: Callable[..., Any],
    with_layouts: Callable[..., Any],
    flat: list[Array],
    results: list[int],
    owners: tuple[str, ...],
) -> Any:
    """Runs the function that `with_layouts` makes for the layouts that the compiler chooses."""
    # local: takes longer to import than this package
    from jax.experimental.custom_partitioning import custom_partitioning

    # `custom_partitioning` takes no constants: they become further arguments.
    closed = jax.make_jaxpr(alone)(*flat)
    places = [k for k, x in enumerate(closed.consts) if x.size]
    constants = [jnp.asarray(closed.consts[k]) for k in places]
    # The program holds nothing of the function but this: without it a cache on disk would confuse functions.
    flat = [*flat, jnp.asarray(_fingerprint(closed.jaxpr, owners, results)), *constants]

    def without_constants(*flat: Array) -> Any:
        constants: list[Any] = [jnp.zeros(x.shape, x.dtype) for x in closed.consts]
        count = len(flat) - len(places)
        for k, x in zip(places, flat[count:], strict=True):
            constants[k] = x
        given = flat[: count - 1]
        return tuple(build.evaluate_jaxpr(closed.jaxpr, constants, *given))

    def layouts(mesh: Any, arguments: Any) -> tuple[Any, Any, Any]:
        specs = [spec_in(x.sharding, len(x.shape)) for x in arguments]
        wanted, local = with_layouts(specs, dict(mesh.shape), owners)
        shardings = [NamedSharding(mesh, partition_spec(spec)) for spec in wanted]
        return local, tuple(shardings), tuple(shardings[k] for k in results)

    def partition(mesh: Any, arguments: Any, _: Any) -> tuple[Any, Any, Any, Any]:
        local, given, returned = layouts(mesh, arguments)
        return mesh, local, returned, given

    # Each result lies as its argument does.
    names = [" ".join(f"x{k}d{d}" for d in range(x.ndim)) for k, x in enumerate(flat)]
    partitioned = custom_partitioning(without_constants)
    partitioned.def_partition(
        partition=partition,
        infer_sharding_from_operands=lambda mesh, arguments, _: layouts(mesh, arguments)[2],
        sharding_rule=f"{', '.join(names)} -> {', '.join(names[k] for k in results)}",
    )
    by_device = jax.custom_batching.custom_vmap(partitioned)

    @by_device.def_vmap
    def batched(_: int, is_batched: Sequence[bool], *flat: Array) -> Any:
        in_axes = [0 if one else None for one in is_batched]
        return jax.vmap(without_constants, in_axes)(*flat), (True,) * len(results)

    placed = jax.custom_jvp(by_device)
    placed.defjvp(lambda primals, tangents: jax.jvp(without_constants, primals, tangents))
    return placed(*flat)


def _fingerprint(*parts: Any) -> np.ndarray:
    """Returns a hash of the texts of objects without the addresses in them, (8,) of uint32."""
    text = re.sub(r" at 0x[0-9a-f]+", "", "\n".join(map(str, parts)))
    digest = hashlib.sha256(f"{VERSION}\n{text}".encode()).digest()
    return np.frombuffer(digest, np.uint32)


def _key_kind(x: Any) -> Any:
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return jax.random.key_impl(x) if is_key else None


def _key_data(x: Any) -> Array:
    return jnp.asarray(x) if _key_kind(x) is None else jax.random.key_data(x)
