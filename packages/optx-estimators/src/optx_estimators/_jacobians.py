"""Estimators of one gradient per sample, as plain functions.

pathwise:          row_i = ∇f(x_i)·∂x_i/∂θ
score function:    row_i = f(x_i)·∇log p(x_i)
measure-valued:    row_i = c·(f(x⁺_i) − f(x⁻_i))

where θ is each of the parameters in turn, p the density, and c, x⁺ and x⁻ are those of `measure_valued`.
Each function returns, for every parameter, an array (num_samples, *param.shape). Its mean over the first
axis estimates ∇E f(x), x ~ dist_builder(*params). The rows are independent, so that their variance divided
by num_samples is the variance of the mean.

Reference: Mohamed, Rosca, Figurnov, Mnih, "Monte Carlo Gradient Estimation in Machine Learning", 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from optx_core import PyTree
from optx_estimators._estimator import make
from optx_estimators._measure_valued import measure_valued
from optx_estimators._method import Method
from optx_estimators._noise import iid
from optx_estimators._pathwise import pathwise
from optx_estimators._score import score_function


def builder_of(dist_builder: Callable[..., Any], params: PyTree) -> Callable[[PyTree], Any]:
    """The distribution as a function of one tree; sequences and dicts are unpacked into arguments."""
    if type(params) in (list, tuple):
        return lambda params: dist_builder(*params)
    if isinstance(params, Mapping):
        return lambda params: dist_builder(**params)
    return dist_builder


def _rows(
    where: str,
    method: Method,
    function: Callable[[Any], Any],
    params: PyTree,
    dist_builder: Callable[..., Any],
    rng: jax.Array,
    num_samples: int,
) -> PyTree:
    e = make(where, function, builder_of(dist_builder, params), method, iid(), False)
    return e.gradients(params, e.draw(params, rng, num_samples))


def score_function_jacobians(
    function: Callable[[Any], Any],
    params: PyTree,
    dist_builder: Callable[..., Any],
    rng: jax.Array,
    num_samples: int,
) -> PyTree:
    """Score function gradients f(x)·∇log p(x), one per sample.

    Args:
      function: f, a function from one sample to a scalar; it is not differentiated.
      params: a sequence of parameters of any shapes, a dict, or any other tree.
      dist_builder: a function from `*params` (`**params` for a dict, else the tree) to a distribution
        of one event with `sample` and `log_prob`.
      rng: a PRNG key.
      num_samples: N, the number of samples.

    Returns:
      A tree like `params` of arrays (N, *param.shape).

    Raises:
      BatchShapeError: if the distribution is a batch.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import multi_normal, score_function_jacobians
      >>> rows = score_function_jacobians(jnp.sum, [jnp.zeros(3), jnp.zeros(3)], multi_normal,
      ...                                 jax.random.key(0), 10)
      >>> [r.shape for r in rows]
      [(10, 3), (10, 3)]
    """
    where = "score_function_jacobians"
    return _rows(where, score_function(), function, params, dist_builder, rng, num_samples)


def pathwise_jacobians(
    function: Callable[[Any], Any],
    params: PyTree,
    dist_builder: Callable[..., Any],
    rng: jax.Array,
    num_samples: int,
) -> PyTree:
    """Pathwise gradients ∇f(x)·∂x/∂params, one per sample.

    Args:
      function: f, a differentiable function from one sample to a scalar.
      params: a sequence of parameters of any shapes, a dict, or any other tree.
      dist_builder: a function from `*params` (`**params` for a dict, else the tree) to a distribution
        of one event whose samples move with the parameters.
      rng: a PRNG key.
      num_samples: N, the number of samples.

    Returns:
      A tree like `params` of arrays (N, *param.shape).

    Raises:
      NotReparameterizedError: if the samples do not move with the parameters.
      BatchShapeError: if the distribution is a batch.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import multi_normal, pathwise_jacobians
      >>> rows = pathwise_jacobians(jnp.sum, [jnp.zeros(3), jnp.zeros(3)], multi_normal,
      ...                           jax.random.key(0), 10)
      >>> rows[0][0]
      Array([1., 1., 1.], dtype=float32)
    """
    where = "pathwise_jacobians"
    return _rows(where, pathwise(), function, params, dist_builder, rng, num_samples)


def measure_valued_jacobians(
    function: Callable[[Any], Any],
    params: PyTree,
    dist_builder: Callable[..., Any],
    rng: jax.Array,
    num_samples: int,
    coupling: bool = True,
) -> PyTree:
    """Measure-valued gradients, one per sample.

    Evaluates the function at most 3ND + N times for N samples of D coordinates.

    Args:
      function: f, a function from one sample to a scalar; it is not differentiated.
      params: a sequence of parameters of any shapes, a dict, or any other tree.
      dist_builder: a function from `*params` (`**params` for a dict, else the tree) to a distribution
        that `measure_valued` supports, such as `multi_normal`.
      rng: a PRNG key.
      num_samples: N, the number of samples.
      coupling: whether the positive and the negative part share their noise.

    Returns:
      A tree like `params` of arrays (N, *param.shape).

    Raises:
      UnsupportedDistributionError: if the family is not supported.
      BatchShapeError: if the distribution is a batch.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import measure_valued_jacobians, multi_normal
      >>> rows = measure_valued_jacobians(jnp.sum, [jnp.zeros(3), jnp.zeros(3)], multi_normal,
      ...                                 jax.random.key(0), 10)
      >>> [r.shape for r in rows]
      [(10, 3), (10, 3)]
    """
    where = "measure_valued_jacobians"
    return _rows(where, measure_valued(coupling), function, params, dist_builder, rng, num_samples)
