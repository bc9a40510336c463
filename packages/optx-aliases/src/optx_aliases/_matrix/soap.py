"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner.

m ← b1·m + (1 − b1)·G
L ← b3·L + (1 − b3)·G·Gᵀ,   R ← b3·R + (1 − b3)·Gᵀ·G            (b3 = shampoo_beta)
G' = Q_Lᵀ·G·Q_R,   m' = Q_Lᵀ·m·Q_R,   v ← b2·v + (1 − b2)·G'²
u = Q_L·(m̂' / (√v̂ + eps))·Q_Rᵀ
every precondition_frequency steps, after the step   Q_L ← qr(L·Q_L),   Q_R ← qr(R·Q_R)

In m', entries of at most 32 rounding errors of the largest one count as zero: a gradient of less than full
rank has zeros there, whose rounding errors, divided by their own root, would become full steps (the code does
step along them). Products are taken at the highest precision, as torch's are by default.

Q_L and Q_R start as the eigenvectors of the first L and R. A vector, and a matrix both of whose sides
are longer than max_precond_dim, has no basis: SOAP is Adam there.

The paper and the published code differ at the start and in an order. The code takes no step with the first
gradient, which only makes the bases, and counts steps from the second one on; we follow the code, because a
gradient is diagonal in its own eigenbasis, and Adam would enlarge the rounding errors off the diagonal to
full steps. The code also sorts the columns of Q (and v with them) by their estimated eigenvalues before
qr; we follow the paper and do not.

Reference: Vyas, Morwani, Zhao, Kwun, Shapira, Brandfonbrener, Janson, Kakade, "SOAP: Improving and
Stabilizing Shampoo using Adam", 2024, algorithms 3 and 4.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from optx_aliases._matrix import sides
from optx_aliases._matrix.attention import attention_as_matrices
from optx_aliases._matrix.owned import owned
from optx_aliases._matrix.owners import OwnerAxes
from optx_aliases._matrix.stacked import stacked
from optx_core import ScalarOrSchedule, add_decayed_weights, build, chain, scale_by_learning_rate


class ScaleBySoapState(NamedTuple):
    """State of `scale_by_soap`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      nu: v, likewise, in the eigenbasis; real where the parameters are complex.
      left: L of each leaf, (batch, rows, rows), or (1,), unused, where it has none.
      right: R, (batch, columns, columns), likewise.
      left_basis: Q_L, shaped as `left`.
      right_basis: Q_R, shaped as `right`.
    """

    count: build.Count
    mu: build.Moment
    nu: build.SecondMoment
    left: sides.OfRows
    right: sides.OfColumns
    left_basis: sides.IdentityOfRows
    right_basis: sides.IdentityOfColumns


@attention_as_matrices
@owned
@build.rule(ScaleBySoapState, around=stacked)
def scale_by_soap(
    g: Array,
    s: ScaleBySoapState,
    /,
    b1: build.Rate = 0.95,
    b2: build.Rate = 0.95,
    eps: build.Nonnegative = 1e-8,
    shampoo_beta: build.Rate | None = None,
    precondition_frequency: build.PositiveInt = 10,
    max_precond_dim: build.NonnegativeInt = 10000,
    mu_dtype: build.DType = None,
    owner_axes: OwnerAxes = None,
) -> tuple[Array, ScaleBySoapState]:
    """Runs Adam in the slowly turning eigenbasis of Shampoo's preconditioner.

    An array of three axes is a stack of matrices, except for the kernels of Flax's attention, which are one
    matrix each; one of more axes is a convolution's kernel with its outputs last. On a mesh each matrix, with
    its bases, is turned by one device, its owner.

    Args:
      b1, b2, eps, shampoo_beta, precondition_frequency, max_precond_dim, mu_dtype: as for `soap`.
      owner_axes: as for `soap`.

    Returns:
      A transformation with a `ScaleBySoapState`. The first update is zero.
      Derivatives treat the bases as constants.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_soap
      >>> tx, g = scale_by_soap(eps=1e-3), jnp.array([[3.0, 4.0], [3.0, 4.0]])
      >>> _, state = tx.update(g, tx.init(g))  # makes the bases
      >>> jnp.round(tx.update(g, state)[0], 2)  # along the gradient's only singular vectors
      Array([[0.42, 0.57],
             [0.42, 0.57]], dtype=float32)
    """
    g = build.squarable(g, g.size)
    b3 = b2 if shampoo_beta is None else shampoo_beta
    # The first gradient makes the bases, and nothing else.
    first, t = s.count == 1, jnp.maximum(s.count - 1, 1)
    m = jnp.where(first, s.mu, b1 * s.mu + (1 - b1) * g)
    if s.left.ndim == s.right.ndim == 1:  # no basis
        v = jnp.where(first, s.nu, b2 * s.nu + (1 - b2) * build.abs_squared(g))
        u = m / (1 - b1**t) / (jnp.sqrt(v / (1 - b2**t)) + eps)
        return u, s._replace(mu=m, nu=v)
    L, R = sides.covariances(s.left, s.right, g, b3, 1 - b3)
    constants = lax.stop_gradient((L, R))

    def eigenvectors(bases: tuple[Array, Array]) -> tuple[Array, Array]:
        return sides.map_sides(lambda a, _: jnp.linalg.eigh(a)[1][:, :, ::-1], constants, bases)

    def power_step(bases: tuple[Array, Array]) -> tuple[Array, Array]:
        bases = lax.stop_gradient(bases)
        return sides.map_sides(lambda a, q: jnp.linalg.qr(sides.product(a, q))[0], constants, bases)

    QL, QR = build.run_if(first, eigenvectors, (s.left_basis, s.right_basis))
    v = b2 * s.nu + (1 - b2) * build.abs_squared(sides.rotated(sides.adjoint(QL), g, QR))
    v = jnp.where(first, s.nu, v)
    m_hat = sides.without_rounding(sides.rotated(sides.adjoint(QL), m, QR)) / (1 - b1**t)
    u = sides.rotated(QL, m_hat / (jnp.sqrt(v / (1 - b2**t)) + eps), sides.adjoint(QR))
    due = ~first & (t % precondition_frequency == 0)
    QL, QR = build.run_if(due, power_step, (QL, QR))
    return u, s._replace(mu=m, nu=v, left=L, right=R, left_basis=QL, right_basis=QR)


@build.recorded
def soap(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.95,
    b2: ScalarOrSchedule = 0.95,
    eps: ScalarOrSchedule = 1e-8,
    shampoo_beta: ScalarOrSchedule | None = None,
    precondition_frequency: int = 10,
    max_precond_dim: int = 10000,
    mu_dtype: build.DType = None,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
    owner_axes: OwnerAxes = None,
) -> build.Transformation:
    """SOAP (Vyas et al., 2024), with decoupled weight decay.

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      shampoo_beta: decay of L and R, in [0, 1), or a schedule; b2 by default.
      precondition_frequency: the number of steps between two turns of the bases, a positive int.
      max_precond_dim: the longest side that has a basis; 0 turns SOAP into Adam from the second gradient
        on.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      owner_axes: on a mesh, the name or names of the axes whose devices may own matrices; all by default.

    Returns:
      A transformation; `update` needs the parameters.

    Example:
      >>> from optx_aliases import soap
      >>> tx = soap(3e-3, precondition_frequency=10, weight_decay=0.01)
    """
    return chain(
        scale_by_soap(
            b1, b2, eps, shampoo_beta, precondition_frequency, max_precond_dim, mu_dtype, owner_axes
        ),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
