"""What is being checked, and how a broken promise is reported."""

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
    """A transformation breaks a promise of the protocol.

    Attributes:
      promise: the number of the promise, 1 to 8.
    """

    def __init__(self, promise: int, message: str) -> None:
        super().__init__(f"promise {promise}: {message}")
        self.promise = promise


class CrashError(Exception):
    """The transformation raised an error of its own, which is the cause of this one.

    Attributes:
      what: what was running.
      leaves: the leaves of the parameters that it fails on, where they are known.
    """

    def __init__(self, what: str, leaves: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.leaves = leaves


@contextlib.contextmanager
def running(what: str) -> Iterator[None]:
    """Reports an error of the transformation as a `CrashError` that says what was running."""
    try:
        yield
    except (BrokenPromiseError, CrashError, ExtraArgsError):
        raise
    except Exception as error:
        raise CrashError(what) from error


class ExtraArgsError(TypeError):
    """The function given as `extra_args` failed: no fault of the transformation."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A transformation under test, with parameters and gradients to try it on."""

    tx: Any
    params: PyTree
    extra_args: Callable[[PyTree, PyTree], dict[str, Any]]

    def gradients(self, params: PyTree, step: int = 0) -> PyTree:
        """Gradients of ordinary size, not zero, for any tree of parameters."""

        def leaf(p: Any) -> Any:
            if is_placeholder(p) or not jnp.issubdtype(jnp.result_type(p), jnp.inexact):
                return p if is_placeholder(p) else None
            ramp = np.cos(np.arange(np.size(p)) * 0.7 + step).reshape(np.shape(p)) + 1.5
            if jnp.issubdtype(p.dtype, jnp.complexfloating):
                ramp = ramp * (0.6 + 0.8j)
            return jnp.asarray(ramp).astype(p.dtype)

        return jax.tree.map(leaf, params, is_leaf=is_placeholder)

    def update(
        self, updates: PyTree, state: PyTree, params: PyTree, tx: Any = None
    ) -> tuple[PyTree, PyTree]:
        """One update, with the extra arguments that the subject needs."""
        chosen = self.tx if tx is None else tx
        return chosen.update(updates, state, params, **self.needed(params, updates))

    def needed(self, params: PyTree, updates: PyTree) -> dict[str, Any]:
        """The extra arguments that the update needs."""
        try:
            return self.extra_args(params, updates)
        except Exception as error:
            raise ExtraArgsError(
                f"check_transformation: extra_args(params, updates) raised {summary(error)}"
            ) from error

    def steps(self, params: PyTree, count: int = 2, tx: Any = None) -> tuple[PyTree, PyTree]:
        """The last updates and the state after some updates from the initial state."""
        state = (self.tx if tx is None else tx).init(params)
        updates: PyTree = None
        for step in range(count):
            updates, state = self.update(self.gradients(params, step), state, params, tx)
        return updates, state


def summary(error: BaseException) -> str:
    """An error's type and the first line of its message."""
    line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {line[:300]}" if line else type(error).__name__


def is_key(x: Any) -> bool:
    """Whether an array holds keys of `jax.random`."""
    return bool(jnp.issubdtype(x.dtype, jax.dtypes.prng_key))


def structure_of(tree: PyTree) -> Any:
    """The structure of a tree."""
    return jax.tree.structure(tree)


def leaves_with_paths(tree: PyTree) -> list[tuple[str, Any]]:
    """The leaves and their paths, written as in Python."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in pairs]


def describe(x: Any) -> str:
    """Dtype and shape, short: `float32[3, 4]`."""
    weak = " (weakly typed)" if getattr(x, "weak_type", False) else ""
    return f"{x.dtype}{list(x.shape)}{weak}"


def pairs_of(
    promise: int, what: str, actual: PyTree, expected: PyTree
) -> list[tuple[str, Any, Any]]:
    """The leaves of two trees by path; trees of different structures break the promise."""
    ours, theirs = leaves_with_paths(actual), leaves_with_paths(expected)
    if structure_of(actual) != structure_of(expected):
        have, need = ({path for path, _ in leaves} for leaves in (ours, theirs))
        lost = [f"{path} is missing" for path, _ in theirs if path not in have]
        new = [f"{path} is new" for path, _ in ours if path not in need]
        why = "; ".join([*lost, *new][:3]) or f"{structure_of(actual)}"
        raise BrokenPromiseError(promise, f"{what} changed structure: {why}")
    return [(path, a, b) for (path, a), (_, b) in zip(ours, theirs, strict=True)]


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
    """Asserts that two trees of equal structure hold the same numbers, up to rounding."""
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
    """Asserts that all numbers of a tree are finite, or infinite where that is allowed, but not NaN."""
    for path, x in leaves_with_paths(tree):
        number = hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact)
        if number and bool(jnp.any(jnp.isnan(x) if infinite else ~jnp.isfinite(x))):
            kind = "NaN" if infinite else "not finite"
            raise BrokenPromiseError(promise, f"{what}{path} is {kind}: {x}")
