"""PSGD-Kron: a Kronecker-factored preconditioner, fitted to whiten the gradient.

m ← b1·m + (1 − b1)·G,   m̂ = m / (1 − b1ᵗ)
every precondition_frequency steps, with V of standard normal entries:
    A = Q_L·m̂·Q_Rᵀ,   B = Q_L⁻ᵀ·V·Q_R⁻¹
    Q_L ← Q_L − μ·triu(A·Aᵀ − B·Bᵀ)·Q_L / (‖A·Aᵀ + B·Bᵀ‖),      μ = precond_lr
    Q_R ← Q_R − μ·triu(Aᵀ·A − Bᵀ·B)·Q_R / (‖Aᵀ·A + Bᵀ·B‖)
u = Q_LᵀQ_L·m̂·Q_RᵀQ_R,   u ← u·min(1, clip / rms(u))

Q_L and Q_R are upper triangular; a vector, and a side longer than max_precond_dim, has a diagonal Q,
where triu is the diagonal. At the minimum the preconditioned gradient is white, as Adam's would be if
entries were independent. ‖·‖ is the largest eigenvalue, bounded from below as in the code.

Where paper and code differ we follow the code (kron): the fit sees the momentum, not the gradient; the
first Q is precond_init_scale^(1/k)·I for k sides; updates are clipped at the root mean square 1.1. Its
random schedule of fits is a fixed interval here, and it balances the sizes of Q_L and Q_R at random
steps where we do at each fit.

References: Li, "Preconditioned Stochastic Gradient Descent", 2018; Li, "Stochastic Hessian Fittings with
Lie Groups", 2024, table I; Pooladzandi, Li, "Curvature-Informed SGD via General Purpose Lie-Group
Preconditioners", 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optx_aliases._matrix.explicit_mesh import on_whole_arrays
from optx_aliases._matrix.matrices import default_axes, from_stack, is_stack, to_stack
from optx_aliases._matrix.matrix_slots import is_used, side_slot, slots_from, stack_of, unused_slot
from optx_aliases._matrix.soap import check_interval
from optx_aliases._matrix.triangular_fit import fitted, fitted_side, times_square
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    add_decayed_weights,
    chain,
    safe_increment,
    scale_by_learning_rate,
    tree,
)
from optx_core.build import (
    Decay,
    Flow,
    LeafStep,
    bias_correction,
    check_number,
    decay_of,
    leafwise,
    recorded,
    run_if,
    schedulable,
    zero_count,
)


class ScaleByKronState(NamedTuple):
    """State of `scale_by_kron`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      key: the key of `jax.random` that V is drawn from.
      mu: m, a tree of the parameters' structure and shapes.
      left: Q_L of each leaf, (batch, rows, rows), or its diagonal, (batch, rows).
      right: Q_R, (batch, columns, columns), or its diagonal, (batch, columns); (1,) for vectors, unused.
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    key: jax.Array
    mu: PyTree
    left: PyTree
    right: PyTree


@on_whole_arrays
def _leaf(
    g: jax.Array,
    mu: jax.Array,
    left: jax.Array,
    right: jax.Array,
    index: jax.Array,
    *,
    b1: Decay,
    precond_lr: Scalar,
    clip: Scalar,
    count: jax.Array,
    key: jax.Array,
    precondition_frequency: int,
) -> tuple[jax.Array, ...]:
    if jnp.iscomplexobj(g):
        raise TypeError(
            "scale_by_kron: complex parameters have no triangular fit here: see "
            "split_real_and_imaginary"
        )
    mu = b1.value * mu + b1.complement * g
    if not g.size:
        return g, mu, left, right
    matrix = is_used(right)
    axes = default_axes(g.ndim)
    m = mu / bias_correction(b1, count)
    m = to_stack(m, axes) if matrix else m.reshape(1, -1, 1)
    seen = lax.stop_gradient(m)
    rate = jnp.asarray(precond_lr)

    def fit(factors: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        ql, qr = lax.stop_gradient(factors)
        drawn = jax.random.fold_in(jax.random.fold_in(key, count), index)
        V = jax.random.normal(drawn, m.shape, m.dtype)
        x, mu_rate = lax.stop_gradient(seen), lax.stop_gradient(rate)
        return fitted(ql, qr, x, V, mu_rate) if matrix else (fitted_side(ql, x, V, mu_rate), qr)

    # A zero gradient tells nothing; fitted to it, Q would only grow.
    due = ((count - 1) % precondition_frequency == 0) & jnp.any(seen != 0)
    left, right = run_if(due, fit, (left, right))
    u = times_square(left, m)
    if matrix:
        u = jnp.swapaxes(times_square(right, jnp.swapaxes(u, 1, 2)), 1, 2)
    mean = jnp.mean(u * u)
    rms = jnp.where(mean > 0, jnp.sqrt(jnp.where(mean > 0, mean, 1)), 0)
    u = u * jnp.where(rms > clip, clip / jnp.where(rms > 0, rms, 1), 1)
    return from_stack(u, g.shape, axes) if matrix else u.reshape(g.shape), mu, left, right


@recorded
@schedulable("b1", "precond_lr", "clip")
def scale_by_kron(
    b1: ScalarOrSchedule = 0.9,
    precond_lr: ScalarOrSchedule = 0.1,
    precond_init_scale: Scalar = 1.0,
    precondition_frequency: int = 1,
    max_precond_dim: int = 8192,
    clip: ScalarOrSchedule = 1.1,
    mu_dtype: Any = None,
    key: Any = 0,
) -> GradientTransformationExtraArgs:
    """Whitens the momentum with a Kronecker-factored preconditioner that is fitted on the way.

    Three axes are a stack of matrices, more a convolution's kernel with its outputs last. On a mesh
    with Explicit axes every device works on whole matrices. For real parameters.

    Args:
      b1: decay of the mean, in [0, 1), or a schedule.
      precond_lr: μ, the step of the fit, or a schedule.
      precond_init_scale: the first Q_LᵀQ_L ⊗ Q_RᵀQ_R is the square of this.
      precondition_frequency: after how many steps the preconditioner is fitted, a positive int.
      max_precond_dim: the longest side with a triangular factor; longer ones have a diagonal.
      clip: the largest root mean square of a leaf's update; inf for none; or a schedule.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      key: an int, or a key of `jax.random`.

    Returns:
      A transformation with a `ScaleByKronState`. The factors count as constants in derivatives.

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
    check_number("scale_by_kron", low=0, below=1, b1=b1)
    check_number("scale_by_kron", above=0, precond_init_scale=precond_init_scale, clip=clip)
    check_number("scale_by_kron", low=0, precond_lr=precond_lr)
    check_interval("scale_by_kron", precondition_frequency, max_precond_dim)

    def factor(p: jax.Array, side: int) -> jax.Array:
        dtype = tree.slot_dtype(p, real=True)
        matrix = is_stack(p.shape)
        if side == 1 and not matrix:
            return unused_slot(p, dtype)
        start = jnp.asarray(precond_init_scale, dtype) ** (0.5 if matrix else 1.0)
        if not matrix:
            return jnp.ones((1, p.size), dtype) * start
        square = side_slot(p.real, side, identity=True, largest=max_precond_dim)
        if is_used(square):
            return square * start
        stack = stack_of(jnp.ones_like(p, dtype=dtype))
        return jnp.max(stack, axis=2 - side) * start

    def init(params: Params) -> ScaleByKronState:
        start = jax.random.key(key) if isinstance(key, int) else jnp.copy(key)
        return ScaleByKronState(
            zero_count(),
            start,
            tree.slots_like(params, mu_dtype),
            slots_from(lambda p: factor(p, 0), params),
            slots_from(lambda p: factor(p, 1), params),
        )

    def step(flow: Flow, state: ScaleByKronState, params: Params = None, **_: Any) -> LeafStep:
        del params
        count = safe_increment(state.count)
        leaves, structure = tree.flatten(flow.skeleton)
        numbers = [jnp.asarray(k, jnp.int32) for k in range(len(leaves))]
        return LeafStep(
            _leaf,
            slots=(state.mu,),
            reduced=(state.left, state.right),
            reads=(structure.unflatten(numbers),),
            close=lambda *slots: ScaleByKronState(count, state.key, *slots),
            operands={
                "b1": decay_of(b1),
                "precond_lr": precond_lr,
                "clip": clip,
                "count": count,
                "key": state.key,
                "precondition_frequency": precondition_frequency,
            },
        )

    return leafwise(step, init)


@recorded
def kron(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    precond_lr: ScalarOrSchedule = 0.1,
    precond_init_scale: Scalar = 1.0,
    precondition_frequency: int = 1,
    max_precond_dim: int = 8192,
    clip: ScalarOrSchedule = 1.1,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
    key: Any = 0,
) -> GradientTransformationExtraArgs:
    """PSGD with a Kronecker-factored preconditioner (Li, 2018), with decoupled weight decay.

    Args:
      learning_rate: a scalar, or a schedule; about a third of Adam's.
      b1: decay of the mean, in [0, 1), or a schedule.
      precond_lr: the step of the fit, or a schedule.
      precond_init_scale: the size of the first preconditioner's factor.
      precondition_frequency: after how many steps the preconditioner is fitted, a positive int.
      max_precond_dim: the longest side with a triangular factor.
      clip: the largest root mean square of a leaf's update; or a schedule.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      key: an int, or a key of `jax.random`.

    Returns:
      A transformation; `update` needs the parameters.

    Example:
      >>> from optx_aliases import kron
      >>> tx = kron(3e-4, precondition_frequency=4)
    """
    return chain(
        scale_by_kron(
            b1,
            precond_lr,
            precond_init_scale,
            precondition_frequency,
            max_precond_dim,
            clip,
            mu_dtype,
            key,
        ),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
