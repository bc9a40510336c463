"""Control variates: functions whose expected gradient is known.

delta (second order):   h(x) = f(μ) + (x − μ)ᵀg + ½(x − μ)ᵀH(x − μ),  g, H of f at μ, held fixed
                        E h = f(μ₀) + (μ − μ₀)ᵀg + ½Σ_j H_jj·(σ_j² + (μ − μ₀)_j²)
moving average:         h(x) = b, the average of f over past samples;  E h = b

Each is three functions: value(params, x, state), expected_value(params, state), and
update(params, samples, state) -> state. A state is updated after it was used: h must not depend on the
samples it is subtracted from.

References: Paisley, Blei, Jordan, "Variational Bayesian Inference with Stochastic Search", 2012;
Miller, Foti, D'Amour, Adams, "Reducing Reparameterization Gradient Variance", 2017; Mohamed, Rosca,
Figurnov, Mnih, "Monte Carlo Gradient Estimation in Machine Learning", 2020, section 7.4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optx_core.build import check_number
from optx_estimators._errors import UnsupportedDistributionError
from optx_estimators._location_scale import Normal
from optx_estimators._multi_normal import multi_normal


class ControlVariate(NamedTuple):
    """Three functions; any other tuple of three will do where one is expected.

    Attributes:
      value: `value(params, x, state)`, h of one sample, a scalar.
      expected_value: `expected_value(params, state)`, its expectation, a scalar.
      update: `update(params, samples, state) -> state`.
    """

    value: Callable[[Any, Any, Any], Any]
    expected_value: Callable[[Any, Any], Any]
    update: Callable[[Any, Any, Any], Any]


class DeltaControlVariate(ControlVariate):
    """Takes the distribution itself in the place of the parameters, too."""

    __slots__ = ()


def _normal(params: Any) -> Normal:
    if isinstance(params, Normal):
        return params
    if hasattr(params, "event_log_prob"):
        raise UnsupportedDistributionError(
            f"control_delta_method knows the expected value for Normal only, not {type(params).__name__}"
        )
    return multi_normal(*params)


def control_delta_method(function: Callable[[Any], Any]) -> ControlVariate:
    """The second-order Taylor expansion of a function about the mean of a Normal.

    Exact, so that no variance is left, where the function is quadratic. Taken off with the
    coefficient 1 it can raise the variance of others: fit the coefficient.

    Args:
      function: f, from one sample to a scalar, twice differentiable.

    Returns:
      A `ControlVariate` without a state. Its functions take the distribution, or `[loc, log_scale]`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import control_delta_method
      >>> value, expected_value, update = control_delta_method(lambda x: jnp.sum(x**2))
      >>> expected_value([jnp.zeros(3), jnp.zeros(3)], None)
      Array(3., dtype=float32)
    """

    def value(params: Any, x: jax.Array, state: Any = None) -> jax.Array:
        del state
        centre = lax.stop_gradient(_normal(params).loc)
        delta = x - centre
        f, slope = jax.value_and_grad(function)(centre)
        _, curved = jax.jvp(jax.grad(function), (centre,), (delta,))
        return f + jnp.sum(slope * delta) + jnp.sum(delta * curved) / 2

    def expected_value(params: Any, state: Any = None) -> jax.Array:
        del state
        dist = _normal(params)
        centre = lax.stop_gradient(dist.loc)
        f, slope = jax.value_and_grad(function)(centre)

        def curvature(d: jax.Array) -> jax.Array:
            unit = jnp.zeros_like(centre).reshape(-1).at[d].set(1).reshape(centre.shape)
            return jnp.sum(jax.jvp(jax.grad(function), (centre,), (unit,))[1] * unit)

        diagonal = lax.stop_gradient(lax.map(curvature, jnp.arange(centre.size)))
        delta = dist.loc - centre
        spread = jnp.sum(diagonal.reshape(centre.shape) * (dist.scale**2 + delta**2)) / 2
        return lax.stop_gradient(f) + jnp.sum(lax.stop_gradient(slope) * delta) + spread

    def update(params: Any, samples: Any, state: Any = None) -> Any:
        del params, samples
        return state

    return DeltaControlVariate(value, expected_value, update)


def moving_avg_baseline(
    function: Callable[[Any], Any],
    decay: float = 0.99,
    zero_debias: bool = True,
    use_decay_early_training_heuristic: bool = True,
) -> ControlVariate:
    """The moving average of a function over past samples, as a control variate.

    Of use for the score function estimator only; the others have no variance from a constant.

    Args:
      function: f, from one sample to a scalar.
      decay: the weight of the past, in [0, 1).
      zero_debias: whether to divide by the sum of the weights, so that the first average is the first
        mean itself.
      use_decay_early_training_heuristic: whether the decay is min(decay, (1 + t)/(10 + t)) at
        step t, counted from 0.

    Returns:
      A `ControlVariate` whose state is `(average, count)`; start with None or `(0.0, 0)`. The average
      in it is debiased already.

    Raises:
      ValueError: if `decay` is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import moving_avg_baseline
      >>> value, expected_value, update = moving_avg_baseline(jnp.sum)
      >>> state = update(None, jnp.ones((5, 1)), None)
      >>> value(None, jnp.ones(1), state)
      Array(1., dtype=float32)
    """
    check_number("moving_avg_baseline", low=0, below=1, decay=decay)

    def average_of(state: Any) -> tuple[jax.Array, jax.Array]:
        mean, count = (0.0, 0) if state is None else state
        return jnp.asarray(mean), jnp.asarray(count, jnp.int32)

    def value(params: Any, x: Any, state: Any = None) -> jax.Array:
        del params, x
        return lax.stop_gradient(average_of(state)[0])

    def expected_value(params: Any, state: Any = None) -> jax.Array:
        del params
        return lax.stop_gradient(average_of(state)[0])

    def forgotten(t: jax.Array) -> jax.Array:
        """The weight that t updates leave to the zero at the start: the product of their decays."""
        if not use_decay_early_training_heuristic:
            return jnp.asarray(decay, t.dtype) ** t
        early = jnp.minimum(t, max(0, -(-(10 * decay - 1) // (1 - decay))))
        # Π_{j<m} (1 + j)/(10 + j) = Π_{i=1}^{9} i/(m + i)
        product = jnp.ones_like(t)
        for i in range(1, 10):
            product = product * i / (early + i)
        return product * jnp.asarray(decay, t.dtype) ** (t - early)

    def update(params: Any, samples: Any, state: Any = None) -> tuple[jax.Array, jax.Array]:
        del params
        mean, count = average_of(state)
        new = jnp.mean(lax.stop_gradient(jax.vmap(function)(samples)))
        mean, t = mean.astype(new.dtype), count.astype(new.dtype)
        if zero_debias:
            left, before = 1 - forgotten(t + 1), forgotten(t)
            # average·(1 − before) is the plain average; one step of it, then divided by 1 − after
            step = forgotten(t + 1) / before
            mean = (step * (1 - before) * mean + (1 - step) * new) / left
        else:
            step = jnp.asarray(decay, new.dtype)
            if use_decay_early_training_heuristic:
                step = jnp.minimum(step, (1 + t) / (10 + t))
            mean = step * mean + (1 - step) * new
        return mean, count + 1

    return ControlVariate(value, expected_value, update)
