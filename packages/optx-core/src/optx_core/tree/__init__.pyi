"""Mathematics on trees of arrays, and helpers for transformations.

None and masked nodes are absent leaves and pass through every function. The functions of `jax.tree`
(`map`, `leaves`, `reduce`, `all`, ...) are not repeated."""

# Written by tools/write_stubs.py.

from optx_core._engine.labels import mask_like as mask_like
from optx_core._engine.slots import slot_dtype as slot_dtype
from optx_core._engine.slots import slots_like as slots_like
from optx_core._engine.staged import map_leaves as map_leaves
from optx_core._protocol.absent import flatten as flatten
from optx_core._protocol.absent import is_absent as is_absent
from optx_core._protocol.absent import is_placeholder as is_placeholder
from optx_core._protocol.dtypes import abs_squared as abs_squared
from optx_core.tree._arithmetic import add as add
from optx_core.tree._arithmetic import add_scale as add_scale
from optx_core.tree._arithmetic import clip as clip
from optx_core.tree._arithmetic import conj as conj
from optx_core.tree._arithmetic import div as div
from optx_core.tree._arithmetic import mul as mul
from optx_core.tree._arithmetic import real as real
from optx_core.tree._arithmetic import scale as scale
from optx_core.tree._arithmetic import sub as sub
from optx_core.tree._arithmetic import where as where
from optx_core.tree._making import batch_shape as batch_shape
from optx_core.tree._making import cast as cast
from optx_core.tree._making import cast_like as cast_like
from optx_core.tree._making import full_like as full_like
from optx_core.tree._making import ones_like as ones_like
from optx_core.tree._making import random_like as random_like
from optx_core.tree._making import split_key_like as split_key_like
from optx_core.tree._making import unwrap_random_key_data as unwrap_random_key_data
from optx_core.tree._making import zeros_like as zeros_like
from optx_core.tree._moments import bias_correction as bias_correction
from optx_core.tree._moments import update_infinity_moment as update_infinity_moment
from optx_core.tree._moments import update_moment as update_moment
from optx_core.tree._moments import update_moment_per_elem_norm as update_moment_per_elem_norm
from optx_core.tree._reductions import allclose as allclose
from optx_core.tree._reductions import dtype as dtype
from optx_core.tree._reductions import max as max
from optx_core.tree._reductions import min as min
from optx_core.tree._reductions import norm as norm
from optx_core.tree._reductions import size as size
from optx_core.tree._reductions import sum as sum
from optx_core.tree._reductions import vdot as vdot
from optx_core.tree._state import NamedTupleKey as NamedTupleKey
from optx_core.tree._state import get as get
from optx_core.tree._state import get_all_with_path as get_all_with_path
from optx_core.tree._state import map_params as map_params
from optx_core.tree._state import set as set
from optx_core.tree._state import show_path as show_path
