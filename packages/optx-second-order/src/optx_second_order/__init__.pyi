"""optx-second-order: Hessian, Gauss–Newton and Fisher diagonals, and curvature products."""

# Written by tools/write_stubs.py.

from optx_second_order._coloring_error import coloring_error as coloring_error
from optx_second_order._empirical_fisher import empirical_fisher_diag as empirical_fisher_diag
from optx_second_order._estimate import hessian_diag_estimate as hessian_diag_estimate
from optx_second_order._exact import exact_hessian_diag as exact_hessian_diag
from optx_second_order._exact import hessian_trace as hessian_trace
from optx_second_order._explain import Explanation as Explanation
from optx_second_order._explain import explain as explain
from optx_second_order._fisher import true_fisher_diag as true_fisher_diag
from optx_second_order._flat import fisher_diag as fisher_diag
from optx_second_order._flat import hessian_diag as hessian_diag
from optx_second_order._flat import hvp as hvp
from optx_second_order._ggn import ggn_diag as ggn_diag
from optx_second_order._hutchinson import hutchinson_diag as hutchinson_diag
from optx_second_order._hutchinson import hutchinson_trace as hutchinson_trace
from optx_second_order._likelihoods import Likelihood as Likelihood
from optx_second_order._likelihoods import bernoulli as bernoulli
from optx_second_order._likelihoods import categorical as categorical
from optx_second_order._likelihoods import gaussian as gaussian
from optx_second_order._likelihoods import poisson as poisson
from optx_second_order._optimizer_estimators import DiagEstimatorState as DiagEstimatorState
from optx_second_order._optimizer_estimators import activation_estimator as activation_estimator
from optx_second_order._optimizer_estimators import ggn_estimator as ggn_estimator
from optx_second_order._optimizer_estimators import gnb_estimator as gnb_estimator
from optx_second_order._optimizer_estimators import hutchinson_estimator as hutchinson_estimator
from optx_second_order._plan import LeafPlan as LeafPlan
from optx_second_order._products import fisher_vp as fisher_vp
from optx_second_order._products import ggn_vp as ggn_vp
from optx_second_order._products import hessian_vp as hessian_vp
from optx_second_order._products import linearize_hessian_vp as linearize_hessian_vp
from optx_second_order._samples import Estimate as Estimate
from optx_second_order._sketches import hutchpp_trace as hutchpp_trace
from optx_second_order._sketches import xdiag as xdiag
