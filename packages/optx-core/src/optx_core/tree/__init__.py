"""Mathematics on trees of arrays, and helpers for transformations.

None and masked nodes are absent leaves and pass through every function. The functions of `jax.tree`
(`map`, `leaves`, `reduce`, `all`, ...) are not repeated.
"""

from optx_core._contents import table_of_contents

__getattr__, __dir__, __all__ = table_of_contents(
    __name__,
    """
    _engine.labels: mask_like
    _engine.slots: slot_dtype slots_like
    _engine.staged: map_leaves
    _protocol.absent: flatten is_absent is_placeholder
    _protocol.dtypes: abs_squared
    tree._arithmetic: add add_scale clip conj div mul real scale sub where
    tree._making: batch_shape cast cast_like full_like ones_like random_like split_key_like
        unwrap_random_key_data zeros_like
    tree._moments: bias_correction update_infinity_moment update_moment update_moment_per_elem_norm
    tree._reductions: allclose dtype max min norm size sum vdot
    tree._state: NamedTupleKey get get_all_with_path map_params set show_path
    """,
)
