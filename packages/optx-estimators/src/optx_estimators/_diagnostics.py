"""How good an estimate is: its mean, variance, signal-to-noise ratio, and what it costs.

Over R independent repetitions g_1, …, g_R of the whole estimate: mean ḡ, variance s² of one estimate,
SNR = √(Σḡ² / Σs²).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import PyTree
from optx_estimators._errors import EstimatorError
from optx_estimators._estimator import Estimator, make
from optx_estimators._method import Method
from optx_estimators._noise import Noise, iid


class GradientStats(NamedTuple):
    """What `gradient_stats` finds.

    Attributes:
      value: the mean of the estimates of E f, a scalar.
      mean: the mean gradient, a tree like the parameters.
      variance: the variance of one estimate from num_samples samples, likewise.
      total_variance: the sum of its entries, a scalar.
      snr: √(Σmean²/Σvariance), a scalar; inf without variance.
      evaluations: evaluations of the function in one estimate (its derivatives not counted).
      seconds: median time of one compiled estimate.
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
    """Repeats an estimate and tells how it varies: honest for coupled samples and every noise.

    Args:
      f: from one sample to a real scalar; called `f(x, params)` if `with_params`.
      dist_fn: from the parameters to a distribution of one event.
      params: a tree of floating-point arrays.
      key: a PRNG key.
      num_samples: N, of each estimate.
      method: how the gradient is estimated.
      noise: where the randomness comes from.
      repeats: R, at least 2.
      with_params: whether f takes the parameters too.
      state: the state of a method that learns; its first one by default.
      context: passed on to a learned baseline.

    Returns:
      `GradientStats`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import Normal, gradient_stats, pathwise
      >>> stats = gradient_stats(lambda x: x**2, lambda m: Normal(m, 1.0), jnp.array(1.0),
      ...                        jax.random.key(0), 8, method=pathwise())
      >>> stats.evaluations
      8
    """
    e = make("gradient_stats", f, dist_fn, method, noise, with_params)
    return _stats(e, params, key, num_samples, repeats, state, context)


def _stats(
    e: Estimator,
    params: PyTree,
    key: jax.Array,
    num_samples: int,
    repeats: int,
    state: Any,
    context: Any,
) -> GradientStats:
    if repeats < 2:
        raise EstimatorError(f"repeats must be at least 2, not {repeats}")
    state = e.init(params) if state is None else state

    @jax.jit
    def once(params: PyTree, key: jax.Array, state: Any) -> tuple[jax.Array, PyTree]:
        z = e.draw(params, key, num_samples)
        return jax.value_and_grad(lambda p: e.estimate(p, z, state, context=context))(params)

    keys = jax.random.split(key, repeats)
    jax.block_until_ready(once(params, keys[0], state))
    outs, times = [], []
    for k in keys:
        start = time.perf_counter()
        outs.append(jax.block_until_ready(once(params, k, state)))
        times.append(time.perf_counter() - start)
    values, grads = jax.tree_util.tree_map(lambda *xs: jnp.stack(xs), *outs)
    tree_map, leaves = jax.tree_util.tree_map, jax.tree_util.tree_leaves
    mean = tree_map(lambda g: jnp.mean(g, axis=0), grads)
    variance = tree_map(lambda g: jnp.var(g, axis=0, ddof=1), grads)
    zero = jnp.zeros((), values.dtype)
    signal = sum((jnp.sum(jnp.square(m)).astype(zero.dtype) for m in leaves(mean)), zero)
    total = sum((jnp.sum(v).astype(zero.dtype) for v in leaves(variance)), zero)
    snr = jnp.where(total > 0, jnp.sqrt(signal / jnp.where(total > 0, total, 1)), jnp.inf)
    return GradientStats(
        jnp.mean(values),
        mean,
        variance,
        total,
        snr,
        e.evaluations(params, num_samples),
        sorted(times)[len(times) // 2],
    )


class Comparison(dict[str, GradientStats]):
    """`GradientStats` by name, which prints as a table."""

    def __str__(self) -> str:
        rows = [("method", "value", "variance", "snr", "evaluations", "milliseconds")]
        rows += [
            (
                name,
                f"{float(s.value):.6g}",
                f"{float(s.total_variance):.4g}",
                f"{float(s.snr):.4g}",
                str(s.evaluations),
                f"{1e3 * s.seconds:.3g}",
            )
            for name, s in self.items()
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        return "\n".join(
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        )


def _named(methods: Mapping[str, Method] | Sequence[Method]) -> dict[str, Method]:
    if isinstance(methods, Mapping):
        return dict(methods)
    return {" ".join(repr(method).split()): method for method in methods}


def compare(
    methods: Mapping[str, Method] | Sequence[Method],
    f: Callable[..., Any],
    dist_fn: Callable[[Any], Any],
    params: PyTree,
    key: jax.Array,
    num_samples: int,
    *,
    noise: Noise = iid(),  # noqa: B008 (immutable)
    repeats: int = 64,
    with_params: bool = False,
) -> Comparison:
    """`gradient_stats` of several methods on one problem, at equal numbers of samples.

    Args:
      methods: by name, or a sequence of them.
      f: from one sample to a real scalar; called `f(x, params)` if `with_params`.
      dist_fn: from the parameters to a distribution of one event.
      params: a tree of floating-point arrays.
      key: a PRNG key.
      num_samples: N, of each estimate.
      noise: where the randomness comes from.
      repeats: how often each is repeated.
      with_params: whether f takes the parameters too.

    Returns:
      A dict of `GradientStats` by name; `print` it for a table.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import Bernoulli, compare, disarm, leave_one_out, score_function
      >>> table = compare([score_function(leave_one_out()), disarm()],
      ...                 lambda x: jnp.sum((x - 0.45) ** 2), Bernoulli, jnp.zeros(4),
      ...                 jax.random.key(0), 2, repeats=4)
      >>> [s.evaluations for s in table.values()]
      [2, 4]
    """
    return Comparison(
        (
            name,
            gradient_stats(
                f,
                dist_fn,
                params,
                key,
                num_samples,
                method=method,
                noise=noise,
                repeats=repeats,
                with_params=with_params,
            ),
        )
        for name, method in _named(methods).items()
    )


class Choice(NamedTuple):
    """What `select` decides.

    Attributes:
      method: the method of least variance within the budget.
      num_samples: how many samples the budget buys it.
      table: what was measured, by name.
    """

    method: Method
    num_samples: int
    table: Comparison


def select(
    candidates: Mapping[str, Method] | Sequence[Method],
    budget: int,
    f: Callable[..., Any],
    dist_fn: Callable[[Any], Any],
    params: PyTree,
    key: jax.Array,
    *,
    noise: Noise = iid(),  # noqa: B008 (immutable)
    repeats: int = 64,
    with_params: bool = False,
    allow_biased: bool = False,
) -> Choice:
    """The method of least variance for a budget of evaluations of the function.

    Each candidate gets as many samples as the budget buys it (a differentiated evaluation counts as
    one); those that cannot be had for the budget, or do not hold for the problem, are left out.

    Args:
      candidates: methods by name, or a sequence of them.
      budget: evaluations of f for one estimate.
      f: from one sample to a real scalar; called `f(x, params)` if `with_params`.
      dist_fn: from the parameters to a distribution of one event.
      params: a tree of floating-point arrays.
      key: a PRNG key.
      noise: where the randomness comes from.
      repeats: how often each is tried.
      with_params: whether f takes the parameters too.
      allow_biased: whether methods with a biased gradient stand for election.

    Returns:
      A `Choice`.

    Raises:
      EstimatorError: if no candidate is left, with the reason for each.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import Bernoulli, enumerate_support, score_function, select
      >>> choice = select([score_function(), enumerate_support()], 16,
      ...                 lambda x: jnp.sum(x) ** 2, Bernoulli, jnp.zeros(3), jax.random.key(0))
      >>> choice.method
      enumerate_support(max_points=65536)
    """
    table, chosen, reasons = Comparison(), {}, []
    for name, method in _named(candidates).items():
        if not method.unbiased and not allow_biased:
            reasons.append(f"{name} is biased")
            continue
        try:
            e = make("select", f, dist_fn, method, noise, with_params)
            n = _affordable(e, params, budget)
            if n == 0:
                reasons.append(f"{name} costs more than {budget}")
                continue
            table[name] = _stats(e, params, key, n, repeats, None, None)
            chosen[name] = n
        except (EstimatorError, TypeError) as error:
            reasons.append(f"{name}: {error}")
    if not table:
        raise EstimatorError("select: no candidate is left: " + "; ".join(reasons))
    best = min(table, key=lambda name: float(table[name].total_variance))
    return Choice(_named(candidates)[best], chosen[best], table)


def _affordable(e: Estimator, params: PyTree, budget: int) -> int:
    """The largest admissible number of samples whose evaluations are within the budget."""
    step = 1 if e.method.unit is None else e.method.unit
    step = step * 2 if e.noise.unit == 2 and step % 2 else step
    low, high = 0, budget // step
    while low < high:
        middle = (low + high + 1) // 2
        if e.evaluations(params, middle * step) <= budget:
            low = middle
        else:
            high = middle - 1
    return low * step
