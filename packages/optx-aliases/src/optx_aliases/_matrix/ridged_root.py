"""The inverse root of a covariance, with a ridge.

(S + matrix_eps·λ·I)^(−1/p),   λ the largest eigenvalue of S. Where the iteration does not converge (S zero
or not finite), the last root stays.

Reference: Anil, Gupta, Koren, Regan, Singer, "Scalable Second Order Optimization for Deep Learning",
2020.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from optx_aliases import matrix_inverse_pth_root


def ridged_root(statistic: jax.Array, old: jax.Array, p: int, matrix_eps: jax.Array) -> jax.Array:
    """(statistic + matrix_eps·λ·I)^(−1/p).

    Args:
      statistic: a positive semidefinite matrix, real or complex.
      old: what to return where the root does not converge.
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


def _as_real(x: jax.Array) -> jax.Array:
    """A complex matrix A + iB as the real one [[A, −B], [B, A]], whose roots are laid out the same."""
    if not jnp.iscomplexobj(x):
        return x
    return jnp.block([[x.real, -x.imag], [x.imag, x.real]])
