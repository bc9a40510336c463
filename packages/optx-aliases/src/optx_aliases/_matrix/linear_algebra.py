"""Iterations on matrices: the leading eigenvector, and inverse roots.

References: Golub, Van Loan, "Matrix Computations", section 7.3 (power iteration); Guo, Higham, "A
Schur–Newton method for the matrix pth root and its inverse", 2006, equation 3.13 (coupled iteration).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from optx_core import PyTree, Scalar, global_norm
from optx_core.build import common_real_dtype, tree_flatten


def power_iteration(
    matrix: jax.Array | Callable[[PyTree], PyTree],
    *,
    v0: PyTree | None = None,
    num_iters: int = 100,
    error_tolerance: Scalar = 1e-6,
    precision: lax.Precision = lax.Precision.HIGHEST,
    key: jax.Array | None = None,
) -> tuple[jax.Array, PyTree]:
    """The eigenvalue of largest size of a symmetric matrix, and its eigenvector.

    Args:
      matrix: a symmetric (n, n) array, or a function that multiplies a tree of arrays by one.
      v0: where to start, an array of shape (n,) or a tree; needed with a function unless `key` is
        given together with it for its shapes. Random by default for an array.
      num_iters: the most iterations.
      error_tolerance: stop when ‖Av − λv‖ is at most this times |λ|.
      precision: of the products.
      key: a key of `jax.random` to draw the start; of v0's shapes where both are given.

    Returns:
      The eigenvalue (with its sign), and the eigenvector as a unit vector.

    Raises:
      ValueError: if a function is given without `v0`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import power_iteration
      >>> value, vector = power_iteration(jnp.diag(jnp.array([1.0, -3.0])))
      >>> round(float(value), 4)
      -3.0
    """
    if callable(matrix):
        if v0 is None:
            raise ValueError("power_iteration: a function needs v0, a tree of the shapes it takes")
        product = matrix
    else:
        symmetric = matrix

        def product(v: jax.Array) -> jax.Array:
            return jnp.matmul(symmetric, v, precision=precision)

        if v0 is None:
            v0 = jnp.ones(matrix.shape[-1], matrix.dtype)
            key = jax.random.key(0) if key is None else key
    if key is not None:
        leaves, structure = tree_flatten(v0)
        keys = jax.random.split(key, len(leaves))
        drawn = [
            jax.random.normal(k, jnp.shape(x), x.dtype) for k, x in zip(keys, leaves, strict=True)
        ]
        v0 = structure.unflatten(drawn)

    def unit(v: PyTree) -> PyTree:
        size = global_norm(v)
        return jax.tree.map(lambda x: x / jnp.where(size > 0, size, 1).astype(x.dtype), v)

    def body(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        step, v, _, _ = carry
        w = product(v)
        value = _inner(v, w)
        residual = global_norm(jax.tree.map(lambda a, b: a - value.astype(b.dtype) * b, w, v))
        # A zero product leaves v: it is an eigenvector of the eigenvalue 0.
        follow = global_norm(w) > 0
        v = jax.tree.map(lambda a, b: jnp.where(follow, a, b), unit(w), v)
        return step + 1, v, value, residual

    def unfinished(carry: tuple[Any, ...]) -> jax.Array:
        step, _, value, residual = carry
        return (step < num_iters) & (residual > error_tolerance * jnp.abs(value))

    start = unit(v0)
    dtype = _inner(start, start).dtype
    first = (jnp.zeros((), jnp.int32), start, jnp.zeros((), dtype), jnp.asarray(jnp.inf, dtype))
    _, vector, value, _ = lax.while_loop(unfinished, body, first)
    return value, vector


def matrix_inverse_pth_root(
    matrix: jax.Array,
    p: int,
    num_iters: int = 100,
    ridge_epsilon: Scalar = 1e-6,
    error_tolerance: Scalar = 1e-6,
    precision: lax.Precision = lax.Precision.HIGHEST,
) -> tuple[jax.Array, jax.Array]:
    """(A + λ·ridge_epsilon·I)^(−1/p) of a positive semi-definite matrix, by coupled Newton steps.

    M ← Mᵢᵖ·M,  H ← H·Mᵢ,  Mᵢ = ((1 + 1/p)·I − M/p)

    Args:
      matrix: A, symmetric (n, n), without negative eigenvalues.
      p: the root, a positive int.
      num_iters: the most iterations.
      ridge_epsilon: what is added to the diagonal, relative to λ: the largest eigenvalue, or 10⁻⁶ if
        that is less, so that a matrix of zeros has a finite root too.
      error_tolerance: stop when max|M − I| is at most this.
      precision: of the products.

    Returns:
      The inverse root, (n, n) of at least float32, and the error max|M − I| it was left with.

    Raises:
      TypeError: if the matrix is complex.
      ValueError: if it is not square, or p not a positive int.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import matrix_inverse_pth_root
      >>> root, error = matrix_inverse_pth_root(jnp.diag(jnp.array([1.0, 16.0])), 4)
      >>> jnp.round(jnp.diag(root), 3)
      Array([1. , 0.5], dtype=float32)
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"matrix_inverse_pth_root: the matrix is {matrix.shape}, not square")
    if not isinstance(p, int) or p < 1:
        raise ValueError(f"matrix_inverse_pth_root: p must be a positive int, not {p!r}")
    if jnp.iscomplexobj(matrix):
        raise TypeError(f"matrix_inverse_pth_root: the matrix must be real, not {matrix.dtype}")
    real = common_real_dtype(matrix.dtype)
    a = matrix.astype(real)
    n = a.shape[0]
    if n == 1:
        lifted = a + ridge_epsilon * jnp.maximum(a, 1e-6)
        return lifted ** (-1.0 / p), jnp.zeros((), real)
    eye = jnp.eye(n, dtype=real)
    largest, _ = power_iteration(a, num_iters=100, precision=precision)
    a = a + eye * (ridge_epsilon * jnp.maximum(largest, 1e-6))

    def times(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.matmul(x, y, precision=precision)

    def power(x: jax.Array) -> jax.Array:
        made, square, rest = None, x, p
        while rest:
            if rest & 1:
                made = square if made is None else times(made, square)
            rest >>= 1
            square = times(square, square) if rest else square
        assert made is not None  # noqa: S101 (p is at least 1)
        return made

    z = (1 + p) / (2 * jnp.sqrt(jnp.sum(a * a)))
    m0, h0 = a * z, eye * z ** (1.0 / p)

    def error_of(m: jax.Array) -> jax.Array:
        return jnp.max(jnp.abs(m - eye))

    def body(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        step, m, h, _, error = carry
        factor = (1 + 1.0 / p) * eye - m / p
        m, last, h = times(power(factor), m), h, times(h, factor)
        return step + 1, m, h, last, jnp.where(error_of(m) < error * 1.2, error_of(m), jnp.inf)

    def unfinished(carry: tuple[Any, ...]) -> jax.Array:
        step, _, _, _, error = carry
        return (step < num_iters) & (error > error_tolerance) & jnp.isfinite(error)

    first = (jnp.zeros((), jnp.int32), m0, h0, h0, error_of(m0))
    _, m, h, last, error = lax.while_loop(unfinished, body, first)
    diverged = ~jnp.isfinite(error)
    return jnp.where(diverged, last, h), jnp.where(diverged, error_of(m), error)


def _inner(x: PyTree, y: PyTree) -> jax.Array:
    parts = [
        jnp.sum(jnp.conj(a) * b).real
        for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)
    ]
    return jnp.sum(jnp.stack(parts))
