"""Connectionist temporal classification (Graves et al., 2006).

A label sequence l of length N is written with blanks between, l' = (blank, l₁, blank, l₂, ...,
blank), of 2N + 1 states s. With log p_t(k) the log-probabilities of frame t:

α_t(s) = log p_t(l'_s) + log[exp α_{t−1}(s) + exp α_{t−1}(s−1) + skip(s)·exp α_{t−1}(s−2)]
β_t(s) = the same backwards, of the frames after t
loss   = −log Z,   Z = exp α_T(2N) + exp α_T(2N − 1)
dloss/dlog p_t(k) = −Σ_{s: l'_s = k} exp(α_t(s) + β_t(s) − log Z)

skip(s) is 1 where l'_s is a label that differs from the label before it. Padded frames hand α and β
on. The derivative is the sum above (section 4.1), not traced through the recursion.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_core.build import check_number
from optx_losses._inputs import as_array, as_floats, as_integers, has_shape
from optx_losses._log_softmax import log_softmax
from optx_losses._rounding import not_negative


def ctc_loss(
    logits: ArrayLike,
    logit_paddings: ArrayLike,
    labels: ArrayLike,
    label_paddings: ArrayLike,
    *,
    blank_id: int = 0,
    log_epsilon: Scalar = -1e5,
) -> jax.Array:
    """The negative log-probability that frames spell a sequence of labels.

    Args:
      logits: unnormalized log probabilities, shape [batch, frames, classes].
      logit_paddings: 1 for frames that are padding, 0 for others, shape [batch, frames].
      labels: integers in [0, classes), shape [batch, length]; one out of range that is no padding
        gives NaN for its example.
      label_paddings: 1 for labels that are padding, shape [batch, length]; the padding of each row
        must come last.
      blank_id: the class of the blank.
      log_epsilon: what stands for log 0, a large negative number.

    Returns:
      The loss of each sequence, shape [batch], float32 or wider, at least 0. About −log_epsilon where
      the labels cannot fit into the frames.

    Raises:
      TypeError: if the labels are no integers, or the logits no real numbers.
      ValueError: if the shapes do not fit, or a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import ctc_loss
      >>> logits = jnp.zeros((1, 2, 2))  # two frames: "1-", "-1", "11" of four spell "1"
      >>> loss = ctc_loss(logits, jnp.zeros((1, 2)), jnp.array([[1]]), jnp.zeros((1, 1)))
      >>> round(float(jnp.exp(-loss[0])), 4)
      0.75
    """
    args = _inputs(
        "ctc_loss", logits, logit_paddings, labels, label_paddings, blank_id, log_epsilon
    )
    return _loss(*args)


def ctc_loss_with_forward_probs(
    logits: ArrayLike,
    logit_paddings: ArrayLike,
    labels: ArrayLike,
    label_paddings: ArrayLike,
    *,
    blank_id: int = 0,
    log_epsilon: Scalar = -1e5,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The loss, and the log-probabilities α of all beginnings.

    Args:
      logits: unnormalized log probabilities, shape [batch, frames, classes].
      logit_paddings: 1 for frames that are padding, 0 for others, shape [batch, frames].
      labels: integers in [0, classes), shape [batch, length].
      label_paddings: 1 for labels that are padding, shape [batch, length]; the padding of each row
        must come last.
      blank_id: the class of the blank.
      log_epsilon: what stands for log 0, a large negative number.

    Returns:
      `(loss, log_alpha_blank, log_alpha_label)`, float32 or wider. The loss is of shape [batch], that
      of `ctc_loss`. `log_alpha_blank[t, b, n]`, shape [frames, batch, length + 1], is the
      log-probability that frames 0 to t spell the first n labels and the last is a blank;
      `log_alpha_label[t, b, n]`, shape [frames, batch, length], that they spell the first n + 1 and
      the last is label n. Their derivatives are traced through the recursion.

    Raises:
      TypeError: if the labels are no integers, or the logits no real numbers.
      ValueError: if the shapes do not fit, or a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import ctc_loss_with_forward_probs
      >>> loss, blank, label = ctc_loss_with_forward_probs(
      ...     jnp.zeros((1, 2, 2)), jnp.zeros((1, 2)), jnp.array([[1]]), jnp.zeros((1, 1)))
      >>> jnp.exp(label[:, 0, 0]).round(3)
      Array([0.5, 0.5], dtype=float32)
    """
    name = "ctc_loss_with_forward_probs"
    args = _inputs(name, logits, logit_paddings, labels, label_paddings, blank_id, log_epsilon)
    log_p, states, skip, padded, *_ = args
    emit = _emit(log_p, states)
    alpha = _forward(emit, skip, padded, args[-1])
    return _loss(*args), alpha[..., 0::2], alpha[..., 1::2]


def _inputs(
    name: str,
    logits: Any,
    logit_paddings: Any,
    labels: Any,
    label_paddings: Any,
    blank_id: int,
    log_epsilon: Any,
) -> tuple[Any, ...]:
    (x,) = as_floats(name, logits=logits)
    y = as_integers(name, "labels", labels)
    if x.ndim != 3 or y.ndim != 2:
        raise ValueError(
            f"{name}: logits is {x.shape}, labels is {y.shape}; they must be "
            "[batch, frames, classes] and [batch, length]"
        )
    batch, _, classes = x.shape
    pads = as_array(name, "logit_paddings", logit_paddings)
    has_shape(name, "logit_paddings", pads, x.shape[:2], f"the logits are {x.shape}")
    has_shape(name, "labels", y, (batch, y.shape[1]), f"the logits are {x.shape}")
    label_pads = as_array(name, "label_paddings", label_paddings)
    has_shape(name, "label_paddings", label_pads, y.shape, "that of the labels")
    if not isinstance(blank_id, int) or not 0 <= blank_id < classes:
        raise ValueError(f"{name}: blank_id={blank_id} is none of the {classes} classes")
    check_number(name, below=0, log_epsilon=log_epsilon)
    there = ~label_pads.astype(bool)
    pads = pads.astype(bool)
    length = jnp.sum(there, axis=1, dtype=jnp.int32)
    valid = (y >= 0) & (y < classes)
    bad = jnp.any(there & ~valid, axis=1)
    y = jnp.where(valid & there, y, blank_id).astype(jnp.int32)
    states = jnp.full((batch, 2 * y.shape[1] + 1), blank_id, jnp.int32).at[:, 1::2].set(y)
    differs = jnp.concatenate([jnp.zeros((batch, 1), bool), y[:, 1:] != y[:, :-1]], axis=1)
    skip = jnp.zeros(states.shape, bool).at[:, 1::2].set(differs[:, : y.shape[1]])
    log_zero = jnp.asarray(log_epsilon, x.dtype)
    mask = jnp.broadcast_to(~pads[..., None], x.shape)
    log_p = log_softmax(jnp.where(mask, x, 0), (2,))
    log_p = jnp.maximum(log_p, log_zero) * jnp.where(bad, jnp.nan, 1).astype(x.dtype)[:, None, None]
    return log_p, states, skip, pads.T, length, log_zero


def _emit(log_p: jax.Array, states: jax.Array) -> jax.Array:
    """Log p of each state, shape [frames, batch, states]."""
    rows = jnp.swapaxes(log_p, 0, 1)
    index = jnp.broadcast_to(states[None], (rows.shape[0], *states.shape))
    return jnp.take_along_axis(rows, index, axis=2, mode="promise_in_bounds")


def _sum3(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """log(exp a + exp b + exp c)."""
    top = lax.stop_gradient(jnp.maximum(jnp.maximum(a, b), c))
    return top + jnp.log(jnp.exp(a - top) + jnp.exp(b - top) + jnp.exp(c - top))


def _shifted(x: jax.Array, by: int, fill: jax.Array) -> jax.Array:
    """X with its states moved up (or, negative, down) by some places."""
    gap = jnp.broadcast_to(fill, (x.shape[0], min(abs(by), x.shape[1])))
    if by > 0:
        return jnp.concatenate([gap, x[:, :-by]], axis=1)
    return jnp.concatenate([x[:, -by:], gap], axis=1)


def _forward(emit: jax.Array, skip: jax.Array, padded: jax.Array, log_zero: jax.Array) -> jax.Array:
    """α, shape [frames, batch, states]."""
    start = jnp.full(emit.shape[1:], log_zero).at[:, 0].set(0)
    bar = jnp.where(skip, 0, log_zero)

    def step(alpha: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        log_p, pad = now
        two = _shifted(alpha, 2, log_zero) + bar
        new = _sum3(alpha, _shifted(alpha, 1, log_zero), two) + log_p
        new = jnp.where(pad[:, None], alpha, new)
        return new, new

    return lax.scan(step, start, (emit, padded))[1]


def _shares(
    emit: jax.Array,
    skip: jax.Array,
    padded: jax.Array,
    end: jax.Array,
    alpha: jax.Array,
    log_z: jax.Array,
    log_zero: jax.Array,
) -> jax.Array:
    """exp(α + β − log Z), the share of paths through each state, shape [frames, batch, states].

    What is carried is β_t + log p_t: adding log p_t at the end of a step, not at the beginning of the
    next, is four times as fast on a CPU.
    """
    bar = _shifted(jnp.where(skip, 0, log_zero), -2, log_zero)
    emit = jnp.where(padded[..., None], 0, emit)
    hand_on = jnp.concatenate([padded[1:], jnp.ones_like(padded[:1])])

    def step(
        ahead: jax.Array, now: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        log_p, pad, alpha = now
        two = _shifted(ahead, -2, log_zero) + bar
        beta = _sum3(ahead, _shifted(ahead, -1, log_zero), two)
        beta = jnp.where(pad[:, None], ahead, beta)
        return beta + log_p, jnp.exp(alpha + beta - log_z[:, None])

    shares = lax.scan(step, end, (emit, hand_on, alpha), reverse=True)[1]
    return jnp.where(padded[..., None], 0, shares)


def _ends(length: jax.Array, states: int, log_zero: jax.Array) -> jax.Array:
    """0 for the states a path may end in, log 0 for the others."""
    place = jnp.arange(states, dtype=jnp.int32)[None, :]
    last = 2 * length[:, None]
    return jnp.where((place == last) | ((place == last - 1) & (last > 0)), 0, log_zero)


def _final(alpha: jax.Array, length: jax.Array, log_zero: jax.Array) -> jax.Array:
    """Log Z."""
    if not alpha.shape[0]:  # no frame at all
        start = jnp.full(alpha.shape[1:], log_zero).at[:, 0].set(0)
        alpha = start[None]
    total = alpha[-1] + _ends(length, alpha.shape[2], log_zero)
    top = lax.stop_gradient(jnp.max(total, axis=1, keepdims=True))
    return jnp.log(jnp.sum(jnp.exp(total - top), axis=1)) + top[:, 0]


@jax.custom_jvp
def _loss(
    log_p: jax.Array,
    states: jax.Array,
    skip: jax.Array,
    padded: jax.Array,
    length: jax.Array,
    log_zero: jax.Array,
) -> jax.Array:
    alpha = _forward(_emit(log_p, states), skip, padded, log_zero)
    return not_negative(0 - _final(alpha, length, log_zero))


@_loss.defjvp
def _loss_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    log_p, states, skip, padded, length, log_zero = primals
    emit = _emit(log_p, states)
    alpha = _forward(emit, skip, padded, log_zero)
    log_z = _final(alpha, length, log_zero)
    end = _ends(length, states.shape[1], log_zero)
    share = _shares(emit, skip, padded, end, alpha, log_z, log_zero)
    # Summed over classes as a product, not a scatter; the blanks by themselves.
    classes = jnp.arange(log_p.shape[2], dtype=jnp.int32)[None, None, :]
    one_hot = (states[:, 1::2, None] == classes).astype(log_p.dtype)
    weight = jnp.einsum("tbn,bnk->btk", share[..., 1::2], one_hot, precision="highest")
    blanks = jnp.sum(share[..., 0::2], axis=-1).T[..., None]
    weight = weight + jnp.where(classes == states[:, :1, None], blanks, 0)
    tangent = 0 - jnp.sum(weight * tangents[0], axis=(1, 2))
    return not_negative(0 - log_z), tangent
