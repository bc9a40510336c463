"""The names of `optax.contrib`: contributed optimizers."""

# Written by tools/write_stubs.py.

from optx_aliases import COCOBState as COCOBState
from optx_aliases import DAdaptAdamWState as DAdaptAdamWState
from optx_aliases import DifferentiallyPrivateAggregateState as DifferentiallyPrivateAggregateState
from optx_aliases import DoGState as DoGState
from optx_aliases import DoWGState as DoWGState
from optx_aliases import GaLoreDimensionNumbers as GaLoreDimensionNumbers
from optx_aliases import GaLoreState as GaLoreState
from optx_aliases import MadgradState as MadgradState
from optx_aliases import MechanicState as MechanicState
from optx_aliases import MomoAdamState as MomoAdamState
from optx_aliases import MomoState as MomoState
from optx_aliases import MuonDimensionNumbers as MuonDimensionNumbers
from optx_aliases import MuonState as MuonState
from optx_aliases import NormalizeState as NormalizeState
from optx_aliases import ProdigyState as ProdigyState
from optx_aliases import SAMState as SAMState
from optx_aliases import ScaleByAdemamixState as ScaleByAdemamixState
from optx_aliases import ScaleBySimplifiedAdEMAMixState as ScaleBySimplifiedAdEMAMixState
from optx_aliases import ScheduleFreeState as ScheduleFreeState
from optx_aliases import SophiaState as SophiaState
from optx_aliases import SplitRealAndImaginaryState as SplitRealAndImaginaryState
from optx_aliases import acprop as acprop
from optx_aliases import ademamix as ademamix
from optx_aliases import adopt as adopt
from optx_aliases import cocob as cocob
from optx_aliases import dadapt_adamw as dadapt_adamw
from optx_aliases import differentially_private_aggregate as differentially_private_aggregate
from optx_aliases import dog as dog
from optx_aliases import dowg as dowg
from optx_aliases import dpsgd as dpsgd
from optx_aliases import galore as galore
from optx_aliases import madgrad as madgrad
from optx_aliases import mechanize as mechanize
from optx_aliases import momo as momo
from optx_aliases import momo_adam as momo_adam
from optx_aliases import muon as muon
from optx_aliases import normalize as normalize
from optx_aliases import prodigy as prodigy
from optx_aliases import sam as sam
from optx_aliases import scale_by_acprop as scale_by_acprop
from optx_aliases import scale_by_ademamix as scale_by_ademamix
from optx_aliases import scale_by_adopt as scale_by_adopt
from optx_aliases import scale_by_cocob as scale_by_cocob
from optx_aliases import scale_by_galore as scale_by_galore
from optx_aliases import scale_by_madgrad as scale_by_madgrad
from optx_aliases import scale_by_muon as scale_by_muon
from optx_aliases import scale_by_simplified_ademamix as scale_by_simplified_ademamix
from optx_aliases import schedule_free as schedule_free
from optx_aliases import schedule_free_adamw as schedule_free_adamw
from optx_aliases import schedule_free_eval_params as schedule_free_eval_params
from optx_aliases import schedule_free_sgd as schedule_free_sgd
from optx_aliases import simplified_ademamix as simplified_ademamix
from optx_aliases import split_real_and_imaginary as split_real_and_imaginary
from optx_compat._adapters import hutchinson_estimator_diag_hessian as hutchinson_estimator_diag_hessian
from optx_compat._adapters import sophia as sophia
from optx_schedules import ReduceLROnPlateauState as ReduceLROnPlateauState
from optx_schedules import reduce_on_plateau as reduce_on_plateau
from optx_second_order import DiagEstimatorState as HutchinsonState

__all__ = [
    "COCOBState",
    "DAdaptAdamWState",
    "DifferentiallyPrivateAggregateState",
    "DoGState",
    "DoWGState",
    "GaLoreDimensionNumbers",
    "GaLoreState",
    "HutchinsonState",
    "MadgradState",
    "MechanicState",
    "MomoAdamState",
    "MomoState",
    "MuonDimensionNumbers",
    "MuonState",
    "NormalizeState",
    "ProdigyState",
    "ReduceLROnPlateauState",
    "SAMState",
    "ScaleByAdemamixState",
    "ScaleBySimplifiedAdEMAMixState",
    "ScheduleFreeState",
    "SophiaState",
    "SplitRealAndImaginaryState",
    "acprop",
    "ademamix",
    "adopt",
    "cocob",
    "dadapt_adamw",
    "differentially_private_aggregate",
    "dog",
    "dowg",
    "dpsgd",
    "galore",
    "hutchinson_estimator_diag_hessian",
    "madgrad",
    "mechanize",
    "momo",
    "momo_adam",
    "muon",
    "normalize",
    "prodigy",
    "reduce_on_plateau",
    "sam",
    "scale_by_acprop",
    "scale_by_ademamix",
    "scale_by_adopt",
    "scale_by_cocob",
    "scale_by_galore",
    "scale_by_madgrad",
    "scale_by_muon",
    "scale_by_simplified_ademamix",
    "schedule_free",
    "schedule_free_adamw",
    "schedule_free_eval_params",
    "schedule_free_sgd",
    "simplified_ademamix",
    "sophia",
    "split_real_and_imaginary",
]
