"""The last layer fused with its cross entropy, a chunk of rows at a time.

x = f·W + b        (optionally followed by soft_cap·tanh(x / soft_cap))
loss = (1 − ε)·(L − x_y) + ε·(L − mean_c x_c) + z_loss·L²,   L = log Σ_c exp x_c
dloss/dx_c = exp(x_c − L)·(1 + 2·z_loss·L) − (1 − ε)·[c = y] − ε / K

where f are the features of one position, W the kernel and b the bias of the layer, x the logits of K
classes, L their log-normalizer, y the label, c any class, and ε is `label_smoothing`. Only the logits of
one chunk of rows exist at a time; `_chunks.py` describes how they are differentiated.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._chunks import recomputed, with_unit_gradients
from optx_losses._inputs import check_number, check_number_or_none
from optx_losses._integer_labels import is_zero
from optx_losses._linear_layer import (
    bounds_of,
    chunk_size_of,
    labels_of_rows,
    linear_layer,
    values_of,
)
from optx_losses._row_losses import CrossEntropy
from optx_losses._rows import Plan


def linear_softmax_cross_entropy(
    features: ArrayLike,
    weights: ArrayLike,
    labels: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    chunk_size: int | None = None,
    label_smoothing: Scalar = 0.0,
    ignore_index: int | None = None,
    z_loss: Scalar = 0.0,
    soft_cap: Scalar | None = None,
    recompute: bool = False,
    precision: Any = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Cross entropy of `features @ weights + bias` with integer labels, without all the logits.

    For a large vocabulary the logits and their gradients are by far the largest arrays of a training
    step. Here they exist for one chunk of rows at a time, forward and backward, with the same values
    and gradients. Supports forward and reverse mode.

    Args:
      features: f, the inputs of the last layer, shape [..., features].
      weights: W, shape [features, classes]: the transpose of a weight of torch. Square weights of the
        other orientation cannot be told from it.
      labels: y, integers in [0, classes), shape [...]; others give NaN, in the value and in the
        gradient, as in `softmax_cross_entropy_with_integer_labels`.
      bias: b, shape [classes]; −inf excludes a class (such as padding of the vocabulary).
      chunk_size: the number of rows of a chunk. Smaller chunks use less memory, and more time once the
        matrix products are too small to be efficient. By default a quarter of the rows, or more if
        there are few logits.
      label_smoothing: ε, the share of the label that is spread evenly over all classes, in [0, 1].
      ignore_index: a label whose rows give 0 and no gradient (such as −100), in range or not, whatever
        their features.
      z_loss: the weight of the squared log-normalizer, at least 0 (such as 1e-4).
      soft_cap: the bound on the magnitude of the logits, greater than 0: x ← soft_cap·tanh(x /
        soft_cap); None for no bound.
      recompute: whether the backward pass recomputes the logits, with four matrix products in total.
        Otherwise the forward pass computes the gradients, with three products, and the backward pass
        scales them; if the cotangents of the rows differ (which is checked at run time), the logits
        are recomputed nevertheless. Under `vmap` both happen, and `recompute=True` is faster. Features
        or weights that are split over Explicit axes of a mesh are always recomputed.
      precision: the precision of the matrix products, as for `jax.numpy.matmul`.
      where: boolean mask of the labels' shape; rows that are False give 0 and no gradient, whatever
        their features and labels.

    Returns:
      The loss of each row, of the labels' shape, at least float32, at least 0.

    Raises:
      TypeError: if the labels are not integers, or another argument is not an array of real numbers.
      ValueError: if the shapes do not match, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import linear_softmax_cross_entropy
      >>> features, weights = jnp.ones((3, 2)), jnp.zeros((2, 4))
      >>> linear_softmax_cross_entropy(features, weights, jnp.array([0, 3, 1]), chunk_size=2)
      Array([1.3862944, 1.3862944, 1.3862944], dtype=float32)
    """
    name = "linear_softmax_cross_entropy"
    check_number(name, low=0, high=1, label_smoothing=label_smoothing)
    check_number(name, low=0, z_loss=z_loss)
    check_number_or_none(name, above=0, soft_cap=soft_cap)
    layer = linear_layer(name, features, weights, bias)
    labelled = labels_of_rows(name, labels, layer, where, ignore_index)
    if not layer.rows:
        return jnp.zeros(layer.shape, layer.f.dtype)
    share, z = (jnp.asarray(x, layer.f.dtype) for x in (label_smoothing, z_loss))
    rule = CrossEntropy(not is_zero(label_smoothing))
    given = (bounds_of(layer, soft_cap), (share, z), (labelled.target,))
    plan = Plan(chunk_size_of(name, chunk_size, layer), rule, precision)
    loss = values_of(
        recomputed if recompute else with_unit_gradients, plan, layer, given, labelled.included
    )
    return labelled.rules(loss)
