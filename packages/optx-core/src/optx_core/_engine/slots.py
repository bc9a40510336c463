"""State arrays of the parameters' shapes, created from the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_core._protocol.absent import is_placeholder
from optx_core._protocol.dtypes import (
    at_least_float32,
    complex_dtype,
    dtype_of,
    is_inexact,
    real_dtype,
)
from optx_core._protocol.types import PyTree


def slot_dtype(p: Any, dtype: Any = None, *, real: bool = False) -> Any:
    """Returns the dtype of a slot for a parameter: at least float32, unless one is requested.

    Args:
      p: the parameter.
      dtype: the requested dtype, or None.
      real: whether the slot is real where the parameter is complex (second moments).

    Returns:
      A numpy dtype.
    """
    if dtype is not None and not jnp.issubdtype(jnp.dtype(dtype), jnp.inexact):
        raise TypeError(f"a slot must have a floating-point dtype, not {jnp.dtype(dtype)}")
    own = dtype_of(p)
    chosen = at_least_float32(own) if dtype is None else jnp.dtype(dtype)
    if real:
        return real_dtype(chosen)
    if jnp.issubdtype(own, jnp.complexfloating) and not jnp.issubdtype(chosen, jnp.complexfloating):
        return complex_dtype(chosen)
    return chosen


def slots_like(
    params: PyTree, dtype: Any = None, *, real: bool = False, fill_value: Any = 0.0
) -> PyTree:
    """Creates a slot for each parameter: an array of its shape, for a moment or an average.

    Args:
      params: a tree of arrays.
      dtype: dtype of the slots; by default the parameter's own, at least float32.
      real: whether slots of complex parameters are real, as second moments are.
      fill_value: the initial value.

    Returns:
      A tree of new arrays with the parameters' structure, shapes and shardings. None where the
      parameter is None or of an integer dtype, which has no gradient.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> tree.slots_like({"w": jnp.ones(2, jnp.bfloat16), "step": jnp.array(3)})
      {'step': None, 'w': Array([0., 0.], dtype=float32)}
    """
    return map_slots(
        lambda p: jnp.full_like(p, fill_value, dtype=slot_dtype(p, dtype, real=real)), params
    )


def widened(tree: PyTree) -> PyTree:
    """Casts a tree to at least float32; leaves without a gradient become None.

    Args:
      tree: a tree of arrays.

    Returns:
      A tree of the same structure.
    """
    return map_slots(lambda x: jnp.asarray(x).astype(at_least_float32(dtype_of(x))), tree)


def map_slots(make: Callable[[Any], Any], params: PyTree) -> PyTree:
    """Returns `make(p)` for each parameter; None for those without a gradient.

    Args:
      make: a function of one array.
      params: a tree of arrays.

    Returns:
      A tree of the parameters' structure.
    """

    def slot(p: Any) -> Any:
        if is_placeholder(p):
            return p
        return make(p) if is_inexact(p) else None

    return jax.tree.map(slot, params, is_leaf=is_placeholder)


def copy_of(params: PyTree, dtype: Any = None) -> PyTree:
    """Copies the parameters to new buffers; those without a gradient become None.

    Args:
      params: a tree of arrays.
      dtype: the dtype of the copies; by default the parameters', at least float32.

    Returns:
      A tree of the parameters' structure.
    """
    return map_slots(lambda p: jnp.copy(p).astype(slot_dtype(p, dtype)), params)
