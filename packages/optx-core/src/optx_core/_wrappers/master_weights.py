"""Low-precision parameters with masters, of float32 or of 24 bits, that the optimizer updates.

master ← master + u,   the parameter is the rounded master.

With 32 bits the state holds a float32 copy. With 24 bits it holds what bfloat16 rounds off, as an int8 e in
units of 1/256 of the parameter's last place (`split_masters`): the master is p and e together.

References: Micikevicius et al., "Mixed Precision Training", 2018, section 3.1; FlashOptim, arXiv:2602.23349,
2026 (24 bits).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import OptState, Params, PyTree, Updates, build, tree, with_extra_args_support
from optx_core._wrappers.split_masters import joined, split


class MasterWeightsState(NamedTuple):
    """State of `master_weights`.

    Attributes:
      master: the parameters in at least float32; None where they are not floating-point.
      inner_state: the inner transformation's state, for the float32 copy.
    """

    master: Annotated[PyTree, build.slot(fill="params")]
    inner_state: build.InnerState


class RoundingErrorState(NamedTuple):
    """State of `master_weights` with 24 bits.

    Attributes:
      error: int8, the masters minus the parameters in units of 1/256 of the parameters' last place; None
        where they are not bfloat16.
      inner_state: the inner transformation's state, for the masters.
    """

    error: Annotated[PyTree, build.slot(exact=True)]
    inner_state: build.InnerState


@build.recorded
def master_weights(inner: Any, bits: Literal[24, 32] = 32) -> build.Transformation:
    """Keeps a more precise copy of bf16 (or f16) parameters, which the optimizer updates.

    Returns float32 updates for which `apply_updates` (of optx, optax or nnx) yields the rounded copy: steps
    below the parameters' precision are not lost.

    Args:
      inner: the optimizer; it receives float32 gradients and parameters.
      bits: 32 for a float32 copy, 4 bytes per parameter. 24 to keep only what bfloat16 rounds off, as an
        int8, 1 byte per parameter: the copy has 8 bits less than float32, and steps below 2⁻¹⁷ of the
        parameter are lost. It is computed in the pass of the update, and never stored. float32 parameters
        are left as they are.

    Returns:
      A transformation with a `MasterWeightsState` (a `RoundingErrorState` with 24 bits); `update` needs the
      parameters. Place it last in a chain: if its updates are changed afterwards, the copy and the
      parameters diverge.

    Raises:
      ValueError: if `bits` is neither 24 nor 32; from `init` and `update` with 24 bits, if a parameter is
        narrower than float32 and not bfloat16.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import apply_updates, master_weights, scale
      >>> tx, params = master_weights(scale(-1e-3), bits=24), jnp.ones(1, jnp.bfloat16)
      >>> state = tx.init(params)
      >>> for _ in range(100):
      ...     updates, state = tx.update(jnp.ones(1, jnp.bfloat16), state, params)
      ...     params = apply_updates(params, updates)
      >>> round(float(params[0]), 1), state.error.dtype
      (0.9, dtype('int8'))
    """
    build.check_transformation_like("master_weights", inner)
    if bits not in (24, 32):
        raise ValueError(f"master_weights: bits must be 24 or 32, not {bits!r}")
    inner = with_extra_args_support(inner)
    return _copies(inner) if bits == 32 else _errors(inner)


def _copies(inner: Any) -> build.Transformation:
    """`master_weights` with float32 copies in the state."""

    def init(params: Params) -> MasterWeightsState:
        return MasterWeightsState(build.copy_of(params), inner.init(build.widened(params)))

    def update(
        updates: Updates, state: MasterWeightsState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, MasterWeightsState]:
        build.need_params("master_weights", params)
        moves, inner_state = inner.update(
            build.widened(updates), state.inner_state, state.master, **extra_args
        )

        def move(m: Any, u: Any) -> Any:
            return m if tree.is_placeholder(u) or tree.is_placeholder(m) else m + u.astype(m.dtype)

        master = jax.tree.map(move, state.master, moves, is_leaf=tree.is_placeholder)

        def difference(u: Any, m: Any, p: Any) -> Any:
            if tree.is_placeholder(u):
                return u
            p = jnp.asarray(p)
            return m.astype(p.dtype).astype(m.dtype) - p.astype(m.dtype)

        new = jax.tree.map(difference, moves, master, params, is_leaf=tree.is_placeholder)
        return new, MasterWeightsState(master, inner_state)

    return build.wrapping(init, update)


def _errors(inner: Any) -> build.Transformation:
    """`master_weights` with the rounding errors in the state."""

    def init(params: Params) -> RoundingErrorState:
        error = jax.tree_util.tree_map_with_path(_no_error, params, is_leaf=tree.is_placeholder)
        return RoundingErrorState(error, inner.init(build.widened(params)))

    def update(
        updates: Updates, state: RoundingErrorState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        build.need_params("master_weights", params)

        def master(e: Any, p: Any) -> Any:
            return p if tree.is_placeholder(e) else joined(jnp.asarray(p), e)

        masters = jax.tree.map(
            master, state.error, build.widened(params), is_leaf=tree.is_placeholder
        )
        moves, inner_state = inner.update(
            build.widened(updates), state.inner_state, masters, **extra_args
        )
        leaves, structure = build.tree_flatten(moves, is_leaf=tree.is_placeholder)
        columns = [structure.flatten_up_to(x) for x in (state.error, masters, params)]
        pairs = [
            (u, e)
            if tree.is_placeholder(u) or tree.is_placeholder(e)
            else split(jnp.asarray(p), m + u.astype(m.dtype))
            for u, e, m, p in zip(leaves, *columns, strict=True)
        ]
        new, error = (structure.unflatten([pair[k] for pair in pairs]) for k in range(2))
        return new, RoundingErrorState(error, inner_state)

    return build.wrapping(init, update)


def _no_error(path: Any, p: Any) -> Any:
    """Returns the rounding error of a parameter that is its own master."""
    if tree.is_placeholder(p) or not build.is_inexact(p):
        return p if tree.is_placeholder(p) else None
    dtype = build.dtype_of(p)
    if dtype == jnp.bfloat16:
        return jnp.zeros_like(p, jnp.int8)
    if build.at_least_float32(dtype) != dtype:
        raise ValueError(
            f"master_weights: params{jax.tree_util.keystr(path)} is {dtype}, and bits=24 is for bfloat16: "
            "use bits=32"
        )
    return None
