"""Log-probabilities of labels, and entropies, from the features and weights of the last layer.

x = f·W + b,   L = log Σ_c exp x_c,   log p = x − L,   H = −Σ_c p_c·log p_c
dlog p_y/dx_c = [c = y] − p_c,   dH/dx_c = −p_c·(log p_c + H)

where f are the features of one position, W the kernel and b the bias of the layer, x the logits, L their
log-normalizer, p the probabilities, H their entropy, y the label, and c runs over the classes.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._chunks import recomputed
from optx_losses._inputs import check_number_or_none
from optx_losses._layout import at_label
from optx_losses._linear_layer import (
    bounds_of,
    chunk_size_of,
    labels_of_rows,
    linear_layer,
    values_of,
)
from optx_losses._log_softmax import finite_max
from optx_losses._row_losses import CrossEntropy
from optx_losses._rows import Held, Plan


@overload
def linear_log_probs(
    features: ArrayLike,
    weights: ArrayLike,
    labels: ArrayLike,
    *,
    entropy: Literal[False] = False,
    bias: ArrayLike | None = None,
    temperature: Scalar | None = None,
    soft_cap: Scalar | None = None,
    chunk_size: int | None = None,
    ignore_index: int | None = None,
    precision: Any = None,
    where: ArrayLike | None = None,
) -> jax.Array: ...


@overload
def linear_log_probs(
    features: ArrayLike,
    weights: ArrayLike,
    labels: ArrayLike,
    *,
    entropy: Literal[True],
    bias: ArrayLike | None = None,
    temperature: Scalar | None = None,
    soft_cap: Scalar | None = None,
    chunk_size: int | None = None,
    ignore_index: int | None = None,
    precision: Any = None,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]: ...


def linear_log_probs(
    features: ArrayLike,
    weights: ArrayLike,
    labels: ArrayLike,
    *,
    entropy: bool = False,
    bias: ArrayLike | None = None,
    temperature: Scalar | None = None,
    soft_cap: Scalar | None = None,
    chunk_size: int | None = None,
    ignore_index: int | None = None,
    precision: Any = None,
    where: ArrayLike | None = None,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Log-probabilities of labels under `features @ weights + bias`, without all the logits.

    The policy and preference losses start from them: `ppo_loss`, or `answer_log_probs` and `dpo_loss`.
    The logits exist for one chunk of rows at a time; the backward pass computes them again, with four
    matrix products in total, since each row has a cotangent of its own. For a loss that is a sum or mean
    over rows, `linear_softmax_cross_entropy` needs three.

    Args:
      features: f, the inputs of the last layer, shape [..., features].
      weights: W, shape [features, classes], as for `linear_softmax_cross_entropy`.
      labels: y, integers in [0, classes), shape [...]; others give NaN, in the value and in the
        gradient.
      entropy: whether the entropies are returned as well.
      bias: b, shape [classes]; −inf excludes a class (such as padding of the vocabulary).
      temperature: the divisor of the logits, greater than 0, that of the sampling; None for 1.
      soft_cap: as for `linear_softmax_cross_entropy`.
      chunk_size: the number of rows of a chunk; by default a quarter of the rows, or more if there are
        few logits.
      ignore_index: a label whose rows give 0 and no gradient (such as −100), in range or not, whatever
        their features.
      precision: the precision of the matrix products, as for `jax.numpy.matmul`.
      where: boolean mask of the labels' shape; rows that are False give 0 and no gradient, whatever
        their features and labels.

    Returns:
      The log-probabilities, of the labels' shape, at least float32, at most 0; with `entropy` a pair,
      the second part the entropies in nats, of the same shape.

    Raises:
      TypeError: if the labels are not integers, or another argument is not an array of real numbers.
      ValueError: if the shapes do not match, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import linear_log_probs
      >>> features, weights = jnp.ones((3, 2)), jnp.zeros((2, 4))
      >>> linear_log_probs(features, weights, jnp.array([0, 3, 1]))
      Array([-1.3862944, -1.3862944, -1.3862944], dtype=float32)
    """
    name = "linear_log_probs"
    check_number_or_none(name, above=0, temperature=temperature, soft_cap=soft_cap)
    layer = linear_layer(name, features, weights, bias)
    labelled = labels_of_rows(name, labels, layer, where, ignore_index)
    if not layer.rows:
        empty = jnp.zeros(layer.shape, layer.f.dtype)
        return (empty, empty) if entropy else empty
    zero = jnp.zeros((), layer.f.dtype)
    rule = LogProbsAndEntropy() if entropy else CrossEntropy(smooth=False)
    numbers = () if entropy else (zero, zero)
    given = (bounds_of(layer, soft_cap, temperature), numbers, (labelled.target,))
    plan = Plan(chunk_size_of(name, chunk_size, layer), rule, precision)
    values = values_of(recomputed, plan, layer, given, labelled.included)
    if not entropy:
        return labelled.rules(0 - values)
    return labelled.rules(values[:, 0]), values[:, 1].reshape(layer.shape)


@dataclasses.dataclass(frozen=True)
class LogProbsAndEntropy:
    """log p_y and H as a rule; its rows are the labels."""

    def values(self, plan: Plan, x: jax.Array, numbers: Any, rows: Any) -> jax.Array:
        """log p_y and H, shape [rows, 2]."""
        return self.hold(plan, x, numbers, rows, True)[0]

    def hold(
        self, plan: Plan, x: jax.Array, numbers: Any, rows: Any, exact: bool
    ) -> tuple[jax.Array, Held]:
        """log p_y and H; and x, L and H."""
        del plan, numbers, exact
        (target,) = rows
        x_target, m = at_label(x, target), finite_max(x, (1,))
        e = jnp.exp(x - m)
        total = jnp.sum(e, axis=1)
        total = jnp.where(total == 0, 1, total)
        # Two terms that are not negative: log Σ e and −Σ e·log e / Σ e.
        h = jnp.log(total) - jnp.sum(e * jnp.where(e > 0, x - m, 0), axis=1) / total
        log_z = jnp.log(total) + m[:, 0]
        return jnp.stack([x_target - log_z, h], axis=1), Held((x,), (log_z, h))

    def slopes(
        self, numbers: Any, rows: Any, held: Held, classes: jax.Array, g: jax.Array | None
    ) -> jax.Array:
        """g₁·dlog p_y/dx + g₂·dH/dx."""
        del numbers
        assert g is not None  # noqa: S101
        (target,), (x,), (log_z, h) = rows, *held
        log_p = x - log_z[:, None]
        p = jnp.exp(log_p)
        of_label, of_entropy = g[:, :1], g[:, 1:]
        is_target = (classes[None, :] == target[:, None]).astype(x.dtype)
        rest = jnp.where(p > 0, log_p + h[:, None], 0)
        return of_label * is_target - p * (of_label + of_entropy * rest)
