"""The layout of a model's parameters on a mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flax import nnx
from optx_flax._paths import Path, is_variable, leaves_with_paths, listed

Rule = Callable[[tuple[int, ...], PartitionSpec], PartitionSpec]


class Layout(NamedTuple):
    """The layout of parameters on a mesh, without arrays, so that it can be compared.

    Attributes:
      mesh: the mesh.
      paths: the path of each parameter.
      shapes: the shape of each parameter.
      specs: its `PartitionSpec`, with an entry for each axis.
    """

    mesh: Mesh
    paths: tuple[Path, ...]
    shapes: tuple[tuple[int, ...], ...]
    specs: tuple[PartitionSpec, ...]

    def __repr__(self) -> str:
        return f"<{len(self.paths)} parameters on {dict(self.mesh.shape)}>"

    def laid_by(self, rule: Rule | None) -> Layout:
        """The layout changed by a rule."""
        if rule is None:
            return self
        changed = (rule(shape, spec) for shape, spec in zip(self.shapes, self.specs, strict=True))
        pairs = zip(changed, self.shapes, strict=True)
        return self._replace(specs=tuple(padded(spec, len(shape)) for spec, shape in pairs))


def layout_of(where: str, params: Any, mesh: Mesh | None, rule: Rule | None = None) -> Layout:
    """The layout of a state of parameters, changed by `rule`."""
    pairs = [(path, leaf) for path, leaf in leaves_with_paths(params) if has_array(leaf)]
    mesh = mesh if mesh is not None else _mesh_of(where, [leaf for _, leaf in pairs])
    shapes = tuple(tuple(map(int, np.shape(value_of(leaf)))) for _, leaf in pairs)
    specs = []
    for (path, leaf), shape in zip(pairs, shapes, strict=True):
        spec = spec_of(leaf)
        if len(spec) > len(shape):
            raise ValueError(
                f"{where}: {'/'.join(path)} of shape {shape} is annotated with {spec}, which has "
                f"{len(spec)} entries"
            )
        unknown = [name for name in axes_of(spec) if name not in mesh.axis_names]
        if unknown:
            raise ValueError(
                f"{where}: {'/'.join(path)} lies along {', '.join(unknown)}, the mesh has the axes "
                f"{mesh.axis_names}; logical names need flax's logical_axis_rules"
            )
        specs.append(padded(spec, len(shape)))
    paths = tuple(path for path, _ in pairs)
    return Layout(mesh, paths, shapes, tuple(specs)).laid_by(rule)


def value_of(leaf: Any) -> Any:
    return leaf.get_value() if is_variable(leaf) else leaf


def has_array(leaf: Any) -> bool:
    """Whether a leaf is an array: a Variable may hold None, or a masked node."""
    return hasattr(value_of(leaf), "dtype")


def known_sharding(leaf: Any) -> NamedSharding | None:
    """The sharding on a mesh of an array, traced or abstract ones included, or None."""
    value = value_of(leaf)
    if isinstance(value, jax.core.Tracer):
        typed = jax.typeof(value).sharding
        mesh = getattr(typed, "mesh", None)
        return typed if mesh is not None and not mesh.empty and any(typed.spec) else None
    sharding = getattr(value, "sharding", None)
    return sharding if isinstance(sharding, NamedSharding) else None


def annotation(leaf: Any) -> PartitionSpec | None:
    """The layout in a Variable's metadata, or None."""
    sharding = leaf.get_metadata("out_sharding", None) if is_variable(leaf) else None
    if not sharding:
        return None
    if isinstance(sharding, tuple | PartitionSpec):
        return nnx.spmd.get_var_pspec(leaf)
    return getattr(sharding, "spec", None) or getattr(sharding, "sharding").spec  # noqa: B009


def spec_of(leaf: Any) -> PartitionSpec:
    """A parameter's spec: that of its array if it lies on a mesh, or else its annotation."""
    sharding = known_sharding(leaf)
    if sharding is not None:
        return sharding.spec
    noted = annotation(leaf)
    return PartitionSpec() if noted is None else noted


def axes_of(spec: PartitionSpec) -> list[str]:
    return [
        name for part in spec if part for name in (part if isinstance(part, tuple) else (part,))
    ]


def padded(spec: PartitionSpec, ndim: int) -> PartitionSpec:
    return PartitionSpec(*spec, *(None,) * (ndim - len(spec)))


def trimmed(spec: PartitionSpec) -> PartitionSpec:
    """The spec without trailing Nones, as XLA returns them: jit's cache distinguishes the two."""
    parts = list(spec)
    while parts and parts[-1] is None:
        parts.pop()
    return PartitionSpec(*parts)


def _mesh_of(where: str, leaves: list[Any]) -> Mesh:
    known = {s.mesh for s in map(known_sharding, leaves) if s is not None}
    meshes = {m for m in known if isinstance(m, Mesh)}
    if len(meshes) > 1:
        raise ValueError(f"{where}: the parameters lie on {len(meshes)} different meshes")
    if meshes:
        return meshes.pop()
    if not any(isinstance(value_of(leaf), jax.core.Tracer) for leaf in leaves):
        current = jax.sharding.get_mesh()
        if not current.empty:
            return current
    names = listed([str(type(leaf).__name__) for leaf in leaves[:1]])
    raise ValueError(
        f"{where}: no mesh is known, as no parameter lies on one ({names}); pass mesh=, or call it "
        "within jax.set_mesh(mesh)"
    )
