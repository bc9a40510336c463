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
root. We follow the code in the ridge and can follow either in the rest; where a root does not
converge, the last one stays, as in the code.

References: Gupta, Koren, Singer, "Shampoo: Preconditioned Stochastic Tensor Optimization", 2018,
algorithm 1; Anil, Gupta, Koren, Regan, Singer, "Scalable Second Order Optimization for Deep Learning",
2020 (interval, roots); Agarwal et al., "Disentangling Adaptive Gradient Methods from Learning Rates",
2020 (grafting).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optx_aliases._matrix.explicit_mesh import on_whole_arrays
from optx_aliases._matrix.grafting import check_graft, of_length, simple_step
from optx_aliases._matrix.matrices import default_axes, from_stack, is_stack, matrix_shape, to_stack
from optx_aliases._matrix.matrix_slots import is_used, side_slot, slots_from, unused_slot
from optx_aliases._matrix.ridged_root import ridged_root
from optx_aliases._matrix.soap import adjoint, check_interval, rotate
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

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    mu: PyTree
    nu: PyTree
    left: PyTree
    right: PyTree
    left_root: PyTree
    right_root: PyTree


@on_whole_arrays
def _leaf(
    g: jax.Array,
    mu: jax.Array,
    nu: jax.Array,
    left: jax.Array,
    right: jax.Array,
    left_root: jax.Array,
    right_root: jax.Array,
    *,
    b1: Decay,
    b2: Decay,
    new: Scalar,
    eps: Scalar,
    matrix_eps: Scalar,
    count: jax.Array,
    precondition_frequency: int,
    graft: str | None,
) -> tuple[jax.Array, ...]:
    if not g.size:
        return g, mu, nu, left, right, left_root, right_root
    mu = b1.value * mu + b1.complement * g
    m = mu / bias_correction(b1, count)
    sides = is_used(left) + is_used(right)
    simple, nu = simple_step(graft, g, m, nu, b2, new, eps, count, rooted=sides > 0)
    if not sides:
        return simple, mu, nu, left, right, left_root, right_root
    axes = default_axes(g.ndim)
    G = to_stack(g, axes)
    if is_used(left):
        left = b2.value * left + new * (G @ adjoint(G))
    if is_used(right):
        right = b2.value * right + new * (adjoint(G) @ G)
    p = 2 * sides
    ridge = jnp.asarray(matrix_eps)

    def roots(old: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return tuple(
            jax.vmap(lambda s, q: ridged_root(s, q, p, lax.stop_gradient(ridge)))(s, q)
            if is_used(s)
            else q
            for s, q in zip(*lax.stop_gradient(((left, right), old)), strict=True)
        )

    due = (count == 1) | (count % precondition_frequency == 0)
    made = run_if(due, roots, (left_root, right_root))
    u = from_stack(rotate(to_stack(m, axes), *made), g.shape, axes)
    if graft is not None:
        u = of_length(u, simple)
    return u, mu, nu, left, right, *made


@recorded
@schedulable("b1", "b2", "eps", "matrix_eps")
def scale_by_shampoo(
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.99,
    eps: ScalarOrSchedule = 1e-8,
    matrix_eps: ScalarOrSchedule = 1e-6,
    precondition_frequency: int = 10,
    max_precond_dim: int = 8192,
    graft: str | None = "adam",
    one_sided: bool = False,
    mu_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Multiplies matrices by inverse roots of their covariances.

    Three axes are a stack of matrices, more a convolution's kernel with its outputs last. On a mesh
    with Explicit axes every device works on whole matrices.

    Args:
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of L, R and v, in [0, 1], or a schedule; 1 sums them, as the paper does.
      eps: added to the graft's root, against division by zero.
      matrix_eps: added to the diagonal of L and R, relative to their largest eigenvalue.
      precondition_frequency: after how many steps the roots are taken anew, a positive int.
      max_precond_dim: the longest side that has a root.
      graft: whose step decides the length: "adam", "rmsprop", "adagrad", "sgd", or None.
      one_sided: whether to use the shorter side alone, with half the state and the work.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.

    Returns:
      A transformation with a `ScaleByShampooState`. The roots count as constants in derivatives. A zero
      gradient from the first step on gives zero updates.

    Raises:
      ValueError: if a number is out of its range, or `graft` unknown.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_shampoo
      >>> tx = scale_by_shampoo(b1=0.0, b2=1.0, graft=None)
      >>> g = jnp.array([[4.0, 0.0], [0.0, 2.0]])
      >>> jnp.round(tx.update(g, tx.init(g))[0], 3)
      Array([[1., 0.],
             [0., 1.]], dtype=float32)
    """
    check_number("scale_by_shampoo", low=0, below=1, b1=b1)
    check_number("scale_by_shampoo", low=0, high=1, b2=b2)
    check_number("scale_by_shampoo", low=0, eps=eps, matrix_eps=matrix_eps)
    check_interval("scale_by_shampoo", precondition_frequency, max_precond_dim)
    check_graft("scale_by_shampoo", graft)

    def init(params: Params) -> ScaleByShampooState:
        def sides(side: int, identity: bool) -> PyTree:
            def slot(p: jax.Array) -> jax.Array:
                rows, columns = (
                    matrix_shape(p.shape, default_axes(p.ndim)) if p.ndim > 1 else (0, 0)
                )
                shorter = int(columns < rows)
                longest = 0 if one_sided and side != shorter else max_precond_dim
                return side_slot(p, side, identity=identity, largest=longest)

            return slots_from(slot, params)

        # Matrices without a graft, and gradient descent as the graft, need no second moment.
        def second(p: jax.Array) -> jax.Array:
            rooted = (
                is_stack(p.shape)
                and min(matrix_shape(p.shape, default_axes(p.ndim))) <= max_precond_dim
            )
            if graft == "sgd" or (graft is None and rooted):
                return unused_slot(p, tree.slot_dtype(p, real=True))
            return jnp.zeros_like(p, dtype=tree.slot_dtype(p, real=True))

        return ScaleByShampooState(
            zero_count(),
            tree.slots_like(params, mu_dtype),
            slots_from(second, params),
            *(sides(side, identity) for identity in (False, True) for side in (0, 1)),
        )

    def step(flow: Flow, state: ScaleByShampooState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        count = safe_increment(state.count)
        decay = decay_of(b2)
        summed = decay.complement == 0
        new = jnp.where(summed, 1, decay.complement) if isinstance(summed, jax.Array) else None
        return LeafStep(
            _leaf,
            slots=(state.mu,),
            reduced=tuple(state[2:]),
            close=lambda *slots: ScaleByShampooState(count, *slots),
            operands={
                "b1": decay_of(b1),
                "b2": decay,
                "new": (1.0 if summed else decay.complement) if new is None else new,
                "eps": eps,
                "matrix_eps": matrix_eps,
                "count": count,
                "precondition_frequency": precondition_frequency,
                "graft": graft,
            },
        )

    return leafwise(step, init)


@recorded
def shampoo(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.99,
    eps: ScalarOrSchedule = 1e-8,
    matrix_eps: ScalarOrSchedule = 1e-6,
    precondition_frequency: int = 10,
    max_precond_dim: int = 8192,
    graft: str | None = "adam",
    one_sided: bool = False,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> GradientTransformationExtraArgs:
    """Shampoo (Gupta, Koren and Singer, 2018), grafted, with decoupled weight decay.

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of L, R and v, in [0, 1], or a schedule; 1 sums them, as the paper does.
      eps: added to the graft's root, against division by zero.
      matrix_eps: added to the diagonal of L and R, relative to their largest eigenvalue.
      precondition_frequency: after how many steps the roots are taken anew, a positive int.
      max_precond_dim: the longest side that has a root.
      graft: whose step decides the length: "adam", "rmsprop", "adagrad", "sgd", or None.
      one_sided: whether to use the shorter side alone.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation; `update` needs the parameters.

    Example:
      >>> from optx_aliases import shampoo
      >>> tx = shampoo(1e-3, one_sided=True)
    """
    return chain(
        scale_by_shampoo(
            b1,
            b2,
            eps,
            matrix_eps,
            precondition_frequency,
            max_precond_dim,
            graft,
            one_sided,
            mu_dtype,
        ),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
