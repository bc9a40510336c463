"""Comparison of methods on one problem, at equal numbers of samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from optx_core import PyTree
from optx_estimators._gradient_stats import GradientStats, gradient_stats
from optx_estimators._method import Method
from optx_estimators._noise import Noise, iid


class Comparison(dict[str, GradientStats]):
    """A dict of `GradientStats` by name that prints as a table."""

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


def named(methods: Mapping[str, Method] | Sequence[Method]) -> dict[str, Method]:
    """Methods by name; a method in a sequence is named by its repr."""
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
    """Computes `gradient_stats` of several methods on one problem, at equal numbers of samples.

    Args:
      methods: methods by name, or a sequence of methods.
      f: a function from one sample to a real scalar; called `f(x, params)` if `with_params`.
      dist_fn: a function from the parameters to a distribution of one event.
      params: a tree of floating-point arrays.
      key: a PRNG key.
      num_samples: N, the number of samples of each estimate.
      noise: the source of randomness.
      repeats: the number of repetitions of each estimate.
      with_params: whether f takes the parameters as its second argument.

    Returns:
      A dict of `GradientStats` by name; printing it shows a table.

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
        for name, method in named(methods).items()
    )
