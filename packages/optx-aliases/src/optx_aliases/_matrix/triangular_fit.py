"""One step of a fit of triangular factors that whiten a matrix.

A = Q_L·x·Q_Rᵀ,   B = Q_L⁻ᵀ·V·Q_R⁻¹,   V of standard normal entries
Q_L ← Q_L − μ·triu(A·Aᵀ − B·Bᵀ)·Q_L / (‖A·Aᵀ + B·Bᵀ‖)
Q_R ← Q_R − μ·triu(Aᵀ·A − Bᵀ·B)·Q_R / (‖Aᵀ·A + Bᵀ·B‖)

Stacks of matrices, (batch, rows, columns). A factor is upper triangular, (batch, n, n), or a diagonal,
(batch, n), where triu is the diagonal. ‖·‖ is the largest eigenvalue, bounded from below.

Reference: Li, "Stochastic Hessian Fittings with Lie Groups", 2024, table I.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from optx_core.build import squarable


def fitted(left: Array, right: Array, x: Array, V: Array, rate: Array) -> tuple[Array, Array]:
    """Returns both factors after one step of size `rate`, balanced to equal largest entries.

    An unused right factor, of one axis, stays as it is.
    """
    A, B = _times(left, x), _solved(left, V)
    if right.ndim == 1:
        return _stepped(left, A, B, rate), right
    At = _times(right, jnp.swapaxes(A, 1, 2))
    Bt = _solved(right, jnp.swapaxes(B, 1, 2))
    A, B = jnp.swapaxes(At, 1, 2), jnp.swapaxes(Bt, 1, 2)
    left, right = _stepped(left, A, B, rate), _stepped(right, At, Bt, rate)
    ratio = jnp.sqrt(_largest(right) / _largest(left))
    return (
        left * ratio.reshape(-1, *(1,) * (left.ndim - 1)),
        right / ratio.reshape(-1, *(1,) * (right.ndim - 1)),
    )


def preconditioned(left: Array, right: Array, x: Array) -> Array:
    """Returns Q_LᵀQ_L·x·Q_RᵀQ_R, without an unused right factor."""
    x = _times_square(left, x)
    if right.ndim == 1:
        return x
    return jnp.swapaxes(_times_square(right, jnp.swapaxes(x, 1, 2)), 1, 2)


def _times_square(q: Array, x: Array) -> Array:
    """qᵀ·q·x of stacks."""
    y = _times(q, x)
    return _times(jnp.swapaxes(q, 1, 2), y) if q.ndim == 3 else _times(q, y)


def _times(q: Array, x: Array) -> Array:
    """q·x of stacks, q dense or a diagonal."""
    return q @ x if q.ndim == 3 else q[:, :, None] * x


def _solved(q: Array, x: Array) -> Array:
    """q⁻ᵀ·x of stacks."""
    if q.ndim == 2:
        return x / q[:, :, None]
    return lax.linalg.triangular_solve(q, x, left_side=True, lower=False, transpose_a=True)


def _square(q: Array, x: Array) -> Array:
    """x·xᵀ of stacks, or its diagonal where q is one."""
    return x @ jnp.swapaxes(x, 1, 2) if q.ndim == 3 else jnp.sum(x * x, axis=2)


def _size(x: Array) -> Array:
    """A lower bound of the largest eigenvalue of positive matrices (of diagonals: the largest)."""
    if x.ndim == 2:
        return jnp.max(x, axis=1, keepdims=True)
    largest = jnp.max(jnp.abs(x), axis=(1, 2), keepdims=True)
    x = x / jnp.where(largest > 0, largest, 1)
    lengths = jnp.sum(x * x, axis=1)
    chosen = jnp.argmax(lengths, axis=1)
    column = jnp.take_along_axis(x, chosen[:, None, None], axis=2)
    y = x @ column
    unit = jnp.sqrt(jnp.sum(y * y, axis=1, keepdims=True))
    y = x @ (y / jnp.where(unit > 0, unit, 1))
    return largest * jnp.sqrt(jnp.sum(y * y, axis=1, keepdims=True))


def _squarable(a: Array, b: Array) -> tuple[Array, Array]:
    """Scales both by a common factor, which cancels in the slope; 1 unless their squares overflow."""
    largest = jnp.max(jnp.maximum(jnp.abs(a), jnp.abs(b)), axis=(1, 2), keepdims=True)
    positive = jnp.where(largest > 0, largest, 1)
    factor = squarable(positive, a[0].size) / positive
    return a * factor, b * factor


def _stepped(q: Array, a: Array, b: Array, rate: Array) -> Array:
    a, b = _squarable(a, b)
    ours, noise = _square(q, a), _square(q, b)
    size = _size(ours + noise)
    slope = (ours - noise) / jnp.where(size > 0, size, 1)
    return q - rate * (jnp.triu(slope) @ q if q.ndim == 3 else slope * q)


def _largest(q: Array) -> Array:
    """The largest entry of each factor."""
    return jnp.max(jnp.abs(q), axis=tuple(range(1, q.ndim)))
