"""Estimates that use part of the products for the largest eigenvalues: XDiag and Hutch++.

XDiag, with Ω = [ω_1 ... ω_m] random signs, Y = A Ω = Q R, and Q_i a basis of Y without its column i:

    d = mean over i of  diag(Q_i Q_iᵀ A) + ω_i · (I − Q_i Q_iᵀ) A ω_i.

All Q_i come from one factorization: Q_i Q_iᵀ = Q (I − s_i s_iᵀ) Qᵀ, s_i the normalized columns of
R⁻ᵀ. Each product serves both purposes.

Hutch++, with Q a basis of A S and G random signs, k columns each:

    t = tr(Qᵀ A Q) + (1/k) tr(Gᵀ (I − QQᵀ) A (I − QQᵀ) G).

Both improve on Hutchinson's estimates only if the spectrum decays.

References: Epperly, Tropp, Webber, "XTrace: making the most of every sample in stochastic trace
estimation", 2024, section 2.4; Meyer, Musco, Musco, Woodruff, "Hutch++: optimal stochastic trace
estimation", 2021, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import PyTree
from optx_second_order._batches import check_count
from optx_second_order._leaves import Leaves, as_wide, wide
from optx_second_order._samples import Estimate


class _Flat:
    """A matrix product on trees, applied to the columns of matrices [n, m]."""

    def __init__(self, where: str, matvec: Callable[[PyTree], PyTree], like: PyTree) -> None:
        self.leaves = Leaves(where, like, name="like")
        self.size = sum(a.size for a in self.leaves.arrays)
        self.dtype = wide(*[a.dtype for a in self.leaves.arrays])
        self._matvec = matvec

    def split(self, flat: jax.Array) -> list[jax.Array]:
        bounds = np.cumsum([a.size for a in self.leaves.arrays])[:-1]
        parts = jnp.split(flat, bounds)
        return [p.reshape(a.shape) for p, a in zip(parts, self.leaves.arrays, strict=True)]

    def times(self, columns: jax.Array) -> jax.Array:
        def one(column: jax.Array) -> jax.Array:
            parts = zip(self.split(column), self.leaves.arrays, strict=True)
            v = self.leaves.tree([p.astype(a.dtype) for p, a in parts])
            image = self.leaves.vector(self._matvec(v), "the product")
            return jnp.concatenate([as_wide(a).astype(self.dtype).reshape(-1) for a in image])

        return jax.lax.map(one, columns.T).T


def xdiag(
    matvec: Callable[[PyTree], PyTree], like: PyTree, key: jax.Array, num_matvecs: int = 10
) -> Estimate:
    """Estimates the diagonal of a symmetric matrix by XDiag.

    Args:
      matvec: `v ↦ A v` on trees like `like`.
      like: a tree of real arrays with the structure and shapes of v, with n entries in all.
      key: a random key.
      num_matvecs: the number of products, even and from 4 to 2n; half of them are with random vectors.
        Memory is n·num_matvecs.

    Returns:
      An `Estimate` of trees like `like`; the standard error is that of the mean over the
      num_matvecs / 2 leave-one-out estimates, which are slightly dependent.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_second_order import xdiag
      >>> u = jnp.array([1.0, 2.0, 4.0, 8.0])
      >>> xdiag(lambda v: u * (u @ v), jnp.zeros(4), jax.random.key(0), 4).value.round(3)
      Array([ 1.,  4., 16., 64.], dtype=float32)
    """
    where = "xdiag"
    flat = _Flat(where, matvec, like)
    check_count(where, "num_matvecs", num_matvecs)
    m = num_matvecs // 2
    if flat.size == 0:
        return Estimate(flat.leaves.tree(flat.leaves.arrays), None)
    if num_matvecs % 2 or not 2 <= m <= max(flat.size, 2):
        raise ValueError(
            f"{where}: num_matvecs must be even, from 4 to twice the size ({flat.size}) of like, "
            f"not {num_matvecs}"
        )
    omega = jax.random.rademacher(key, (flat.size, m), flat.dtype)
    q, s, scale = _leave_one_out(flat.times(omega))
    z = flat.times(q)  # A Q
    qs, zs = q @ s, z @ s
    whole = jnp.sum(q * z, axis=1)
    each = whole[:, None] - qs * zs + omega * qs * scale[None, :]
    mean = jnp.mean(each, axis=1)
    stderr = jnp.std(each, axis=1, ddof=1) / m**0.5
    return Estimate(flat.leaves.tree(flat.split(mean)), flat.leaves.tree(flat.split(stderr)))


def _leave_one_out(y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns Q, the unit vectors s_i, and s_iᵀ Qᵀ y_i."""
    q, r = jnp.linalg.qr(y)
    scale = jnp.max(jnp.abs(jnp.diagonal(r)))
    r = jnp.where(scale > 0, r / jnp.where(scale > 0, scale, 1), jnp.zeros_like(r))
    floor = jnp.finfo(r.dtype).eps  # for linearly dependent columns
    lift = jnp.where(jnp.abs(jnp.diagonal(r)) < floor, floor, 0.0)
    r = r + jnp.diag(lift.astype(r.dtype))
    identity = jnp.eye(r.shape[0], dtype=r.dtype)
    inverse = jax.scipy.linalg.solve_triangular(r, identity, trans="T", lower=False)
    norms = jnp.linalg.norm(inverse, axis=0)
    return q, inverse / norms[None, :], scale / norms


def hutchpp_trace(
    matvec: Callable[[PyTree], PyTree], like: PyTree, key: jax.Array, num_matvecs: int = 12
) -> Estimate:
    """Estimates the trace of a symmetric matrix by Hutch++.

    Args:
      matvec: `v ↦ A v` on trees like `like`.
      like: a tree of real arrays with the structure and shapes of v, with n entries in all.
      key: a random key.
      num_matvecs: the number of products, a multiple of 3: a third each for a sketch of the range, for
        the trace on it, and for Hutchinson's estimate of the rest. Memory is n·num_matvecs / 3.

    Returns:
      An `Estimate` of scalars; the standard error is that of Hutchinson's part, None if it has fewer
      than two vectors.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_second_order import hutchpp_trace
      >>> a = jnp.diag(jnp.array([5.0, 0.0, 0.0, 0.0]))
      >>> hutchpp_trace(lambda v: a @ v, jnp.zeros(4), jax.random.key(0), 3).value.round(3)
      Array(5., dtype=float32)
    """
    where = "hutchpp_trace"
    flat = _Flat(where, matvec, like)
    check_count(where, "num_matvecs", num_matvecs)
    if num_matvecs % 3:
        raise ValueError(f"{where}: num_matvecs must be a multiple of 3, not {num_matvecs}")
    if flat.size == 0:
        return Estimate(jnp.zeros(()), None)
    k = num_matvecs // 3
    first, second = jax.random.split(key)
    sketch = jax.random.rademacher(first, (flat.size, min(k, flat.size)), flat.dtype)
    q, _ = jnp.linalg.qr(flat.times(sketch))
    g = jax.random.rademacher(second, (flat.size, k), flat.dtype)
    g = g - q @ (q.T @ g)
    on_range = jnp.sum(q * flat.times(q))
    rest = jnp.sum(g * flat.times(g), axis=0)
    stderr = jnp.std(rest, ddof=1) / k**0.5 if k > 1 else None
    return Estimate(on_range + jnp.mean(rest), stderr)
