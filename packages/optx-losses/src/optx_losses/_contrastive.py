"""Contrastive losses on embeddings.

s_ij = cos(z_i, z_j) / temperature
info_nce:     loss_i = −log(exp s_ii / Σ_j exp s_ij)
ntxent:       loss_i = mean_p −log(exp s_ip / (exp s_ip + Σ_n exp s_in))
supervised:   loss_i = mean_p −log(exp s_ip / Σ_{j≠i} exp s_ij)

where z_i is the embedding of example i, j any other, p runs over its positives and n over its negatives.
For InfoNCE, z_i is an anchor and z_j a row of positives, of which the others are the negatives.

References: van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018,
equation 4; Chen et al., "SimCLR", 2020, equation 1; Khosla et al., "Supervised Contrastive Learning", 2020,
equation 2.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._cosine import unit
from optx_losses._inputs import (
    as_floats,
    as_integers,
    as_mask,
    check_number,
    has_shape,
    keep,
    same_shape,
)
from optx_losses._layout import is_label, is_split, laid_as, whole
from optx_losses._log_softmax import log_softmax, log_sum_exp
from optx_losses._rounding import not_negative


def info_nce_loss(
    anchors: ArrayLike,
    positives: ArrayLike,
    temperature: Scalar = 0.07,
    *,
    negatives: ArrayLike | None = None,
    symmetric: bool = False,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Cross entropy of identifying the positive of each anchor among all positives.

    Args:
      anchors: shape [batch, features].
      positives: of the same shape; row i is the positive of anchor i.
      temperature: the divisor of the cosines, greater than 0.
      negatives: additional candidates, which belong to no anchor, shape [n, features].
      symmetric: whether to average with the loss of identifying the anchor of each positive, as CLIP does.
      where: boolean mask, shape [batch]; pairs that are False are excluded from the candidates and
        give 0.

    Returns:
      The loss of each pair, shape [batch], at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes do not match, or the temperature is not greater than 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import info_nce_loss
      >>> info_nce_loss(jnp.eye(2), jnp.eye(2), temperature=1.0).round(1)
      Array([0.3, 0.3], dtype=float32)
    """
    name = "info_nce_loss"
    check_number(name, above=0, temperature=temperature)
    a, p = as_floats(name, anchors=anchors, positives=positives)
    _two_axes(name, "anchors", a)
    same_shape(name, anchors=a, positives=p)
    mask = _examples(name, where, a)
    a, p = keep(_rows(mask), a, p)
    candidates, included = p, mask
    if negatives is not None:
        (n,) = as_floats(name, negatives=negatives)
        has_shape(name, "negatives", n, (*n.shape[:1], a.shape[1]), "[n, features]")
        candidates = jnp.concatenate([p, n.astype(p.dtype)])
        if included is not None:
            included = jnp.concatenate([whole(included, 0), jnp.ones(n.shape[0], bool)])
    loss = _diagonal_loss(_cosines(a, candidates, temperature), included)
    if symmetric:
        loss = 0.5 * (loss + _diagonal_loss(_cosines(p, a, temperature), mask))
    return keep(mask, loss)


def ntxent(
    embeddings: ArrayLike,
    labels: ArrayLike,
    temperature: Scalar = 0.07,
    *,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Cross entropy of distinguishing each positive of an example from all its negatives.

    One value per example, as for all losses here; optax's function returns the mean over all pairs of
    positives.

    Args:
      embeddings: z, shape [batch, features].
      labels: integers, shape [batch]; examples with equal labels are positives of each other.
      temperature: the divisor of the cosines, greater than 0.
      where: boolean mask, shape [batch]; examples that are False are neither positives nor negatives,
        and give 0.

    Returns:
      The mean over the positives of each example, shape [batch], at least float32, at least 0; 0 for
      an example without positives.

    Raises:
      TypeError: if the labels are not integers, or the embeddings not real numbers.
      ValueError: if the shapes do not match, or the temperature is not greater than 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import ntxent
      >>> ntxent(jnp.eye(4), jnp.array([0, 0, 1, 1]), temperature=1.0)
      Array([1.0986123, 1.0986123, 1.0986123, 1.0986123], dtype=float32)
    """
    s, positive, excluded = _pairs("ntxent", embeddings, labels, temperature, where)
    negatives = log_sum_exp(s, (1,), ~(positive | excluded))
    gap = jnp.where(positive, negatives[:, None] - s, 0)
    return _masked_mean(jax.nn.softplus(gap), positive)


def supervised_contrastive_loss(
    embeddings: ArrayLike,
    labels: ArrayLike,
    temperature: Scalar = 0.07,
    *,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Cross entropy of identifying the examples of the same class among all others.

    Args:
      embeddings: z, shape [batch, features].
      labels: integers, shape [batch].
      temperature: the divisor of the cosines, greater than 0.
      where: boolean mask, shape [batch]; examples that are False are neither positives nor negatives,
        and give 0.

    Returns:
      The mean over the positives of each example, shape [batch], at least float32, at least 0; 0 for
      an example without positives.

    Raises:
      TypeError: if the labels are not integers, or the embeddings not real numbers.
      ValueError: if the shapes do not match, or the temperature is not greater than 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import supervised_contrastive_loss
      >>> supervised_contrastive_loss(jnp.eye(4), jnp.array([0, 0, 1, 1]), temperature=1.0)
      Array([1.0986123, 1.0986123, 1.0986123, 1.0986123], dtype=float32)
    """
    name = "supervised_contrastive_loss"
    s, positive, excluded = _pairs(name, embeddings, labels, temperature, where)
    log_p = log_softmax(s, (1,), ~excluded)
    return _masked_mean(0 - jnp.where(positive, log_p, 0), positive)


def _pairs(
    name: str,
    embeddings: ArrayLike,
    labels: ArrayLike,
    temperature: Scalar,
    where: ArrayLike | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Similarities, a mask of positive pairs, and a mask of excluded pairs (the diagonal among them)."""
    check_number(name, above=0, temperature=temperature)
    (z,) = as_floats(name, embeddings=embeddings)
    _two_axes(name, "embeddings", z)
    y = as_integers(name, "labels", labels)
    has_shape(name, "labels", y, z.shape[:1], f"the embeddings are {z.shape}")
    mask = _examples(name, where, z)
    z = keep(_rows(mask), z)
    s = _cosines(z, z, temperature)
    excluded = is_label(s, jnp.arange(z.shape[0], dtype=jnp.int32))
    if mask is not None:
        excluded = excluded | ~(mask[:, None] & whole(mask, 0)[None, :])
    positive = (y[:, None] == whole(y, 0)[None, :]) & ~excluded
    return s, positive, excluded


def _examples(name: str, where: ArrayLike | None, x: jax.Array) -> Any:
    return as_mask(name, where, jnp.zeros(x.shape[0], bool), "the examples")


def _rows(mask: jax.Array | None) -> jax.Array | None:
    return None if mask is None else mask[:, None]


def _cosines(a: jax.Array, b: jax.Array, temperature: Scalar) -> jax.Array:
    (u, _), (v, _) = unit(whole(a, 1), (1,)), unit(whole(b, 1), (1,))
    product = jnp.matmul(u, whole(v, 0).T, precision="highest")
    return product / jnp.asarray(temperature, product.dtype)


def _diagonal_loss(s: jax.Array, columns: jax.Array | None) -> jax.Array:
    diagonal = jnp.arange(s.shape[0])
    if not s.size:
        return jnp.zeros(s.shape[0], s.dtype)
    mask = None
    if columns is not None:
        mask = laid_as(jnp.broadcast_to(whole(columns, 0)[None, :], s.shape), s)
    log_p = log_softmax(s, (1,), mask)
    if is_split(log_p):
        return 0 - jnp.sum(jnp.where(is_label(log_p, diagonal), log_p, 0), axis=1)
    return 0 - log_p[diagonal, diagonal]


def _masked_mean(terms: jax.Array, mask: jax.Array) -> jax.Array:
    count = jnp.maximum(jnp.sum(mask, axis=1), 1).astype(terms.dtype)
    return not_negative(jnp.sum(jnp.where(mask, terms, 0), axis=1) / count)


def _two_axes(name: str, label: str, x: jax.Array) -> None:
    if x.ndim != 2:
        raise ValueError(f"{name}: {label} is {x.shape}; it must be [batch, features]")
