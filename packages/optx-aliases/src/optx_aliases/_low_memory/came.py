"""CAME: Adafactor with a confidence: what its mean disagrees with is stepped along less.

For a matrix, with rows and columns the last two axes of an array, R and C means over a row and a column,
and ⟨R, C⟩ = R·C / mean(R) the matrix they stand for:

R ← b2·R + (1 − b2)·mean_row(g² + eps),   C ← b2·C + (1 − b2)·mean_column(g² + eps)
û = g / √⟨R, C⟩,   û ← û / max(1, rms(û) / clip_threshold)
m ← b1·m + (1 − b1)·û
U = (û − m)² + eps_confidence
Rᵤ ← b3·Rᵤ + (1 − b3)·mean_row(U),   Cᵤ ← b3·Cᵤ + (1 − b3)·mean_column(U)
u = m / √⟨Rᵤ, Cᵤ⟩

For vectors and numbers v ← b2·v + (1 − b2)·(g² + eps), û = g / √v and u = m.

Reference: Luo, Ren, Zheng, Jiang, Jiang, You, "CAME: Confidence-guided Adaptive Memory Efficient
Optimization", 2023, algorithm 2; what becomes of vectors is the authors' code's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optx_aliases._transforms.weight_decay import decayed
from optx_aliases._transforms.whole_tree import root
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    chain,
    scale_by_learning_rate,
    tree,
)
from optx_core.build import (
    Decay,
    Flow,
    LeafStep,
    check_number,
    decay_of,
    leafwise,
    recorded,
    schedulable,
)


class ScaleByCameState(NamedTuple):
    """State of `scale_by_came`.

    Attributes:
      mu: m, a tree of the parameters' structure and shapes.
      v_row: R of matrices, of the parameter's shape without its last axis; shape (1,) for vectors.
      v_col: C, without the last axis but one; likewise.
      u_row: Rᵤ, as `v_row`.
      u_col: Cᵤ, as `v_col`.
      v: v of vectors, of the parameter's shape; shape (1,) for matrices.
    """

    mu: PyTree
    v_row: PyTree
    v_col: PyTree
    u_row: PyTree
    u_col: PyTree
    v: PyTree


def _is_factored(x: jax.Array) -> bool:
    return x.ndim > 1 and x.size > 0


def _averaged(
    square: jax.Array, row: jax.Array, col: jax.Array, decay: Decay
) -> tuple[jax.Array, jax.Array]:
    row = decay.value * row + decay.complement * jnp.mean(square, axis=-1)
    col = decay.value * col + decay.complement * jnp.mean(square, axis=-2)
    return row, col


def _divided(x: jax.Array, row: jax.Array, col: jax.Array) -> jax.Array:
    """The quotient x / √⟨R, C⟩."""
    share = row / jnp.mean(row, axis=-1, keepdims=True)
    return x * (lax.rsqrt(share)[..., None] * lax.rsqrt(col)[..., None, :])


def _leaf(
    g: jax.Array,
    mu: jax.Array,
    v_row: jax.Array,
    v_col: jax.Array,
    u_row: jax.Array,
    u_col: jax.Array,
    v: jax.Array,
    *,
    b1: Decay,
    b2: Decay,
    b3: Decay,
    eps: Scalar,
    eps_confidence: Scalar,
    clip_threshold: Scalar,
) -> tuple[jax.Array, ...]:
    square = tree.abs_squared(g) + eps
    if _is_factored(g):
        v_row, v_col = _averaged(square, v_row, v_col, b2)
        step = _divided(g, v_row, v_col)
    elif g.size:
        v = b2.value * v + b2.complement * square
        step = g * lax.rsqrt(v)
    else:
        step = g
    size = root(jnp.sum(tree.abs_squared(step)) / max(g.size, 1))
    step = step / jnp.maximum(size / clip_threshold, 1)
    mu = b1.value * mu + b1.complement * step
    update = mu
    if _is_factored(g):
        doubt = tree.abs_squared(step - mu) + eps_confidence
        u_row, u_col = _averaged(doubt, u_row, u_col, b3)
        update = _divided(mu, u_row, u_col)
    return update, mu, v_row, v_col, u_row, u_col, v


@recorded
@schedulable("b1", "b2", "b3", "eps", "eps_confidence", "clip_threshold")
def scale_by_came(
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    b3: ScalarOrSchedule = 0.9999,
    eps: ScalarOrSchedule = 1e-30,
    eps_confidence: ScalarOrSchedule = 1e-16,
    clip_threshold: ScalarOrSchedule = 1.0,
    mu_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Divides a mean of Adafactor's steps by how much the steps disagree with it.

    Args:
      b1: decay of the mean of steps, in [0, 1), or a schedule.
      b2: decay of the mean squares of gradients, in [0, 1), or a schedule.
      b3: decay of the mean squares of disagreements, in [0, 1), or a schedule.
      eps: added to the squares of gradients, greater than 0.
      eps_confidence: added to the squares of disagreements, greater than 0.
      clip_threshold: the largest root mean square of one array's step, greater than 0, or a schedule.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.

    Returns:
      A transformation with a `ScaleByCameState`: one array of the parameters' size, and four rows.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_aliases import scale_by_came
      >>> state = scale_by_came().init({"w": jnp.ones((3, 4))})
      >>> [x.shape for x in jax.tree.leaves(state)]
      [(3, 4), (3,), (4,), (3,), (4,), (1,)]
    """
    check_number("scale_by_came", low=0, below=1, b1=b1, b2=b2, b3=b3)
    check_number("scale_by_came", above=0, eps=eps, eps_confidence=eps_confidence)
    check_number("scale_by_came", above=0, clip_threshold=clip_threshold)

    def init(params: Params) -> ScaleByCameState:
        slots = tree.slots_like(params, real=True)

        def without(axis: int) -> PyTree:
            return jax.tree.map(
                lambda x: jnp.zeros_like(jnp.sum(x, axis=axis)) if _is_factored(x) else _none(x),
                slots,
            )

        whole = jax.tree.map(lambda x: _none(x) if _is_factored(x) else jnp.zeros_like(x), slots)
        mu = tree.slots_like(params, mu_dtype)
        return ScaleByCameState(mu, without(-1), without(-2), without(-1), without(-2), whole)

    def step(flow: Flow, state: ScaleByCameState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        return LeafStep(
            _leaf,
            slots=(state.mu,),
            reduced=tuple(state[1:]),
            close=ScaleByCameState,
            operands={
                "b1": decay_of(b1),
                "b2": decay_of(b2),
                "b3": decay_of(b3),
                "eps": eps,
                "eps_confidence": eps_confidence,
                "clip_threshold": clip_threshold,
            },
        )

    return leafwise(step, init)


def _none(x: jax.Array) -> jax.Array:
    """What stands for a slot that is not kept."""
    return jnp.zeros(1, x.dtype)


@recorded
def came(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    b3: ScalarOrSchedule = 0.9999,
    eps: ScalarOrSchedule = 1e-30,
    eps_confidence: ScalarOrSchedule = 1e-16,
    clip_threshold: ScalarOrSchedule = 1.0,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
    mu_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """CAME (Luo et al., 2023): Adafactor's memory, and a step by confidence.

    Args:
      learning_rate: a scalar, or a schedule; the paper's are near 2e-4.
      b1: decay of the mean of steps, in [0, 1), or a schedule.
      b2: decay of the mean squares of gradients, in [0, 1), or a schedule.
      b3: decay of the mean squares of disagreements, in [0, 1), or a schedule.
      eps: added to the squares of gradients, greater than 0.
      eps_confidence: added to the squares of disagreements, greater than 0.
      clip_threshold: the largest root mean square of one array's step, greater than 0, or a schedule.
      weight_decay: decoupled weight decay, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.

    Returns:
      A transformation; with weight decay `update` needs the parameters.

    Example:
      >>> from optx_aliases import came
      >>> came(2e-4) == came(learning_rate=2e-4)
      True
    """
    return chain(
        scale_by_came(b1, b2, b3, eps, eps_confidence, clip_threshold, mu_dtype),
        decayed(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
