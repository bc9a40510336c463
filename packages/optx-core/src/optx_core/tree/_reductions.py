"""Reductions over a whole tree."""

from __future__ import annotations

import builtins
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_core._engine.norms import global_norm
from optx_core._protocol.absent import is_absent
from optx_core._protocol.dtypes import (
    abs_squared,
    at_least_float32,
    cast_to_compute,
    common_real_dtype,
    dtype_of,
)
from optx_core._protocol.types import PyTree, Scalar
from optx_core.tree._arithmetic import map_equal


def sum(tree: PyTree, associative_reduction: bool = False) -> jax.Array:
    """Sums all entries of a tree.

    Args:
      tree: a tree of arrays.
      associative_reduction: has no effect: the sums of the arrays are always added in one reduction.

    Returns:
      A scalar, of at least float32 if an array is floating-point; 0.0 for a tree without entries.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.sum({"a": jnp.ones(2), "b": jnp.ones((2, 2))})
      Array(6., dtype=float32)
    """
    parts = [jnp.sum(_wide(x)) for x in jax.tree.leaves(tree) if not is_absent(x)]
    if not parts:
        return jnp.zeros((), jnp.float32)
    with jax.numpy_dtype_promotion("standard"):  # integers and floats may be mixed
        common = jnp.result_type(*parts)
    return parts[0] if len(parts) == 1 else _total([part.astype(common) for part in parts])


def max(tree: PyTree) -> jax.Array:
    """Returns the greatest entry of a tree.

    Args:
      tree: a tree of real arrays.

    Returns:
      A scalar; −inf for a tree without entries.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.max({"a": jnp.array([1.0, 5.0]), "b": jnp.array(2.0)})
      Array(5., dtype=float32)
    """
    parts = [jnp.max(_wide(x)) for x in jax.tree.leaves(tree) if np.size(x)]
    return _stacked(parts, jnp.max) if parts else jnp.asarray(-jnp.inf, jnp.float32)


def min(tree: PyTree) -> jax.Array:
    """Returns the least entry of a tree.

    Args:
      tree: a tree of real arrays.

    Returns:
      A scalar; inf for a tree without entries.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.min({"a": jnp.array([1.0, 5.0]), "b": jnp.array(2.0)})
      Array(1., dtype=float32)
    """
    parts = [jnp.min(_wide(x)) for x in jax.tree.leaves(tree) if np.size(x)]
    return _stacked(parts, jnp.min) if parts else jnp.asarray(jnp.inf, jnp.float32)


def size(tree: PyTree) -> int:
    """Returns the number of entries of a tree.

    Args:
      tree: a tree of arrays.

    Returns:
      A Python int.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.size({"a": jnp.ones((2, 3)), "b": None})
      6
    """
    return builtins.sum(math.prod(np.shape(x)) for x in jax.tree.leaves(tree))


def vdot(tree_x: PyTree, tree_y: PyTree) -> jax.Array:
    """Returns the inner product Σ conj(x)·y of two trees.

    Args:
      tree_x: a tree of arrays; complex ones are conjugated.
      tree_y: a tree of the same structure and shapes.

    Returns:
      A scalar of at least float32; 0.0 for trees without entries.

    Raises:
      TreeMismatchError: if structures or shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.vdot({"a": jnp.array([1.0, 2.0])}, {"a": jnp.array([3.0, 4.0])})
      Array(11., dtype=float32)
    """

    def leaf(x: Any, y: Any) -> jax.Array:
        real = common_real_dtype(dtype_of(x), dtype_of(y))
        x, y = (cast_to_compute(jnp.asarray(v), real) for v in (x, y))
        with jax.numpy_dtype_promotion("standard"):
            return jnp.sum(jnp.conj(x) * y)

    return sum(map_equal("tree.vdot", leaf, x=tree_x, y=tree_y))


def norm(tree: PyTree, ord: int | str | float | None = None, squared: bool = False) -> jax.Array:
    """Returns a norm of all entries of a tree, as one vector.

    Args:
      tree: a tree of arrays.
      ord: None or 2 for the Euclidean norm, 1 for the sum of absolute values, `jnp.inf` or "inf" for
        the greatest absolute value.
      squared: whether to return the square of the norm.

    Returns:
      A real scalar of at least float32. The Euclidean norm neither overflows nor underflows.

    Raises:
      ValueError: for another `ord`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.norm({"a": jnp.array([3.0]), "b": jnp.array([4.0])})
      Array(5., dtype=float32)
    """
    if ord in (None, 2):
        if squared:
            return sum([abs_squared(_wide(x)) for x in jax.tree.leaves(tree) if not is_absent(x)])
        return global_norm(tree)
    sizes = jax.tree.map(lambda x: jnp.abs(_wide(x)), tree)
    if ord == 1:
        result = sum(sizes)
    elif ord in (jnp.inf, "inf", "infinity"):
        result = jnp.maximum(max(sizes), 0)
    else:
        raise ValueError(f"tree.norm: ord must be None, 1, 2 or inf, not {ord!r}")
    return result * result if squared else result


def allclose(
    a: PyTree, b: PyTree, rtol: Scalar = 1e-5, atol: Scalar = 1e-8, equal_nan: bool = False
) -> jax.Array:
    """Returns whether two trees are elementwise equal up to a tolerance.

    Args:
      a: a tree of arrays.
      b: a tree of the same structure.
      rtol: relative tolerance.
      atol: absolute tolerance.
      equal_nan: whether NaN equals NaN.

    Returns:
      A boolean scalar.

    Raises:
      TreeMismatchError: if structures or shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> bool(tree.allclose({"a": jnp.ones(2)}, {"a": jnp.ones(2)}))
      True
    """
    close = functools.partial(jnp.allclose, rtol=rtol, atol=atol, equal_nan=equal_nan)
    agree = map_equal("tree.allclose", close, a=a, b=b)
    return jnp.all(jnp.asarray(jax.tree.leaves(agree), bool))


def dtype(tree: PyTree, mixed_dtype_handler: str | None = None) -> Any:
    """Returns the common dtype of the leaves of a tree.

    Args:
      tree: a tree of arrays.
      mixed_dtype_handler: how to handle different dtypes: None raises an error, "promote" returns the
        dtype to which they promote, "highest" the one to which all others can be promoted, "lowest" the
        one that can be promoted to all others.

    Returns:
      A dtype; that of `jnp.asarray(0.0)` for a tree without leaves.

    Raises:
      ValueError: if dtypes differ without a handler, or no leaf has the requested dtype.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.dtype({"a": jnp.ones(2), "b": jnp.ones(2, jnp.bfloat16)}, "lowest")
      dtype(bfloat16)
    """
    dtypes = list(dict.fromkeys(jnp.dtype(dtype_of(x)) for x in jax.tree.leaves(tree)))
    if not dtypes:
        return jnp.asarray(0.0).dtype
    if len(dtypes) == 1:
        return dtypes[0]
    if mixed_dtype_handler is None:
        raise ValueError(
            f"tree.dtype: the leaves are of {', '.join(map(str, dtypes))}; choose one with "
            "mixed_dtype_handler='promote', 'highest' or 'lowest'"
        )
    if mixed_dtype_handler not in ("promote", "highest", "lowest"):
        raise ValueError(
            "tree.dtype: mixed_dtype_handler must be None, 'promote', 'highest' or 'lowest', not "
            f"{mixed_dtype_handler!r}"
        )
    with jax.numpy_dtype_promotion("standard"):
        if mixed_dtype_handler == "promote":
            return jnp.result_type(*dtypes)
        for candidate in dtypes:
            pairs = [(jnp.promote_types(candidate, other), other) for other in dtypes]
            highest = all(top == candidate for top, _ in pairs)
            lowest = all(top == other for top, other in pairs)
            if highest if mixed_dtype_handler == "highest" else lowest:
                return candidate
    raise ValueError(
        f"tree.dtype: none of {', '.join(map(str, dtypes))} is the {mixed_dtype_handler}"
    )


def _wide(x: Any) -> jax.Array:
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        return x
    return x.astype(at_least_float32(x.dtype))


def _total(parts: list[jax.Array]) -> jax.Array:
    return jnp.sum(jnp.stack(parts))


def _stacked(parts: list[jax.Array], reduce: Any) -> jax.Array:
    with jax.numpy_dtype_promotion("standard"):
        return reduce(jnp.stack(parts))
