"""optx-second-order: Hessian, Gauss–Newton and Fisher diagonals, and curvature products."""

from optx_core.build import table_of_contents

__getattr__, __dir__, __all__ = table_of_contents(
    __name__,
    """
    _coloring_error: coloring_error
    _empirical_fisher: empirical_fisher_diag
    _estimate: hessian_diag_estimate
    _exact: exact_hessian_diag hessian_trace
    _explain: Explanation explain
    _fisher: true_fisher_diag
    _flat: fisher_diag hessian_diag hvp
    _ggn: ggn_diag
    _hutchinson: hutchinson_diag hutchinson_trace
    _likelihoods: Likelihood bernoulli categorical gaussian poisson
    _optimizer_estimators: DiagEstimatorState activation_estimator ggn_estimator gnb_estimator
        hutchinson_estimator
    _plan: LeafPlan
    _products: fisher_vp ggn_vp hessian_vp linearize_hessian_vp
    _samples: Estimate
    _sketches: hutchpp_trace xdiag
    """,
)
