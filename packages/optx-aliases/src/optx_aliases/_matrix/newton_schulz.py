"""Newton–Schulz iteration: the orthogonal matrix nearest to a matrix, by products alone.

X ← X / ‖X‖,   then some times   A = X·Xᴴ,   X ← a·X + (b·A + c·A²)·X

The polynomial a·s + b·s³ + c·s⁵ drives every singular value s towards 1 and leaves the singular
vectors alone. With Jordan's coefficients it is steepest at 0 and ends between 0.7 and 1.2.

The same with products of the shorter side, X = Q·X₀, where that takes fewer operations (Gram iteration):
A = X₀·X₀ᴴ,  Q = I,   then some times   Z = a·I + b·A + c·A²,  Q ← Z·Q,  A ← Z·A·Z;   at last X ← Q·X₀

A step multiplies the rounding error of A by a². Where that would exceed a bound, X and A are computed anew.
Of the half precisions only float16 is exact enough: in bfloat16 small eigenvalues become negative, and grow.

References: Björck, Bowie, "An Iterative Algorithm for Computing the Best Estimate of an Orthogonal
Matrix", 1971; Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024 (the
coefficients); Ahn et al., "Dion: Distributed Orthonormalized Updates", 2025 (those of "dion"); Dao-AILab,
"Gram Newton-Schulz", 2026 (in float16, with restarts); Boissin et al., "Turbo-Muon", 2025 (aol); Grishina,
Smirnov, Rakhuba, "Accelerating Newton-Schulz Iteration for Orthogonalization via Chebyshev-type Polynomials",
2025 (schatten).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from optx_aliases._matrix.polynomials import NAMED
from optx_core import Scalar, build

PRECONDITIONINGS = ("frobenius", "spectral", "aol", "schatten")
# How much the rounding error of a Gram matrix may grow before it is computed anew: to 2e-4 in float32, and to
# 0.1 in float16, as in Dao-AILab's code.
LARGEST_GROWTH = {"float16": 200.0, "float32": 2e3, "float64": 2e3}
UNKNOWN_GROWTH = 70.0  # of one step, about a² of Polar Express's first


class Iteration(NamedTuple):
    """The static part of an iteration, whose coefficients may be traced.

    Attributes:
      growth: a² of each step.
      cubic: whether c is 0 in all steps.
    """

    growth: tuple[float, ...]
    cubic: bool


def iteration_of(ns_coeffs: Any, ns_steps: int) -> Iteration:
    """Returns what is known of the iteration; the arguments as `check_coefficients` returns them."""
    steps = ns_steps if ns_coeffs.ndim == 1 else len(ns_coeffs)
    if not isinstance(ns_coeffs, np.ndarray):
        return Iteration((UNKNOWN_GROWTH,) * steps, cubic=False)
    table = np.broadcast_to(ns_coeffs, (steps, 3))
    return Iteration(tuple((table[:, 0] ** 2).tolist()), bool(np.all(table[:, 2] == 0)))


@functools.cache
def _parts(growth: tuple[float, ...], largest: float) -> tuple[int, ...]:
    """Divides the steps of a Gram iteration into as few parts as keep the error of each small.

    Args:
      growth: of each step.
      largest: the largest growth of a part: the product over its steps but the last.

    Returns:
      The numbers of steps of the parts. Of the divisions into as many parts, that of the least growth.
    """

    def divided(largest: float) -> list[int]:
        parts, total = [0], 1.0
        for one in growth:
            if parts[-1] and total > largest:
                parts, total = [*parts, 0], 1.0
            parts[-1] += 1
            total *= one
        return parts

    fewest, steps = divided(largest), range(len(growth))
    products = sorted(math.prod(growth[i:j]) for j in steps for i in range(j))
    even = (divided(x) for x in products if x <= largest)
    return tuple(next((parts for parts in even if len(parts) == len(fewest)), fewest))


def check_coefficients(where: str, ns_coeffs: Any, ns_steps: Any, preconditioning: Any) -> Any:
    """Checks the arguments of the iteration.

    Args:
      where: the name of the function, for errors.
      ns_coeffs: a name in `NAMED`, or the coefficients.
      ns_steps: the number of steps.
      preconditioning: one of `PRECONDITIONINGS`.

    Returns:
      The coefficients as an array, (3,) or (n, 3).

    Raises:
      TypeError: if the coefficients are neither a name nor numbers.
      ValueError: if an argument is none of these.
    """
    expected = f"{where}: ns_coeffs must be one of {', '.join(map(repr, NAMED))}, or numbers"
    if isinstance(ns_coeffs, str):
        if ns_coeffs not in NAMED:
            raise ValueError(f"{expected}, not {ns_coeffs!r}")
        ns_coeffs = NAMED[ns_coeffs]()
    if not isinstance(ns_coeffs, tuple | list | np.ndarray | jax.Array):
        raise TypeError(f"{expected}, not {build.short_repr(ns_coeffs)}")
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
      ns_coeffs: the polynomial's a, b, c; or a row of them for each step, (n, 3), such as
        `polar_express_coefficients` computes; or the name of a table in use: "standard" (Jordan's
        polynomial), "dion", "polar_express" (the authors' eight steps), "polar_express_5" (dion's and
        modded-nanogpt's), "polar_express_gram" (Gram Newton–Schulz's), "cans" (not for half precision, as it
        has no safety), "deepseek_v4", "cubic".
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
    return orthogonalized(x, ns_coeffs, iteration_of(ns_coeffs, ns_steps), preconditioning, eps)


def orthogonalized(
    x: Array, ns_coeffs: Any, iteration: Iteration, preconditioning: str, eps: Scalar
) -> Array:
    """`newton_schulz` with checked coefficients, which may be traced."""
    if not x.size:
        return x
    stack = x.reshape(-1, *x.shape[-2:])
    table = jnp.asarray(ns_coeffs).astype(build.real_dtype(x.dtype)).astype(x.dtype)
    if table.ndim == 1:
        table = jnp.broadcast_to(table, (len(iteration.growth), 3))
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
        if iteration.cubic:
            return lax.mul(row[1], a)
        return lax.add(lax.mul(row[1], a), lax.mul(row[2], _product(a, a)))

    def plain(x: Array, *rows: Array) -> Array:
        def step(x: Array, row: Sequence[Array]) -> tuple[Array, None]:
            a = gram(x)
            return lax.add(lax.mul(row[0], x), times(quadratic(a, row), x)), None

        return lax.scan(step, x, rows)[0]

    def small(x: Array, *rows: Array) -> Array:
        """The Gram iteration: X₀ enters twice in all."""
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
        stop = 0
        for steps in parts:
            start, stop = stop, stop + steps
            part = small if steps > 1 else plain
            x = part(x, *(lax.slice_in_dim(row, start, stop) for row in rows))
        return x

    start = _divided(stack, gram, tall, preconditioning, eps)
    largest = LARGEST_GROWTH.get(build.real_dtype(x.dtype).name, 0.0)
    parts = _parts(iteration.growth, largest) if len(iteration.growth) == len(table) else (1,)
    # n steps for r rows and s > r columns take n·(4·r²·s + 2·r³) operations, as a Gram iteration
    # 4·r²·s + (4·n − 3)·2·r³.
    saves = 2 * max(stack.shape[1:]) > 3 * min(stack.shape[1:]) and max(parts) > 1
    if not saves:
        result = plain(start, *rows)
    elif x.dtype == jnp.float16:
        result = lax.platform_dependent(
            start, *rows, cpu=restarted, cuda=restarted, rocm=restarted, default=plain
        )
    else:  # accelerators round the products of float32 to fewer bits than float16 has
        result = lax.platform_dependent(start, *rows, cpu=restarted, default=plain)
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
