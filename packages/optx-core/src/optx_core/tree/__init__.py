"""Mathematics on trees of arrays, and what transformations are written with.

None and masked nodes are "not here" and pass through everything. What `jax.tree` does already
(`map`, `leaves`, `reduce`, `all`, ...) is not repeated.
"""

from optx_core._engine.labels import mask_like
from optx_core._engine.slots import slot_dtype, slots_like
from optx_core._engine.staged import map_leaves
from optx_core._protocol.absent import flatten, is_absent, is_placeholder
from optx_core._protocol.dtypes import abs_squared
from optx_core.tree._arithmetic import add, add_scale, clip, conj, div, mul, real, scale, sub, where
from optx_core.tree._making import (
    batch_shape,
    cast,
    cast_like,
    full_like,
    ones_like,
    random_like,
    split_key_like,
    zeros_like,
)
from optx_core.tree._moments import (
    bias_correction,
    update_infinity_moment,
    update_moment,
    update_moment_per_elem_norm,
)
from optx_core.tree._reductions import allclose, dtype, max, min, norm, size, sum, vdot
from optx_core.tree._state import (
    NamedTupleKey,
    get,
    get_all_with_path,
    map_params,
    set,
    show_path,
)

__all__ = [
    "NamedTupleKey",
    "abs_squared",
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
    "flatten",
    "full_like",
    "get",
    "get_all_with_path",
    "is_absent",
    "is_placeholder",
    "map_leaves",
    "map_params",
    "mask_like",
    "max",
    "min",
    "mul",
    "norm",
    "ones_like",
    "random_like",
    "real",
    "scale",
    "set",
    "show_path",
    "size",
    "slot_dtype",
    "slots_like",
    "split_key_like",
    "sub",
    "sum",
    "update_infinity_moment",
    "update_moment",
    "update_moment_per_elem_norm",
    "vdot",
    "where",
    "zeros_like",
]
