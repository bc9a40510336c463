"""Adam-mini: Adam with one learning rate for each block of entries.

m ← b1·m + (1 − b1)·g
v ← b2·v + (1 − b2)·mean(g²)         one number for each block
u = m̂ / (√v̂ + eps)

A block shares a dense part of the Hessian: the weights of one output of a matrix (a column, in Flax's
layout), one row of an embedding, one head of queries and keys, and a vector as a whole.

The published code chooses blocks by the parameters' names (wq, wk, attn_proj, embed). Here names identify
embeddings and the kernels of Flax's attention, shapes determine all other blocks, and `blocks` overrides
both.

Reference: Zhang, Chen, Li, Ding, Wu, Kingma, Ye, Luo, Sun, "Adam-mini: Use Fewer Learning Rates To Gain
More", 2024, algorithms 1 and 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from optx_aliases._matrix.attention import attention_leaves, layer_of
from optx_aliases._matrix.matrices import Axes
from optx_core import (
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    add_decayed_weights,
    build,
    chain,
    safe_increment,
    scale_by_learning_rate,
    tree,
)

Blocks: TypeAlias = Callable[[str, tuple[int, ...]], tuple[int, ...]]


class ScaleByAdamMiniState(NamedTuple):
    """State of `scale_by_adam_mini`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      nu: v, one real number for each block: the parameters' shapes with 1 for the axes that a block
        covers.
    """

    count: build.Count
    mu: build.Moment
    nu: Annotated[PyTree, build.slot(nonnegative=True)]


def _leaf(
    g: Array,
    m: Array,
    v: Array,
    *,
    b1: build.DecayRate,
    b2: build.DecayRate,
    eps: Scalar,
    count: Array,
) -> tuple[Array, Array, Array]:
    m = b1 * m + (1 - b1) * build.squarable(g)
    mean = build.finite_sum(_block_means(build.abs_squared(g), v.shape))
    v = b2 * v + (1 - b2) * mean
    return m / (1 - b1**count) / (jnp.sqrt(v / (1 - b2**count)) + eps), m, v


def _block_means(square: Array, shape: tuple[int, ...]) -> Array:
    """The mean over each block, 0 for an empty one; `shape` has 1 for the axes that a block covers."""
    axes = tuple(k for k, n in enumerate(square.shape) if n != shape[k])
    size = math.prod(square.shape[k] for k in axes)
    return jnp.sum(square, axis=axes, keepdims=True) / max(size, 1) if axes else square


def default_blocks(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that one block covers.

    Args:
      path: the leaf's path, as Python writes it: "['dense']['kernel']".
      shape: its shape.

    Returns:
      All axes but the first for an embedding (its path has "embed" in it), all but the last for other
      leaves of two axes and more, the only axis of a vector.
    """
    if len(shape) < 2:
        return tuple(range(len(shape)))
    if "embed" in path.lower():
        return tuple(range(1, len(shape)))
    return tuple(range(len(shape) - 1))


@build.recorded
@build.schedulable("b1", "b2", "eps")
def scale_by_adam_mini(
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    mu_dtype: build.DType = None,
    blocks: Blocks | None = None,
) -> build.Transformation:
    """Divides the mean of the gradients by the root of their mean square over a block.

    Half of Adam's state: the second moment is one number for each output of a layer.

    Args:
      b1, b2, eps, mu_dtype, blocks: as for `adam_mini`.

    Returns:
      A transformation with a `ScaleByAdamMiniState`.

    Raises:
      ValueError: if a number is out of its range, or `blocks` names an axis that does not exist.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_adam_mini
      >>> tx = scale_by_adam_mini()
      >>> state = tx.init({"kernel": jnp.zeros((8, 4)), "bias": jnp.zeros(4)})
      >>> state.nu["kernel"].shape, state.nu["bias"].shape
      ((1, 4), (1,))
    """
    build.check_number("scale_by_adam_mini", low=0, below=1, b1=b1, b2=b2)
    build.check_number("scale_by_adam_mini", low=0, eps=eps)

    def init(params: Params) -> ScaleByAdamMiniState:
        pairs: list[Any]
        structure: Any
        pairs, structure = jax.tree_util.tree_flatten_with_path(
            tree.slots_like(params, real=True), is_leaf=tree.is_placeholder
        )
        attention = attention_leaves(params) if blocks is None else {}
        v = [
            x if tree.is_placeholder(x) else _reduced(path, x, blocks, attention.get(place))
            for place, (path, x) in enumerate(pairs)
        ]
        return ScaleByAdamMiniState(
            build.zero_count(), tree.slots_like(params, mu_dtype), structure.unflatten(v)
        )

    def step(
        _flow: build.Flow, state: ScaleByAdamMiniState, *_: Any, **_extra: Any
    ) -> build.LeafStep:
        count = safe_increment(state.count)
        return build.LeafStep(
            _leaf,
            slots=(state.mu,),
            reduced=(state.nu,),
            close=lambda m, v: ScaleByAdamMiniState(count, m, v),
            operands={
                "b1": build.rate_of(b1),
                "b2": build.rate_of(b2),
                "eps": eps,
                "count": count,
            },
        )

    return build.leafwise(step, init)


def _reduced(path: tuple[Any, ...], x: Array, blocks: Blocks | None, matrix: Axes | None) -> Array:
    """Sums over blocks: the given ones, else those of an attention, else the default."""
    name = jax.tree_util.keystr(path)
    if matrix is None:
        axes = tuple((default_blocks if blocks is None else blocks)(name, x.shape))
    elif (layer_of(path, "kernel") or layer_of(path, "bias"))[-1] in ("query", "key"):
        axes = tuple(axis for axis in range(x.ndim) if axis != x.ndim - 2)  # a head
    else:
        axes = matrix.rows  # an output, or a vector
    if not all(isinstance(axis, int) and -x.ndim <= axis < x.ndim for axis in axes):
        raise ValueError(
            f"scale_by_adam_mini: blocks returned {axes} for {name} of shape {x.shape}; return its axes "
            "that one block covers"
        )
    return x.sum(axis=axes, keepdims=True) if axes else x


@build.recorded
def adam_mini(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    mu_dtype: build.DType = None,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
    blocks: Blocks | None = None,
) -> build.Transformation:
    """Adam-mini (Zhang et al., 2024), with decoupled weight decay.

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      blocks: `blocks(path, shape)` returns the axes that one block covers. By default all but the last
        axis (an output), all but the first for embeddings, a vector as a whole; in the attention of Flax
        a head of the kernels and biases of queries and keys, and an output, or a vector, for the others.

    Returns:
      A transformation; `update` needs the parameters.

    Example:
      >>> from optx_aliases import adam_mini
      >>> tx = adam_mini(1e-3, weight_decay=0.1)
    """
    return chain(
        scale_by_adam_mini(b1, b2, eps, mu_dtype, blocks),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
