"""Log-probabilities of answers, from those of their tokens: log π(answer) = Σ_t log π(token_t).

The preference losses compare such sums (DPO, IPO, SLiC, KTO) or means (SimPO, ORPO).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_losses._inputs import Axis, matching


def answer_log_probs(
    token_log_probs: ArrayLike,
    *,
    reduction: str = "sum",
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The log-probability of each answer, the sum or mean over its tokens.

    The log-probabilities of tokens are the negative of `softmax_cross_entropy_with_integer_labels` or
    `linear_softmax_cross_entropy`, of each position's logits with the token that follows.

    Args:
      token_log_probs: shape [..., tokens].
      reduction: "sum" over the tokens, or "mean" for length-normalized answers.
      axis: the axis, or axes, of the tokens; None for all.
      where: boolean mask of the same shape, False for the prompt and the padding, whose values have no
        effect; None for all tokens.

    Returns:
      The log-probabilities, of the shape without `axis`, at least float32; 0 for an answer without
      tokens.

    Raises:
      TypeError: if an argument is not an array of real numbers, or the mask not boolean.
      ValueError: if the shapes differ, the axis is out of range, or the reduction unknown.

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
    total = jnp.sum(log_p, axis=axes)
    if reduction == "sum":
        return total
    included = jnp.ones(log_p.shape, bool) if mask is None else mask
    return total / jnp.maximum(jnp.sum(included, axis=axes), 1).astype(total.dtype)
