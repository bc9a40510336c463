"""Newton–Schulz iteration: the orthogonal matrix nearest to a matrix, by products alone.

X ← X / ‖X‖,   then some times   A = X·Xᴴ,   X ← a·X + (b·A + c·A²)·X

The polynomial a·s + b·s³ + c·s⁵ drives every singular value s towards 1 and leaves the singular
vectors alone. With Jordan's coefficients it is steepest at 0 and ends between 0.7 and 1.2.

References: Björck, Bowie, "An Iterative Algorithm for Computing the Best Estimate of an Orthogonal
Matrix", 1971; Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024 (the
coefficients); Ahn et al., "Dion: Distributed Orthonormalized Updates", 2025 (those of "dion");
Boissin et al., "Turbo-Muon", 2025 (aol); Grishina, Smirnov, Rakhuba, "Accelerating Newton-Schulz
Iteration for Orthogonalization via Chebyshev-type Polynomials", 2025 (schatten).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from optx_core import Scalar, build

STEPS_OF_GRAM = 5
PRECONDITIONINGS = ("frobenius", "spectral", "aol", "schatten")
COEFFICIENTS: dict[str, Any] = {
    "standard": (3.4445, -4.7750, 2.0315),
    "dion": (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
}


def check_coefficients(where: str, ns_coeffs: Any, ns_steps: Any, preconditioning: Any) -> Any:
    """Checks the arguments of the iteration.

    Args:
      where: the name of the function, for errors.
      ns_coeffs: a name in `COEFFICIENTS`, or the coefficients.
      ns_steps: the number of steps.
      preconditioning: one of `PRECONDITIONINGS`.

    Returns:
      The coefficients as an array, (3,) or (n, 3).

    Raises:
      ValueError: if an argument is none of these.
    """
    if isinstance(ns_coeffs, str):
        if ns_coeffs not in COEFFICIENTS:
            names = " or ".join(map(repr, COEFFICIENTS))
            raise ValueError(f"{where}: ns_coeffs must be {names}, or numbers, not {ns_coeffs!r}")
        ns_coeffs = COEFFICIENTS[ns_coeffs]
    numbers = all(isinstance(x, int | float) for x in jax.tree.leaves(ns_coeffs))
    ns_coeffs = np.asarray(ns_coeffs, np.float64) if numbers else jnp.asarray(ns_coeffs)
    if ns_coeffs.ndim not in (1, 2) or ns_coeffs.shape[-1] != 3:
        shape = ns_coeffs.shape
        raise ValueError(f"{where}: ns_coeffs must have shape (3,) or (n, 3), not {shape}")
    if not isinstance(ns_steps, int) or ns_steps < 1:
        raise ValueError(f"{where}: ns_steps must be a positive int, not {ns_steps!r}")
    if preconditioning not in PRECONDITIONINGS:
        names = ", ".join(map(repr, PRECONDITIONINGS))
        raise ValueError(
            f"{where}: preconditioning must be one of {names}, not {preconditioning!r}"
        )
    return ns_coeffs


def newton_schulz(
    x: Array,
    ns_coeffs: Any = "standard",
    ns_steps: int = 5,
    preconditioning: str = "frobenius",
    eps: Scalar = 1e-8,
) -> Array:
    """Orthogonalizes matrices, a whole stack of them in one iteration.

    Args:
      x: an array (..., rows, columns), real or complex.
      ns_coeffs: the polynomial's a, b, c; or a row of them for each step, (n, 3); or "standard"
        (Jordan's) or "dion".
      ns_steps: the number of steps, a positive int; a table of coefficients has its own.
      preconditioning: what the matrices are divided by first: their "frobenius" norm; their
        "spectral" norm, which is tight but takes eigenvalues; the row sums of |A| ("aol"), each row by
        its own; or the root of A's norm ("schatten").
      eps: added to the norm (for the last two the least value of what is divided by, relative to the
        largest entry).

    Returns:
      An array of x's shape and dtype, its singular values near 1. Zero for a zero matrix.

    Raises:
      ValueError: if the coefficients are of another shape, or a name is unknown.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import newton_schulz
      >>> x = newton_schulz(jnp.array([[3.0, 0.0], [0.0, 1.0]]), (1.5, -0.5, 0.0), 10)
      >>> jnp.round(x, 3)
      Array([[1., 0.],
             [0., 1.]], dtype=float32)
    """
    ns_coeffs = check_coefficients("newton_schulz", ns_coeffs, ns_steps, preconditioning)
    if not x.size:
        return x
    stack = x.reshape(-1, *x.shape[-2:])
    table = jnp.asarray(ns_coeffs).astype(build.real_dtype(x.dtype)).astype(x.dtype)
    if table.ndim == 1:
        table = jnp.broadcast_to(table, (ns_steps, 3))
    rows = [lax.index_in_dim(table, k, 1, keepdims=False) for k in range(3)]
    # The products are of the shorter side, and none takes a transposed copy. lax.mul is the operator's
    # own, at half of the time that the operator takes to trace.
    tall = stack.shape[1] > stack.shape[2]

    def gram(x: Array) -> Array:
        other = jnp.conj(x) if jnp.iscomplexobj(x) else x
        return _product(other, x, 1, 1) if tall else _product(x, other, 2, 2)

    def times(b: Array, x: Array) -> Array:
        return _product(x, b) if tall else _product(b, x)

    def quadratic(a: Array, row: Sequence[Array]) -> Array:
        return lax.add(lax.mul(row[1], a), lax.mul(row[2], _product(a, a)))

    def plain(x: Array, *rows: Array) -> Array:
        def step(x: Array, row: Sequence[Array]) -> tuple[Array, None]:
            a = gram(x)
            return lax.add(lax.mul(row[0], x), times(quadratic(a, row), x)), None

        return lax.scan(step, x, rows)[0]

    def small(x: Array, *rows: Array) -> Array:
        """The same with X = Q·X₀: Q and A are of the shorter side, X₀ enters twice in all."""
        a = gram(x)
        one = jnp.eye(a.shape[1], dtype=a.dtype)[None]

        def polynomial(a: Array, row: Sequence[Array]) -> Array:
            return lax.add(quadratic(a, row), lax.mul(row[0], one))

        def step(pair: tuple[Array, Array], row: Sequence[Array]) -> tuple[Any, None]:
            q, a = pair
            b = polynomial(a, row)
            return (_product(b, q), _product(_product(b, a), b)), None

        first, last = ([lax.index_in_dim(x, k, keepdims=False) for x in rows] for k in (0, -1))
        q = polynomial(a, first)
        between = [lax.slice_in_dim(x, 1, -1) for x in rows]
        (q, a), _ = lax.scan(step, (q, _product(_product(q, a), q)), between)
        return times(_product(polynomial(a, last), q), x)

    def restarted(x: Array, *rows: Array) -> Array:
        for part in np.array_split(np.arange(len(table)), -(-len(table) // STEPS_OF_GRAM)):
            x = small(x, *(lax.slice_in_dim(row, part[0], part[-1] + 1) for row in rows))
        return x

    start = _divided(stack, gram, tall, preconditioning, eps)
    # `small` needs exact products. A rounding error of A that makes a small eigenvalue negative grows by
    # a² a step: from 1e-7 to 1e-3 in five steps, after which A is computed anew. Half precision, and the
    # rounded products of accelerators, start at 1e-3.
    is_long = max(stack.shape[1:]) >= 2 * min(stack.shape[1:])
    if is_long and len(table) > 1 and build.at_least_float32(x.dtype) == x.dtype:
        result = lax.platform_dependent(start, *rows, cpu=restarted, default=plain)
    else:
        result = plain(start, *rows)
    return result.reshape(x.shape)


def _product(x: Array, y: Array, axis: int = 2, other: int = 1) -> Array:
    """Multiplies the matrices of two stacks, contracting one axis of each."""
    return lax.dot_general(x, y, (((axis,), (other,)), ((0,), (0,))))


def _divided(x: Array, gram: Any, tall: bool, preconditioning: str, eps: Scalar) -> Array:
    """Scales matrices so that the iteration converges, by norms in at least float32."""
    narrow, x = x.dtype, x.astype(build.at_least_float32(x.dtype))
    size = jnp.maximum(abs(x.real), abs(x.imag)) if jnp.iscomplexobj(x) else abs(x)
    info, eps = jnp.finfo(size.dtype), jnp.asarray(eps, size.dtype)
    largest = _over_matrix(lax.reduce_max, lax.stop_gradient(size))
    unit = lax.clamp(info.tiny, largest, info.max)
    x = lax.div(x, unit.astype(x.dtype))
    if preconditioning == "aol":
        sums = jnp.maximum(jnp.sum(jnp.abs(gram(x)), axis=2, keepdims=True), eps)
        factors = lax.rsqrt(sums.mT if tall else sums)
        return (x * factors.astype(x.dtype)).astype(narrow)
    if preconditioning == "schatten":
        norm = _root(_over_matrix(lax.reduce_sum, build.abs_squared(gram(x))))
        return (x * lax.rsqrt(jnp.maximum(norm, eps)).astype(x.dtype)).astype(narrow)
    if preconditioning == "spectral":
        norm = _root(jnp.linalg.eigvalsh(gram(x))[:, -1:, None])
    else:
        norm = _root(_over_matrix(lax.reduce_sum, build.abs_squared(x)))
    return lax.div(x, lax.add(norm, lax.div(eps, unit)).astype(x.dtype)).astype(narrow)


def _over_matrix(reduce: Callable[..., Array], x: Array) -> Array:
    return lax.expand_dims(reduce(x, (1, 2)), (1, 2))


def _root(x: Array) -> Array:
    """√x with the derivative 0 at 0; anything else here is near 1 or above."""
    return lax.sqrt(lax.max(x, jnp.finfo(x.dtype).tiny))
