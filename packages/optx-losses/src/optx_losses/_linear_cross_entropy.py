"""The last layer fused with its cross entropy, a chunk of rows at a time.

x = f·W + b, optionally followed by soft_cap·tanh(x / soft_cap)
loss = (1 − ε)·(L − x_y) + ε·(L − mean_c x_c) + z_loss·L²,   L = log Σ_c exp x_c
dloss/dx_c = exp(x_c − L)·(1 + 2·z_loss·L) − (1 − ε)·[c = y] − ε / K

Only the logits of one chunk of rows exist at a time; `_chunks.py` describes how they are
differentiated.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_core.build import check_number
from optx_losses._chunks import recomputed, with_unit_gradients
from optx_losses._inputs import as_floats, as_index, as_integers, as_mask, has_shape, keep
from optx_losses._integer_labels import equals, is_zero, label_rules
from optx_losses._rows import Plan, is_split

_CHUNKS = 4  # the default number of chunks
_LEAST_LOGITS = 2**20  # the default least number of logits of a chunk, 4 MiB


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
      weights: W, shape [features, classes].
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
    check_number(name, above=0, soft_cap=soft_cap)
    f, w = as_floats(name, features=features, weights=weights)
    y = as_integers(name, "labels", labels)
    if not f.ndim or w.ndim != 2 or f.shape[-1] != w.shape[0]:
        raise ValueError(
            f"{name}: features is {f.shape}, weights is {w.shape}; they must be [..., features] and "
            "[features, classes]"
        )
    has_shape(name, "labels", y, f.shape[:-1], f"the features are {f.shape}")
    classes, rows = w.shape[1], math.prod(y.shape)
    if not classes:
        raise ValueError(f"{name}: weights is {w.shape}; there must be at least one class")
    b = None
    if bias is not None:
        (b,) = as_floats(name, bias=bias)
        has_shape(name, "bias", b, (classes,), "one bias for each class")
        b = b.astype(f.dtype)
    mask = as_mask(name, where, y, "the labels")
    index = as_index(name, ignore_index)
    if not rows:
        return jnp.zeros(y.shape, f.dtype)
    ignored = None if mask is None else ~mask
    if index is not None:
        ignored = equals(y, index) if ignored is None else ignored | equals(y, index)
    in_range = (y >= 0) & (y < classes)
    target = jnp.where(in_range, y, 0).reshape(rows).astype(jnp.int32)

    share, z = jnp.asarray(label_smoothing, f.dtype), jnp.asarray(z_loss, f.dtype)
    cap = None if soft_cap is None else jnp.asarray(soft_cap, f.dtype)
    plan = Plan(
        _chunk_size(name, chunk_size, rows, classes), not is_zero(label_smoothing), precision
    )
    f = f.reshape(rows, f.shape[-1])
    included = jnp.ones(rows, bool)
    if ignored is not None:
        included = ~ignored.reshape(rows)
        f = keep(included[:, None], f)  # features of ignored rows may be NaN
    # On Explicit axes JAX decides how gradients of split arrays are summed over the devices.
    recompute = recompute or is_split(f) or is_split(w)
    chunked = recomputed if recompute else with_unit_gradients
    loss = chunked(plan, f, w, b, (share, z, cap), target, included)
    return label_rules(loss.reshape(y.shape), in_range, ignored)


def _chunk_size(name: str, chunk_size: int | None, rows: int, classes: int) -> int:
    if chunk_size is None:
        return min(rows, max(-(-rows // _CHUNKS), -(-_LEAST_LOGITS // classes)))
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1:
        raise ValueError(
            f"{name}: chunk_size must be a positive number of rows, not {chunk_size!r}"
        )
    return min(chunk_size, rows)
