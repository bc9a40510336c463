"""optx-estimators: gradients of expectations by Monte Carlo, and how to lower their variance."""

from optx_estimators._arm import arm, disarm
from optx_estimators._baseline import Baseline, constant_baseline, leave_one_out
from optx_estimators._compare import Comparison, compare
from optx_estimators._control_variates import (
    ControlVariate,
    control_delta_method,
    moving_avg_baseline,
)
from optx_estimators._control_variates_jacobians import control_variates_jacobians
from optx_estimators._controlled import controlled
from optx_estimators._discrete import Bernoulli, Categorical, OneHotCategorical, Poisson
from optx_estimators._distribution import Distribution
from optx_estimators._elbo import elbo, elbo_integrand
from optx_estimators._ema_baseline import EmaBaselineState, ema_baseline
from optx_estimators._enumerate_support import enumerate_support
from optx_estimators._errors import (
    BatchShapeError,
    CoupledRowsError,
    EstimatorError,
    NoDerivativeError,
    NotReparameterizedError,
    SecondDerivativeError,
    UnsupportedDistributionError,
)
from optx_estimators._estimator import Estimator, estimator
from optx_estimators._evolution import evolution
from optx_estimators._expectation import (
    ValueAndGrad,
    expectation,
    per_sample_grads,
    value_and_grad,
)
from optx_estimators._gamma import Beta, Dirichlet, Gamma
from optx_estimators._gradient_stats import GradientStats, gradient_stats
from optx_estimators._gumbel_softmax import gumbel_softmax
from optx_estimators._implicit import implicit_log_gamma
from optx_estimators._iwae import iwae, iwae_from_noise
from optx_estimators._jacobians import (
    measure_valued_jacobians,
    pathwise_jacobians,
    score_function_jacobians,
)
from optx_estimators._lattice import lattice
from optx_estimators._learned_baseline import LearnedBaselineState, learned_baseline
from optx_estimators._location_scale import (
    Cauchy,
    Gumbel,
    Laplace,
    LocationScale,
    Logistic,
    Normal,
    StudentT,
)
from optx_estimators._magic_box import magic_box
from optx_estimators._measure_valued import measure_valued
from optx_estimators._method import Aux, Method
from optx_estimators._multi_normal import MultiNormal, multi_normal
from optx_estimators._noise import Noise, antithetic, iid, orthogonal
from optx_estimators._optimal_baseline import OptimalBaselineState, optimal_baseline
from optx_estimators._pathwise import pathwise
from optx_estimators._perturbed import make_perturbed_fun
from optx_estimators._positive import Exponential, Weibull
from optx_estimators._rebar import RelaxState, rebar, relax
from optx_estimators._score import score_function
from optx_estimators._select import Choice, select
from optx_estimators._sobol import sobol
from optx_estimators._straight_through import reinmax, straight_through

__all__ = [
    "Aux",
    "Baseline",
    "BatchShapeError",
    "Bernoulli",
    "Beta",
    "Categorical",
    "Cauchy",
    "Choice",
    "Comparison",
    "ControlVariate",
    "CoupledRowsError",
    "Dirichlet",
    "Distribution",
    "EmaBaselineState",
    "Estimator",
    "EstimatorError",
    "Exponential",
    "Gamma",
    "GradientStats",
    "Gumbel",
    "Laplace",
    "LearnedBaselineState",
    "LocationScale",
    "Logistic",
    "Method",
    "MultiNormal",
    "NoDerivativeError",
    "Noise",
    "Normal",
    "NotReparameterizedError",
    "OneHotCategorical",
    "OptimalBaselineState",
    "Poisson",
    "RelaxState",
    "SecondDerivativeError",
    "StudentT",
    "UnsupportedDistributionError",
    "ValueAndGrad",
    "Weibull",
    "antithetic",
    "arm",
    "compare",
    "constant_baseline",
    "control_delta_method",
    "control_variates_jacobians",
    "controlled",
    "disarm",
    "elbo",
    "elbo_integrand",
    "ema_baseline",
    "enumerate_support",
    "estimator",
    "evolution",
    "expectation",
    "gradient_stats",
    "gumbel_softmax",
    "iid",
    "implicit_log_gamma",
    "iwae",
    "iwae_from_noise",
    "lattice",
    "learned_baseline",
    "leave_one_out",
    "magic_box",
    "make_perturbed_fun",
    "measure_valued",
    "measure_valued_jacobians",
    "moving_avg_baseline",
    "multi_normal",
    "optimal_baseline",
    "orthogonal",
    "pathwise",
    "pathwise_jacobians",
    "per_sample_grads",
    "rebar",
    "reinmax",
    "relax",
    "score_function",
    "score_function_jacobians",
    "select",
    "sobol",
    "straight_through",
    "value_and_grad",
]
