"""The leaves of a parameter tree that have curvature, and how they are named in errors.

Float leaves are differentiated. None, a masked node and integer or boolean leaves are "not here":
they stay as they are in the parameters and are None in every result. Complex leaves are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import PyTree, TreeMismatchError


def wide(*dtypes: Any) -> Any:
    """The dtype sums are kept in: float64 if any of these is, else float32."""
    double = jnp.dtype(jnp.float64)
    return double if any(jnp.dtype(d) == double for d in dtypes) else jnp.dtype(jnp.float32)


def as_wide(x: jax.Array) -> jax.Array:
    """`x` in at least float32."""
    return x.astype(wide(x.dtype))


def _is_float(leaf: Any) -> bool:
    return bool(jnp.issubdtype(jax.dtypes.result_type(leaf), jnp.floating))


class Leaves:
    """A parameter tree taken apart into its float leaves and the rest.

    Attributes:
      arrays: the float leaves that were asked for, as arrays.
      paths: the path of each, as it is written in Python: `['dense']['kernel']`.
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
                raise TypeError(f"{where}: {name}{path} is {leaf!r}, not an array or a number")
            if jnp.issubdtype(jax.dtypes.result_type(leaf), jnp.complexfloating):
                raise TypeError(
                    f"{where}: {name}{path} is complex, and a curvature diagonal is that of a "
                    "function of real numbers; pass its real and imaginary parts as two leaves"
                )
        self._chosen = [i for i, leaf in enumerate(self._all) if _is_float(leaf) and wanted[i]]
        self.arrays: list[jax.Array] = [jnp.asarray(self._all[i]) for i in self._chosen]
        self.paths = [paths[i] for i in self._chosen]

    def put(self, arrays: Sequence[Any]) -> PyTree:
        """The parameters, with these arrays in the places of the float leaves."""
        leaves = list(self._all)
        for i, array in zip(self._chosen, arrays, strict=True):
            leaves[i] = array
        return jax.tree.unflatten(self._structure, leaves)

    def tree(self, values: Sequence[Any]) -> PyTree:
        """A tree of results: these values for the float leaves, None for the others."""
        leaves: list[Any] = [None] * len(self._all)
        for i, value in zip(self._chosen, values, strict=True):
            leaves[i] = value
        return jax.tree.unflatten(self._structure, leaves)

    def vector(self, v: PyTree, name: str = "v") -> list[jax.Array]:
        """The leaves of a tree shaped like the parameters; other shapes are refused by path."""
        try:
            parts = self._structure.flatten_up_to(v)  # type: ignore[attr-defined]
        except (ValueError, TypeError) as error:
            raise TreeMismatchError(
                f"{self.where}: {name} must have the structure of {self.name}: {error}"
            ) from None
        found = []
        for path, i, array in zip(self.paths, self._chosen, self.arrays, strict=True):
            part = parts[i]
            if part is None or np.shape(part) != array.shape:
                shape = None if part is None else np.shape(part)
                raise TreeMismatchError(
                    f"{self.where}: {name}{path} has shape {shape}, but {self.name}{path} has "
                    f"{array.shape}"
                )
            found.append(jnp.asarray(part, array.dtype))
        return found

    def of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function(params, ...)` as a function of the float leaves."""
        return lambda arrays, *rest: function(self.put(arrays), *rest)


def _wanted(where: str, mask: PyTree, params: PyTree, count: int) -> list[bool]:
    if mask is None:
        return [True] * count
    chosen = mask(params) if callable(mask) else mask
    try:
        full = jax.tree.map(lambda m, part: jax.tree.map(lambda _: m, part), chosen, params)
    except (ValueError, TypeError) as error:
        raise TreeMismatchError(
            f"{where}: mask must be a tree of bools with the structure of params, or a prefix of "
            f"it: {error}"
        ) from None
    flags = jax.tree.leaves(full)
    for flag in flags:
        if not isinstance(flag, bool | np.bool_):
            raise TypeError(f"{where}: mask must hold bools, not {flag!r}")
    return [bool(flag) for flag in flags]
