"""Statistics of a gradient estimate: mean, variance, signal-to-noise ratio and cost.

ḡ = (1/R)·Σ_r g_r,   s² = Σ_r (g_r − ḡ)² / (R − 1),   SNR = √(Σḡ² / Σs²)

where g_1, …, g_R are independent repetitions of the whole estimate, s² is the variance of one estimate, and
the sums of SNR are over the entries of the parameters.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import PyTree
from optx_estimators._errors import EstimatorError
from optx_estimators._estimator import Estimator, make
from optx_estimators._method import Method
from optx_estimators._noise import Noise, iid


class GradientStats(NamedTuple):
    """Result of `gradient_stats`.

    Attributes:
      value: the mean of the estimates of E f, a scalar.
      mean: the mean gradient, a tree like the parameters.
      variance: the variance of one estimate from num_samples samples, a tree like the parameters.
      total_variance: the sum of all entries of `variance`, a scalar.
      snr: √(Σmean²/Σvariance), a scalar; infinite if the variance is 0.
      evaluations: evaluations of the function in one estimate (its derivatives not counted).
      seconds: the median wall-clock time of one compiled estimate, in seconds.
    """

    value: jax.Array
    mean: PyTree
    variance: PyTree
    total_variance: jax.Array
    snr: jax.Array
    evaluations: int
    seconds: float


def gradient_stats(
    f: Callable[..., Any],
    dist_fn: Callable[[Any], Any],
    params: PyTree,
    key: jax.Array,
    num_samples: int,
    *,
    method: Method,
    noise: Noise = iid(),  # noqa: B008 (immutable)
    repeats: int = 64,
    with_params: bool = False,
    state: Any = None,
    context: Any = None,
) -> GradientStats:
    """Measures the variance of an estimate by repetition; valid for coupled samples and every noise.

    Args:
      f: a function from one sample to a real scalar; called `f(x, params)` if `with_params`.
      dist_fn: a function from the parameters to a distribution of one event.
      params: a tree of floating-point arrays.
      key: a PRNG key.
      num_samples: N, the number of samples of each estimate.
      method: the gradient estimator.
      noise: the source of randomness.
      repeats: R, the number of repetitions, at least 2.
      with_params: whether f takes the parameters as its second argument.
      state: the state of a method that learns; by default, its initial state.
      context: the argument of a learned baseline.

    Returns:
      A `GradientStats`.

    Raises:
      EstimatorError: if `repeats` is less than 2, or the method does not hold.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import Normal, gradient_stats, pathwise
      >>> stats = gradient_stats(lambda x: x**2, lambda m: Normal(m, 1.0), jnp.array(1.0),
      ...                        jax.random.key(0), 8, method=pathwise())
      >>> stats.evaluations
      8
    """
    e = make("gradient_stats", f, dist_fn, method, noise, with_params)
    return stats_of(e, params, key, num_samples, repeats, state, context)


def stats_of(
    e: Estimator,
    params: PyTree,
    key: jax.Array,
    num_samples: int,
    repeats: int,
    state: Any,
    context: Any,
) -> GradientStats:
    """The `gradient_stats` of an estimator."""
    if repeats < 2:
        raise EstimatorError(f"{e.problem.where}: repeats must be at least 2, not {repeats}")
    state = e.init(params) if state is None else state

    @jax.jit
    def once(params: PyTree, keys: jax.Array, i: int, state: Any) -> tuple[jax.Array, PyTree]:
        z = e.draw(params, keys[i], num_samples)
        return jax.value_and_grad(lambda p: e.estimate(p, z, state, context=context))(params)

    keys = jax.random.split(key, repeats)
    jax.block_until_ready(once(params, keys, 0, state))
    outs, times = [], []
    for i in range(repeats):
        start = time.perf_counter()
        outs.append(jax.block_until_ready(once(params, keys, i, state)))
        times.append(time.perf_counter() - start)
    values, grads = jax.tree_util.tree_map(lambda *xs: np.stack(xs), *outs)
    seconds = sorted(times)[repeats // 2]
    value, mean, variance, total, snr = _moments(values, grads)
    evaluations = e.evaluations(params, num_samples)
    return GradientStats(value, mean, variance, total, snr, evaluations, seconds)


@jax.jit
def _moments(
    values: jax.Array, grads: PyTree
) -> tuple[jax.Array, PyTree, PyTree, jax.Array, jax.Array]:
    """The first five fields of `GradientStats`, from all repetitions."""
    tree_map, leaves = jax.tree_util.tree_map, jax.tree_util.tree_leaves
    mean = tree_map(lambda g: jnp.mean(g, axis=0), grads)
    variance = tree_map(lambda g: jnp.var(g, axis=0, ddof=1), grads)
    zero = jnp.zeros((), values.dtype)
    signal = sum((jnp.sum(jnp.square(m)).astype(zero.dtype) for m in leaves(mean)), zero)
    total = sum((jnp.sum(v).astype(zero.dtype) for v in leaves(variance)), zero)
    snr = jnp.where(total > 0, jnp.sqrt(signal / jnp.where(total > 0, total, 1)), jnp.inf)
    return jnp.mean(values), mean, variance, total, snr
