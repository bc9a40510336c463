"""Contrastive losses on embeddings. s_ij = cos(z_i, z_j) / temperature throughout.

info_nce:  −log [exp s_ii / Σ_j exp s_ij], the rows anchors, the columns positives and negatives
           (van den Oord et al., "Contrastive Predictive Coding", 2018, equation 4)
ntxent:    mean over positives p of −log [exp s_ip / (exp s_ip + Σ_negatives exp s_in)]
           (Chen et al., "SimCLR", 2020, equation 1)
supervised: mean over positives p of −log [exp s_ip / Σ_{j≠i} exp s_ij]
           (Khosla et al., "Supervised Contrastive Learning", 2020, equation 2)
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_core.build import check_number
from optx_losses._cosine import unit
from optx_losses._inputs import as_floats, as_integers, as_mask, has_shape, keep, same_shape
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
    """Cross entropy of finding each anchor's own positive among all of them.

    Args:
      anchors: shape [batch, features].
      positives: of the same shape; row i belongs to anchor i.
      temperature: what the cosines are divided by, greater than 0.
      negatives: more candidates that belong to no anchor, shape [n, features].
      symmetric: whether to average with the loss of finding each positive's anchor (as CLIP does).
      where: which pairs there are, boolean, shape [batch]; the others are nobody's negatives, and
        give 0.

    Returns:
      The loss of each pair, shape [batch], float32 or wider, at least 0.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes do not fit, or the temperature is not greater than 0.

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
    candidates, there = p, mask
    if negatives is not None:
        (n,) = as_floats(name, negatives=negatives)
        has_shape(name, "negatives", n, (*n.shape[:1], a.shape[1]), "[n, features]")
        candidates = jnp.concatenate([p, n.astype(p.dtype)])
        if there is not None:
            there = jnp.concatenate([there, jnp.ones(n.shape[0], bool)])
    loss = _diagonal_loss(_cosines(a, candidates, temperature), there)
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
    """Cross entropy of telling each positive of an example from all its negatives.

    Args:
      embeddings: z, shape [batch, features].
      labels: integers, shape [batch]; equal ones are each other's positives.
      temperature: what the cosines are divided by, greater than 0.
      where: which examples there are, boolean, shape [batch]; the others are nobody's positive or
        negative, and give 0.

    Returns:
      For each example the mean over its positives, shape [batch], float32 or wider, at least 0; 0 for
      an example without positives.

    Raises:
      TypeError: if the labels are no integers, or the embeddings no real numbers.
      ValueError: if the shapes do not fit, or the temperature is not greater than 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import ntxent
      >>> ntxent(jnp.eye(4), jnp.array([0, 0, 1, 1]), temperature=1.0)
      Array([1.0986123, 1.0986123, 1.0986123, 1.0986123], dtype=float32)
    """
    s, same, apart = _pairs("ntxent", embeddings, labels, temperature, where)
    negatives = log_sum_exp(s, (1,), ~(same | apart))
    gap = jnp.where(same, negatives[:, None] - s, 0)
    return _mean_of(jax.nn.softplus(gap), same)


def supervised_contrastive_loss(
    embeddings: ArrayLike,
    labels: ArrayLike,
    temperature: Scalar = 0.07,
    *,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Cross entropy of finding the examples of the same class among all others.

    Args:
      embeddings: z, shape [batch, features].
      labels: integers, shape [batch], the classes.
      temperature: what the cosines are divided by, greater than 0.
      where: which examples there are, boolean, shape [batch]; the others are nobody's positive or
        negative, and give 0.

    Returns:
      For each example the mean over its positives, shape [batch], float32 or wider, at least 0; 0 for
      an example without positives.

    Raises:
      TypeError: if the labels are no integers, or the embeddings no real numbers.
      ValueError: if the shapes do not fit, or the temperature is not greater than 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import supervised_contrastive_loss
      >>> supervised_contrastive_loss(jnp.eye(4), jnp.array([0, 0, 1, 1]), temperature=1.0)
      Array([1.0986123, 1.0986123, 1.0986123, 1.0986123], dtype=float32)
    """
    name = "supervised_contrastive_loss"
    s, same, apart = _pairs(name, embeddings, labels, temperature, where)
    log_p = log_softmax(s, (1,), ~apart)
    return _mean_of(0 - jnp.where(same, log_p, 0), same)


def _pairs(
    name: str,
    embeddings: ArrayLike,
    labels: ArrayLike,
    temperature: Scalar,
    where: ArrayLike | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Similarities, which pairs are positive, which no pair (an example with itself, or left out)."""
    check_number(name, above=0, temperature=temperature)
    (z,) = as_floats(name, embeddings=embeddings)
    _two_axes(name, "embeddings", z)
    y = as_integers(name, "labels", labels)
    has_shape(name, "labels", y, z.shape[:1], f"the embeddings are {z.shape}")
    mask = _examples(name, where, z)
    z = keep(_rows(mask), z)
    apart = jnp.eye(z.shape[0], dtype=bool)
    if mask is not None:
        apart = apart | ~(mask[:, None] & mask[None, :])
    same = (y[:, None] == y[None, :]) & ~apart
    return _cosines(z, z, temperature), same, apart


def _examples(name: str, where: ArrayLike | None, x: jax.Array) -> Any:
    return as_mask(name, where, jnp.zeros(x.shape[0], bool), "the examples")


def _rows(mask: jax.Array | None) -> jax.Array | None:
    return None if mask is None else mask[:, None]


def _cosines(a: jax.Array, b: jax.Array, temperature: Scalar) -> jax.Array:
    (u, _), (v, _) = unit(a, (1,)), unit(b, (1,))
    product = jnp.matmul(u, v.T, precision="highest")
    return product / jnp.asarray(temperature, product.dtype)


def _diagonal_loss(s: jax.Array, columns: jax.Array | None) -> jax.Array:
    right = jnp.arange(s.shape[0])
    if not s.size:
        return jnp.zeros(s.shape[0], s.dtype)
    mask = None if columns is None else jnp.broadcast_to(columns[None, :], s.shape)
    return 0 - log_softmax(s, (1,), mask)[right, right]


def _mean_of(terms: jax.Array, chosen: jax.Array) -> jax.Array:
    count = jnp.maximum(jnp.sum(chosen, axis=1), 1).astype(terms.dtype)
    return not_negative(jnp.sum(jnp.where(chosen, terms, 0), axis=1) / count)


def _two_axes(name: str, label: str, x: jax.Array) -> None:
    if x.ndim != 2:
        raise ValueError(f"{name}: {label} is {x.shape}; it must be [batch, features]")
