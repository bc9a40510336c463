"""The last layer and its cross entropy together, a few rows at a time.

x = f·W + b, then soft_cap·tanh(x / soft_cap) where asked for
loss = (1 − ε)·(L − x_y) + ε·(L − mean_c x_c) + z_loss·L²,   L = log Σ_c exp x_c
dloss/dx_c = exp(x_c − L)·(1 + 2·z_loss·L) − (1 − ε)·[c = y] − ε / K

The logits of one chunk of rows exist at a time; how derivatives are made of that is told in
`_chunks.py`.
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
from optx_losses._inputs import as_floats, as_integers, has_shape
from optx_losses._integer_labels import label_rules
from optx_losses._rows import Plan, is_split

_CHUNKS = 4  # by default, of the rows
_LEAST_LOGITS = 2**20  # and not less than so many, 4 MiB


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
) -> jax.Array:
    """Cross entropy of `features @ weights + bias` with integer labels, without all the logits.

    For a large vocabulary the logits, and their gradients, are by far the largest arrays of a
    training step. Here they exist for one chunk of rows at a time, forward and backward, with the
    same values and gradients. Works in forward and in reverse mode.

    Args:
      features: f, the inputs of the last layer, shape [..., features].
      weights: W, shape [features, classes].
      labels: y, integers in [0, classes), shape [...]; others give NaN, in the value and in the
        gradient, as in `softmax_cross_entropy_with_integer_labels`.
      bias: b, shape [classes]; −inf rules a class out (padding of the vocabulary, say).
      chunk_size: how many rows at a time. Fewer take less memory, and more time once the product is
        too small to be efficient. By default a quarter of the rows, or more where the logits are few.
      label_smoothing: ε, the share of the label that goes to all classes alike, in [0, 1].
      ignore_index: a label that gives 0 and no gradient (−100, say), whether or not in range.
      z_loss: how much of the squared log-normalizer to add, at least 0 (1e-4, say).
      soft_cap: bound on the logits' magnitude, greater than 0: x ← soft_cap·tanh(x / soft_cap);
        None for none.
      recompute: whether to compute the logits again going back, four matrix products in all. If not,
        the gradients are made going forward, three products, and multiplied going back; where the
        cotangents of the rows are not all equal (looked at when running) the logits are computed
        again after all. Under `vmap` both are done, and `recompute=True` is the faster. Features or
        weights that are split over the Explicit axes of a mesh are always taken this way.
      precision: of the matrix products, as for `jax.numpy.matmul`.

    Returns:
      The loss of each row, of the labels' shape, float32 or wider, at least 0.

    Raises:
      TypeError: if the labels are no integers, or another argument no array of real numbers.
      ValueError: if the shapes do not fit, or a number is out of its range.

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
        has_shape(name, "bias", b, (classes,), "one for each class")
        b = b.astype(f.dtype)
    known = (y >= 0) & (y < classes)
    if not rows:
        return jnp.zeros(y.shape, f.dtype)
    right = jnp.where(known, y, 0).reshape(rows).astype(jnp.int32)

    share, z = jnp.asarray(label_smoothing, f.dtype), jnp.asarray(z_loss, f.dtype)
    smooth = not (isinstance(label_smoothing, int | float) and label_smoothing == 0)
    cap = None if soft_cap is None else jnp.asarray(soft_cap, f.dtype)
    counts = jnp.ones(rows, bool) if ignore_index is None else (y != ignore_index).reshape(rows)
    plan = Plan(_chunk_size(name, chunk_size, rows, classes), smooth, precision)
    f = f.reshape(rows, f.shape[-1])
    # On Explicit axes jax decides how the gradients of what is split are summed over the devices.
    recompute = recompute or is_split(f) or is_split(w)
    chunked = recomputed if recompute else with_unit_gradients
    loss = chunked(plan, f, w, b, (share, z, cap), right, counts)
    return label_rules(loss.reshape(y.shape), y, known, ignore_index)


def _chunk_size(name: str, chunk_size: int | None, rows: int, classes: int) -> int:
    if chunk_size is None:
        return min(rows, max(-(-rows // _CHUNKS), -(-_LEAST_LOGITS // classes)))
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1:
        raise ValueError(f"{name}: chunk_size must be a number of rows, not {chunk_size!r}")
    return min(chunk_size, rows)
