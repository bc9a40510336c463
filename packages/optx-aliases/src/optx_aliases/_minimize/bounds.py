"""The bounds of `minimize`, as trees like x."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_aliases._transforms.whole_tree import real_dtype_of
from optx_core import PyTree

Bounds = tuple[PyTree, PyTree]


def as_bounds(bounds: Any, x: PyTree) -> Bounds:
    """Lower and upper bounds as trees of arrays of x's shapes and dtypes.

    Args:
      bounds: a pair; each a number, None, or a tree like x of numbers, None and arrays.
      x: a tree of arrays.

    Returns:
      The two trees. Integer leaves of x have bounds too, which nobody looks at.

    Raises:
      TypeError: if it is no pair.
      ValueError: if a bound does not fit, names the path; if a lower bound is above its upper one.
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

    def spread(name: str, bound: Any, none: float) -> list[jax.Array]:
        if bound is None or (np.ndim(bound) == 0 and jax.tree_util.all_leaves([bound])):
            given: list[Any] = [bound] * len(places)
        else:
            try:
                given = structure.flatten_up_to(bound)
            except (ValueError, TypeError):
                raise ValueError(
                    f"minimize: the {name} bounds are of another structure than x0: "
                    f"{jax.tree_util.tree_structure(bound)}, not {structure}"
                ) from None
        made = []
        for (path, leaf), b in zip(places, given, strict=True):
            value = jnp.asarray(none if b is None else b)
            if value.shape not in ((), leaf.shape):
                place = jax.tree_util.keystr(path)
                raise ValueError(
                    f"minimize: the {name} bound of x0{place} is {value.shape}, x0 is {leaf.shape}"
                )
            real = leaf.dtype if jnp.issubdtype(leaf.dtype, jnp.inexact) else jnp.float32
            made.append(jnp.broadcast_to(value.astype(real), leaf.shape))
        return made

    lower, upper = spread("lower", bounds[0], -jnp.inf), spread("upper", bounds[1], jnp.inf)
    for (path, _), low, high in zip(places, lower, upper, strict=True):
        if isinstance(low, jax.core.Tracer) or isinstance(high, jax.core.Tracer):
            continue
        if not bool(jnp.all(low <= high)):
            name = jax.tree_util.keystr(path)
            raise ValueError(f"minimize: a lower bound of x0{name} is above its upper bound")
    return structure.unflatten(lower), structure.unflatten(upper)


def project(x: PyTree, box: Bounds | None) -> PyTree:
    """The point of the box next to x."""
    if box is None:
        return x

    def leaf(a: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
        return jnp.clip(a, low, high) if jnp.issubdtype(a.dtype, jnp.inexact) else a

    return jax.tree.map(leaf, x, *box)


def projected_gradient(x: PyTree, grad: PyTree, box: Bounds | None) -> jax.Array:
    """The size of the projected gradient: max |P(x − g) − x|, without bounds max |g|; a scalar."""
    real = real_dtype_of(x)
    sizes = [jnp.zeros((), real)]
    lows, highs = (None, None) if box is None else map(jax.tree.leaves, box)
    for place, (a, g) in enumerate(zip(jax.tree.leaves(x), jax.tree.leaves(grad), strict=True)):
        if not a.size or not jnp.issubdtype(a.dtype, jnp.inexact):
            continue
        move = jnp.abs(g).astype(real)
        if lows is not None and highs is not None:
            # How far it may go against the gradient, as SciPy measures it.
            room = jnp.where(g > 0, a - lows[place], highs[place] - a).astype(real)
            move = jnp.minimum(move, room)
        sizes.append(jnp.max(move))
    return jnp.max(jnp.stack(sizes))
