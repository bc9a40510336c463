"""The labels of next-token prediction, within a sequence.

y_t = token_{t+1}

where y_t is the label of position t.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_losses._inputs import as_index, as_integers, as_mask, has_shape
from optx_losses._layout import laid_as, whole


def next_token_labels(
    tokens: ArrayLike,
    *,
    segment_ids: ArrayLike | None = None,
    ignore_index: int = -100,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The token that follows each token, or `ignore_index` where none follows in its sequence.

    The labels belong to the logits of all positions, so that neither has to be cut: pass them, with the
    same `ignore_index`, to a loss with integer labels.

    Args:
      tokens: integers, shape [..., tokens].
      segment_ids: integers of the same shape, if rows hold several packed sequences: the last token of
        a sequence does not predict the first one of the next. None for one sequence per row.
      ignore_index: the label of positions without a next token, not one of the tokens.
      where: boolean mask of the same shape, False for tokens that are not to be predicted (the prompt,
        padding). The token before one to be predicted may be False: the last one of a prompt predicts the
        answer. Padding on the left predicts nothing if it has a segment id of its own.

    Returns:
      The labels, integers of the shape of the tokens.

    Raises:
      TypeError: if the tokens, the segment ids or `ignore_index` are not integers, or the mask not
        boolean.
      ValueError: if the shapes differ, or `ignore_index` is out of range for the labels' dtype.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import next_token_labels
      >>> next_token_labels(jnp.array([5, 6, 7, 8]), segment_ids=jnp.array([0, 0, 1, 1]))
      Array([   6, -100,    8, -100], dtype=int32)
    """
    name = "next_token_labels"
    y = as_integers(name, "tokens", tokens)
    if not y.ndim:
        raise ValueError(f"{name}: tokens is a scalar; it must be [..., tokens]")
    index = as_index(name, ignore_index)
    if index is None:
        raise TypeError(f"{name}: ignore_index must be an integer, not None")
    limits = jnp.iinfo(y.dtype)
    if not limits.min <= index <= limits.max:
        raise ValueError(f"{name}: ignore_index={index} is out of range for labels of {y.dtype}")
    mask, tokens_axis, like = as_mask(name, where, y, "the tokens"), y.ndim - 1, y
    y = whole(y, tokens_axis)
    mask = None if mask is None else whole(mask, tokens_axis)
    fill = jnp.full_like(y[..., :1], index)
    following = y[..., 1:] if mask is None else jnp.where(mask[..., 1:], y[..., 1:], index)
    if segment_ids is not None:
        ids = as_integers(name, "segment_ids", segment_ids)
        has_shape(name, "segment_ids", ids, y.shape, "one for each token")
        ids = whole(ids, tokens_axis)
        following = jnp.where(ids[..., 1:] == ids[..., :-1], following, index)
    return laid_as(jnp.concatenate([following, fill], axis=-1), like)
