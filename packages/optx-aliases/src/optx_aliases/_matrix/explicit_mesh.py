"""Arrays on a mesh with Explicit axes, where the layout is part of an array's type.

On other meshes XLA decides where to gather, and everything here leaves arrays alone.
"""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def explicit_sharding(x: jax.Array) -> NamedSharding | None:
    """The sharding that is part of an array's type, on a mesh with Explicit axes."""
    sharding = jax.typeof(x).sharding
    explicit = AxisType.Explicit in getattr(sharding.mesh, "axis_types", ())
    return sharding if explicit else None


def typed_spec(x: jax.Array) -> list[Any]:
    """The mesh axes of each dimension, on a mesh with Explicit axes."""
    spec = jax.typeof(x).sharding.spec
    return [*spec, *(None,) * (x.ndim - len(spec))]


def whole(x: jax.Array) -> jax.Array:
    """The array with all of it on every device."""
    own = explicit_sharding(x)
    return x if own is None else jax.sharding.reshard(x, NamedSharding(own.mesh, PartitionSpec()))


def laid(x: jax.Array, like: jax.Array) -> jax.Array:
    """The array laid out as another one of its shape."""
    own = explicit_sharding(like)
    return x if own is None else jax.sharding.reshard(x, own)
