"""What is being checked, and how a broken promise is reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
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
        return chosen.update(updates, state, params, **self.extra_args(params, updates))

    def steps(self, params: PyTree, count: int = 2, tx: Any = None) -> tuple[PyTree, PyTree]:
        """The last updates and the state after some updates from the initial state."""
        state = (self.tx if tx is None else tx).init(params)
        updates: PyTree = None
        for step in range(count):
            updates, state = self.update(self.gradients(params, step), state, params, tx)
        return updates, state


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


def assert_same_types(promise: int, what: str, before: PyTree, after: PyTree) -> None:
    """Asserts that two trees agree in structure, shapes and dtypes."""
    old, new = structure_of(before), structure_of(after)
    if old != new:
        raise BrokenPromiseError(promise, f"{what} changed its structure from {old} to {new}")
    pairs = zip(leaves_with_paths(before), leaves_with_paths(after), strict=True)
    for (path, a), (_, b) in pairs:
        if describe(a) != describe(b):
            raise BrokenPromiseError(
                promise, f"{what}{path} changed from {describe(a)} to {describe(b)}"
            )


def assert_close(
    promise: int, what: str, actual: PyTree, expected: PyTree, rtol: float = 1e-5
) -> None:
    """Asserts that two trees of equal structure hold the same numbers, up to rounding."""
    if structure_of(actual) != structure_of(expected):
        raise BrokenPromiseError(promise, f"{what}: the structures differ")
    pairs = zip(leaves_with_paths(actual), leaves_with_paths(expected), strict=True)
    for (path, a), (_, b) in pairs:
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


def assert_finite(promise: int, what: str, tree: PyTree) -> None:
    """Asserts that all numbers of a tree are finite."""
    for path, x in leaves_with_paths(tree):
        if jnp.issubdtype(x.dtype, jnp.inexact) and not bool(jnp.all(jnp.isfinite(x))):
            raise BrokenPromiseError(promise, f"{what}{path} is not finite: {x}")
