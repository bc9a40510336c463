"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner.

m ← b1·m + (1 − b1)·G
L ← b3·L + (1 − b3)·G·Gᵀ,   R ← b3·R + (1 − b3)·Gᵀ·G            (b3 = shampoo_beta)
G' = Q_Lᵀ·G·Q_R,   m' = Q_Lᵀ·m·Q_R,   v ← b2·v + (1 − b2)·G'²
u = Q_L·(m̂' / (√v̂ + eps))·Q_Rᵀ
every precondition_frequency steps   Q_L ← qr(L·Q_L),   Q_R ← qr(R·Q_R)

Q_L and Q_R start as the eigenvectors of the first L and R. A vector, and a matrix both of whose sides
are longer than max_precond_dim, has no basis: there it is Adam.

Paper and published code differ at the start and in an order. The code only makes the bases of the first
gradient and takes no step with it; we follow the code, as in its own eigenbasis a gradient is diagonal,
and Adam would blow the rounding off the diagonal up to full steps. The code also sorts the columns of Q
(and v with them) by their estimated eigenvalues before qr; there we follow the paper.

Reference: Vyas, Morwani, Zhao, Kwun, Shapira, Brandfonbrener, Janson, Kakade, "SOAP: Improving and
Stabilizing Shampoo using Adam", 2024, algorithms 3 and 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optx_aliases._matrix.explicit_mesh import on_whole_arrays
from optx_aliases._matrix.matrices import default_axes, from_stack, to_stack
from optx_aliases._matrix.matrix_slots import is_used, side_slot, slots_from
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

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    mu: PyTree
    nu: PyTree
    left: PyTree
    right: PyTree
    left_basis: PyTree
    right_basis: PyTree


def rotate(x: jax.Array, left: jax.Array, right: jax.Array) -> jax.Array:
    """left·x·right of stacks of matrices, a side without a matrix left out."""
    x = left @ x if is_used(left) else x
    return x @ right if is_used(right) else x


def adjoint(x: jax.Array) -> jax.Array:
    """The conjugate transpose of each matrix; an unused slot as it is."""
    return jnp.conj(jnp.swapaxes(x, -1, -2)) if is_used(x) else x


@on_whole_arrays
def _leaf(
    g: jax.Array,
    mu: jax.Array,
    nu: jax.Array,
    left: jax.Array,
    right: jax.Array,
    left_basis: jax.Array,
    right_basis: jax.Array,
    *,
    b1: Decay,
    b2: Decay,
    shampoo_beta: Decay,
    eps: Scalar,
    count: jax.Array,
    precondition_frequency: int,
) -> tuple[jax.Array, ...]:
    if not g.size:
        return g, mu, nu, left, right, left_basis, right_basis
    before, mu = mu, b1.value * mu + b1.complement * g
    if not is_used(left) and not is_used(right):
        nu = b2.value * nu + b2.complement * tree.abs_squared(g)
        u = mu / bias_correction(b1, count) / (jnp.sqrt(nu / bias_correction(b2, count)) + eps)
        return u, mu, nu, left, right, left_basis, right_basis
    # The first gradient makes the bases, and nothing else.
    first, t = count == 1, jnp.maximum(count - 1, 1)
    mu = jnp.where(first, before, mu)
    axes = default_axes(g.ndim)
    G, m, v = (to_stack(x, axes) for x in (g, mu, nu))
    if is_used(left):
        left = shampoo_beta.value * left + shampoo_beta.complement * (G @ adjoint(G))
    if is_used(right):
        right = shampoo_beta.value * right + shampoo_beta.complement * (adjoint(G) @ G)
    statistics = lax.stop_gradient((left, right))

    def eigenvectors(bases: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return tuple(
            jnp.linalg.eigh(s)[1][:, :, ::-1] if is_used(s) else q
            for s, q in zip(lax.stop_gradient(statistics), bases, strict=True)
        )

    def power_step(bases: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return tuple(
            jnp.linalg.qr(s @ q)[0] if is_used(s) else q
            for s, q in zip(*lax.stop_gradient((statistics, bases)), strict=True)
        )

    bases = run_if(first, eigenvectors, (left_basis, right_basis))
    q_left, q_right = bases
    square = tree.abs_squared(rotate(G, adjoint(q_left), q_right))
    v = jnp.where(first, v, b2.value * v + b2.complement * square)
    step = rotate(m, adjoint(q_left), q_right) / bias_correction(b1, t)
    step = step / (jnp.sqrt(v / bias_correction(b2, t)) + eps)
    u = rotate(step, q_left, adjoint(q_right))
    bases = run_if(count % precondition_frequency == 0, power_step, bases)
    back = [from_stack(x, g.shape, axes) for x in (u, v)]
    return back[0], mu, back[1], left, right, *bases


@recorded
@schedulable("b1", "b2", "shampoo_beta", "eps")
def scale_by_soap(
    b1: ScalarOrSchedule = 0.95,
    b2: ScalarOrSchedule = 0.95,
    eps: ScalarOrSchedule = 1e-8,
    shampoo_beta: ScalarOrSchedule | None = None,
    precondition_frequency: int = 10,
    max_precond_dim: int = 10000,
    mu_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Adam in the slowly turning eigenbasis of Shampoo's preconditioner.

    Three axes are a stack of matrices, more a convolution's kernel with its outputs last. On a mesh
    with Explicit axes every device works on whole matrices.

    Args:
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      shampoo_beta: decay of L and R, in [0, 1), or a schedule; b2 by default.
      precondition_frequency: after how many steps the bases are turned, a positive int.
      max_precond_dim: the longest side that has a basis; 0 makes it Adam.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.

    Returns:
      A transformation with a `ScaleBySoapState`. The first update of a leaf with a basis is zero. The
      bases count as constants in derivatives.

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
    check_number("scale_by_soap", low=0, below=1, b1=b1, b2=b2, shampoo_beta=shampoo_beta)
    check_number("scale_by_soap", low=0, eps=eps)
    check_interval("scale_by_soap", precondition_frequency, max_precond_dim)

    def init(params: Params) -> ScaleBySoapState:
        def sides(side: int, identity: bool) -> PyTree:
            return slots_from(
                lambda p: side_slot(p, side, identity=identity, largest=max_precond_dim), params
            )

        return ScaleBySoapState(
            zero_count(),
            tree.slots_like(params, mu_dtype),
            tree.slots_like(params, real=True),
            *(sides(side, identity) for identity in (False, True) for side in (0, 1)),
        )

    def step(flow: Flow, state: ScaleBySoapState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        count = safe_increment(state.count)
        return LeafStep(
            _leaf,
            slots=(state.mu, state.nu),
            reduced=tuple(state[3:]),
            close=lambda *slots: ScaleBySoapState(count, *slots),
            operands={
                "b1": decay_of(b1),
                "b2": decay_of(b2),
                "shampoo_beta": decay_of(b2 if shampoo_beta is None else shampoo_beta),
                "eps": eps,
                "count": count,
                "precondition_frequency": precondition_frequency,
            },
        )

    return leafwise(step, init)


@recorded
def soap(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.95,
    b2: ScalarOrSchedule = 0.95,
    eps: ScalarOrSchedule = 1e-8,
    shampoo_beta: ScalarOrSchedule | None = None,
    precondition_frequency: int = 10,
    max_precond_dim: int = 10000,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> GradientTransformationExtraArgs:
    """SOAP (Vyas et al., 2024), with decoupled weight decay.

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      shampoo_beta: decay of L and R; b2 by default.
      precondition_frequency: after how many steps the bases are turned, a positive int.
      max_precond_dim: the longest side that has a basis.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation; `update` needs the parameters.

    Example:
      >>> from optx_aliases import soap
      >>> tx = soap(3e-3, precondition_frequency=10, weight_decay=0.01)
    """
    return chain(
        scale_by_soap(b1, b2, eps, shampoo_beta, precondition_frequency, max_precond_dim, mu_dtype),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


def check_interval(where: str, precondition_frequency: Any, max_precond_dim: Any) -> None:
    """Refuses an interval below 1, and a longest side below 0."""
    if not isinstance(precondition_frequency, int) or precondition_frequency < 1:
        raise ValueError(
            f"{where}: precondition_frequency must be a positive int, not {precondition_frequency!r}"
        )
    if not isinstance(max_precond_dim, int) or max_precond_dim < 0:
        raise ValueError(
            f"{where}: max_precond_dim must be an int at least 0, not {max_precond_dim!r}"
        )
