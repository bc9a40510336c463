"""CAME: Adafactor with a confidence: steps shrink where they disagree with their mean.

For a matrix, with rows and columns the last two axes of an array, R and C means over a row and a column,
and ⟨R, C⟩ = R·C / mean(R) the matrix that they represent:

R ← b2·R + (1 − b2)·mean_row(g² + eps),   C ← b2·C + (1 − b2)·mean_column(g² + eps)
û = g / √⟨R, C⟩,   û ← û / max(1, rms(û) / clip_threshold)
m ← b1·m + (1 − b1)·û
U = (û − m)² + eps_confidence
Rᵤ ← b3·Rᵤ + (1 − b3)·mean_row(U),   Cᵤ ← b3·Cᵤ + (1 − b3)·mean_column(U)
u = m / √⟨Rᵤ, Cᵤ⟩

For vectors and numbers v ← b2·v + (1 − b2)·(g² + eps), û = g / √v and u = m.

Reference: Luo, Ren, Zheng, Jiang, Jiang, You, "CAME: Confidence-guided Adaptive Memory Efficient
Optimization", 2023, algorithm 2; vectors as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from optx_aliases._transforms.scalars import root
from optx_aliases._transforms.weight_decay import decayed
from optx_core import PyTree, ScalarOrSchedule, build, chain, scale_by_learning_rate


def _is_factored(x: Array) -> bool:
    return x.ndim > 1 and x.size > 0


def _unused(p: Array) -> Array:
    """The placeholder of a slot that a parameter does not need."""
    return jnp.zeros(1, p.dtype)


def _without(axis: int) -> Callable[..., Array]:
    def init(p: Array, **_: Any) -> Array:
        return jnp.zeros_like(jnp.sum(p, axis=axis)) if _is_factored(p) else _unused(p)

    return init


def _whole(p: Array, **_: Any) -> Array:
    return _unused(p) if _is_factored(p) else jnp.zeros_like(p)


class ScaleByCameState(NamedTuple):
    """State of `scale_by_came`.

    Attributes:
      mu: m, a tree of the parameters' structure and shapes.
      v_row: R of matrices, of the parameter's shape without its last axis; shape (1,) for vectors.
      v_col: C, without the second to last axis; likewise.
      u_row: Rᵤ, as `v_row`.
      u_col: Cᵤ, as `v_col`.
      v: v of vectors, of the parameter's shape; shape (1,) for matrices.
    """

    mu: build.Moment
    v_row: Annotated[PyTree, build.slot(nonnegative=True, init=_without(-1))]
    v_col: Annotated[PyTree, build.slot(nonnegative=True, init=_without(-2))]
    u_row: Annotated[PyTree, build.slot(nonnegative=True, init=_without(-1))]
    u_col: Annotated[PyTree, build.slot(nonnegative=True, init=_without(-2))]
    v: Annotated[PyTree, build.slot(nonnegative=True, init=_whole)]


def _means(square: Array, row: Array, col: Array, b: build.DecayRate) -> tuple[Array, Array]:
    row = b * row + (1 - b) * jnp.mean(square, axis=-1)
    col = b * col + (1 - b) * jnp.mean(square, axis=-2)
    return row, col


def _divided(x: Array, row: Array, col: Array) -> Array:
    """The quotient x / √⟨R, C⟩."""
    share = row / jnp.mean(row, axis=-1, keepdims=True)
    return x * (lax.rsqrt(share)[..., None] * lax.rsqrt(col)[..., None, :])


@build.rule(ScaleByCameState)
def scale_by_came(
    g: Array,
    s: ScaleByCameState,
    /,
    b1: build.Rate = 0.9,
    b2: build.Rate = 0.999,
    b3: build.Rate = 0.9999,
    eps: build.Positive = 1e-30,
    eps_confidence: build.Positive = 1e-16,
    clip_threshold: build.Positive = 1.0,
    mu_dtype: build.DType = None,
) -> tuple[Array, ScaleByCameState]:
    """Divides a mean of Adafactor's steps by their root mean square distance from it.

    Args:
      b1, b2, b3, eps, eps_confidence, clip_threshold, mu_dtype: as for `came`.

    Returns:
      A transformation with a `ScaleByCameState`: one array of the parameters' size, and four vectors of
      row and column means.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_aliases import scale_by_came
      >>> state = scale_by_came().init({"w": jnp.ones((3, 4))})
      >>> [x.shape for x in jax.tree.leaves(state)]
      [(3, 4), (3,), (4,), (3,), (4,), (1,)]
    """
    g = build.squarable(g, g.size)
    square = build.abs_squared(g) + eps
    if _is_factored(g):
        v_row, v_col = _means(square, s.v_row, s.v_col, b2)
        s = s._replace(v_row=v_row, v_col=v_col)
        step = _divided(g, v_row, v_col)
    elif g.size:
        s = s._replace(v=b2 * s.v + (1 - b2) * square)
        step = g * lax.rsqrt(s.v)
    else:
        step = g
    rms = root(jnp.sum(build.abs_squared(step)) / max(g.size, 1))
    step = step / jnp.maximum(rms / clip_threshold, 1)
    m = b1 * s.mu + (1 - b1) * step
    s = s._replace(mu=m)
    if not _is_factored(g):
        return m, s
    doubt = build.abs_squared(step - m) + eps_confidence
    u_row, u_col = _means(doubt, s.u_row, s.u_col, b3)
    return _divided(m, u_row, u_col), s._replace(u_row=u_row, u_col=u_col)


@build.recorded
def came(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    b3: ScalarOrSchedule = 0.9999,
    eps: ScalarOrSchedule = 1e-30,
    eps_confidence: ScalarOrSchedule = 1e-16,
    clip_threshold: ScalarOrSchedule = 1.0,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
    mu_dtype: build.DType = None,
) -> build.Transformation:
    """CAME (Luo et al., 2023): Adafactor's memory, and steps weighed by confidence.

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
