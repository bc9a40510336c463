"""Log-probabilities of answers, from those of their tokens.

log π(answer) = Σ_t log π(token_t)

where π is the model's probability of what follows the prompt. The preference losses compare such sums (DPO,
IPO, SLiC, KTO) or means (SimPO, ORPO).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_losses._inputs import Axis, as_count, as_integers, check_together, has_shape, matching
from optx_losses._layout import all_true, is_split
from optx_losses._sequences import by_rows


def answer_log_probs(
    token_log_probs: ArrayLike,
    *,
    reduction: str = "sum",
    axis: Axis = -1,
    segment_ids: ArrayLike | None = None,
    num_segments: int | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The log-probability of each answer, the sum or mean over its tokens.

    The log-probabilities of tokens are the negative of `softmax_cross_entropy_with_integer_labels` or
    `linear_softmax_cross_entropy`, of each position's logits with the token that follows.

    Args:
      token_log_probs: shape [..., tokens].
      reduction: "sum" over the tokens, or "mean" for length-normalized answers.
      axis: the axis, or axes, of the tokens; None for all.
      segment_ids: integers in [0, num_segments) of the same shape, the answer that each token belongs to,
        if several are packed along one axis; None for one answer.
      num_segments: the number of answers that are packed along the axis.
      where: boolean mask of the same shape, False for the prompt and the padding, whose values have no
        effect; None for all tokens.

    Returns:
      The log-probabilities, of the shape without `axis`, or shape [..., num_segments], at least float32;
      0 for an answer without tokens. A token of an out-of-range segment makes those of its row NaN.

    Raises:
      TypeError: if an argument is not an array of real numbers, or the mask not boolean.
      ValueError: if the shapes differ, the axis is out of range, the reduction unknown, one of
        `segment_ids` and `num_segments` missing, or `num_segments` not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import answer_log_probs, softmax_cross_entropy_with_integer_labels
      >>> logits, tokens = jnp.zeros((1, 4, 8)), jnp.array([[3, 1, 2, 0]])
      >>> is_answer = jnp.array([[False, True, True]])  # the first token that is predicted is a prompt
      >>> token_log_probs = -softmax_cross_entropy_with_integer_labels(logits[:, :-1], tokens[:, 1:])
      >>> answer_log_probs(token_log_probs, where=is_answer)
      Array([-4.158883], dtype=float32)
    """
    name = "answer_log_probs"
    if reduction not in ("sum", "mean"):
        raise ValueError(f"{name}: reduction must be 'sum' or 'mean', not {reduction!r}")
    (log_p,), mask, axes = matching(name, where, axis, token_log_probs=token_log_probs)
    included = all_true(log_p) if mask is None else mask
    sums: Callable[[jax.Array], jax.Array] = functools.partial(jnp.sum, axis=axes)
    if segment_ids is not None or num_segments is not None:
        sums = _sums(name, log_p, included, axes, segment_ids, num_segments)
    total = sums(log_p)
    if reduction == "sum":
        return total
    return total / jnp.maximum(sums(included.astype(total.dtype)), 1)


def _sums(
    name: str,
    log_p: jax.Array,
    included: jax.Array,
    axes: tuple[int, ...],
    segment_ids: Any,
    num_segments: Any,
) -> Callable[[jax.Array], jax.Array]:
    """A function that sums over the tokens of each segment of a row."""
    check_together(name, segment_ids=segment_ids, num_segments=num_segments)
    num_segments = as_count(name, "answers", num_segments=num_segments)
    if len(axes) != 1:
        raise ValueError(f"{name}: segment_ids need a single axis, not {axes}")
    ids = as_integers(name, "segment_ids", segment_ids)
    has_shape(name, "segment_ids", ids, log_p.shape, "one for each token")
    in_range = (ids >= 0) & (ids < num_segments)
    ids = jnp.where(in_range, ids, 0)

    ids = jnp.moveaxis(ids, axes[0], -1)
    invalid = jnp.any(jnp.moveaxis(included & ~in_range, axes[0], -1), axis=-1, keepdims=True)
    factor = jnp.where(invalid, jnp.nan, 1)

    def of_row(x: jax.Array, ids: jax.Array) -> jax.Array:
        return jnp.zeros(num_segments, x.dtype).at[ids].add(x)

    def sums(x: jax.Array) -> jax.Array:
        x = jnp.moveaxis(x, axes[0], -1)
        if is_split(x) or is_split(ids):
            segments = jnp.arange(num_segments, dtype=ids.dtype).reshape(*(1,) * ids.ndim, -1)
            total = jnp.sum(jnp.where(ids[..., None] == segments, x[..., None], 0), axis=-2)
        else:
            total = by_rows(of_row, x, ids)
        return total * factor.astype(x.dtype)

    return sums
