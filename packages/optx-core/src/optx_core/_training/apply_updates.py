"""Application of updates to parameters, and averages of parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import Params, PyTree, Scalar, TreeMismatchError, Updates, build, tree
from optx_core._engine.batched import call_on_rows
from optx_core._protocol.absent import flatten_like, paths


def apply_updates(params: Params, updates: Updates) -> Params:
    """Adds the updates to the parameters.

    Args:
      params: a tree of arrays.
      updates: a tree of the same structure and shapes. Parameters whose update is None
        (or a masked node, or float0) are returned unchanged.

    Returns:
      The new parameters, in the dtypes of the old ones. The sum is computed in at least float32.

    Raises:
      TreeMismatchError: if structures or shapes differ, or an integer parameter has a
        floating-point update, or a real one a complex update; names the path.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import apply_updates
      >>> apply_updates({"w": jnp.array([1.0]), "b": None}, {"w": jnp.array([0.5]), "b": None})
      {'b': None, 'w': Array([1.5], dtype=float32)}
    """
    leaves, structure = tree.flatten(updates)
    old = flatten_like(
        structure, params, where="apply_updates", name="the parameters", like=lambda: updates
    )
    present = [k for k, u in enumerate(leaves) if not tree.is_absent(u)]
    for k in present:
        _check(old[k], leaves[k], lambda k=k: paths(updates)[k])
    sums = call_on_rows(_build, ["add"] * len(present), [(old[k], leaves[k]) for k in present])
    new = list(old)
    for k, p in zip(present, sums, strict=True):
        new[k] = p
    return structure.unflatten(new)


def _build(spec: str) -> Any:
    del spec
    return _add


def _add(row: tuple[Any, Any], *_: Any) -> jax.Array:
    p, u = map(jnp.asarray, row)
    if not build.is_inexact(p):
        return p + u.astype(p.dtype)
    real = build.common_real_dtype(p.dtype, u.dtype)
    return (build.cast_to_compute(p, real) + build.cast_to_compute(u, real)).astype(p.dtype)


def _is_array(x: Any) -> bool:
    return hasattr(x, "shape") or isinstance(x, bool | int | float | complex)


def _check(p: Any, u: Any, path: Any) -> None:
    for x, tree_name in ((u, "updates"), (p, "params")):
        if not tree.is_placeholder(x) and not _is_array(x):
            raise TreeMismatchError(
                f"apply_updates: {tree_name}{path()} is not an array but {x!r:.80}"
            )
    if tree.is_placeholder(p) or np.shape(p) != np.shape(u):
        shown = "missing" if tree.is_placeholder(p) else np.shape(p)
        raise TreeMismatchError(
            f"apply_updates: updates{path()} is {np.shape(u)}, the parameter is {shown}"
        )
    have, given = build.dtype_of(p), build.dtype_of(u)
    narrowing = (jnp.issubdtype(given, jnp.inexact) and not build.is_inexact(p)) or (
        jnp.issubdtype(given, jnp.complexfloating) and not jnp.issubdtype(have, jnp.complexfloating)
    )
    if narrowing:
        raise TreeMismatchError(
            f"apply_updates: updates{path()} is {given}, the parameter is {have}: the update "
            "cannot be added to it. Pass None as its update, or leave it out with optx_core.masked."
        )


def incremental_update(new_tensors: PyTree, old_tensors: PyTree, step_size: Scalar) -> PyTree:
    """Interpolates between old and new arrays: Polyak averaging of target networks.

    Args:
      new_tensors: a tree of arrays.
      old_tensors: a tree of the same structure and shapes.
      step_size: the weight of the new arrays, a scalar in [0, 1].

    Returns:
      step_size · new + (1 − step_size) · old, in the old arrays' dtypes; computed in at least
      float32. Arrays that are not floating-point, and None, are taken from `new_tensors`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import incremental_update
      >>> incremental_update(jnp.array([1.0]), jnp.array([0.0]), 0.25)
      Array([0.25], dtype=float32)
    """

    def leaf(new: Any, old: Any) -> Any:
        if tree.is_absent(new) or not build.is_inexact(new):
            return new
        new, old = jnp.asarray(new), jnp.asarray(old)
        real = build.common_real_dtype(new.dtype, old.dtype)
        rate = jnp.asarray(step_size, real)
        average = rate * build.cast_to_compute(new, real) + (1 - rate) * build.cast_to_compute(
            old, real
        )
        return average.astype(old.dtype)

    return _map_pair("incremental_update", leaf, new_tensors, old_tensors)


def periodic_update(
    new_tensors: PyTree, old_tensors: PyTree, steps: jax.Array, update_period: int
) -> PyTree:
    """Returns the new tree every `update_period` steps, and the old one otherwise.

    Args:
      new_tensors: a tree of arrays.
      old_tensors: a tree of the same structure, shapes and dtypes.
      steps: integer scalar, the number of steps so far.
      update_period: the new tree is returned when `steps` is a multiple of this.

    Returns:
      One of the two trees.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import periodic_update
      >>> periodic_update(jnp.array([1.0]), jnp.array([0.0]), jnp.array(6), 3)
      Array([1.], dtype=float32)
    """
    due = jnp.asarray(steps) % update_period == 0

    def leaf(new: Any, old: Any) -> Any:
        if tree.is_absent(new):
            return new
        old = jnp.asarray(old)
        return jnp.where(due, jnp.asarray(new).astype(old.dtype), old)

    return _map_pair("periodic_update", leaf, new_tensors, old_tensors)


def _map_pair(where: str, leaf: Any, new_tensors: PyTree, old_tensors: PyTree) -> PyTree:
    new, structure = tree.flatten(new_tensors)
    old = flatten_like(
        structure, old_tensors, where=where, name="old_tensors", like=lambda: new_tensors
    )
    for k, (a, b) in enumerate(zip(new, old, strict=True)):
        if not tree.is_absent(a) and np.shape(a) != np.shape(b):
            raise TreeMismatchError(
                f"{where}: new_tensors{paths(new_tensors)[k]} is {np.shape(a)}, the old one is "
                f"{np.shape(b)}"
            )
    return structure.unflatten([leaf(a, b) for a, b in zip(new, old, strict=True)])
