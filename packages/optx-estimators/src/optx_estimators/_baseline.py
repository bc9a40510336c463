"""Baselines: values that are subtracted from f before it is multiplied by the score.

g = mean_i (f(x_i) − b_i)·∇log p(x_i),   unbiased for every b_i that is independent of x_i

leave_one_out:  b_i = mean of f over the other samples
constant:       b_i = b, or one b for each entry of the parameters

Reference: Kool, van Hoof, Welling, "Buy 4 REINFORCE samples, get a baseline for free!", 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import PyTree
from optx_core.build import Recorded, recorded
from optx_estimators._errors import EstimatorError
from optx_estimators._method import Aux


def _no_state(params: PyTree) -> Any:
    del params
    return ()


def _same(state: Any, aux: Aux, context: Any) -> Any:
    del aux, context
    return state


class Baseline(Recorded):
    """A baseline: three functions and their requirements.

    Args:
      init: `init(params) -> state`.
      value: `value(state, aux, context) -> b`, of shape (n,) (or a scalar), or, if `per_parameter`,
        a tree like the parameters with a leading axis of n on every leaf. `b[i]` must not depend
        on sample i. `aux.values` holds f of the samples; `aux.scores` their scores if
        `per_parameter`, else None.
      update: `update(state, aux, context) -> state`, called after the gradient has been computed.
      unit: the number of samples that are compared with one another; None for all.
      per_parameter: whether every entry of the parameters has its own baseline. Computing the scores
        takes n times the memory of the parameters.

    Raises:
      TypeError: if `value` is missing.
    """

    def __init__(
        self,
        init: Callable[[PyTree], Any] = _no_state,
        value: Callable[[Any, Aux, Any], Any] | None = None,
        update: Callable[[Any, Aux, Any], Any] = _same,
        *,
        unit: int | None = 1,
        per_parameter: bool = False,
    ) -> None:
        if value is None:
            raise TypeError("Baseline needs a value: value(state, aux, context)")
        self.init, self.value, self.update = init, value, update
        self.unit, self.per_parameter = unit, per_parameter


@recorded
def constant_baseline(value: Any) -> Baseline:
    """A constant baseline.

    Args:
      value: a number, or a tree of numbers or arrays like the parameters, one for each of their
        entries.

    Returns:
      A `Baseline` without a state.

    Raises:
      EstimatorError: when it is used, if a shape does not match that of its parameter.

    Example:
      >>> from optx_estimators import constant_baseline, score_function
      >>> score_function(constant_baseline(2.0))
      score_function(baseline=constant_baseline(value=2.0))
    """
    per_parameter = not jnp.isscalar(value) and not (hasattr(value, "ndim") and value.ndim == 0)

    def one(state: Any, aux: Aux, context: Any) -> Any:
        del state, context
        if not per_parameter:
            return jnp.asarray(value, aux.values.dtype)
        return jax.tree_util.tree_map(
            lambda b, s: (
                jnp.broadcast_to(jnp.asarray(b, s.dtype), s.shape[1:])[None]
                if jnp.ndim(b) == 0 or jnp.shape(b) == s.shape[1:]
                else _bad_constant(b, s)
            ),
            value,
            aux.scores,
        )

    return Baseline(value=one, per_parameter=per_parameter)


def _bad_constant(b: Any, s: jax.Array) -> Any:
    raise EstimatorError(
        f"constant_baseline: value of shape {jnp.shape(b)} for a parameter of shape {s.shape[1:]}"
    )


@recorded
def leave_one_out(group: int | None = None) -> Baseline:
    """The mean of the function over the other samples.

    The gradient is the sample covariance of f and the score. It needs at least two independent
    samples; antithetic and quasi-random noise are refused.

    Args:
      group: the number of samples in a group. Samples are compared within their group, and groups are
        independent of one another. By default, all samples form one group.

    Returns:
      A `Baseline` without a state.

    Raises:
      EstimatorError: if `group` is less than 2.

    Example:
      >>> from optx_estimators import leave_one_out
      >>> leave_one_out()
      leave_one_out(group=None)
    """
    if group is not None and group < 2:
        raise EstimatorError(f"leave_one_out: group must be at least 2, not {group}")

    def value(state: Any, aux: Aux, context: Any) -> jax.Array:
        del state, context
        n = aux.values.shape[0]
        size = n if group is None else group
        if size < 2:
            raise EstimatorError("leave_one_out needs at least two samples; num_samples is 1")
        f = aux.values.reshape(n // size, size)
        # Subtracting the first value avoids cancellation when f has a large offset.
        shift = f[:, :1]
        others = jnp.sum(f - shift, axis=1, keepdims=True) - (f - shift)
        return (shift + others / (size - 1)).reshape(n)

    return Baseline(value=value, unit=group)
