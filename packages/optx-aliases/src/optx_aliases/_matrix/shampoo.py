"""Shampoo: the gradient between inverse roots of its two covariances.

L ← b2·L + (1 − b2)·G·Gᵀ,   R ← b2·R + (1 − b2)·Gᵀ·G            (b2 = 1: sums, L + G·Gᵀ)
every precondition_frequency steps   P_L = (L + matrix_eps·λ·I)^(−1/4),   P_R likewise
m ← b1·m + (1 − b1)·G,   m̂ = m / (1 − b1ᵗ)
u = P_L·m̂·P_R                     (one-sided: P = (…)^(−1/2) on the shorter side alone)
u ← u·‖a‖ / ‖u‖,   a the step of a simpler method (graft):
    "adam" m̂ / (√v̂ + eps),  "rmsprop" m̂ / (√v + eps), "adagrad" the same with v the sum of G²,
    "sgd" m̂,  None leaves u alone;   v ← b2·v + (1 − b2)·G²

λ is the largest eigenvalue. A vector, and a matrix both of whose sides are longer than max_precond_dim,
takes the grafted step a (Adagrad's without a graft). The root's exponent is 1/(2k) for k sides.

Differences: the paper (2018) starts L at ε·I, keeps sums, and has no graft and no momentum (b1=0,
b2=1, graft=None); Anil et al.'s code decays (b2 < 1), grafts, and adds the ridge relative to λ at each
root. We follow the code in the ridge; the rest can follow either. Where a root does not converge, the
last one stays, as in the code.

References: Gupta, Koren, Singer, "Shampoo: Preconditioned Stochastic Tensor Optimization", 2018,
algorithm 1; Anil, Gupta, Koren, Regan, Singer, "Scalable Second Order Optimization for Deep Learning",
2020 (interval, roots); Agarwal, Anil, Hazan, Koren, Zhang, "Disentangling Adaptive Gradient Methods from
Learning Rates", 2020 (grafting).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from optx_aliases._matrix import sides
from optx_aliases._matrix.attention import attention_as_matrices
from optx_aliases._matrix.linear_algebra import ridged_root
from optx_aliases._matrix.matrices import side_lengths
from optx_aliases._matrix.norms import norm_over
from optx_aliases._matrix.owned import owned
from optx_aliases._matrix.owners import OwnerAxes
from optx_aliases._matrix.sides import covariances, map_sides, rotated, unused_slot
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

Graft = Literal["adam", "rmsprop", "adagrad", "sgd"] | None


def _second_moment(p: Array, *, graft: Graft, max_precond_dim: int, **_: Any) -> Array:
    """v; unused for gradient descent as the graft, and for matrices without a graft."""
    dtype = tree.slot_dtype(p, real=True)
    rooted = 0 < min(side_lengths(p.shape)) <= max_precond_dim
    if graft == "sgd" or (graft is None and rooted):
        return unused_slot(p, dtype)
    return jnp.zeros_like(p, dtype=dtype)


class ScaleByShampooState(NamedTuple):
    """State of `scale_by_shampoo`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      nu: v, likewise, real; (1,), unused, where the graft needs none.
      left: L of each leaf, (batch, rows, rows), or (1,), unused, where it has none.
      right: R, (batch, columns, columns), likewise.
      left_root: P_L, shaped as `left`.
      right_root: P_R, shaped as `right`.
    """

    count: build.Count
    mu: build.Moment
    nu: Annotated[PyTree, build.slot(nonnegative=True, init=_second_moment)]
    left: sides.OfRows
    right: sides.OfColumns
    left_root: sides.IdentityOfRows
    right_root: sides.IdentityOfColumns


@attention_as_matrices
@owned
@build.rule(ScaleByShampooState, around=stacked)
def scale_by_shampoo(
    g: Array,
    s: ScaleByShampooState,
    /,
    b1: build.Rate = 0.9,
    b2: build.ClosedRate = 0.99,
    eps: build.Nonnegative = 1e-8,
    matrix_eps: build.Nonnegative = 1e-6,
    precondition_frequency: build.PositiveInt = 10,
    max_precond_dim: build.NonnegativeInt = 8192,
    graft: Graft = "adam",
    one_sided: bool = False,
    mu_dtype: build.DType = None,
    owner_axes: OwnerAxes = None,
) -> tuple[Array, ScaleByShampooState]:
    """Multiplies matrices by inverse roots of their covariances.

    An array of three axes is a stack of matrices, except for the kernels of Flax's attention, which are one
    matrix each; one of more axes is a convolution's kernel with its outputs last. On a mesh the roots of each
    matrix are computed by one device, its owner.

    Args:
      b1, b2, eps, matrix_eps, precondition_frequency, max_precond_dim, graft: as for `shampoo`.
      one_sided, mu_dtype, owner_axes: as for `shampoo`.

    Returns:
      A transformation with a `ScaleByShampooState`. Derivatives treat the roots as constants. A zero
      gradient from the first step on gives zero updates.

    Raises:
      ValueError: if a number is out of its range, or `graft` is unknown.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_shampoo
      >>> tx = scale_by_shampoo(b1=0.0, b2=1.0, graft=None)
      >>> g = jnp.array([[4.0, 0.0], [0.0, 2.0]])
      >>> jnp.round(tx.update(g, tx.init(g))[0], 3)
      Array([[1., 0.],
             [0., 1.]], dtype=float32)
    """
    g = build.squarable(g, g.size)
    t, k = s.count, (s.left.ndim > 1) + (s.right.ndim > 1)
    share = jnp.where(1 - b2 > 0, 1 - b2, 1)  # with b2 = 1, sums
    m = b1 * s.mu + (1 - b1) * g
    m_hat = simple = m / (1 - b1**t)
    v = s.nu
    if graft in ("adam", "rmsprop"):
        v = b2 * v + share * build.abs_squared(g)
        v_hat = v / jnp.where(1 - b2 > 0, 1 - b2**t, 1) if graft == "adam" else v
        simple = m_hat / (jnp.sqrt(v_hat) + eps)
    elif graft == "adagrad" or (graft is None and not k):
        v = v + build.abs_squared(g)
        simple = m_hat / (jnp.sqrt(v) + eps)
    if not k:
        return simple, s._replace(mu=m, nu=v)
    L, R = covariances(s.left, s.right, g, b2, share)
    constants, ridge = lax.stop_gradient(((L, R), matrix_eps))

    def roots(old: tuple[Array, Array]) -> tuple[Array, Array]:
        root = jax.vmap(lambda a, last: ridged_root(a, last, 2 * k, ridge))
        return map_sides(root, constants, lax.stop_gradient(old))

    due = (t == 1) | (t % precondition_frequency == 0)
    PL, PR = build.run_if(due, roots, (s.left_root, s.right_root))
    u = rotated(PL, m_hat, PR)
    if graft is not None:
        wanted, size = (norm_over(x, (1, 2)) for x in (simple, u))
        u = u * jnp.where(size > 0, wanted / jnp.where(size > 0, size, 1), 0)
    return u, s._replace(mu=m, nu=v, left=L, right=R, left_root=PL, right_root=PR)


@build.recorded
def shampoo(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.99,
    eps: ScalarOrSchedule = 1e-8,
    matrix_eps: ScalarOrSchedule = 1e-6,
    precondition_frequency: int = 10,
    max_precond_dim: int = 8192,
    graft: Graft = "adam",
    one_sided: bool = False,
    mu_dtype: build.DType = None,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
    owner_axes: OwnerAxes = None,
) -> build.Transformation:
    """Shampoo (Gupta, Koren and Singer, 2018), grafted, with decoupled weight decay.

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of L, R and v, in [0, 1], or a schedule; 1 sums them, as the paper does.
      eps: added to the graft's root, against division by zero.
      matrix_eps: added to the diagonal of L and R, relative to their largest eigenvalue; a scalar at
        least 0, or a schedule.
      precondition_frequency: the number of steps between two computations of the roots, a positive int.
      max_precond_dim: the longest side that has a root.
      graft: whose step decides the length: "adam", "rmsprop", "adagrad", "sgd", or None.
      one_sided: whether to use the shorter side alone, with half of the state and of the work.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      owner_axes: on a mesh, the name or names of the axes whose devices may own matrices; all by default.

    Returns:
      A transformation; `update` needs the parameters.

    Example:
      >>> from optx_aliases import shampoo
      >>> tx = shampoo(1e-3, one_sided=True)
    """
    roots = scale_by_shampoo(
        b1,
        b2,
        eps,
        matrix_eps,
        precondition_frequency,
        max_precond_dim,
        graft,
        one_sided,
        mu_dtype,
        owner_axes,
    )
    decay = add_decayed_weights(weight_decay, mask)
    return chain(roots, decay, scale_by_learning_rate(learning_rate))
