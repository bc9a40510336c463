"""PSGD-Kron: a Kronecker-factored preconditioner, fitted to whiten the gradient.

m ← b1·m + (1 − b1)·G,   m̂ = m / (1 − b1ᵗ)
every precondition_frequency steps, with V of standard normal entries, the same for all matrices of a stack:
    A = Q_L·m̂·Q_Rᵀ,   B = Q_L⁻ᵀ·V·Q_R⁻¹
    Q_L ← Q_L − μ·triu(A·Aᵀ − B·Bᵀ)·Q_L / (‖A·Aᵀ + B·Bᵀ‖),      μ = precond_lr
    Q_R ← Q_R − μ·triu(Aᵀ·A − Bᵀ·B)·Q_R / (‖Aᵀ·A + Bᵀ·B‖)
u = Q_LᵀQ_L·m̂·Q_RᵀQ_R,   u ← u·min(1, clip / rms(u))

Q_L and Q_R are upper triangular; a vector, and a side longer than max_precond_dim, has a diagonal Q,
where triu is the diagonal. At the minimum the preconditioned gradient is white, as Adam's would be if
entries were independent. ‖·‖ is the largest eigenvalue, bounded from below as in the code.

Where paper and code differ we follow the code (kron): the fit sees the momentum, not the gradient; the
first Q is precond_init_scale^(1/k)·I for k sides; updates are clipped at the root mean square 1.1. The
code fits on a random schedule, we at a fixed interval; it balances the sizes of Q_L and Q_R at random
steps, we at each fit.

References: Li, "Preconditioned Stochastic Gradient Descent", 2018; Li, "Stochastic Hessian Fittings with
Lie Groups", 2024, table I; Pooladzandi, Li, "Curvature-Informed SGD via General Purpose Lie-Group
Preconditioners", 2024.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from optx_aliases._matrix.attention import attention_as_matrices
from optx_aliases._matrix.explicit_mesh import whole
from optx_aliases._matrix.matrices import side_lengths
from optx_aliases._matrix.norms import root
from optx_aliases._matrix.owned import owned
from optx_aliases._matrix.owners import OwnerAxes, kept_by_owners
from optx_aliases._matrix.sides import (
    is_used,
    map_sides,
    side_matrices,
    stack_of,
    unused_slot,
)
from optx_aliases._matrix.stacked import stacked
from optx_aliases._matrix.triangular_fit import fitted, preconditioned
from optx_core import (
    PyTree,
    ScalarOrSchedule,
    add_decayed_weights,
    build,
    chain,
    scale_by_learning_rate,
    tree,
)


def _factor_slot(side: int) -> build.Slot:
    def init(
        p: Any, *, precond_init_scale: Any, max_precond_dim: int, owner_axes: OwnerAxes, **_: Any
    ) -> Array:
        dtype = tree.slot_dtype(p, real=True)
        scale = jnp.asarray(precond_init_scale, dtype)
        if not any(side_lengths(p.shape)):
            ones = jnp.ones_like(whole(p), dtype=dtype).reshape(1, -1)
            return unused_slot(p, dtype) if side else ones * scale
        square = side_matrices(p.real, side, max_precond_dim, identity=True)
        if not is_used(square):
            square = jnp.max(stack_of(jnp.ones_like(p, dtype=dtype)), axis=2 - side)
        return kept_by_owners(square * scale**0.5, p, owner_axes)

    return build.slot(init=init, exact=True)


class ScaleByKronState(NamedTuple):
    """State of `scale_by_kron`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      key: the key of `jax.random` that V is drawn from.
      mu: m, a tree of the parameters' structure and shapes.
      left: Q_L of each leaf, (batch, rows, rows), or its diagonal, (batch, rows).
      right: Q_R, (batch, columns, columns), or its diagonal, (batch, columns); (1,) for vectors, unused.
    """

    count: build.Count
    key: build.Key
    mu: build.Moment
    left: Annotated[PyTree, _factor_slot(0)]
    right: Annotated[PyTree, _factor_slot(1)]


@attention_as_matrices
@owned
@build.rule(ScaleByKronState, around=stacked)
def scale_by_kron(
    g: Array,
    s: ScaleByKronState,
    /,
    b1: build.Rate = 0.9,
    precond_lr: build.Nonnegative = 0.1,
    precond_init_scale: Annotated[Any, build.Number(above=0, schedule=False)] = 1.0,
    precondition_frequency: build.PositiveInt = 1,
    max_precond_dim: build.NonnegativeInt = 8192,
    clip: build.Limit = 1.1,
    mu_dtype: build.DType = None,
    key: build.Key = 0,
    owner_axes: OwnerAxes = None,
) -> tuple[Array, ScaleByKronState]:
    """Whitens the momentum with a Kronecker-factored preconditioner that is fitted on the way.

    An array of three axes is a stack of matrices, except for the kernels of Flax's attention, which are one
    matrix each; one of more axes is a convolution's kernel with its outputs last. On a mesh the factors of
    each matrix are fitted by one device, its owner. For real parameters.

    Args:
      b1, precond_lr, precond_init_scale, precondition_frequency, max_precond_dim, clip: as for `kron`.
      mu_dtype, key, owner_axes: as for `kron`.

    Returns:
      A transformation with a `ScaleByKronState`. Derivatives treat the factors as constants.

    Raises:
      ValueError: if a number is out of its range.
      TypeError: from `update`, if a leaf is complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_kron
      >>> state = scale_by_kron(max_precond_dim=8).init({"w": jnp.zeros((4, 16)), "b": jnp.zeros(4)})
      >>> state.left["w"].shape, state.right["w"].shape, state.left["b"].shape
      ((1, 4, 4), (1, 16), (1, 4))
    """
    if jnp.iscomplexobj(g):
        raise TypeError(
            "scale_by_kron: the triangular fit takes real parameters only: use "
            "split_real_and_imaginary for complex ones"
        )
    if not g.size:
        return g, s
    g = build.squarable(g, g.size)
    t = s.count
    m = b1 * s.mu + (1 - b1) * g
    m_hat = m / (1 - b1**t)
    x = m_hat if is_used(s.right) else m_hat.reshape(1, -1, 1)
    seen, rate = lax.stop_gradient((x, precond_lr))

    def fit(factors: tuple[Array, Array]) -> tuple[Array, Array]:
        V = jax.random.normal(s.key.at(t), (1, *x.shape[1:]), x.dtype)
        old = lax.stop_gradient(factors)
        new = fitted(*old, seen, jnp.broadcast_to(V, x.shape), rate)
        # A zero gradient tells nothing; fitted to it, Q would only grow.
        told = jnp.any(seen != 0, axis=(1, 2))
        return map_sides(
            lambda a, b: jnp.where(told.reshape(-1, *(1,) * (a.ndim - 1)), a, b), new, old
        )

    due = (t - 1) % precondition_frequency == 0
    QL, QR = build.run_if(due, fit, (s.left, s.right))
    u = preconditioned(QL, QR, x)
    u = build.squarable(u, u.size)
    rms = root(jnp.mean(u * u, axis=(1, 2), keepdims=True))
    u = u * jnp.where(rms > clip, clip / jnp.where(rms > 0, rms, 1), 1)
    return u.reshape(g.shape), s._replace(mu=m, left=QL, right=QR)


@build.recorded
def kron(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    precond_lr: ScalarOrSchedule = 0.1,
    precond_init_scale: Annotated[Any, build.Number(above=0, schedule=False)] = 1.0,
    precondition_frequency: int = 1,
    max_precond_dim: int = 8192,
    clip: ScalarOrSchedule = 1.1,
    mu_dtype: build.DType = None,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
    key: build.Key = 0,
    owner_axes: OwnerAxes = None,
) -> build.Transformation:
    """PSGD with a Kronecker-factored preconditioner (Li, 2018), with decoupled weight decay.

    Args:
      learning_rate: a scalar, or a schedule; about a third of Adam's.
      b1: decay of the mean, in [0, 1), or a schedule.
      precond_lr: μ, the step of the fit, a scalar at least 0, or a schedule.
      precond_init_scale: the first Q_LᵀQ_L ⊗ Q_RᵀQ_R is the square of this.
      precondition_frequency: the number of steps between two fits, a positive int.
      max_precond_dim: the longest side with a triangular factor; longer ones have a diagonal.
      clip: the largest root mean square of a matrix's or a vector's update, or a schedule; inf for no limit.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      key: an int, or a key of `jax.random`.
      owner_axes: on a mesh, the name or names of the axes whose devices may own matrices; all by default.

    Returns:
      A transformation; `update` needs the parameters.

    Example:
      >>> from optx_aliases import kron
      >>> tx = kron(3e-4, precondition_frequency=4)
    """
    whitened = scale_by_kron(
        b1,
        precond_lr,
        precond_init_scale,
        precondition_frequency,
        max_precond_dim,
        clip,
        mu_dtype,
        key,
        owner_axes,
    )
    decay = add_decayed_weights(weight_decay, mask)
    return chain(whitened, decay, scale_by_learning_rate(learning_rate))
