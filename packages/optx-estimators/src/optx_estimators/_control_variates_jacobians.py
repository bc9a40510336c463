"""Per-sample gradients with a control variate subtracted.

row_i = ∇f_i − c·(∇h_i − ∇E h)

where h is the control variate and c its coefficient. ∇f_i and ∇h_i come from the same estimator with the
same key, and so from the same noise. The rows stay independent, so their variance is that of the estimate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import PyTree
from optx_estimators._control_variates import DeltaControlVariate
from optx_estimators._errors import EstimatorError
from optx_estimators._fit import fit_coefficient
from optx_estimators._jacobians import builder_of
from optx_estimators._problem import Problem, fixed


def control_variates_jacobians(
    function: Callable[[Any], Any],
    control_variate_from_function: Callable[[Callable[[Any], Any]], Any],
    grad_estimator: Callable[..., PyTree],
    params: PyTree,
    dist_builder: Callable[..., Any],
    rng: jax.Array,
    num_samples: int,
    control_variate_state: Any = None,
    estimate_cv_coeffs: bool = False,
    estimate_cv_coeffs_num_samples: int = 20,
) -> tuple[PyTree, Any]:
    """Per-sample gradients of any of the estimators, with a control variate subtracted.

    Args:
      function: f, a function from one sample to a scalar.
      control_variate_from_function: `control_delta_method`, `moving_avg_baseline`, or any function
        from f to a tuple (value, expected_value, update), see `ControlVariate`.
      grad_estimator: `score_function_jacobians`, `pathwise_jacobians`, `measure_valued_jacobians`, or
        any function with their first five arguments.
      params: a sequence of parameters of any shapes, a dict, or any other tree.
      dist_builder: a function from `*params` (`**params` for a dict, else the tree) to a distribution
        of one event.
      rng: a PRNG key.
      num_samples: N, the number of samples.
      control_variate_state: the state of the control variate; initially None.
      estimate_cv_coeffs: whether to fit a coefficient for each entry of the parameters, on separate
        samples, instead of using 1. A coefficient of 1 can increase the variance.
      estimate_cv_coeffs_num_samples: the number of samples for the fit, at least 5.

    Returns:
      A tree like `params` of arrays (N, *param.shape), and the next state. The state is updated after
      use: the control variate does not depend on the samples from which it is subtracted.

    Raises:
      EstimatorError: if `estimate_cv_coeffs_num_samples` is less than 5.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import (control_delta_method, control_variates_jacobians,
      ...                              multi_normal, pathwise_jacobians)
      >>> rows, state = control_variates_jacobians(
      ...     lambda x: jnp.sum(x**2), control_delta_method, pathwise_jacobians,
      ...     [jnp.ones(3), jnp.zeros(3)], multi_normal, jax.random.key(0), 10)
      >>> bool(jnp.allclose(rows[0], 2.0, atol=1e-5))   # no variance: the function is quadratic
      True
    """
    if estimate_cv_coeffs and estimate_cv_coeffs_num_samples < 5:
        raise EstimatorError(
            "control_variates_jacobians: estimate_cv_coeffs_num_samples must be at least 5, not "
            f"{estimate_cv_coeffs_num_samples}"
        )
    cv = control_variate_from_function(function)
    value, expected_value, update = cv
    dist_fn = builder_of(dist_builder, params)
    problem = Problem(function, dist_fn, False, "control_variates_jacobians")
    by_dist = isinstance(cv, DeltaControlVariate)
    params = jax.tree_util.tree_map(jnp.asarray, params)
    state = control_variate_state
    key_rows, key_fit, key_samples = jax.random.split(rng, 3)

    def argument(params: PyTree) -> Any:
        return problem.dist(params) if by_dist else params

    def control(x: Any) -> jax.Array:
        return jnp.asarray(value(argument(fixed(params)), x, fixed(state)))

    def draw(n: int) -> Any:
        dist = problem.dist(fixed(params))
        return fixed(jax.vmap(dist.transform)(dist.draw_base(key_samples, n)))

    def direct(x: Any) -> PyTree:
        """The part of ∇h that does not come from the distribution; zero for the built-in ones."""
        return jax.grad(lambda p: jnp.asarray(value(argument(p), x, fixed(state))))(params)

    def estimate(key: jax.Array, n: int) -> tuple[PyTree, PyTree]:
        return (
            grad_estimator(function, params, dist_builder, key, n),
            grad_estimator(control, params, dist_builder, jax.random.clone(key), n),
        )

    rows, controls = estimate(key_rows, num_samples)
    expected = jax.grad(lambda p: jnp.asarray(expected_value(argument(p), fixed(state))))(params)
    samples = draw(num_samples)
    direct_rows = jax.vmap(direct)(samples)
    if estimate_cv_coeffs:
        fitted = estimate(key_fit, estimate_cv_coeffs_num_samples)
        coefficients = jax.tree_util.tree_map(fit_coefficient, *fitted)
    else:
        coefficients = jax.tree_util.tree_map(jnp.ones_like, expected)
    rows = jax.tree_util.tree_map(
        lambda g, h, own, mean, c: g - c[None] * (h + own - mean[None]),
        rows,
        controls,
        direct_rows,
        expected,
        coefficients,
    )
    return rows, update(params, samples, state)
