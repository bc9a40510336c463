"""Connectionist temporal classification.

α_t(s) = log p_t(l'_s) + log[exp α_{t−1}(s) + exp α_{t−1}(s−1) + skip(s)·exp α_{t−1}(s−2)]
β_t(s) = the same recursion backwards over the frames after t
loss   = −log Z,   Z = exp α_T(2N) + exp α_T(2N − 1)
dloss/dlog p_t(k) = −Σ_{s: l'_s = k} exp(α_t(s) + β_t(s) − log Z)

where p_t(k) is the probability of class k in frame t of T, and l' = (blank, l₁, blank, l₂, ..., blank) is
the label sequence l of length N, extended by blanks to 2N + 1 states s. skip(s) is 1 where l'_s is a label
that differs from the previous label, else 0. Z is the probability of l. Padded frames leave α and β
unchanged. The derivative is the sum above (section 4.1), not traced through the recursion.

References: Graves et al., "Connectionist Temporal Classification", 2006.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import (
    as_array,
    as_floats,
    as_integers,
    as_mask,
    check_number,
    has_shape,
    is_integer,
    keep,
)
from optx_losses._layout import whole
from optx_losses._log_softmax import log_softmax, log_sum_exp
from optx_losses._rounding import not_negative


def ctc_loss(
    logits: ArrayLike,
    logit_paddings: ArrayLike,
    labels: ArrayLike,
    label_paddings: ArrayLike,
    *,
    blank_id: int = 0,
    log_epsilon: Scalar = -math.inf,
    zero_infinity: bool = False,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The negative log-probability of a sequence of labels, summed over its alignments to the frames.

    Args:
      logits: unnormalized log-probabilities, shape [batch, frames, classes].
      logit_paddings: 1 for frames that are padding, whatever their logits, 0 for others, shape
        [batch, frames].
      labels: integers in [0, classes), shape [batch, length]; an out-of-range label that is not padding
        gives NaN for its example.
      label_paddings: 1 for labels that are padding, 0 for others, shape [batch, length]; the padding of
        each row comes last.
      blank_id: the class of the blank.
      log_epsilon: the value of log 0. With a finite value, such as optax's −1e5, losses saturate at
        about −log_epsilon and are wrong close to it; the default is exact.
      zero_infinity: whether the loss is 0, not infinite, for labels that cannot be aligned.
      where: boolean mask, shape [batch]; examples that are False give 0 and no gradient.

    Returns:
      The loss of each sequence, shape [batch], at least float32, at least 0. Labels that cannot be
      aligned (with more labels, and blanks between equal neighbours, than frames, or with classes that
      have logits of −inf) have an infinite loss and a gradient of 0.

    Raises:
      TypeError: if the labels are not integers, or the logits not real numbers.
      ValueError: if the shapes do not match, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import ctc_loss
      >>> logits = jnp.zeros((1, 2, 2))  # two frames: "1-", "-1", "11" of four spell "1"
      >>> loss = ctc_loss(logits, jnp.zeros((1, 2)), jnp.array([[1]]), jnp.zeros((1, 1)))
      >>> round(float(jnp.exp(-loss[0])), 4)
      0.75
    """
    included, args = _inputs(
        "ctc_loss", logits, logit_paddings, labels, label_paddings, blank_id, log_epsilon, where
    )
    return _rules(_loss(*args), included, zero_infinity)


def ctc_loss_with_forward_probs(
    logits: ArrayLike,
    logit_paddings: ArrayLike,
    labels: ArrayLike,
    label_paddings: ArrayLike,
    *,
    blank_id: int = 0,
    log_epsilon: Scalar = -math.inf,
    zero_infinity: bool = False,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The CTC loss, and the forward log-probabilities α.

    Args:
      logits: unnormalized log-probabilities, shape [batch, frames, classes].
      logit_paddings: 1 for frames that are padding, whatever their logits, 0 for others, shape
        [batch, frames].
      labels: integers in [0, classes), shape [batch, length]; an out-of-range label that is not padding
        gives NaN for its example.
      label_paddings: 1 for labels that are padding, 0 for others, shape [batch, length]; the padding of
        each row comes last.
      blank_id: the class of the blank.
      log_epsilon: the value of log 0. With a finite value, such as optax's −1e5, losses saturate at
        about −log_epsilon and are wrong close to it; the default is exact.
      zero_infinity: whether the loss is 0, not infinite, for labels that cannot be aligned.
      where: boolean mask, shape [batch]; examples that are False give 0 and no gradient.

    Returns:
      `(loss, log_alpha_blank, log_alpha_label)`, at least float32. The loss, shape [batch], is that of
      `ctc_loss`. `log_alpha_blank[t, b, n]`, shape [frames, batch, length + 1], is the log-probability
      that frames 0 to t spell the first n labels and frame t is a blank; `log_alpha_label[t, b, n]`,
      shape [frames, batch, length], that they spell the first n + 1 labels and frame t is label n;
      −inf if that is impossible. Their derivatives are traced through the recursion.

    Raises:
      TypeError: if the labels are not integers, or the logits not real numbers.
      ValueError: if the shapes do not match, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import ctc_loss_with_forward_probs
      >>> loss, blank, label = ctc_loss_with_forward_probs(
      ...     jnp.zeros((1, 2, 2)), jnp.zeros((1, 2)), jnp.array([[1]]), jnp.zeros((1, 1)))
      >>> jnp.exp(label[:, 0, 0]).round(3)
      Array([0.5, 0.5], dtype=float32)
    """
    name = "ctc_loss_with_forward_probs"
    included, args = _inputs(
        name, logits, logit_paddings, labels, label_paddings, blank_id, log_epsilon, where
    )
    log_p, states, skip, padded, _, log_zero = args
    alpha = _forward(_emit(log_p, states), skip, padded, log_zero)
    loss = _rules(_loss(*args), included, zero_infinity)
    return loss, alpha[..., 0::2], alpha[..., 1::2]


def _rules(loss: jax.Array, included: jax.Array | None, zero_infinity: bool) -> jax.Array:
    return keep(included, jnp.where(loss == jnp.inf, 0, loss) if zero_infinity else loss)


def _inputs(
    name: str,
    logits: Any,
    logit_paddings: Any,
    labels: Any,
    label_paddings: Any,
    blank_id: int,
    log_epsilon: Any,
    where: Any,
) -> tuple[jax.Array | None, tuple[Any, ...]]:
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
    has_shape(name, "label_paddings", label_pads, y.shape, "the shape of the labels")
    if not is_integer(blank_id) or not 0 <= blank_id < classes:
        raise ValueError(f"{name}: blank_id={blank_id} is not in [0, {classes}), the classes")
    check_number(name, below=0, finite=False, log_epsilon=log_epsilon)
    present = ~label_pads.astype(bool)
    pads = pads.astype(bool)
    length = jnp.sum(present, axis=1, dtype=jnp.int32)
    in_range = (y >= 0) & (y < classes)
    invalid = jnp.any(present & ~in_range, axis=1)
    y = jnp.where(in_range & present, y, blank_id).astype(jnp.int32)
    blank = jnp.full_like(jnp.sum(y, axis=1, dtype=y.dtype), blank_id)
    never = jnp.zeros_like(blank, bool)
    states = _between(blank, y)
    differs = jnp.concatenate([never[:, None], y[:, 1:] != y[:, :-1]], axis=1)
    skip = _between(never, differs[:, : y.shape[1]])
    log_zero = jnp.asarray(log_epsilon, x.dtype)
    included = as_mask(name, where, jnp.zeros(batch), "the examples")
    if included is not None:
        invalid = invalid & included
        pads = pads | ~included[:, None]
    log_p = whole(log_softmax(jnp.where(pads[..., None], 0, x), (2,)), 2)
    log_p = jnp.where(log_p <= log_zero, log_zero, log_p)  # NaN stays
    log_p = log_p * jnp.where(invalid, jnp.nan, 1).astype(x.dtype)[:, None, None]
    return included, (log_p, states, skip, pads.T, length, log_zero)


def _between(blank: jax.Array, labels: jax.Array) -> jax.Array:
    """Entries of the labels, shape [batch, length], with that of the blank before, between and after."""
    pairs = jnp.stack([jnp.broadcast_to(blank[:, None], labels.shape), labels], axis=2)
    return jnp.concatenate(
        [pairs.reshape(len(labels), 2 * labels.shape[1]), blank[:, None]], axis=1
    )


def _emit(log_p: jax.Array, states: jax.Array) -> jax.Array:
    """log p of each state, shape [frames, batch, states]."""
    rows = jnp.swapaxes(log_p, 0, 1)
    index = jnp.broadcast_to(states[None], (rows.shape[0], *states.shape))
    return jnp.take_along_axis(rows, index, axis=2, mode="promise_in_bounds")


def _sum3(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """log(exp a + exp b + exp c); −inf, with derivative 0, where all three are."""
    top = lax.stop_gradient(jnp.maximum(jnp.maximum(a, b), c))
    finite = jnp.where(top == -jnp.inf, 0, top)
    total = jnp.exp(a - finite) + jnp.exp(b - finite) + jnp.exp(c - finite)
    return top + jnp.log(jnp.where(total == 0, 1, total))


def _shifted(x: jax.Array, by: int, fill: jax.Array) -> jax.Array:
    """x with its states shifted up (or, if negative, down), and `fill` in the gap."""
    gap = jnp.full_like(x[:, : abs(by)], fill)
    if by > 0:
        return jnp.concatenate([gap, x[:, :-by]], axis=1)
    return jnp.concatenate([x[:, -by:], gap], axis=1)


def _forward(emit: jax.Array, skip: jax.Array, padded: jax.Array, log_zero: jax.Array) -> jax.Array:
    """α, shape [frames, batch, states]."""
    start = _start(emit, log_zero)
    bar = jnp.where(skip, 0, log_zero)

    def step(alpha: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        log_p, pad = now
        two = _shifted(alpha, 2, log_zero) + bar
        new = _sum3(alpha, _shifted(alpha, 1, log_zero), two) + log_p
        new = jnp.where(pad[:, None], alpha, new)
        return new, new

    return lax.scan(step, start, (emit, padded))[1]


def _start(emit: jax.Array, log_zero: jax.Array) -> jax.Array:
    """α before the first frame: 0 for the first state, log 0 for the others."""
    first = jnp.arange(emit.shape[2])[None, :] == 0
    return jnp.where(first, 0, log_zero) + jnp.zeros_like(jnp.sum(emit, axis=0))


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

    The scan carries β_t + log p_t: adding log p_t at the end of a step rather than at the beginning of
    the next is four times as fast on a CPU.
    """
    bar = _shifted(jnp.where(skip, 0, log_zero), -2, log_zero)
    emit = jnp.where(padded[..., None], 0, emit)
    next_padded = jnp.concatenate([padded[1:], jnp.ones_like(padded[:1])])

    def step(
        ahead: jax.Array, now: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        log_p, pad, alpha = now
        two = _shifted(ahead, -2, log_zero) + bar
        beta = _sum3(ahead, _shifted(ahead, -1, log_zero), two)
        beta = jnp.where(pad[:, None], ahead, beta)
        return beta + log_p, jnp.exp(alpha + beta - log_z[:, None])

    shares = lax.scan(step, end, (emit, next_padded, alpha), reverse=True)[1]
    return jnp.where(padded[..., None], 0, shares)


def _ends(length: jax.Array, states: int, log_zero: jax.Array) -> jax.Array:
    """0 for the states that a path may end in, log 0 for the others."""
    index = jnp.arange(states, dtype=jnp.int32)[None, :]
    last = 2 * length[:, None]
    return jnp.where((index == last) | ((index == last - 1) & (last > 0)), 0, log_zero)


def _final(alpha: jax.Array, length: jax.Array, log_zero: jax.Array) -> jax.Array:
    """log Z."""
    if not alpha.shape[0]:  # without frames
        alpha = _start(alpha, log_zero)[None]
    return log_sum_exp(alpha[-1] + _ends(length, alpha.shape[2], log_zero), (1,))


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
    # Where no path exists, every share is 0.
    finite = jnp.where(log_z == -jnp.inf, 0, log_z)
    share = _shares(emit, skip, padded, end, alpha, finite, log_zero)
    # Summed over the states of a class by a product, not a scatter; the blanks separately.
    classes = jnp.arange(log_p.shape[2], dtype=jnp.int32)[None, None, :]
    one_hot = (states[:, 1::2, None] == classes).astype(log_p.dtype)
    weight = jnp.einsum("tbn,bnk->btk", share[..., 1::2], one_hot, precision="highest")
    blanks = jnp.sum(share[..., 0::2], axis=-1).T[..., None]
    weight = weight + jnp.where(classes == states[:, :1, None], blanks, 0)
    tangent = 0 - jnp.sum(weight * tangents[0], axis=(1, 2))
    return not_negative(0 - log_z), tangent
