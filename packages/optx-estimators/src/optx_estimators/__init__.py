"""optx-estimators: Monte Carlo estimators of gradients of expectations, and variance reduction."""

from optx_core.build import table_of_contents

__getattr__, __dir__, __all__ = table_of_contents(
    __name__,
    """
    _arm: arm disarm
    _baseline: Baseline constant_baseline leave_one_out
    _compare: Comparison compare
    _control_variates: ControlVariate control_delta_method moving_avg_baseline
    _control_variates_jacobians: control_variates_jacobians
    _controlled: controlled
    _discrete: Bernoulli Categorical OneHotCategorical Poisson
    _distribution: Distribution
    _elbo: elbo elbo_integrand
    _ema_baseline: EmaBaselineState ema_baseline
    _enumerate_support: enumerate_support
    _errors: BatchShapeError CoupledRowsError EstimatorError NoDerivativeError
        NotReparameterizedError SecondDerivativeError UnsupportedDistributionError
    _estimator: Estimator estimator
    _evolution: evolution
    _expectation: ValueAndGrad expectation per_sample_grads value_and_grad
    _gamma: Beta Dirichlet Gamma
    _gradient_stats: GradientStats gradient_stats
    _gumbel_softmax: gumbel_softmax
    _implicit: implicit_log_gamma
    _iwae: iwae iwae_from_noise
    _jacobians: measure_valued_jacobians pathwise_jacobians score_function_jacobians
    _lattice: lattice
    _learned_baseline: LearnedBaselineState learned_baseline
    _location_scale: Cauchy Gumbel Laplace LocationScale Logistic Normal StudentT
    _magic_box: magic_box
    _measure_valued: measure_valued
    _method: Aux Method
    _multi_normal: MultiNormal multi_normal
    _noise: Noise antithetic iid orthogonal
    _optimal_baseline: OptimalBaselineState optimal_baseline
    _pathwise: pathwise
    _perturbed: make_perturbed_fun
    _positive: Exponential Weibull
    _rebar: RelaxState rebar relax
    _score: score_function
    _select: Choice select
    _sobol: sobol
    _straight_through: reinmax straight_through
    """,
)
