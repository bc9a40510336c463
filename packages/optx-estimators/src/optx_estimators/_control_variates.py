"""Control variates: functions with a known expectation.

delta (second order):   h(x) = f(μ) + (x − μ)ᵀg + ½(x − μ)ᵀH(x − μ),  g, H of f at μ, held fixed
                        E h = f(μ₀) + (μ − μ₀)ᵀg + ½Σ_j H_jj·(σ_j² + (μ − μ₀)_j²)
moving average:         h(x) = b, the average of f over past samples;  E h = b

where μ and σ_j are the mean and the standard deviations of x, μ₀ is the mean at which f was expanded, g and
H are its gradient and Hessian there, j is a coordinate and b the average. Each is three functions:
value(params, x, state), expected_value(params, state), and update(params, samples, state) -> state. The
state is updated after use: h must not depend on the samples from which it is subtracted.

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
from optx_estimators._problem import fixed


class ControlVariate(NamedTuple):
    """A control variate: three functions. Any tuple of three such functions is accepted in its place.

    Attributes:
      value: `value(params, x, state)`, h of one sample, a scalar.
      expected_value: `expected_value(params, state)`, its expectation, a scalar.
      update: `update(params, samples, state) -> state`.
    """

    value: Callable[[Any, Any, Any], Any]
    expected_value: Callable[[Any, Any], Any]
    update: Callable[[Any, Any, Any], Any]


class DeltaControlVariate(ControlVariate):
    """A control variate whose functions also accept the distribution in place of the parameters."""

    __slots__ = ()


def _normal(params: Any) -> Normal:
    if isinstance(params, Normal):
        return params
    if hasattr(params, "event_log_prob"):
        raise UnsupportedDistributionError(
            f"control_delta_method needs a Normal distribution, not {type(params).__name__}"
        )
    return multi_normal(*params)


def control_delta_method(function: Callable[[Any], Any]) -> ControlVariate:
    """The second-order Taylor expansion of a function about the mean of a Normal.

    For a quadratic function it is exact and removes all variance. For other functions, subtracting it
    with the coefficient 1 can increase the variance: fit the coefficient.

    Args:
      function: f, from one sample to a scalar, twice differentiable.

    Returns:
      A `ControlVariate` without a state. Its functions accept the distribution or `[loc, log_scale]`.

    Raises:
      UnsupportedDistributionError: when it is used, if the distribution is not Normal.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import control_delta_method
      >>> value, expected_value, update = control_delta_method(lambda x: jnp.sum(x**2))
      >>> expected_value([jnp.zeros(3), jnp.zeros(3)], None)
      Array(3., dtype=float32)
    """

    def value(params: Any, x: jax.Array, state: Any = None) -> jax.Array:
        del state
        center = lax.stop_gradient(_normal(params).loc)
        delta = x - center
        f, slope = jax.value_and_grad(function)(center)
        _, curved = jax.jvp(jax.grad(function), (center,), (delta,))
        return f + jnp.sum(slope * delta) + jnp.sum(delta * curved) / 2

    def expected_value(params: Any, state: Any = None) -> jax.Array:
        del state
        dist = _normal(params)
        center = lax.stop_gradient(dist.loc)
        f, slope = jax.value_and_grad(function)(center)

        def curvature(d: jax.Array) -> jax.Array:
            unit = jnp.zeros_like(center).reshape(-1).at[d].set(1).reshape(center.shape)
            return jnp.sum(jax.jvp(jax.grad(function), (center,), (unit,))[1] * unit)

        diagonal = lax.stop_gradient(lax.map(curvature, jnp.arange(center.size)))
        delta = dist.loc - center
        spread = jnp.sum(diagonal.reshape(center.shape) * (dist.scale**2 + delta**2)) / 2
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

    It helps the score function estimator only: a constant does not change the other estimators.

    Args:
      function: f, from one sample to a scalar.
      decay: the weight of the past, in [0, 1).
      zero_debias: whether to divide by the sum of the weights, so that the first average equals the
        first mean.
      use_decay_early_training_heuristic: whether the decay is min(decay, (1 + t)/(10 + t)) at
        step t, counted from 0.

    Returns:
      A `ControlVariate` with the state `(average, count)`, initially None or `(0.0, 0)`. The stored
      average is already debiased.

    Raises:
      ValueError: if `decay` is out of range.

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
        """The remaining weight of the initial zero after t updates: the product of their decays."""
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
        new = jnp.mean(jax.vmap(function)(fixed(samples)))
        mean, t = mean.astype(new.dtype), count.astype(new.dtype)
        if zero_debias:
            left, before = 1 - forgotten(t + 1), forgotten(t)
            # Undo the debiasing, take one step of the plain average, and debias again.
            step = forgotten(t + 1) / before
            mean = (step * (1 - before) * mean + (1 - step) * new) / left
        else:
            step = jnp.asarray(decay, new.dtype)
            if use_decay_early_training_heuristic:
                step = jnp.minimum(step, (1 + t) / (10 + t))
            mean = step * mean + (1 - step) * new
        return mean, count + 1

    return ControlVariate(value, expected_value, update)
