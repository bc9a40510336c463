"""Ranking losses on lists of items with scores s and relevances y.

softmax:      loss = −Σ_i y_i·log softmax(s)_i
ListMLE:      loss = Σ_i (log Σ_{j≥i} exp s_j − s_i)        (items in descending order of relevance)
RankNet:      loss = Σ_{y_i > y_j} log(1 + exp(−sigma·(s_i − s_j)))
LambdaRank:   loss = Σ_{y_i > y_j} |ΔNDCG_ij|·log(1 + exp(−sigma·(s_i − s_j)))
|ΔNDCG_ij| = |2^y_i − 2^y_j|·|1 / D_i − 1 / D_j| / maxDCG,   D_i = log2(1 + rank_i)

where i and j are items of one list, rank_i is the place of item i by its score, from 1, and maxDCG is the
discounted cumulative gain of the best order. ΔNDCG_ij is what swapping i and j would change.
`ranking_softmax_loss` is ListNet's, `pairwise_logistic_loss` RankNet's.

References: Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach", 2007 (ListNet); Xia
et al., "Listwise Approach to Learning to Rank", 2008, equation 6 (ListMLE); Burges et al., "Learning to
Rank using Gradient Descent", 2005 (RankNet); Burges, "From RankNet to LambdaRank to LambdaMART", 2010.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import Axis, check_number, class_last, keep, matching
from optx_losses._log_softmax import log_softmax, times_log


def ranking_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    reduce_fn: Callable[..., Any] | None = None,
) -> jax.Array:
    """Cross entropy of the softmax over the scores of a list with the relevances of its items.

    One value per list, as for all losses here; optax's function returns the mean of these values by
    default (`reduce_fn=jnp.mean`).

    Args:
      logits: s, scores, shape [..., items].
      labels: y, relevances, at least 0, of the same shape.
      axis: the axis of the items; several axes are flattened into one.
      where: boolean mask of the same shape (size 1 along `axis` selects lists); items that are False
        are excluded.
      weights: factors of the relevances, of the same shape.
      reduce_fn: a function of the losses of all lists, such as `jax.numpy.mean`; None for no reduction.

    Returns:
      The loss of each list, of the logits' shape without `axis`, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import ranking_softmax_loss
      >>> ranking_softmax_loss(jnp.zeros((1, 2)), jnp.array([[1.0, 0.0]]))
      Array([0.6931472], dtype=float32)
    """
    name = "ranking_softmax_loss"
    s, y, mask = _lists(name, logits, labels, axis, where)
    if weights is not None:
        w, _, _ = _lists(name, weights, labels, axis, where, "weights")
        y = y * keep(mask, w.astype(y.dtype))
    loss = 0 - jnp.sum(times_log(y, log_softmax(s, (s.ndim - 1,), mask)), axis=-1)
    return loss if reduce_fn is None else reduce_fn(loss)


def list_mle_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The negative log-likelihood of the order by relevance under the Plackett-Luce model.

    Args:
      logits: s, scores, shape [..., items].
      labels: y, relevances, of the same shape; items of equal relevance keep their order.
      axis: the axis of the items; several axes are flattened into one.
      where: boolean mask of the same shape (size 1 along `axis` selects lists); items that are False
        are excluded.

    Returns:
      The loss of each list, of the logits' shape without `axis`, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import list_mle_loss
      >>> list_mle_loss(jnp.zeros((1, 2)), jnp.array([[1.0, 0.0]]))
      Array([0.6931472], dtype=float32)
    """
    s, y, mask = _lists("list_mle_loss", logits, labels, axis, where)
    present = s != -jnp.inf
    if mask is not None:
        present = present & mask
    order = jnp.argsort(jnp.where(present, -y, jnp.inf), axis=-1, stable=True)
    s = jnp.take_along_axis(jnp.where(present, s, 0), order, axis=-1)
    present = jnp.take_along_axis(present, order, axis=-1)
    lowest = jnp.asarray(jnp.finfo(s.dtype).min / 4, s.dtype)  # stands for log 0, and is finite
    rest = lax.cumlogsumexp(jnp.where(present, s, lowest), axis=s.ndim - 1, reverse=True)
    return jnp.sum(jnp.where(present, jnp.maximum(rest - s, 0), 0), axis=-1)


def pairwise_logistic_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    sigma: Scalar = 1.0,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The logistic loss of all pairs of items with different relevance (RankNet).

    Args:
      logits: s, scores, shape [..., items].
      labels: y, relevances, of the same shape.
      sigma: the slope of the logistic function, greater than 0.
      axis: the axis of the items; several axes are flattened into one.
      where: boolean mask of the same shape (size 1 along `axis` selects lists); items that are False
        are excluded.

    Returns:
      The sum over the pairs of each list, of the logits' shape without `axis`, at least float32, at
      least 0. Memory grows with the square of the number of items.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or `sigma` is not greater than 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import pairwise_logistic_loss
      >>> pairwise_logistic_loss(jnp.zeros((1, 2)), jnp.array([[1.0, 0.0]]))
      Array([0.6931472], dtype=float32)
    """
    check_number("pairwise_logistic_loss", above=0, sigma=sigma)
    s, y, mask = _lists("pairwise_logistic_loss", logits, labels, axis, where)
    return _pairwise(s, y, mask, sigma, None)


def lambda_rank_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    sigma: Scalar = 1.0,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The logistic loss of all pairs, weighted by the change in NDCG if the pair were swapped.

    Args:
      logits: s, scores, shape [..., items].
      labels: y, relevances, at least 0, of the same shape; gains are 2^y − 1.
      sigma: the slope of the logistic function, greater than 0.
      axis: the axis of the items; several axes are flattened into one.
      where: boolean mask of the same shape (size 1 along `axis` selects lists); items that are False
        are excluded.

    Returns:
      The sum over the pairs of each list, of the logits' shape without `axis`, at least float32, at
      least 0. The weights have no gradient. Memory grows with the square of the number of items.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or `sigma` is not greater than 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import lambda_rank_loss
      >>> lambda_rank_loss(jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 0.0]])).round(4)
      Array([0.1156], dtype=float32)
    """
    check_number("lambda_rank_loss", above=0, sigma=sigma)
    s, y, mask = _lists("lambda_rank_loss", logits, labels, axis, where)
    return _pairwise(s, y, mask, sigma, _ndcg_changes(s, y, mask))


def _lists(
    name: str, logits: Any, labels: Any, axis: Axis, where: Any, label: str = "logits"
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    (s, y), mask, axes = matching(name, where, axis, **{label: logits, "labels": labels})
    if mask is not None:
        mask = class_last(mask, axes)
    return class_last(s, axes), class_last(y, axes), mask


def _pairwise(
    s: jax.Array, y: jax.Array, mask: jax.Array | None, sigma: Scalar, weights: jax.Array | None
) -> jax.Array:
    present = s != -jnp.inf
    if mask is not None:
        present = present & mask
    s = jnp.where(present, s, 0)
    ordered = y[..., :, None] > y[..., None, :]
    ordered = ordered & present[..., :, None] & present[..., None, :]
    gap = jnp.asarray(sigma, s.dtype) * (s[..., :, None] - s[..., None, :])
    terms = jax.nn.softplus(-gap)
    if weights is not None:
        terms = terms * weights
    return jnp.sum(jnp.where(ordered, terms, 0), axis=(-2, -1))


def _ndcg_changes(s: jax.Array, y: jax.Array, mask: jax.Array | None) -> jax.Array:
    s, y = lax.stop_gradient(s), lax.stop_gradient(y)
    s, y = keep(mask, s, fill=-jnp.inf), keep(mask, y)
    places = jnp.argsort(jnp.argsort(-s, axis=-1, stable=True), axis=-1).astype(s.dtype)
    discount = 1 / jnp.log2(2 + places)
    gain = jnp.exp2(y) - 1
    ideal = -jnp.sort(-gain, axis=-1)
    ranks = jnp.arange(s.shape[-1]).astype(s.dtype)
    best = jnp.sum(ideal / jnp.broadcast_to(jnp.log2(2 + ranks), ideal.shape), axis=-1)
    best = jnp.where(best > 0, best, 1)[..., None, None]
    gains = jnp.abs(gain[..., :, None] - gain[..., None, :])
    return gains * jnp.abs(discount[..., :, None] - discount[..., None, :]) / best
