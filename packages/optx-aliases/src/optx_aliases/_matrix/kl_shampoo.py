"""KL-Shampoo: Shampoo whose two covariances minimize a Kullback–Leibler divergence.

L ← b2·L + (1 − b2)/columns·G·R⁻¹·Gᵀ,   R ← b2·R + (1 − b2)/rows·Gᵀ·L⁻¹·G      (both from the old ones)
every precondition_frequency steps   Q_L ← qr(L·Q_L),   Q_R ← qr(R·Q_R)
m ← b1·m + (1 − b1)·G,   m̂ = m / (1 − b1ᵗ)
u = L^(−1/2)·m̂·R^(−1/2)

Inverses and roots are those of the eigenvalues diag(Qᵀ·L·Q), at least eps, in the basis Q. L and R start at
initial·I, the bases at I. There is no graft: L⊗R estimates the covariance of the gradient, so that entries of
u are about 1. A side longer than max_precond_dim counts as R = I; a leaf without sides is Adam's.

The paper leaves the start open; initial·I with 0.1 is HeavyBall's, which preconditions before it renews L and
R, and balances the two.

Reference: Lin, Lowe, Dangel, Eschenhagen, Xu, Grosse, "Understanding and Improving Shampoo and SOAP via
Kullback-Leibler Minimization", 2025.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from optx_aliases._matrix import sides
from optx_aliases._matrix.attention import attention_as_matrices
from optx_aliases._matrix.matrices import side_lengths
from optx_aliases._matrix.norms import root
from optx_aliases._matrix.owned import owned
from optx_aliases._matrix.owners import OwnerAxes
from optx_aliases._matrix.stacked import stacked
from optx_core import (
    PyTree,
    ScalarOrSchedule,
    add_decayed_weights,
    build,
    chain,
    scale_by_learning_rate,
    tree,
)


def _second_moment(p: Array, *, max_precond_dim: int, **_: Any) -> Array:
    """v, for leaves without sides."""
    dtype = tree.slot_dtype(p, real=True)
    if 0 < min(side_lengths(p.shape)) <= max_precond_dim:
        return sides.unused_slot(p, dtype)
    return jnp.zeros_like(p, dtype=dtype)


class ScaleByKlShampooState(NamedTuple):
    """State of `scale_by_kl_shampoo`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      nu: v of leaves without sides, real; (1,), unused, for matrices.
      left: L of each leaf in units of its start, (batch, rows, rows), or (1,), unused, where it has none.
      right: R, (batch, columns, columns), likewise.
      left_basis: Q_L, shaped as `left`.
      right_basis: Q_R, shaped as `right`.
    """

    count: build.Count
    mu: build.Moment
    nu: Annotated[PyTree, build.slot(nonnegative=True, init=_second_moment)]
    left: sides.IdentityOfRows
    right: sides.IdentityOfColumns
    left_basis: sides.IdentityOfRows
    right_basis: sides.IdentityOfColumns


def _divided(x: Array, left: Array, right: Array) -> Array:
    """Divides rows and columns by deviations, (batch, n); unused slots divide nothing."""
    x = x / left[:, :, None].astype(x.dtype) if sides.is_used(left) else x
    return x / right[:, None, :].astype(x.dtype) if sides.is_used(right) else x


@attention_as_matrices
@owned
@build.rule(ScaleByKlShampooState, around=stacked)
def scale_by_kl_shampoo(
    g: Array,
    s: ScaleByKlShampooState,
    /,
    b1: build.Rate = 0.9,
    b2: build.Rate = 0.95,
    eps: build.Positive = 1e-8,
    initial: build.Positive = 0.1,
    precondition_frequency: build.PositiveInt = 10,
    max_precond_dim: build.NonnegativeInt = 8192,
    mu_dtype: build.DType = None,
    owner_axes: OwnerAxes = None,
) -> tuple[Array, ScaleByKlShampooState]:
    """Multiplies matrices by inverse roots of covariances that minimize a Kullback–Leibler divergence.

    An array of three axes is a stack of matrices, except for the kernels of Flax's attention, which are one
    matrix each; one of more axes is a convolution's kernel with its outputs last. On a mesh the bases of each
    matrix are computed by one device, its owner.

    Args:
      b1, b2, eps, initial, precondition_frequency, max_precond_dim, mu_dtype: as for `kl_shampoo`.
      owner_axes: as for `kl_shampoo`.

    Returns:
      A transformation with a `ScaleByKlShampooState`. Derivatives treat covariances and bases as
      constants. A zero gradient from the first step on gives zero updates.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_kl_shampoo
      >>> tx, g = scale_by_kl_shampoo(b2=0.5, initial=1.0), jnp.diag(jnp.array([2.0, 1.0]))
      >>> updates, _ = tx.update(g, tx.init(g))  # diag(2 / 1.5, 1 / 0.75)
      >>> [round(float(x), 3) for x in jnp.diag(updates)]
      [1.333, 1.333]
    """
    g, t = build.squarable(g, g.size), s.count
    m = b1 * s.mu + (1 - b1) * g
    m_hat = m / (1 - b1**t)
    L, R, QL, QR, x = lax.stop_gradient((s.left, s.right, s.left_basis, s.right_basis, g))
    if not sides.is_used(L) and not sides.is_used(R):
        v = b2 * s.nu + (1 - b2) * build.abs_squared(g)
        return m_hat / (root(v / (1 - b2**t)) + eps), s._replace(mu=m, nu=v)
    rows, columns = g.shape[-2:]
    none = jnp.zeros(1)
    L, R = (jnp.where(t == 1, initial, 1).astype(a.dtype) * a for a in (L, R))

    def deviations(a: Array, q: Array) -> Array:
        values = jnp.sum(jnp.conj(q) * sides.product(a, q), -2).real
        return root(jnp.maximum(values, eps))

    def turned(bases: tuple[Array, Array]) -> tuple[Array, Array]:
        return sides.map_sides(lambda a, q: jnp.linalg.qr(sides.product(a, q))[0], (L, R), bases)

    of_rows, of_columns = sides.map_sides(deviations, (L, R), (QL, QR))
    # G·R⁻¹·Gᵀ = y·yᵀ, Gᵀ·L⁻¹·G = zᵀ·z
    y = build.squarable(_divided(sides.rotated(none, x, QR), none, of_columns), g.size)
    z = build.squarable(_divided(sides.rotated(sides.adjoint(QL), x, none), of_rows, none), g.size)
    new_L, _ = sides.covariances(L, R, y, b2, (1 - b2) / columns)
    _, new_R = sides.covariances(L, R, z, b2, (1 - b2) / rows)
    L, R = new_L, new_R
    QL, QR = build.run_if(t % precondition_frequency == 0, turned, (QL, QR))
    of_rows, of_columns = sides.map_sides(deviations, (L, R), (QL, QR))
    inside = sides.without_rounding(sides.rotated(sides.adjoint(QL), m_hat, QR))
    u = sides.rotated(QL, _divided(inside, of_rows, of_columns), sides.adjoint(QR))
    return u, s._replace(mu=m, left=L, right=R, left_basis=QL, right_basis=QR)


@build.recorded
def kl_shampoo(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.95,
    eps: ScalarOrSchedule = 1e-8,
    initial: ScalarOrSchedule = 0.1,
    precondition_frequency: int = 10,
    max_precond_dim: int = 8192,
    mu_dtype: build.DType = None,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
    owner_axes: OwnerAxes = None,
) -> build.Transformation:
    """KL-Shampoo (Lin et al., 2025), with decoupled weight decay.

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of L and R, in [0, 1), or a schedule.
      eps: the least eigenvalue of L and R (for Adam's leaves, added to the root), or a schedule.
      initial: the eigenvalues of L and R at the start, a scalar greater than 0. The product of the two is the
        variance of a gradient's entry that is expected; where gradients are smaller, the first steps are.
      precondition_frequency: the number of steps between two turns of the bases, a positive int.
      max_precond_dim: the longest side that has a covariance.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      owner_axes: on a mesh, the name or names of the axes whose devices may own matrices; all by default.

    Returns:
      A transformation; `update` needs the parameters.

    Example:
      >>> from optx_aliases import kl_shampoo
      >>> tx = kl_shampoo(1e-3, precondition_frequency=10, weight_decay=0.01)
    """
    return chain(
        scale_by_kl_shampoo(
            b1,
            b2,
            eps,
            initial,
            precondition_frequency,
            max_precond_dim,
            mu_dtype,
            owner_axes,
        ),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
