"""The leaves of a parameter tree that are differentiated, and their names in errors.

Float leaves are differentiated. None, masked nodes and integer or boolean leaves are not: they are
passed to the function unchanged and are None in every result. Complex leaves are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import PyTree, TreeMismatchError


def wide(*dtypes: Any) -> Any:
    """Returns the accumulation dtype: float64 if any of the dtypes is, else float32."""
    double = jnp.dtype(jnp.float64)
    return double if any(jnp.dtype(d) == double for d in dtypes) else jnp.dtype(jnp.float32)


def as_wide(x: jax.Array) -> jax.Array:
    """Casts `x` to at least float32."""
    return x.astype(wide(x.dtype))


def described(value: Any) -> str:
    """Describes an argument for an error message, without the contents of arrays and trees."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"an array {value.dtype}{list(value.shape)}"
    if callable(value):
        return f"the function {getattr(value, '__name__', type(value).__name__)}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _is_float(leaf: Any) -> bool:
    return bool(jnp.issubdtype(jax.dtypes.result_type(leaf), jnp.floating))


class Leaves:
    """The selected float leaves of a parameter tree, and the rest of it.

    Attributes:
      arrays: the selected float leaves.
      paths: the path of each, such as `['dense']['kernel']`.
    """

    def __init__(
        self, where: str, params: PyTree, mask: PyTree = None, name: str = "params"
    ) -> None:
        self.where = where
        self.name = name
        with_paths, self._structure = jax.tree_util.tree_flatten_with_path(params)
        self._all = [leaf for _, leaf in with_paths]
        paths = [jax.tree_util.keystr(path) for path, _ in with_paths]
        wanted = _wanted(where, mask, params, len(paths))
        for path, leaf in zip(paths, self._all, strict=True):
            if not hasattr(leaf, "dtype") and not isinstance(leaf, int | float | complex | bool):
                raise TypeError(
                    f"{where}: {name}{path} must be an array or a number, not {described(leaf)}"
                )
            if jnp.issubdtype(jax.dtypes.result_type(leaf), jnp.complexfloating):
                raise TypeError(
                    f"{where}: {name}{path} is complex; curvature is defined for real parameters. "
                    "Pass the real and imaginary parts as two leaves"
                )
        self._chosen = [i for i, leaf in enumerate(self._all) if _is_float(leaf) and wanted[i]]
        self.arrays: list[jax.Array] = [jnp.asarray(self._all[i]) for i in self._chosen]
        self.paths = [paths[i] for i in self._chosen]

    def put(self, arrays: Sequence[Any]) -> PyTree:
        """Returns the parameters with the selected leaves replaced by these arrays."""
        leaves = list(self._all)
        for i, array in zip(self._chosen, arrays, strict=True):
            leaves[i] = array
        return jax.tree.unflatten(self._structure, leaves)

    def tree(self, values: Sequence[Any]) -> PyTree:
        """Returns a tree with these values for the selected leaves and None for the others."""
        leaves: list[Any] = [None] * len(self._all)
        for i, value in zip(self._chosen, values, strict=True):
            leaves[i] = value
        return jax.tree.unflatten(self._structure, leaves)

    def vector(self, v: PyTree, name: str = "v") -> list[jax.Array]:
        """Returns the selected leaves of another tree, checked to match the parameters."""
        vector = []
        parts = self.selected(v, name)
        for path, part, array in zip(self.paths, parts, self.arrays, strict=True):
            if part is None or np.shape(part) != array.shape:
                shape = None if part is None else np.shape(part)
                raise TreeMismatchError(
                    f"{self.where}: {name}{path} has shape {shape}, but {self.name}{path} has "
                    f"{array.shape}"
                )
            vector.append(jnp.asarray(part, array.dtype))
        return vector

    def selected(self, v: PyTree, name: str) -> list[Any]:
        """Returns the entries of another tree at the selected leaves; the structures must match."""
        try:
            parts = self._structure.flatten_up_to(v)  # type: ignore[attr-defined]
            return [parts[i] for i in self._chosen]
        except (ValueError, TypeError):
            theirs, ours = _paths(v), _paths(self.put(self.arrays))
            missing = [path for path in ours if path not in theirs]
            extra = [path for path in theirs if path not in ours]
            where = f"{name}{missing[0]} is missing" if missing else "the containers differ"
            where = f"{name}{extra[0]} is not in {self.name}" if extra and not missing else where
            raise TreeMismatchError(
                f"{self.where}: {name} must have the structure of {self.name}; {where}"
            ) from None

    def of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Turns `function(params, ...)` into a function of the selected leaves."""
        return lambda arrays, *rest: function(self.put(arrays), *rest)


def _paths(tree: PyTree) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def _wanted(where: str, mask: PyTree, params: PyTree, count: int) -> list[bool]:
    if mask is None:
        return [True] * count
    is_function = callable(mask) and jax.tree_util.all_leaves(
        [mask]
    )  # not a callable tree of bools
    chosen = mask(params) if is_function else mask
    try:
        full = jax.tree.map(lambda m, part: jax.tree.map(lambda _: m, part), chosen, params)
    except (ValueError, TypeError):
        raise TreeMismatchError(
            f"{where}: mask must be a tree of bools with the structure of params or of a prefix of "
            f"it, not {jax.tree.structure(chosen)}"
        ) from None
    flags = jax.tree.leaves(full)
    for flag in flags:
        if not isinstance(flag, bool | np.bool_):
            raise TypeError(f"{where}: mask must contain bools, not {described(flag)}")
    return [bool(flag) for flag in flags]
