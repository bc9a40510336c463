"""The names of `optax.monte_carlo`: estimators, of older versions."""

# Written by tools/write_stubs.py.

from optx_estimators import control_delta_method as control_delta_method
from optx_estimators import control_variates_jacobians as control_variates_jacobians
from optx_estimators import measure_valued_jacobians as measure_valued_jacobians
from optx_estimators import moving_avg_baseline as moving_avg_baseline
from optx_estimators import pathwise_jacobians as pathwise_jacobians
from optx_estimators import score_function_jacobians as score_function_jacobians

__all__ = [
    "control_delta_method",
    "control_variates_jacobians",
    "measure_valued_jacobians",
    "moving_avg_baseline",
    "pathwise_jacobians",
    "score_function_jacobians",
]
