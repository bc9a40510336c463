"""Iterations on matrices: the leading eigenvector, and inverse roots.

Products are taken in at least float32 and at the highest precision: a covariance whose products are rounded
further has negative eigenvalues, for which Newton's iteration diverges.

References: Golub, Van Loan, "Matrix Computations", section 7.3 (power iteration); Guo, Higham, "A
Schur–Newton method for the matrix pth root and its inverse", 2006, equation 3.13 (coupled iteration);
Anil, Gupta, Koren, Regan, Singer, "Scalable Second Order Optimization for Deep Learning", 2020 (the ridge).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from optx_core import PyTree, Scalar, build, global_norm, tree


def power_iteration(
    matrix: Array | Callable[[PyTree], PyTree],
    *,
    v0: PyTree | None = None,
    num_iters: int = 100,
    error_tolerance: Scalar = 1e-6,
    precision: lax.Precision = lax.Precision.HIGHEST,
    key: Array | None = None,
) -> tuple[Array, PyTree]:
    """Computes the eigenvalue of largest magnitude of a symmetric matrix, and its eigenvector.

    Args:
      matrix: a symmetric (n, n) array, or a function that multiplies a tree of arrays by one. The
        function gets arrays of v0's dtypes.
      v0: where to start, an array of shape (n,) or a tree; needed with a function unless `key` is
        given together with it for its shapes. Random by default for an array.
      num_iters: the largest number of iterations.
      error_tolerance: stop when ‖Av − λv‖ is at most this times |λ|.
      precision: of the products.
      key: a key of `jax.random` to draw the start; of v0's shapes where both are given.

    Returns:
      The eigenvalue (with its sign), and the eigenvector as a unit vector, both in at least float32.

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
        function = matrix
    else:
        symmetric = matrix.astype(build.at_least_float32(matrix.dtype))
        function = functools.partial(jnp.matmul, symmetric, precision=precision)
        if v0 is None:
            v0 = jnp.ones(len(symmetric), symmetric.dtype)
            key = jax.random.key(0) if key is None else key
        v0 = build.widened(v0)
    given = v0 if key is None else tree.random_like(key, v0)

    def product(v: PyTree) -> PyTree:
        return build.widened(function(tree.cast_like(v, given)))

    def unit(v: PyTree) -> PyTree:
        size = global_norm(v)
        return jax.tree.map(lambda x: x / jnp.where(size > 0, size, 1).astype(x.dtype), v)

    def body(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        step, v, _, _ = carry
        w = product(v)
        value = tree.vdot(v, w).real
        residual = global_norm(jax.tree.map(lambda a, b: a - value.astype(b.dtype) * b, w, v))
        # A zero product leaves v: it is an eigenvector of the eigenvalue 0.
        follow = global_norm(w) > 0
        v = jax.tree.map(lambda a, b: jnp.where(follow, a, b), unit(w), v)
        return step + 1, v, value, residual

    def unfinished(carry: tuple[Any, ...]) -> Array:
        step, _, value, residual = carry
        return (step < num_iters) & (residual > error_tolerance * jnp.abs(value))

    start = unit(build.widened(given))
    zero = jnp.zeros_like(tree.vdot(start, start).real)
    first = (jnp.zeros((), jnp.int32), start, zero, zero + jnp.inf)
    _, vector, value, _ = lax.while_loop(unfinished, body, build.loop_carry(body, first))
    return value, vector


def matrix_inverse_pth_root(
    matrix: Array,
    p: int,
    num_iters: int = 100,
    ridge_epsilon: Scalar = 1e-6,
    error_tolerance: Scalar = 1e-6,
    precision: lax.Precision = lax.Precision.HIGHEST,
) -> tuple[Array, Array]:
    """(A + λ·ridge_epsilon·I)^(−1/p) of a positive semi-definite matrix, by coupled Newton steps.

    M ← Mᵢᵖ·M,  H ← H·Mᵢ,  Mᵢ = ((1 + 1/p)·I − M/p)

    Args:
      matrix: A, symmetric (n, n), without negative eigenvalues.
      p: the root, a positive int.
      num_iters: the largest number of iterations.
      ridge_epsilon: added to the diagonal, relative to λ: the largest eigenvalue, or 10⁻⁶ if that is
        less, so that a matrix of zeros has a finite root too.
      error_tolerance: stop when max|M − I| is at most this.
      precision: of the products.

    Returns:
      The inverse root, (n, n) of at least float32, and the remaining error max|M − I|.

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
    real = build.common_real_dtype(matrix.dtype)
    a = matrix.astype(real)
    n = a.shape[0]
    if n == 1:
        lifted = a + ridge_epsilon * jnp.maximum(a, 1e-6)
        return lifted ** (-1.0 / p), jnp.zeros((), real)
    eye = jnp.eye(n, dtype=real)
    largest, _ = power_iteration(a, num_iters=100, precision=precision)
    a = a + eye * (ridge_epsilon * jnp.maximum(largest, 1e-6))

    times = functools.partial(jnp.matmul, precision=precision)

    def power(x: Array) -> Array:
        result = x
        for bit in f"{p:b}"[1:]:
            result = times(result, result)
            result = times(result, x) if bit == "1" else result
        return result

    z = (1 + p) / (2 * jnp.sqrt(jnp.sum(a * a)))
    m0, h0 = a * z, eye * z ** (1.0 / p)

    def error_of(m: Array) -> Array:
        return jnp.max(jnp.abs(m - eye))

    def body(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        step, m, h, _, error = carry
        factor = (1 + 1.0 / p) * eye - m / p
        m, last, h = times(power(factor), m), h, times(h, factor)
        return step + 1, m, h, last, jnp.where(error_of(m) < error * 1.2, error_of(m), jnp.inf)

    def unfinished(carry: tuple[Any, ...]) -> Array:
        step, _, _, _, error = carry
        return (step < num_iters) & (error > error_tolerance) & jnp.isfinite(error)

    first = (jnp.zeros((), jnp.int32), m0, h0, h0, error_of(m0))
    _, m, h, last, error = lax.while_loop(unfinished, body, build.loop_carry(body, first))
    diverged = ~jnp.isfinite(error)
    return jnp.where(diverged, last, h), jnp.where(diverged, error_of(m), error)


def ridged_root(statistic: Array, old: Array, p: int, matrix_eps: Array) -> Array:
    """(statistic + matrix_eps·λ·I)^(−1/p).

    Args:
      statistic: a positive semidefinite matrix, real or complex.
      old: the result if the iteration does not converge.
      p: a positive int.
      matrix_eps: relative to the largest eigenvalue.

    Returns:
      A matrix of `old`'s dtype.
    """
    size = jnp.max(jnp.diagonal(statistic).real)
    usable = (size > 0) & jnp.isfinite(size)
    unit = jnp.where(usable, size, 1)
    eye = jnp.eye(len(statistic), dtype=statistic.dtype)
    plain = jnp.where(usable, statistic / unit.astype(statistic.dtype), eye)
    tolerance = 1e-6 if unit.dtype.itemsize == 4 else 1e-13
    root, error = matrix_inverse_pth_root(
        _as_real(plain), p, ridge_epsilon=matrix_eps, error_tolerance=tolerance
    )
    good = usable & (error < 0.1) & jnp.all(jnp.isfinite(root))
    if jnp.iscomplexobj(old):
        n = len(old)
        root = lax.complex(root[:n, :n], root[n:, :n])
    return jnp.where(good, root * (unit ** (-1.0 / p)).astype(old.dtype), old)


def _as_real(x: Array) -> Array:
    """Maps a complex matrix A + iB to the real [[A, −B], [B, A]], whose roots have the same structure."""
    if not jnp.iscomplexobj(x):
        return x
    return jnp.block([[x.real, -x.imag], [x.imag, x.real]])
