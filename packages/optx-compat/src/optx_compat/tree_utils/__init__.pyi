"""The names of `optax.tree_utils`: mathematics on trees, names with `tree_`."""

# Written by tools/write_stubs.py.

from optx_compat._adapters import tree_l1_norm as tree_l1_norm
from optx_compat._adapters import tree_l2_norm as tree_l2_norm
from optx_compat._adapters import tree_linf_norm as tree_linf_norm
from optx_core.tree import NamedTupleKey as NamedTupleKey
from optx_core.tree import add as tree_add
from optx_core.tree import add_scale as tree_add_scalar_mul
from optx_core.tree import add_scale as tree_add_scale
from optx_core.tree import allclose as tree_allclose
from optx_core.tree import batch_shape as tree_batch_shape
from optx_core.tree import bias_correction as tree_bias_correction
from optx_core.tree import cast as tree_cast
from optx_core.tree import cast_like as tree_cast_like
from optx_core.tree import clip as tree_clip
from optx_core.tree import conj as tree_conj
from optx_core.tree import div as tree_div
from optx_core.tree import dtype as tree_dtype
from optx_core.tree import full_like as tree_full_like
from optx_core.tree import get as tree_get
from optx_core.tree import get_all_with_path as tree_get_all_with_path
from optx_core.tree import map_params as tree_map_params
from optx_core.tree import max as tree_max
from optx_core.tree import min as tree_min
from optx_core.tree import mul as tree_mul
from optx_core.tree import norm as tree_norm
from optx_core.tree import ones_like as tree_ones_like
from optx_core.tree import random_like as tree_random_like
from optx_core.tree import real as tree_real
from optx_core.tree import scale as tree_scalar_mul
from optx_core.tree import scale as tree_scale
from optx_core.tree import set as tree_set
from optx_core.tree import size as tree_size
from optx_core.tree import split_key_like as tree_split_key_like
from optx_core.tree import sub as tree_sub
from optx_core.tree import sum as tree_sum
from optx_core.tree import unwrap_random_key_data as tree_unwrap_random_key_data
from optx_core.tree import update_infinity_moment as tree_update_infinity_moment
from optx_core.tree import update_moment as tree_update_moment
from optx_core.tree import update_moment_per_elem_norm as tree_update_moment_per_elem_norm
from optx_core.tree import vdot as tree_vdot
from optx_core.tree import where as tree_where
from optx_core.tree import zeros_like as tree_zeros_like

__all__ = [
    "NamedTupleKey",
    "tree_add",
    "tree_add_scalar_mul",
    "tree_add_scale",
    "tree_allclose",
    "tree_batch_shape",
    "tree_bias_correction",
    "tree_cast",
    "tree_cast_like",
    "tree_clip",
    "tree_conj",
    "tree_div",
    "tree_dtype",
    "tree_full_like",
    "tree_get",
    "tree_get_all_with_path",
    "tree_l1_norm",
    "tree_l2_norm",
    "tree_linf_norm",
    "tree_map_params",
    "tree_max",
    "tree_min",
    "tree_mul",
    "tree_norm",
    "tree_ones_like",
    "tree_random_like",
    "tree_real",
    "tree_scalar_mul",
    "tree_scale",
    "tree_set",
    "tree_size",
    "tree_split_key_like",
    "tree_sub",
    "tree_sum",
    "tree_unwrap_random_key_data",
    "tree_update_infinity_moment",
    "tree_update_moment",
    "tree_update_moment_per_elem_norm",
    "tree_vdot",
    "tree_where",
    "tree_zeros_like",
]
