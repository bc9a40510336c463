"""A range test for the learning rate (Smith, 2017, section 3.3).

The learning rate grows exponentially with the step, η_i = low·(high/low)^(i/(n − 1)), until the loss
diverges. With L_i the debiased moving average of the losses,

a_i = β·a_{i−1} + (1 − β)·loss_i        L_i = a_i / (1 − β^{i+1})

the suggestion is the η at which L decreases most steeply over log η, between the first 1/(1 − β) steps and
the minimum of L.

Cyclical Learning Rates for Training Neural Networks, WACV 2017, https://arxiv.org/abs/1506.01186
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import Params, PyTree, with_extra_args_support
from optx_core._training.apply_updates import apply_updates


@dataclasses.dataclass(frozen=True)
class LearningRateSweep:
    """The result of `find_learning_rate`.

    Attributes:
      learning_rates: float64 (steps,), the tested learning rates.
      losses: float64 (steps,), the loss before each step.
      smoothed: float64 (steps,), its running average.
      suggestion: the learning rate at which the average decreases most steeply; None if it never decreases.
      diverged: whether the sweep ended because the loss diverged or was not finite.
    """

    learning_rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float | None
    diverged: bool


def find_learning_rate(
    make: Callable[[Any], Any],
    loss_fn: Callable[..., Any],
    params: Params,
    batches: Iterable[Any],
    *,
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
    smoothing: float = 0.9,
    divergence: float = 4.0,
    extra_state: PyTree = None,
) -> LearningRateSweep:
    """Suggests a learning rate by a sweep over many. The arguments are not modified.

    Args:
      make: returns the transformation for a learning rate, a traced float32 scalar: `sgd`, or
        `lambda rate: chain(clip_by_global_norm(1.0), adamw(rate))`.
      loss_fn: `loss_fn(params, batch)` returns the loss, a real scalar; with `extra_state`,
        `loss_fn(params, extra_state, batch)` returns the loss and the new `extra_state`.
      params: the initial parameters, a tree of floating-point arrays.
      batches: the batches, one per step; the sweep ends with the last.
      low: the first learning rate.
      high: the last learning rate.
      steps: the number of learning rates, including both ends, at least 2.
      smoothing: β, the weight of the past in the average of the losses, in [0, 1).
      divergence: c, greater than 1; the sweep stops when the average exceeds its minimum L by more than
        (c − 1)·|L|.
      extra_state: state that the loss passes from step to step, such as the statistics of BatchNorm.

    Returns:
      A `LearningRateSweep`.

    Raises:
      ValueError: if an argument is out of range, or there are fewer than two batches.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import find_learning_rate, scale
      >>> def loss(params, batch):
      ...     return jnp.sum((params - batch) ** 2)
      >>> sweep = find_learning_rate(
      ...     lambda rate: scale(-rate), loss, jnp.ones(3), [jnp.zeros(3)] * 60, low=1e-4, steps=60
      ... )
      >>> sweep.diverged, 0.01 < sweep.suggestion < 0.5
      (True, True)

    Reference: https://arxiv.org/abs/1506.01186, section 3.3.
    """
    if not 0 < low < high < math.inf:
        raise ValueError(
            f"find_learning_rate: 0 < low < high must hold: low={low!r}, high={high!r}"
        )
    if not isinstance(steps, int) or steps < 2:
        raise ValueError(f"find_learning_rate: steps must be an int of at least 2, not {steps!r}")
    if not 0 <= smoothing < 1:
        raise ValueError(f"find_learning_rate: smoothing must be in [0, 1), not {smoothing!r}")
    if not divergence > 1:
        raise ValueError(
            f"find_learning_rate: divergence must be greater than 1, not {divergence!r}"
        )
    has_extra_state = extra_state is not None

    def objective(params: Params, extra: PyTree, batch: Any) -> tuple[Any, PyTree]:
        return loss_fn(params, extra, batch) if has_extra_state else (loss_fn(params, batch), None)

    @jax.jit
    def step(carry: Any, rate: jax.Array, batch: Any) -> tuple[Any, jax.Array]:
        params, state, extra = carry
        (loss, extra), grads = jax.value_and_grad(objective, has_aux=True)(params, extra, batch)
        tx = with_extra_args_support(make(rate))
        updates, state = tx.update(grads, state, params, value=loss)
        return (apply_updates(params, updates), state, extra), loss

    carry = (params, make(jnp.float32(low)).init(params), extra_state)
    rates = low * (high / low) ** (np.arange(steps) / (steps - 1))
    losses: list[float] = []
    smoothed: list[float] = []
    average, best, diverged = 0.0, math.inf, False
    for rate, batch in zip(rates, itertools.islice(batches, steps), strict=False):
        carry, loss = step(carry, jnp.float32(rate), batch)
        losses.append(float(loss))
        average = smoothing * average + (1 - smoothing) * losses[-1]
        smoothed.append(average / (1 - smoothing ** len(losses)))
        best = min(best, smoothed[-1])
        diverged = not smoothed[-1] <= best + (divergence - 1) * abs(best)
        if diverged:
            break
    if len(losses) < 2:
        raise ValueError(
            f"find_learning_rate: the sweep ended after {len(losses)} of {steps} steps: it needs two "
            "batches, and a finite loss at the first"
        )
    tested = rates[: len(losses)]
    return LearningRateSweep(
        tested,
        np.array(losses),
        np.array(smoothed),
        _steepest(tested, smoothed, smoothing),
        diverged,
    )


def _steepest(rates: np.ndarray, smoothed: list[float], smoothing: float) -> float | None:
    """Returns the rate at which the losses decrease most steeply, before their minimum.

    The first 1/(1 − β) averages are skipped: they are of few losses, so noise dominates their slopes.
    """
    finite = list(itertools.takewhile(math.isfinite, smoothed))
    if len(finite) < 2:
        return None
    slopes = np.gradient(np.array(finite), np.log(rates[: len(finite)]))
    lowest = int(np.argmin(finite))
    start = min(round(1 / (1 - smoothing)), lowest // 2)
    before = slopes[start : max(lowest, 1)]
    return float(rates[start + int(np.argmin(before))]) if before.min() < 0 else None
