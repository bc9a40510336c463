"""Fenchel-Young losses.

loss(s, y) = Ω*(s) − ⟨s, y⟩,   dloss/ds = ∇Ω*(s) − y

where s are the scores, y is the target and Ω* is `max_fun`, the convex conjugate of a regularizer Ω. The
term Ω(y), which does not depend on the scores, is left out.

References: Blondel, Martins, Niculae, "Learning with Fenchel-Young Losses", 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_losses._inputs import as_floats, axes_of, class_last, same_shape
from optx_losses._log_softmax import times_log


def make_fenchel_young_loss(
    max_fun: Callable[..., Any], *, axis: int = -1
) -> Callable[..., jax.Array]:
    """Creates the loss of a regularized maximum.

    Args:
      max_fun: Ω*, a convex function `max_fun(scores, *args, **kwargs)` from a vector of scores to a
        scalar: logsumexp gives the softmax cross entropy, max the perceptron loss.
      axis: the axis of the score vectors.

    Returns:
      A function `loss(scores, targets, *args, **kwargs)`: scores and targets have the same shape, such
      as [..., n]; the loss has that shape without `axis`, at least float32.

    Raises:
      TypeError: if `max_fun` is not callable.
      ValueError: from the loss, if the shapes differ or the axis is out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_losses import make_fenchel_young_loss
      >>> loss = make_fenchel_young_loss(jax.nn.logsumexp)
      >>> loss(jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0]))
      Array(0.6931472, dtype=float32)
    """
    if not callable(max_fun):
        raise TypeError(f"make_fenchel_young_loss: max_fun must be a function, not {max_fun!r}")

    def fenchel_young_loss(
        scores: ArrayLike, targets: ArrayLike, *args: Any, **kwargs: Any
    ) -> jax.Array:
        s, y = as_floats("fenchel_young_loss", scores=scores, targets=targets)
        same_shape("fenchel_young_loss", scores=s, targets=y)
        if not s.ndim:
            raise ValueError("fenchel_young_loss: scores need an axis to take the maximum over")
        axes = axes_of("fenchel_young_loss", axis, s.ndim)
        s, y = class_last(s, axes), class_last(y, axes)
        largest = jnp.vectorize(lambda row: max_fun(row, *args, **kwargs), signature="(n)->()")
        return largest(s) - jnp.sum(times_log(y, s), axis=-1)

    return fenchel_young_loss
