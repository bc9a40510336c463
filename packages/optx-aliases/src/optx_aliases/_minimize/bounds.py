"""The bounds of `minimize`, as trees like x."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from optx_aliases._transforms.scalars import scalar_dtype
from optx_core import PyTree

Bounds: TypeAlias = tuple[PyTree, PyTree]


def as_bounds(bounds: Any, x: PyTree) -> Bounds:
    """Lower and upper bounds as trees of arrays of x's shapes and dtypes.

    Args:
      bounds: a pair; each a number, None, or a tree like x of numbers, None and arrays.
      x: a tree of arrays.

    Returns:
      The two trees. Integer leaves of x have bounds too, which are not used.

    Raises:
      TypeError: if `bounds` is not a pair.
      ValueError: if a bound does not fit (the message names the path), or a lower bound is above the upper
        one.
    """
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise TypeError(f"minimize: bounds must be a pair (lower, upper), not {bounds!r}")
    places: list[tuple[Any, Any]]
    structure: Any
    places, structure = jax.tree_util.tree_flatten_with_path(x)
    for path, leaf in places:
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            name = jax.tree_util.keystr(path)
            raise ValueError(f"minimize: x0{name} is complex, and complex numbers have no order")

    def spread(name: str, bound: Any, none: float) -> list[Array]:
        if bound is None or (np.ndim(bound) == 0 and jax.tree_util.all_leaves([bound])):
            given: list[Any] = [bound] * len(places)
        else:
            try:
                given = structure.flatten_up_to(bound)
            except (ValueError, TypeError):
                raise ValueError(
                    f"minimize: the {name} bounds have another structure than x0: "
                    f"{jax.tree_util.tree_structure(bound)}, not {structure}"
                ) from None
        arrays = []
        for (path, leaf), b in zip(places, given, strict=True):
            value = jnp.asarray(none if b is None else b)
            if value.shape not in ((), leaf.shape):
                place = jax.tree_util.keystr(path)
                raise ValueError(
                    f"minimize: the {name} bound of x0{place} is {value.shape}, x0 is {leaf.shape}"
                )
            real = leaf.dtype if jnp.issubdtype(leaf.dtype, jnp.inexact) else jnp.float32
            arrays.append(jnp.broadcast_to(value.astype(real), leaf.shape))
        return arrays

    lower, upper = spread("lower", bounds[0], -jnp.inf), spread("upper", bounds[1], jnp.inf)
    for (path, _), low, high in zip(places, lower, upper, strict=True):
        if isinstance(low, jax.core.Tracer) or isinstance(high, jax.core.Tracer):
            continue
        if not bool(jnp.all(low <= high)):
            name = jax.tree_util.keystr(path)
            raise ValueError(f"minimize: a lower bound of x0{name} is above its upper bound")
    return structure.unflatten(lower), structure.unflatten(upper)


def project(x: PyTree, box: Bounds | None) -> PyTree:
    """The point of the box closest to x."""
    if box is None:
        return x

    def leaf(a: Array, low: Array, high: Array) -> Array:
        return jnp.clip(a, low, high) if jnp.issubdtype(a.dtype, jnp.inexact) else a

    return jax.tree.map(leaf, x, *box)


def projected_gradient(x: PyTree, grad: PyTree, box: Bounds | None) -> Array:
    """The size of the projected gradient: max |P(x − g) − x|, without bounds max |g|; a scalar."""
    real = scalar_dtype(x)
    sizes = [jnp.zeros((), real)]
    lows, highs = (None, None) if box is None else map(jax.tree.leaves, box)
    for place, (a, g) in enumerate(zip(jax.tree.leaves(x), jax.tree.leaves(grad), strict=True)):
        if not a.size or not jnp.issubdtype(a.dtype, jnp.inexact):
            continue
        move = jnp.abs(g).astype(real)
        if lows is not None and highs is not None:
            # The distance to the bound against the gradient, as in SciPy.
            room = jnp.where(g > 0, a - lows[place], highs[place] - a).astype(real)
            move = jnp.minimum(move, room)
        sizes.append(jnp.max(move))
    return jnp.max(jnp.stack(sizes))


def falls_freely(grad: PyTree, box: Bounds | None) -> Array:
    """Whether no bound lies ahead of a variable along the negative gradient; a boolean scalar."""
    if box is None:
        return jnp.ones((), bool)
    free = [
        jnp.any(((g < 0) & (high == jnp.inf)) | ((g > 0) & (low == -jnp.inf)))
        for g, low, high in zip(*map(jax.tree.leaves, (grad, *box)), strict=True)
    ]
    return jnp.any(jnp.stack(free))
