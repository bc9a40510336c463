"""The transformation under test, and reports of broken promises."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import PyTree
from optx_core.tree import is_placeholder


class BrokenPromiseError(AssertionError):
    """Raised when a transformation breaks a promise of the protocol.

    Attributes:
      promise: the number of the promise, 1 to 8.
    """

    def __init__(self, promise: int, message: str) -> None:
        super().__init__(f"promise {promise}: {message}")
        self.promise = promise


class CrashError(Exception):
    """Raised when the transformation raised an error, which is the cause of this one.

    Attributes:
      what: the operation that failed.
      leaves: the leaves of the parameters on which it failed, if known.
    """

    def __init__(self, what: str, leaves: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.leaves = leaves


@contextlib.contextmanager
def running(what: str) -> Iterator[None]:
    """Reports an error of the transformation as a `CrashError` that names the operation."""
    try:
        yield
    except (BrokenPromiseError, CrashError, ExtraArgsError):
        raise
    except Exception as error:
        raise CrashError(what) from error


class ExtraArgsError(TypeError):
    """Raised when the function `extra_args` failed, which is not an error of the transformation."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A transformation under test, with parameters and gradients."""

    tx: Any
    params: PyTree
    extra_args: Callable[[PyTree, PyTree], dict[str, Any]]

    def gradients(self, params: PyTree, step: int = 0) -> PyTree:
        """Returns nonzero gradients of moderate size for a tree of parameters."""

        def leaf(p: Any) -> Any:
            if is_placeholder(p) or not jnp.issubdtype(jnp.result_type(p), jnp.inexact):
                return p if is_placeholder(p) else None
            ramp: np.ndarray = np.cos(np.arange(np.size(p)) * 0.7 + step).reshape(np.shape(p)) + 1.5
            if jnp.issubdtype(p.dtype, jnp.complexfloating):
                ramp = ramp * (0.6 + 0.8j)
            return jnp.asarray(ramp).astype(p.dtype)

        return jax.tree.map(leaf, params, is_leaf=is_placeholder)

    def update(
        self, updates: PyTree, state: PyTree, params: PyTree, tx: Any = None
    ) -> tuple[PyTree, PyTree]:
        """Runs one update, with the required extra arguments."""
        chosen = self.tx if tx is None else tx
        return chosen.update(updates, state, params, **self.needed(params, updates))

    def needed(self, params: PyTree, updates: PyTree) -> dict[str, Any]:
        """Returns the extra arguments that `update` needs."""
        try:
            return self.extra_args(params, updates)
        except Exception as error:
            raise ExtraArgsError(
                f"check_transformation: extra_args(params, updates) raised {summary(error)}"
            ) from error

    def steps(self, params: PyTree, count: int = 2, tx: Any = None) -> tuple[PyTree, PyTree]:
        """Returns the last updates and the state after `count` updates from the initial state."""
        state = (self.tx if tx is None else tx).init(params)
        updates: PyTree = None
        for step in range(count):
            updates, state = self.update(self.gradients(params, step), state, params, tx)
        return updates, state


def summary(error: BaseException) -> str:
    """Returns the type of an error and the first line of its message."""
    line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {line[:300]}" if line else type(error).__name__


def is_key(x: Any) -> bool:
    """Returns whether an array contains keys of `jax.random`."""
    return bool(jnp.issubdtype(x.dtype, jax.dtypes.prng_key))


def structure_of(tree: PyTree) -> Any:
    """Returns the structure of a tree."""
    return jax.tree.structure(tree)


def leaves_with_paths(tree: PyTree) -> list[tuple[str, Any]]:
    """Returns the leaves of a tree with their paths as Python expressions."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in pairs]


def describe(x: Any) -> str:
    """Formats dtype and shape: `float32[3, 4]`."""
    weak = " (weakly typed)" if getattr(x, "weak_type", False) else ""
    return f"{x.dtype}{list(x.shape)}{weak}"


def pairs_of(
    promise: int, what: str, actual: PyTree, expected: PyTree
) -> list[tuple[str, Any, Any]]:
    """Pairs the leaves of two trees, with their paths; different structures break the promise."""
    actual_leaves, expected_leaves = leaves_with_paths(actual), leaves_with_paths(expected)
    if structure_of(actual) != structure_of(expected):
        have, need = ({path for path, _ in x} for x in (actual_leaves, expected_leaves))
        missing = [f"{path} is missing" for path, _ in expected_leaves if path not in have]
        new = [f"{path} is new" for path, _ in actual_leaves if path not in need]
        why = "; ".join([*missing, *new][:3]) or f"{structure_of(actual)}"
        raise BrokenPromiseError(promise, f"{what} changed structure: {why}")
    pairs = zip(actual_leaves, expected_leaves, strict=True)
    return [(path, a, b) for (path, a), (_, b) in pairs]


def assert_same_types(promise: int, what: str, before: PyTree, after: PyTree) -> None:
    """Asserts that two trees agree in structure, shapes and dtypes."""
    for path, b, a in pairs_of(promise, what, after, before):
        if describe(a) != describe(b):
            raise BrokenPromiseError(
                promise, f"{what}{path} changed from {describe(a)} to {describe(b)}"
            )


def assert_close(
    promise: int, what: str, actual: PyTree, expected: PyTree, rtol: float = 1e-5
) -> None:
    """Asserts that two trees of equal structure have the same values, up to rounding."""
    for path, a, b in pairs_of(promise, what, actual, expected):
        if is_key(a):
            a, b = jax.random.key_data(a), jax.random.key_data(b)  # noqa: PLW2901
        x, y = (np.asarray(v).astype(np.complex128) for v in (a, b))
        if x.shape != y.shape:
            raise BrokenPromiseError(promise, f"{what}{path}: {x.shape} for {y.shape}")
        with np.errstate(invalid="ignore"):
            same = (np.abs(x - y) <= rtol * (np.abs(y) + 1e-3)) | (x == y)
        same |= np.isnan(x) & np.isnan(y)
        if not same.all():
            raise BrokenPromiseError(promise, f"{what}{path}: {a} where {b} was expected")


def assert_finite(promise: int, what: str, tree: PyTree, *, infinite: bool = False) -> None:
    """Asserts that all numbers of a tree are finite; with `infinite`, that none is NaN."""
    for path, x in leaves_with_paths(tree):
        number = hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact)
        if number and bool(jnp.any(jnp.isnan(x) if infinite else ~jnp.isfinite(x))):
            kind = "NaN" if infinite else "not finite"
            raise BrokenPromiseError(promise, f"{what}{path} is {kind}: {x}")
