"""Adam-mini: Adam with one learning rate for each block of entries that move alike.

m ← b1·m + (1 − b1)·g
v ← b2·v + (1 − b2)·mean(g²)         one number for each block
u = m̂ / (√v̂ + eps)

A block is what shares a dense piece of the Hessian: the weights of one output of a matrix (a column,
in Flax's layout), one row of an embedding, and a vector as a whole. The paper also has one block for
each head of queries and keys: give their number of axes through `blocks`.

The published code tells blocks by parameters' names (wq, wk, attn_proj, embed); we tell embeddings by
name, all else by shape, and leave the rest to `blocks`.

Reference: Zhang, Chen, Li, Ding, Wu, Kingma, Ye, Luo, Sun, "Adam-mini: Use Fewer Learning Rates To Gain
More", 2024, algorithms 1 and 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._matrix.matrices import flatten_with_path
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
    schedulable,
    zero_count,
)

Blocks = Callable[[str, tuple[int, ...]], tuple[int, ...]]


class ScaleByAdamMiniState(NamedTuple):
    """State of `scale_by_adam_mini`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      nu: v, one real number for each block: the parameters' shapes with 1 for the axes that a block
        covers.
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    mu: PyTree
    nu: PyTree


def _leaf(
    g: jax.Array,
    mu: jax.Array,
    nu: jax.Array,
    *,
    b1: Decay,
    b2: Decay,
    eps: Scalar,
    count: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    mu = b1.value * mu + b1.complement * g
    axes = tuple(
        k for k, (n, blocks) in enumerate(zip(g.shape, nu.shape, strict=True)) if n != blocks
    )
    square = tree.abs_squared(g)
    mean = jnp.mean(square, axis=axes, keepdims=True) if axes else square
    nu = b2.value * nu + b2.complement * mean
    root = jnp.sqrt(nu / bias_correction(b2, count)) + eps
    return mu / bias_correction(b1, count) / root, mu, nu


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


@recorded
@schedulable("b1", "b2", "eps")
def scale_by_adam_mini(
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    mu_dtype: Any = None,
    blocks: Blocks | None = None,
) -> GradientTransformationExtraArgs:
    """Divides the mean of the gradients by a root of their mean square that a whole block shares.

    Half of Adam's state: the second moment is one number for each output of a layer.

    Args:
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      blocks: `blocks(path, shape)` returns the axes that one block covers, in place of the rule: all
        but the last axis (an output), all but the first for embeddings, a vector whole. For queries of
        shape (embed, heads, width) the paper's block, a head, is (0, 2).

    Returns:
      A transformation with a `ScaleByAdamMiniState`.

    Raises:
      ValueError: if a number is out of its range, or `blocks` names an axis that is not there.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_adam_mini
      >>> tx = scale_by_adam_mini()
      >>> state = tx.init({"kernel": jnp.zeros((8, 4)), "bias": jnp.zeros(4)})
      >>> state.nu["kernel"].shape, state.nu["bias"].shape
      ((1, 4), (1,))
    """
    check_number("scale_by_adam_mini", low=0, below=1, b1=b1, b2=b2)
    check_number("scale_by_adam_mini", low=0, eps=eps)
    rule = default_blocks if blocks is None else blocks

    def init(params: Params) -> ScaleByAdamMiniState:
        pairs, structure = flatten_with_path(tree.slots_like(params, real=True))
        nu = [x if tree.is_placeholder(x) else _reduced(path, x, rule) for path, x in pairs]
        return ScaleByAdamMiniState(
            zero_count(), tree.slots_like(params, mu_dtype), structure.unflatten(nu)
        )

    def step(flow: Flow, state: ScaleByAdamMiniState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        count = safe_increment(state.count)
        return LeafStep(
            _leaf,
            slots=(state.mu,),
            reduced=(state.nu,),
            close=lambda mu, nu: ScaleByAdamMiniState(count, mu, nu),
            operands={"b1": decay_of(b1), "b2": decay_of(b2), "eps": eps, "count": count},
        )

    return leafwise(step, init)


def _reduced(path: tuple[Any, ...], x: jax.Array, rule: Blocks) -> jax.Array:
    name = jax.tree_util.keystr(path)
    axes = tuple(rule(name, x.shape))
    if not all(isinstance(axis, int) and -x.ndim <= axis < x.ndim for axis in axes):
        raise ValueError(f"scale_by_adam_mini: blocks gave {axes} for {name} of shape {x.shape}")
    return x.sum(axis=axes, keepdims=True) if axes else x


@recorded
def adam_mini(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
    blocks: Blocks | None = None,
) -> GradientTransformationExtraArgs:
    """Adam-mini (Zhang et al., 2024), with decoupled weight decay.

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      blocks: which entries share a learning rate, as for `scale_by_adam_mini`.

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
