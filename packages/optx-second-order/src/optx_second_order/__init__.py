"""optx-second-order: Hessian, Gauss–Newton and Fisher diagonals, and curvature products."""

from optx_second_order._coloring_error import coloring_error
from optx_second_order._empirical_fisher import empirical_fisher_diag
from optx_second_order._estimate import hessian_diag_estimate
from optx_second_order._exact import exact_hessian_diag, hessian_trace
from optx_second_order._explain import Explanation, explain
from optx_second_order._fisher import true_fisher_diag
from optx_second_order._flat import fisher_diag, hessian_diag, hvp
from optx_second_order._ggn import ggn_diag
from optx_second_order._hutchinson import hutchinson_diag, hutchinson_trace
from optx_second_order._likelihoods import Likelihood, bernoulli, categorical, gaussian, poisson
from optx_second_order._optimizer_estimators import (
    DiagEstimatorState,
    activation_estimator,
    ggn_estimator,
    gnb_estimator,
    hutchinson_estimator,
)
from optx_second_order._plan import LeafPlan
from optx_second_order._products import fisher_vp, ggn_vp, hessian_vp, linearize_hessian_vp
from optx_second_order._samples import Estimate
from optx_second_order._sketches import hutchpp_trace, xdiag

__all__ = [
    "DiagEstimatorState",
    "Estimate",
    "Explanation",
    "LeafPlan",
    "Likelihood",
    "activation_estimator",
    "bernoulli",
    "categorical",
    "coloring_error",
    "empirical_fisher_diag",
    "exact_hessian_diag",
    "explain",
    "fisher_diag",
    "fisher_vp",
    "gaussian",
    "ggn_diag",
    "ggn_estimator",
    "ggn_vp",
    "gnb_estimator",
    "hessian_diag",
    "hessian_diag_estimate",
    "hessian_trace",
    "hessian_vp",
    "hutchinson_diag",
    "hutchinson_estimator",
    "hutchinson_trace",
    "hutchpp_trace",
    "hvp",
    "linearize_hessian_vp",
    "poisson",
    "true_fisher_diag",
    "xdiag",
]
