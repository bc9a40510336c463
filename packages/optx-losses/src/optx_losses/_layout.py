"""Arrays that are split over Explicit axes of a mesh: their types say so, and operations must agree.

A gather at the labels would cross the devices. A sum over the classes, of which one is selected, stays
where they are and adds one number per row.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec


def is_split(x: jax.Array, axis: int | None = None) -> bool:
    """True if an array, or one axis of it, is split over devices according to its type."""
    spec = jax.typeof(x).sharding.spec
    return any(part is not None for part in (spec if axis is None else spec[axis : axis + 1]))


def whole(x: jax.Array, axis: int) -> jax.Array:
    """The array, gathered along an axis if its type says that it is split."""
    if not is_split(x, axis):
        return x
    own = jax.typeof(x).sharding
    parts = (None if i == axis else part for i, part in enumerate(own.spec))
    return jax.sharding.reshard(x, NamedSharding(own.mesh, PartitionSpec(*parts)))


def product_over_rows(a: jax.Array, b: jax.Array) -> jax.Array:
    """Aᵀ·B, on each device, of rows that may be split over devices, which are not gathered."""
    a, b = whole(a, 1), whole(b, 1)
    out = None
    if is_split(a):
        out = NamedSharding(jax.typeof(a).sharding.mesh, PartitionSpec(None, None))
    return jnp.matmul(a.T, b, precision="highest", out_sharding=out)


def laid_as(x: jax.Array, like: jax.Array) -> jax.Array:
    """The array, split over devices as one of the same shape is according to its type."""
    return jax.sharding.reshard(x, jax.typeof(like).sharding) if is_split(like) else x


def all_true(x: jax.Array) -> jax.Array:
    """True for each entry of x, split as x is."""
    # Made of x: outside `jax.set_mesh` the mesh of its type cannot be named without it.
    return jnp.isnan(x) | True if is_split(x) else jnp.ones_like(x, bool)


def is_label(x: jax.Array, y: jax.Array) -> jax.Array:
    """[c = y] for the classes c on the last axis of x, split as x is."""
    classes = jnp.arange(x.shape[-1], dtype=y.dtype).reshape(*(1,) * y.ndim, -1)
    equal = classes == y[..., None]
    return equal & all_true(x) if is_split(x) else equal


def at_label(x: jax.Array, y: jax.Array) -> jax.Array:
    """The entries of x at the labels y, which are in range, along the last axis."""
    if is_split(x, x.ndim - 1):
        return jnp.sum(jnp.where(is_label(x, y), x, 0), axis=-1)
    return jnp.take_along_axis(x, y[..., None], axis=-1, mode="promise_in_bounds")[..., 0]


def of_label(per_class: jax.Array, y: jax.Array) -> jax.Array:
    """The entries of one row, shape [classes], at each label."""
    if is_split(per_class) or is_split(y):
        per_class = per_class.reshape(*(1,) * y.ndim, -1)
        return jnp.sum(jnp.where(is_label(per_class, y), per_class, 0), axis=-1)
    return jnp.take(per_class, y, mode="clip")
