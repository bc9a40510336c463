"""The names of `optax.tree`: mathematics on trees."""

# Written by tools/write_stubs.py.

from optx_core.tree import add as add
from optx_core.tree import add_scale as add_scale
from optx_core.tree import allclose as allclose
from optx_core.tree import batch_shape as batch_shape
from optx_core.tree import bias_correction as bias_correction
from optx_core.tree import cast as cast
from optx_core.tree import cast_like as cast_like
from optx_core.tree import clip as clip
from optx_core.tree import conj as conj
from optx_core.tree import div as div
from optx_core.tree import dtype as dtype
from optx_core.tree import full_like as full_like
from optx_core.tree import get as get
from optx_core.tree import get_all_with_path as get_all_with_path
from optx_core.tree import map_params as map_params
from optx_core.tree import max as max
from optx_core.tree import min as min
from optx_core.tree import mul as mul
from optx_core.tree import norm as norm
from optx_core.tree import ones_like as ones_like
from optx_core.tree import random_like as random_like
from optx_core.tree import real as real
from optx_core.tree import scale as scale
from optx_core.tree import set as set
from optx_core.tree import size as size
from optx_core.tree import split_key_like as split_key_like
from optx_core.tree import sub as sub
from optx_core.tree import sum as sum
from optx_core.tree import unwrap_random_key_data as unwrap_random_key_data
from optx_core.tree import update_infinity_moment as update_infinity_moment
from optx_core.tree import update_moment as update_moment
from optx_core.tree import update_moment_per_elem_norm as update_moment_per_elem_norm
from optx_core.tree import vdot as vdot
from optx_core.tree import where as where
from optx_core.tree import zeros_like as zeros_like

__all__ = [
    "add",
    "add_scale",
    "allclose",
    "batch_shape",
    "bias_correction",
    "cast",
    "cast_like",
    "clip",
    "conj",
    "div",
    "dtype",
    "full_like",
    "get",
    "get_all_with_path",
    "map_params",
    "max",
    "min",
    "mul",
    "norm",
    "ones_like",
    "random_like",
    "real",
    "scale",
    "set",
    "size",
    "split_key_like",
    "sub",
    "sum",
    "unwrap_random_key_data",
    "update_infinity_moment",
    "update_moment",
    "update_moment_per_elem_norm",
    "vdot",
    "where",
    "zeros_like",
]
