"""Euclidean projections onto sets, for projected gradient descent.

Each takes a tree as one vector and returns the nearest tree in the set. Integers are cast to floating point.

References: Duchi et al., "Efficient Projections onto the l1-Ball for Learning in High Dimensions", 2008,
figure 1 (simplex and l1 ball); Boyd, Vandenberghe, "Convex Optimization", section 8.1.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_core import PyTree, Scalar, global_norm
from optx_core.build import check_scalar, dtype_of, is_inexact
from optx_core.tree import sum as tree_sum
from optx_core.tree import vdot


def projection_non_negative(tree: PyTree) -> PyTree:
    """The nearest tree without negative entries: max(x, 0).

    Args:
      tree: a tree of real arrays or numbers.

    Returns:
      A tree of the same structure, shapes and dtypes.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_projections import projection_non_negative
      >>> projection_non_negative(jnp.array([-1.0, 2.0]))
      Array([0., 2.], dtype=float32)
    """
    tree = _arrays("projection_non_negative", tree)
    return jax.tree.map(lambda x: jnp.maximum(x, jnp.zeros_like(x)), tree)


def projection_box(tree: PyTree, lower: PyTree, upper: PyTree) -> PyTree:
    """The nearest tree between two bounds: min(max(x, lower), upper).

    Args:
      tree: a tree of real arrays or numbers.
      lower: a scalar, or a tree of the same structure.
      upper: a scalar, or a tree of the same structure.

    Returns:
      A tree of the same structure, shapes and dtypes.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_projections import projection_box
      >>> projection_box(jnp.array([-1.0, 2.0]), 0.0, 1.0)
      Array([0., 1.], dtype=float32)
    """
    tree = _arrays("projection_box", tree)
    low, high = (_spread(bound, tree) for bound in (lower, upper))
    return jax.tree.map(
        lambda x, a, b: jnp.clip(x, jnp.asarray(a, x.dtype), jnp.asarray(b, x.dtype)),
        tree,
        low,
        high,
    )


def projection_hypercube(tree: PyTree, scale: Scalar = 1.0) -> PyTree:
    """The nearest tree with all entries in [0, scale].

    Args:
      tree: a tree of real arrays or numbers.
      scale: the side of the cube, a scalar above 0.

    Returns:
      A tree of the same structure, shapes and dtypes.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_projections import projection_hypercube
      >>> projection_hypercube(jnp.array([-1.0, 0.5, 2.0]))
      Array([0. , 0.5, 1. ], dtype=float32)
    """
    tree = _arrays("projection_hypercube", tree)
    check_scalar("projection_hypercube", above=0, finite=False, scale=scale)
    return projection_box(tree, 0.0, scale)


def projection_simplex(tree: PyTree, scale: Scalar = 1.0) -> PyTree:
    """The nearest tree of non-negative entries that sum to a number.

    Args:
      tree: a tree of real arrays or numbers.
      scale: the sum, a scalar above 0.

    Returns:
      A tree of the same structure, shapes and dtypes. O(n log n).

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_projections import projection_simplex
      >>> projection_simplex(jnp.array([2.0, 1.0, -3.0]))
      Array([1., 0., 0.], dtype=float32)
    """
    tree = _arrays("projection_simplex", tree)
    check_scalar("projection_simplex", above=0, scale=scale)
    shift = _simplex_shift(_vector(tree), scale)
    return jax.tree.map(lambda x: jnp.maximum(x - shift.astype(x.dtype), jnp.zeros_like(x)), tree)


def projection_l1_sphere(tree: PyTree, scale: Scalar = 1.0) -> PyTree:
    """The nearest tree whose absolute values sum to a number.

    Args:
      tree: a tree of real arrays or numbers.
      scale: the sum, a scalar above 0.

    Returns:
      A tree of the same structure, shapes and dtypes. Entries of 0 count as positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_projections import projection_l1_sphere
      >>> projection_l1_sphere(jnp.array([-3.0, 1.0]))
      Array([-1.,  0.], dtype=float32)
    """
    tree = _arrays("projection_l1_sphere", tree)
    check_scalar("projection_l1_sphere", above=0, scale=scale)
    shift = _simplex_shift(jnp.abs(_vector(tree)), scale)

    def leaf(x: jax.Array) -> jax.Array:
        size = jnp.maximum(jnp.abs(x) - shift.astype(x.dtype), jnp.zeros_like(x))
        return jnp.where(x < 0, -size, size)

    return jax.tree.map(leaf, tree)


def projection_l1_ball(tree: PyTree, scale: Scalar = 1.0) -> PyTree:
    """The nearest tree whose absolute values sum to at most a number.

    Args:
      tree: a tree of real arrays or numbers.
      scale: the greatest sum, a scalar above 0.

    Returns:
      A tree of the same structure, shapes and dtypes.

    Raises:
      TypeError: if `scale` is not a number.
      ValueError: if it is not above 0, or not a scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_projections import projection_l1_ball
      >>> projection_l1_ball(jnp.array([0.25, -0.25]))
      Array([ 0.25, -0.25], dtype=float32)
    """
    tree = _arrays("projection_l1_ball", tree)
    check_scalar("projection_l1_ball", above=0, scale=scale)
    inside = tree_sum(jax.tree.map(jnp.abs, tree)) <= scale
    outside = projection_l1_sphere(tree, scale)
    return jax.tree.map(lambda x, y: jnp.where(inside, x, y), tree, outside)


def projection_l2_sphere(tree: PyTree, scale: Scalar = 1.0) -> PyTree:
    """The nearest tree of a given Euclidean norm.

    Args:
      tree: a tree of arrays, not all zero (zeros are returned as they are: no point is nearest).
      scale: the norm, a scalar above 0.

    Returns:
      A tree of the same structure, shapes and dtypes.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_projections import projection_l2_sphere
      >>> projection_l2_sphere(jnp.array([3.0, 4.0]), 10.0)
      Array([6., 8.], dtype=float32)
    """
    tree = _arrays("projection_l2_sphere", tree, real=False)
    check_scalar("projection_l2_sphere", above=0, scale=scale)
    norm = global_norm(tree)
    factor = jnp.where(norm > 0, scale / jnp.where(norm > 0, norm, 1), 1)
    return jax.tree.map(lambda x: x * factor.astype(x.dtype), tree)


def projection_l2_ball(tree: PyTree, scale: Scalar = 1.0) -> PyTree:
    """The nearest tree of at most a given Euclidean norm.

    Args:
      tree: a tree of arrays or numbers.
      scale: the greatest norm, a scalar above 0.

    Returns:
      A tree of the same structure, shapes and dtypes.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_projections import projection_l2_ball
      >>> projection_l2_ball(jnp.array([3.0, 4.0]), 10.0)
      Array([3., 4.], dtype=float32)
    """
    tree = _arrays("projection_l2_ball", tree, real=False)
    check_scalar("projection_l2_ball", above=0, finite=False, scale=scale)
    norm = global_norm(tree)
    outside = norm > scale
    factor = jnp.where(outside, scale / jnp.where(outside, norm, 1), 1)
    return jax.tree.map(lambda x: x * factor.astype(x.dtype), tree)


def projection_linf_ball(tree: PyTree, scale: Scalar = 1.0) -> PyTree:
    """The nearest tree with all entries in [−scale, scale].

    Args:
      tree: a tree of real arrays or numbers.
      scale: the greatest absolute value, a scalar above 0.

    Returns:
      A tree of the same structure, shapes and dtypes.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_projections import projection_linf_ball
      >>> projection_linf_ball(jnp.array([-3.0, 0.5]))
      Array([-1. ,  0.5], dtype=float32)
    """
    tree = _arrays("projection_linf_ball", tree)
    check_scalar("projection_linf_ball", above=0, finite=False, scale=scale)
    return projection_box(tree, -scale, scale)


def projection_hyperplane(x: PyTree, a: PyTree, b: Scalar) -> PyTree:
    """The nearest tree with ⟨a, x⟩ = b.

    Args:
      x: a tree of real arrays or numbers.
      a: the normal, a tree of the same structure and shapes, not zero.
      b: the offset, a scalar.

    Returns:
      A tree of the same structure, shapes and dtypes.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_projections import projection_hyperplane
      >>> projection_hyperplane(jnp.array([2.0, 2.0]), jnp.array([1.0, 1.0]), 2.0)
      Array([1., 1.], dtype=float32)
    """
    x = _arrays("projection_hyperplane", x)
    a = _arrays("projection_hyperplane", a)
    return _along(x, a, vdot(a, x) - b)


def projection_halfspace(x: PyTree, a: PyTree, b: Scalar) -> PyTree:
    """The nearest tree with ⟨a, x⟩ ≤ b.

    Args:
      x: a tree of real arrays or numbers.
      a: the outward normal, a tree of the same structure and shapes, not zero.
      b: the offset, a scalar.

    Returns:
      A tree of the same structure, shapes and dtypes.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_projections import projection_halfspace
      >>> projection_halfspace(jnp.array([0.0, 0.0]), jnp.array([1.0, 1.0]), 2.0)
      Array([0., 0.], dtype=float32)
    """
    x = _arrays("projection_halfspace", x)
    a = _arrays("projection_halfspace", a)
    excess = vdot(a, x) - b
    return _along(x, a, jnp.maximum(excess, jnp.zeros_like(excess)))


def projection_vector(x: PyTree, a: PyTree) -> PyTree:
    """The nearest multiple of a tree: a·⟨a, x⟩ / ⟨a, a⟩.

    Args:
      x: a tree of real arrays or numbers.
      a: a tree of the same structure and shapes, not zero.

    Returns:
      A tree of the same structure, shapes and dtypes.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_projections import projection_vector
      >>> projection_vector(jnp.array([2.0, 3.0]), jnp.array([1.0, 0.0]))
      Array([2., 0.], dtype=float32)
    """
    x = _arrays("projection_vector", x)
    a = _arrays("projection_vector", a)
    share = vdot(a, x) / vdot(a, a)
    return jax.tree.map(lambda v, like: (share.astype(v.dtype) * v).astype(like.dtype), a, x)


def _arrays(where: str, tree: PyTree, *, real: bool = True) -> PyTree:
    """The leaves as floating-point arrays; Python numbers and integers become the default dtype."""

    def leaf(path: Any, x: Any) -> jax.Array:
        if real and jnp.iscomplexobj(x):
            place = jax.tree_util.keystr(path)
            raise TypeError(
                f"{where}: leaf{place} is complex; project its real and imaginary parts"
            )
        return jnp.asarray(x, dtype_of(x) if is_inexact(x) else jnp.result_type(float))

    return jax.tree_util.tree_map_with_path(leaf, tree)


def _along(x: PyTree, a: PyTree, excess: jax.Array) -> PyTree:
    share = excess / vdot(a, a)
    return jax.tree.map(lambda v, n: v - share.astype(v.dtype) * n.astype(v.dtype), x, a)


def _simplex_shift(v: jax.Array, scale: Scalar) -> jax.Array:
    """The number to subtract so that what stays positive sums to `scale`."""
    ordered = jnp.sort(v)[::-1]
    over = jnp.cumsum(ordered) - scale
    counts = jnp.arange(1, v.size + 1).astype(v.dtype)
    last = jnp.sum(ordered * counts > over) - 1
    return over[last] / counts[last]


def _vector(tree: PyTree) -> jax.Array:
    leaves = jax.tree.leaves(tree)
    wide = jnp.float64 if any(x.dtype == jnp.float64 for x in leaves) else jnp.float32
    return jnp.concatenate([x.reshape(-1).astype(wide) for x in leaves])


def _spread(bound: Any, tree: PyTree) -> PyTree:
    if jax.tree_util.all_leaves([bound]):
        return jax.tree.map(lambda _: bound, tree)
    return bound
