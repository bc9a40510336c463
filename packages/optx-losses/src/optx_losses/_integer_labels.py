"""Cross entropy of a softmax with integer labels.

log p = x − log Σ exp(x),   nll = −w_y·log p_y,   smooth = −(1 / K)·Σ_c w_c·log p_c

loss = (1 − label_smoothing)·nll + label_smoothing·smooth + z_loss·(log Σ exp(x))²

where x are the logits of K classes, y is the label, and w_c is the weight of class c, 1 by default.

References: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016, section 7
(label smoothing); Chowdhery et al., "PaLM", 2022, section 5 (z-loss).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import (
    Axis,
    as_floats,
    as_index,
    as_integers,
    as_mask,
    axes_of,
    check_number,
    class_last,
    class_weights_of,
    has_shape,
    keep,
    without,
)
from optx_losses._layout import at_label, of_label
from optx_losses._log_softmax import centred, times_infinite

_HINT = "; for probabilities of the classes use softmax_cross_entropy"


def softmax_cross_entropy_with_integer_labels(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    label_smoothing: Scalar = 0.0,
    ignore_index: int | None = None,
    class_weights: ArrayLike | None = None,
    z_loss: Scalar = 0.0,
) -> jax.Array:
    """Cross entropy of each example with its integer label.

    A logit of −inf excludes a class: it gets no probability, no gradient and no share of the
    smoothing. An out-of-range label gives NaN, in the value and in the gradient of its example;
    negative labels do not count from the end.

    Args:
      logits: x, unnormalized log-probabilities, shape [..., classes].
      labels: y, integers in [0, classes), of the logits' shape without `axis`.
      axis: the axis of the classes; several axes are flattened into one, the last given fastest.
      where: boolean mask of the logits' shape (size 1 along `axis`, or the labels' shape, selects examples);
        classes that are False are excluded. An example without any class gives 0, whatever its label.
      label_smoothing: the share of the label that is spread evenly over all classes, in [0, 1].
      ignore_index: a label whose examples give 0 and no gradient (such as −100), in range or not,
        whatever their logits.
      class_weights: w, shape [classes]; None for ones.
      z_loss: the weight of the squared log-normalizer, at least 0 (such as 1e-4).

    Returns:
      The loss of each example, of the labels' shape, at least float32, at least 0.

    Raises:
      TypeError: if the labels are not integers, or the logits not real numbers.
      ValueError: if the shapes do not match, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import softmax_cross_entropy_with_integer_labels
      >>> logits = jnp.zeros((3, 4))
      >>> softmax_cross_entropy_with_integer_labels(logits, jnp.array([0, 3, -1]), ignore_index=-1)
      Array([1.3862944, 1.3862944, 0.       ], dtype=float32)
    """
    name = "softmax_cross_entropy_with_integer_labels"
    check_number(name, low=0, high=1, label_smoothing=label_smoothing)
    check_number(name, low=0, z_loss=z_loss)
    x, labelled = integer_inputs(name, logits, labels, axis, where, ignore_index)
    weights = class_weights_of(name, class_weights, x.shape[-1:], x.dtype)
    x, log_sum, m = centred(x, (x.ndim - 1,), labelled.mask)
    log_sum, m = log_sum[..., 0], m[..., 0]
    nll = log_sum - labelled.at_label(x)
    scale = jnp.ones_like(nll) if weights is None else of_label(weights, labelled.y)
    smooth = not is_zero(label_smoothing)
    share = jnp.asarray(label_smoothing, x.dtype)
    if smooth:
        scale = scale * (1 - share)
    loss = times_infinite(scale, nll) if smooth or weights is not None else nll
    if smooth:
        loss = loss + share * _smooth(x, log_sum, weights)
    if not is_zero(z_loss):
        loss = loss + jnp.asarray(z_loss, x.dtype) * (log_sum + m) ** 2
    return labelled.rules(loss)


class Labelled(NamedTuple):
    """Integer labels, and the examples that they belong to.

    Attributes:
      y: the labels, 0 where out of range.
      in_range: boolean, whether a label is in range.
      ignored: boolean, which examples give 0; None if all have a loss.
      mask: boolean, the classes that exist, of the logits' shape; None for all.
    """

    y: jax.Array
    in_range: jax.Array
    ignored: jax.Array | None
    mask: jax.Array | None

    def at_label(self, x: jax.Array) -> jax.Array:
        """The entries of x at the labels; 0 where an example is ignored."""
        if not x.shape[-1]:
            return jnp.zeros(self.y.shape, x.dtype)
        entry = at_label(x, self.y)
        return entry if self.ignored is None else jnp.where(self.ignored, 0, entry)

    def rules(self, loss: jax.Array) -> jax.Array:
        """The loss, 0 for ignored examples, NaN for out-of-range labels."""
        return label_rules(loss, self.in_range, self.ignored)


def label_rules(loss: jax.Array, in_range: jax.Array, ignored: jax.Array | None) -> jax.Array:
    """The loss, 0 for ignored examples, NaN for out-of-range labels."""
    if ignored is not None:
        loss = jnp.where(ignored, 0, loss)
        in_range = in_range | ignored  # a gradient of 0 times NaN would be NaN
    return loss * jnp.where(in_range, 1, jnp.nan).astype(loss.dtype)


def integer_inputs(
    name: str, logits: Any, labels: Any, axis: Axis, where: Any, ignore_index: Any = None
) -> tuple[jax.Array, Labelled]:
    """Logits with the classes on the last axis, and the labels. Ignored examples have logits of 0."""
    (x,) = as_floats(name, logits=logits)
    axes = axes_of(name, axis, x.ndim)
    y = as_integers(name, "labels", labels, _HINT)
    has_shape(name, "labels", y, without(x.shape, axes), f"the logits are {x.shape}")
    mask = as_mask(name, where, x, "the logits", axes, of_examples=True)
    x = class_last(x, axes)
    ignored = None
    if mask is not None:
        mask = class_last(mask, axes)
        ignored = ~jnp.any(mask, axis=-1)
    index = as_index(name, ignore_index)
    if index is not None:
        equal = equals(y, index)
        ignored = equal if ignored is None else ignored | equal
    if ignored is not None:
        x = keep(~ignored[..., None], x)
    in_range = (y >= 0) & (y < x.shape[-1])
    return x, Labelled(jnp.where(in_range, y, 0), in_range, ignored, mask)


def equals(y: jax.Array, index: int) -> jax.Array:
    """Whether labels equal an index, which need not fit their dtype."""
    limits = jnp.iinfo(y.dtype)
    if not limits.min <= index <= limits.max:
        return jnp.zeros(y.shape, bool)
    return y == index


def _smooth(x: jax.Array, log_sum: jax.Array, weights: jax.Array | None) -> jax.Array:
    present = x != -jnp.inf
    count = jnp.maximum(jnp.sum(present, axis=-1), 1).astype(x.dtype)
    x = keep(present, x)
    if weights is None:
        return log_sum - jnp.sum(x, axis=-1) / count
    weights = jnp.broadcast_to(weights, x.shape)
    total = jnp.sum(jnp.where(present, weights, 0), axis=-1)
    return (log_sum * total - jnp.sum(x * weights, axis=-1)) / count


def is_zero(x: Any) -> bool:
    """Whether a hyper-parameter is known to be 0 when the program is traced."""
    return isinstance(x, int | float) and x == 0
