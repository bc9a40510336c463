"""Layouts of arrays on a mesh with Explicit axes, where they are part of an array's type.

On other meshes XLA decides where to gather, and these functions return arrays unchanged.
"""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def explicit_sharding(x: jax.Array) -> NamedSharding | None:
    """Returns the sharding in an array's type; None unless its mesh has Explicit axes."""
    sharding = jax.typeof(x).sharding
    explicit = AxisType.Explicit in getattr(sharding.mesh, "axis_types", ())
    return sharding if explicit else None


def typed_spec(x: jax.Array) -> list[Any]:
    """Returns the mesh axes of each dimension, for a mesh with Explicit axes."""
    spec = jax.typeof(x).sharding.spec
    return [*spec, *(None,) * (x.ndim - len(spec))]


def whole(x: jax.Array) -> jax.Array:
    """Replicates an array on every device."""
    own = explicit_sharding(x)
    return x if own is None else jax.sharding.reshard(x, NamedSharding(own.mesh, PartitionSpec()))


def laid(x: jax.Array, like: jax.Array) -> jax.Array:
    """Reshards an array like another one of the same shape."""
    own = explicit_sharding(like)
    return x if own is None else jax.sharding.reshard(x, own)
