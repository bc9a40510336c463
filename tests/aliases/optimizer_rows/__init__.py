"""The table of all optimizers: a row for each, by its name and, after a comma, its options."""

import pytest

from optimizer_rows import (
    elementwise,
    layerwise,
    line_search,
    low_memory,
    matrix,
    parameter_free,
    wrappers,
)
from optimizer_rows._compiled import compiled_step
from optimizer_rows._row import Row

ROWS: dict[str, Row] = {
    **elementwise.ROWS,
    **layerwise.ROWS,
    **matrix.ROWS,
    **parameter_free.ROWS,
    **low_memory.ROWS,
    **line_search.ROWS,
    **wrappers.ROWS,
}

# For tests that run a program for each row: of the rows with options, one in three (see `sampled`).
SAMPLED_OPTIONS = [
    pytest.param(name, marks=pytest.mark.sampled(3)) if "," in name else name for name in ROWS
]

# Public functions that make no transformation, or one of gradients of single examples or of attention
# weights; each has tests of its own.
NO_OPTIMIZERS: set[str] = {
    "ademamix_alpha_schedule",
    "ademamix_b3_schedule",
    "differentially_private_aggregate",
    "dpsgd",
    "minimize",
    "newton_schulz",
    "polar_express_coefficients",
    "power_iteration",
    "qk_clip",
    "per_example_layer_norm_clip",
    "per_example_global_norm_clip",
    "matrix_inverse_pth_root",
    "schedule_free_eval_params",
    "value_and_grad_from_state",
}

__all__ = ["NO_OPTIMIZERS", "ROWS", "SAMPLED_OPTIONS", "Row", "compiled_step"]
