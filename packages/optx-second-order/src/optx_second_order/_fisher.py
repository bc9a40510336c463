"""The diagonal of the Fisher information of a model's parameters.

F = (1/B) Σ_b E_{y ~ p(y|f_b)} ∇log p(y|f_b) ∇log p(y|f_b)ᵀ

where f are the model's outputs, E is an expectation and p is the probability of labels y: labels drawn from
the model, not those of the data. For outputs f that are natural parameters (logits, means of a Gaussian,
log-rates) this is the Gauss–Newton matrix Jᵀ R Rᵀ J, computed exactly; otherwise it is estimated from
sampled labels.

Reference: Amari, "Natural gradient works efficiently in learning", 1998; Martens, "New insights and
perspectives on the natural gradient method", 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from optx_core import PyTree
from optx_second_order._batches import Reduction, check_choice
from optx_second_order._ggn import GGNMethod, outer_product_diag
from optx_second_order._leaves import described
from optx_second_order._likelihoods import Likelihood


def true_fisher_diag(
    model_fn: Callable[..., Any],
    likelihood: Likelihood,
    params: PyTree,
    x: PyTree,
    *,
    method: GGNMethod = "exact",
    key: jax.Array | None = None,
    num_samples: int = 1,
    microbatch: int | None = None,
    mask: PyTree = None,
    reduction: Reduction = "mean",
) -> PyTree:
    """The diagonal of the Fisher information, with labels drawn from the model.

    Args:
      model_fn: `model_fn(params, x)` for one example; returns the outputs f of the likelihood.
      likelihood: `categorical()`, `bernoulli()`, `gaussian()`, `poisson()` or another `Likelihood`.
      params: a tree of real arrays.
      x: inputs with the examples along the leading axis.
      method: "exact", for a likelihood with a root; "mc", from labels sampled for each example; or
        "rademacher", from random combinations of the root's columns, with less variance than "mc".
      key: a random key, for "mc" and "rademacher".
      num_samples: the number of samples to average, for "mc" and "rademacher".
      microbatch: the number of examples computed at once; all by default.
      mask: the leaves to compute, as for `exact_hessian_diag`.
      reduction: "mean" or "sum" over the examples; "none" for one diagonal per example.

    Returns:
      A tree like `params`; at least float32; None for other than float leaves.

    Raises:
      TypeError: if `likelihood` is not a `Likelihood`.
      ValueError: if `method` is "exact" and the likelihood has no root, or a key is missing.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_second_order import bernoulli, true_fisher_diag
      >>> true_fisher_diag(lambda w, x: x @ w, bernoulli(), jnp.zeros(2), jnp.ones((4, 2)))
      Array([0.25, 0.25], dtype=float32)
    """
    where = "true_fisher_diag"
    check_choice(where, "method", method, ("exact", "mc", "rademacher"))
    if not isinstance(likelihood, Likelihood):
        raise TypeError(
            f"{where}: likelihood must be a Likelihood, such as categorical(), not "
            f"{described(likelihood)}"
        )
    return outer_product_diag(
        where, model_fn, likelihood, params, x, None, method, key, num_samples, microbatch, mask,
        reduction,
    )  # fmt: skip
