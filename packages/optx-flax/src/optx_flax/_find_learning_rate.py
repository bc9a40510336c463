"""A range test for the learning rate of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import optx_core
from flax import nnx


def find_learning_rate(
    make: Callable[[Any], Any],
    loss_fn: Callable[[Any, Any], Any],
    model: Any,
    batches: Iterable[Any],
    *,
    wrt: Any = nnx.Param,
    **options: Any,
) -> optx_core.LearningRateSweep:
    """Sweeps over learning rates for a good one, on a copy of the model: the model does not change.

    Args:
      make: makes the transformation from a learning rate, such as `sgd`.
      loss_fn: `loss_fn(model, batch)` returns the loss, a scalar. The statistics of BatchNorm and the
        counts of keys go on from step to step, in the copy.
      model: the `nnx.Module`.
      batches: the batches, one for each step.
      wrt: which Variables are trained.
      **options: `low`, `high`, `steps`, `smoothing` and `divergence` of `optx_core.find_learning_rate`.

    Returns:
      An `optx_core.LearningRateSweep`.

    Raises:
      ValueError: if an option is out of range, or there are fewer than two batches.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from optx_core import scale_by_learning_rate
      >>> from optx_flax import find_learning_rate
      >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
      >>> def loss(model, x):
      ...     return jnp.mean((model(x) - 1.0) ** 2)
      >>> batches = [jnp.ones((4, 2))] * 50
      >>> sweep = find_learning_rate(scale_by_learning_rate, loss, model, batches, low=1e-4, steps=50)
      >>> sweep.diverged, 1e-3 < sweep.suggestion < 1.0
      (True, True)

    Reference: https://arxiv.org/abs/1506.01186, section 3.3.
    """
    graphdef, params, rest = nnx.split(model, wrt, ...)

    def loss(params: Any, rest: Any, batch: Any) -> tuple[Any, Any]:
        copy = nnx.merge(graphdef, params, rest, copy=True)
        value = loss_fn(copy, batch)
        return value, nnx.split(copy, wrt, ...)[2]

    return optx_core.find_learning_rate(make, loss, params, batches, extra_state=rest, **options)
