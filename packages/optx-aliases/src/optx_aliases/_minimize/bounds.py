"""The bounds of `minimize`, as trees like x."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from optx_aliases._transforms.scalars import scalar_dtype
from optx_core import PyTree, build, tree

Bounds: TypeAlias = tuple[PyTree, PyTree]


def as_bounds(bounds: Any, x: PyTree) -> Bounds:
    """Lower and upper bounds as trees of arrays of x's shapes and dtypes.

    Args:
      bounds: a pair; each a number, None, or a tree like x of numbers, None and arrays.
      x: a tree of arrays.

    Returns:
      The two trees, with None for integer leaves of x.

    Raises:
      TypeError: if `bounds` is not a pair.
      ValueError: if a bound does not fit (the message names the path), or a lower bound is above the upper
        one.
    """
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise TypeError(f"minimize: bounds must be a pair (lower, upper), not {bounds!r}")
    structure: Any = jax.tree.structure(x)

    def side(name: str, bound: Any, none: float) -> PyTree:
        if bound is None or (np.ndim(bound) == 0 and jax.tree_util.all_leaves([bound])):
            bound = structure.unflatten([bound] * structure.num_leaves)
        try:
            structure.flatten_up_to(bound)
        except (ValueError, TypeError):
            raise ValueError(
                f"minimize: the {name} bounds have another structure than x0: "
                f"{jax.tree.structure(bound)}, not {structure}"
            ) from None

        def leaf(path: Any, a: Array, b: Any) -> Array | None:
            value, place = jnp.asarray(none if b is None else b), jax.tree_util.keystr(path)
            if jnp.iscomplexobj(a):
                raise ValueError(
                    f"minimize: x0{place} is complex, and complex numbers have no order"
                )
            if value.shape not in ((), a.shape):
                raise ValueError(
                    f"minimize: the {name} bound of x0{place} is {value.shape}, x0 is {a.shape}"
                )
            exact = not build.is_inexact(a)
            return None if exact else jnp.broadcast_to(value.astype(a.dtype), a.shape)

        return jax.tree_util.tree_map_with_path(leaf, x, bound)

    def check(path: Any, low: Array, high: Array) -> None:
        traced = isinstance(low, jax.core.Tracer) or isinstance(high, jax.core.Tracer)
        if not traced and not bool(jnp.all(low <= high)):
            place = jax.tree_util.keystr(path)
            raise ValueError(f"minimize: a lower bound of x0{place} is above its upper bound")

    lower, upper = side("lower", bounds[0], -jnp.inf), side("upper", bounds[1], jnp.inf)
    jax.tree_util.tree_map_with_path(check, lower, upper)
    return lower, upper


def project(x: PyTree, box: Bounds | None) -> PyTree:
    """The point of the box closest to x."""
    return x if box is None else jax.tree.map(jnp.clip, x, *box)


def projected_gradient(x: PyTree, grad: PyTree, box: Bounds | None) -> Array:
    """The size of the projected gradient: max |P(x − g) − x|, without bounds max |g|; a scalar."""

    def move(g: Array, a: Array, low: Array, high: Array) -> Array:
        # The distance to the bound against the gradient, as in SciPy.
        return jnp.minimum(jnp.abs(g), jnp.where(g > 0, a - low, high - a))

    moves = grad if box is None else jax.tree.map(move, grad, x, *box)
    return tree.norm(moves, jnp.inf).astype(scalar_dtype(x))


def falls_freely(grad: PyTree, box: Bounds | None) -> Array:
    """Returns whether any variable is unbounded along the negative gradient, a boolean scalar."""
    if box is None:
        return jnp.ones((), bool)

    def free(g: Array, low: Array, high: Array) -> Array:
        return jnp.any(((g < 0) & (high == jnp.inf)) | ((g > 0) & (low == -jnp.inf)))

    return jnp.any(jnp.stack(jax.tree.leaves(jax.tree.map(free, grad, *box))))
