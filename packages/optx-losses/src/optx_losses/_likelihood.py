"""Negative log-likelihoods of a Gaussian and a Poisson distribution.

Gaussian:   loss = (log v + (p − t)² / v) / 2  [+ log(2π) / 2]
Poisson, log of the rate:   loss = exp(p) − t·p  [+ log t!]
Poisson, the rate itself:   loss = p − t·log(p + epsilon)  [+ log t!]
log t! ≈ t·log t − t + log(2π·t) / 2 for t > 1,   else 0

where p is the prediction, t the target and v the predicted variance. The terms in brackets, the last by
Stirling's formula, do not depend on the prediction: `full` adds them.

References: Nix, Weigend, "Estimating the mean and variance of the target probability distribution", 1994.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import check_number, keep, matching
from optx_losses._log_softmax import times_log


def gaussian_nll_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    variances: ArrayLike,
    *,
    full: bool = False,
    epsilon: Scalar = 1e-6,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The negative log-likelihood of targets under predicted means and variances.

    Args:
      predictions: p, means, of any shape.
      targets: t, of the same shape.
      variances: v, at least 0, of the same shape.
      full: whether to add the constant log(2π) / 2.
      epsilon: the lower bound on the variance, greater than 0; variances below it have no gradient.
      where: boolean mask of the same shape; entries that are False give 0.

    Returns:
      The loss of each entry, of the predictions' shape, at least float32.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or epsilon is not greater than 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import gaussian_nll_loss
      >>> gaussian_nll_loss(jnp.array([1.0]), jnp.array([3.0]), jnp.array([1.0]))
      Array([2.], dtype=float32)
    """
    name = "gaussian_nll_loss"
    check_number(name, above=0, epsilon=epsilon)
    (p, t, v), mask, _ = matching(
        name, where, predictions=predictions, targets=targets, variances=variances
    )
    least = jnp.asarray(epsilon, v.dtype)
    v = jnp.where(v < least, least, v)
    constant = math.log(2 * math.pi) if full else 0.0
    return keep(mask, 0.5 * (jnp.log(v) + (p - t) ** 2 / v + constant))


def poisson_nll_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    log_input: bool = True,
    full: bool = False,
    epsilon: Scalar = 1e-8,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The negative log-likelihood of counts under predicted rates.

    Args:
      predictions: p, logarithms of rates (−inf for a rate of 0), or rates if `log_input` is False, of
        any shape.
      targets: t, counts, at least 0, of the same shape.
      log_input: whether the predictions are logarithms of rates.
      full: whether to add Stirling's approximation of log t!, for t > 1.
      epsilon: added to a rate under the logarithm, greater than 0.
      where: boolean mask of the same shape; entries that are False give 0.

    Returns:
      The loss of each entry, of the predictions' shape, at least float32.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or epsilon is not greater than 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import poisson_nll_loss
      >>> poisson_nll_loss(jnp.array([0.0]), jnp.array([2.0]))
      Array([1.], dtype=float32)
    """
    name = "poisson_nll_loss"
    check_number(name, above=0, epsilon=epsilon)
    (p, t), mask, _ = matching(name, where, predictions=predictions, targets=targets)
    if log_input:
        loss = jnp.exp(p) - times_log(t, p)
    else:
        loss = p - t * jnp.log(p + jnp.asarray(epsilon, p.dtype))
    if full:
        large = t > 1
        n = jnp.where(large, t, 1)
        stirling = n * jnp.log(n) - n + 0.5 * jnp.log(2 * math.pi * n)
        loss = loss + jnp.where(large, stirling, 0)
    return keep(mask, loss)
