"""Selection of the method with the least variance for a budget of evaluations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from optx_core import PyTree
from optx_estimators._compare import Comparison, named
from optx_estimators._errors import EstimatorError
from optx_estimators._estimator import Estimator, make
from optx_estimators._gradient_stats import stats_of
from optx_estimators._method import Method
from optx_estimators._noise import Noise, iid


class Choice(NamedTuple):
    """Result of `select`.

    Attributes:
      method: the method with the least variance within the budget.
      num_samples: the number of samples of that method within the budget.
      table: the statistics of all candidates, by name.
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
    """Selects the method with the least variance for a budget of evaluations of the function.

    Each candidate gets as many samples as the budget allows; a differentiated evaluation counts as
    one. Candidates that exceed the budget or do not hold for the problem are skipped.

    Args:
      candidates: methods by name, or a sequence of them.
      budget: the number of evaluations of f in one estimate.
      f: a function from one sample to a real scalar; called `f(x, params)` if `with_params`.
      dist_fn: a function from the parameters to a distribution of one event.
      params: a tree of floating-point arrays.
      key: a PRNG key.
      noise: the source of randomness.
      repeats: the number of repetitions of each estimate.
      with_params: whether f takes the parameters as its second argument.
      allow_biased: whether to include methods with a biased gradient.

    Returns:
      A `Choice`.

    Raises:
      EstimatorError: if no candidate remains; the error gives the reason for each.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import Bernoulli, enumerate_support, score_function, select
      >>> choice = select([score_function(), enumerate_support()], 16,
      ...                 lambda x: jnp.sum(x) ** 2, Bernoulli, jnp.zeros(3), jax.random.key(0))
      >>> choice.method
      enumerate_support(max_points=65536)
    """
    table, chosen, reasons = Comparison(), {}, []
    for name, method in named(candidates).items():
        if not method.unbiased and not allow_biased:
            reasons.append(f"{name} is biased")
            continue
        try:
            e = make("select", f, dist_fn, method, noise, with_params)
            n = _affordable(e, params, budget)
            if n == 0:
                reasons.append(f"{name} costs more than {budget}")
                continue
            table[name] = stats_of(e, params, key, n, repeats, None, None)
            chosen[name] = n
        except (EstimatorError, TypeError) as error:
            reasons.append(f"{name}: {error}")
    if not table:
        raise EstimatorError("select: no candidate remains: " + "; ".join(reasons))
    best = min(table, key=lambda name: float(table[name].total_variance))
    return Choice(named(candidates)[best], chosen[best], table)


def _affordable(e: Estimator, params: PyTree, budget: int) -> int:
    """The largest valid number of samples whose evaluations are within the budget."""
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
