"""optx-aliases: the named optimizers, and the `scale_by_*` each is made of."""

from optx_aliases._acprop import (
    acprop,
    scale_by_acprop,
)
from optx_aliases._adabelief import ScaleByBeliefState, adabelief, scale_by_belief
from optx_aliases._adadelta import ScaleByAdaDeltaState, adadelta, scale_by_adadelta
from optx_aliases._adafactor import adafactor
from optx_aliases._adagrad import ScaleByRssState, adagrad, scale_by_rss
from optx_aliases._adam import ScaleByAdamState, adam, adamw, scale_by_adam
from optx_aliases._adam_mini import ScaleByAdamMiniState, adam_mini, scale_by_adam_mini
from optx_aliases._adamax import adamax, adamaxw, scale_by_adamax
from optx_aliases._adan import ScaleByAdanState, adan, scale_by_adan
from optx_aliases._ademamix import (
    ScaleByAdemamixState,
    ademamix,
    ademamix_alpha_schedule,
    ademamix_b3_schedule,
    scale_by_ademamix,
)
from optx_aliases._adopt import (
    adopt,
    scale_by_adopt,
)
from optx_aliases._amsgrad import ScaleByAmsgradState, amsgrad, scale_by_amsgrad
from optx_aliases._apollo import ScaleByApolloState, apollo_mini, scale_by_apollo
from optx_aliases._backtracking_linesearch import (
    BacktrackingLinesearchInfo,
    ScaleByBacktrackingLinesearchState,
    scale_by_backtracking_linesearch,
)
from optx_aliases._came import (
    ScaleByCameState,
    came,
    scale_by_came,
)
from optx_aliases._cautious import (
    CautiousState,
    cautious,
)
from optx_aliases._cocob import (
    COCOBState,
    cocob,
    scale_by_cocob,
)
from optx_aliases._complex import (
    SplitRealAndImaginaryArrays,
    SplitRealAndImaginaryState,
    split_real_and_imaginary,
)
from optx_aliases._dadapt_adamw import (
    DAdaptAdamWState,
    dadapt_adamw,
)
from optx_aliases._dadapt_sgd import (
    DAdaptSGDState,
    dadapt_sgd,
)
from optx_aliases._dog import (
    DoGState,
    DoWGState,
    dog,
    dowg,
    scale_by_dog,
    scale_by_dowg,
)
from optx_aliases._factored import FactoredState, scale_by_factored_rms
from optx_aliases._fromage import fromage
from optx_aliases._galore import (
    GaLoreDimensionNumbers,
    GaLoreState,
    galore,
    scale_by_galore,
)
from optx_aliases._grams import (
    grams,
    scale_by_grams,
)
from optx_aliases._kron import ScaleByKronState, kron, scale_by_kron
from optx_aliases._lamb import lamb
from optx_aliases._lars import lars
from optx_aliases._lbfgs import ScaleByLBFGSState, lbfgs, scale_by_lbfgs
from optx_aliases._ldog import (
    ScaleByDistanceOverGradientsState,
    scale_by_distance_over_gradients,
)
from optx_aliases._lion import ScaleByLionState, lion, scale_by_lion
from optx_aliases._madgrad import (
    MadgradState,
    madgrad,
    scale_by_madgrad,
)
from optx_aliases._mars import (
    ScaleByMarsState,
    mars,
    scale_by_mars,
)
from optx_aliases._mechanize import (
    MechanicState,
    mechanize,
)
from optx_aliases._minimize import minimize
from optx_aliases._minimize_result import MinimizeResult, MinimizeStatus
from optx_aliases._momo import (
    MomoState,
    momo,
)
from optx_aliases._momo_adam import (
    MomoAdamState,
    momo_adam,
)
from optx_aliases._muon import muon
from optx_aliases._muon_dimension_numbers import MuonDimensionNumbers
from optx_aliases._nadam import nadam, nadamw
from optx_aliases._newton_schulz import newton_schulz
from optx_aliases._noisy_sgd import noisy_sgd
from optx_aliases._novograd import ScaleByNovogradState, novograd, scale_by_novograd
from optx_aliases._optimistic import (
    ScaleByOptimisticGradientState,
    optimistic_adam,
    optimistic_adam_v2,
    optimistic_gradient_descent,
    scale_by_optimistic_gradient,
)
from optx_aliases._param_block import scale_by_param_block_norm, scale_by_param_block_rms
from optx_aliases._polyak import polyak_sgd, scale_by_polyak
from optx_aliases._privacy import (
    DifferentiallyPrivateAggregateState,
    differentially_private_aggregate,
    dpsgd,
)
from optx_aliases._prodigy import (
    ProdigyState,
    prodigy,
)
from optx_aliases._quantize_state import QuantizeState, quantize_state
from optx_aliases._radam import radam, scale_by_radam
from optx_aliases._rms import ScaleByRmsState, ScaleByRmsWithCountState, scale_by_rms
from optx_aliases._rmsprop import rmsprop
from optx_aliases._rprop import ScaleByRpropState, rprop, scale_by_rprop
from optx_aliases._sam import (
    NormalizeState,
    SAMState,
    normalize,
    sam,
)
from optx_aliases._scale_by_muon import MuonState, scale_by_muon
from optx_aliases._scale_by_shape import scale_by_shape
from optx_aliases._schedule_free import (
    ScheduleFreeState,
    schedule_free,
    schedule_free_eval_params,
)
from optx_aliases._schedule_free_optimizers import (
    schedule_free_adamw,
    schedule_free_radam,
    schedule_free_sgd,
)
from optx_aliases._sgd import sgd
from optx_aliases._shampoo import ScaleByShampooState, scale_by_shampoo, shampoo
from optx_aliases._sign_sgd import scale_by_sign, sign_sgd, signum
from optx_aliases._simplified_ademamix import (
    ScaleBySimplifiedAdEMAMixState,
    scale_by_simplified_ademamix,
    simplified_ademamix,
)
from optx_aliases._sm3 import ScaleBySM3State, scale_by_sm3, sm3
from optx_aliases._soap import ScaleBySoapState, scale_by_soap, soap
from optx_aliases._sophia import (
    SophiaState,
    scale_by_sophia,
    sophia,
)
from optx_aliases._stddev import ScaleByRStdDevState, ScaleByRStdDevWithCountState, scale_by_stddev
from optx_aliases._trust_ratio import scale_by_trust_ratio
from optx_aliases._value_and_grad_from_state import value_and_grad_from_state
from optx_aliases._yogi import scale_by_yogi, yogi
from optx_aliases._zoom_linesearch import (
    ScaleByZoomLinesearchState,
    ZoomLinesearchInfo,
    scale_by_zoom_linesearch,
)

__all__ = [
    "BacktrackingLinesearchInfo",
    "COCOBState",
    "CautiousState",
    "DAdaptAdamWState",
    "DAdaptSGDState",
    "DifferentiallyPrivateAggregateState",
    "DoGState",
    "DoWGState",
    "FactoredState",
    "GaLoreDimensionNumbers",
    "GaLoreState",
    "MadgradState",
    "MechanicState",
    "MinimizeResult",
    "MinimizeStatus",
    "MomoAdamState",
    "MomoState",
    "MuonDimensionNumbers",
    "MuonState",
    "NormalizeState",
    "ProdigyState",
    "QuantizeState",
    "SAMState",
    "ScaleByAdaDeltaState",
    "ScaleByAdamMiniState",
    "ScaleByAdamState",
    "ScaleByAdanState",
    "ScaleByAdemamixState",
    "ScaleByAmsgradState",
    "ScaleByApolloState",
    "ScaleByBacktrackingLinesearchState",
    "ScaleByBeliefState",
    "ScaleByCameState",
    "ScaleByDistanceOverGradientsState",
    "ScaleByKronState",
    "ScaleByLBFGSState",
    "ScaleByLionState",
    "ScaleByMarsState",
    "ScaleByNovogradState",
    "ScaleByOptimisticGradientState",
    "ScaleByRStdDevState",
    "ScaleByRStdDevWithCountState",
    "ScaleByRmsState",
    "ScaleByRmsWithCountState",
    "ScaleByRpropState",
    "ScaleByRssState",
    "ScaleBySM3State",
    "ScaleByShampooState",
    "ScaleBySimplifiedAdEMAMixState",
    "ScaleBySoapState",
    "ScaleByZoomLinesearchState",
    "ScheduleFreeState",
    "SophiaState",
    "SplitRealAndImaginaryArrays",
    "SplitRealAndImaginaryState",
    "ZoomLinesearchInfo",
    "acprop",
    "adabelief",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adam_mini",
    "adamax",
    "adamaxw",
    "adamw",
    "adan",
    "ademamix",
    "ademamix_alpha_schedule",
    "ademamix_b3_schedule",
    "adopt",
    "amsgrad",
    "apollo_mini",
    "came",
    "cautious",
    "cocob",
    "dadapt_adamw",
    "dadapt_sgd",
    "differentially_private_aggregate",
    "dog",
    "dowg",
    "dpsgd",
    "fromage",
    "galore",
    "grams",
    "kron",
    "lamb",
    "lars",
    "lbfgs",
    "lion",
    "madgrad",
    "mars",
    "mechanize",
    "minimize",
    "momo",
    "momo_adam",
    "muon",
    "nadam",
    "nadamw",
    "newton_schulz",
    "noisy_sgd",
    "normalize",
    "novograd",
    "optimistic_adam",
    "optimistic_adam_v2",
    "optimistic_gradient_descent",
    "polyak_sgd",
    "prodigy",
    "quantize_state",
    "radam",
    "rmsprop",
    "rprop",
    "sam",
    "scale_by_acprop",
    "scale_by_adadelta",
    "scale_by_adam",
    "scale_by_adam_mini",
    "scale_by_adamax",
    "scale_by_adan",
    "scale_by_ademamix",
    "scale_by_adopt",
    "scale_by_amsgrad",
    "scale_by_apollo",
    "scale_by_backtracking_linesearch",
    "scale_by_belief",
    "scale_by_came",
    "scale_by_cocob",
    "scale_by_distance_over_gradients",
    "scale_by_dog",
    "scale_by_dowg",
    "scale_by_factored_rms",
    "scale_by_galore",
    "scale_by_grams",
    "scale_by_kron",
    "scale_by_lbfgs",
    "scale_by_lion",
    "scale_by_madgrad",
    "scale_by_mars",
    "scale_by_muon",
    "scale_by_novograd",
    "scale_by_optimistic_gradient",
    "scale_by_param_block_norm",
    "scale_by_param_block_rms",
    "scale_by_polyak",
    "scale_by_radam",
    "scale_by_rms",
    "scale_by_rprop",
    "scale_by_rss",
    "scale_by_shampoo",
    "scale_by_shape",
    "scale_by_sign",
    "scale_by_simplified_ademamix",
    "scale_by_sm3",
    "scale_by_soap",
    "scale_by_sophia",
    "scale_by_stddev",
    "scale_by_trust_ratio",
    "scale_by_yogi",
    "scale_by_zoom_linesearch",
    "schedule_free",
    "schedule_free_adamw",
    "schedule_free_eval_params",
    "schedule_free_radam",
    "schedule_free_sgd",
    "sgd",
    "shampoo",
    "sign_sgd",
    "signum",
    "simplified_ademamix",
    "sm3",
    "soap",
    "sophia",
    "split_real_and_imaginary",
    "value_and_grad_from_state",
    "yogi",
]
