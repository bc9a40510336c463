"""A transformation for some of the leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from optx_core._extra_args import check_transformation_like, with_extra_args_support
from optx_core._flow import Flow
from optx_core._labels import keep_where, mask_like
from optx_core._recorded import recorded
from optx_core._staged import staged
from optx_core._types import GradientTransformationExtraArgs, OptState, Params, PyTree


class MaskedState(NamedTuple):
    """State of `masked`.

    Attributes:
      inner_state: the inner transformation's state, with masked nodes where nothing is kept.
    """

    inner_state: OptState


@recorded
def masked(
    inner: Any,
    mask: PyTree | Callable[[Params], PyTree],
    *,
    mask_compatible_extra_args: bool = False,
) -> GradientTransformationExtraArgs:
    """Applies a transformation to some leaves, and leaves the others as they are.

    The inner transformation owns no state for the others and does no work for them.

    Args:
      inner: the transformation.
      mask: a tree of bools with the structure of the parameters, a prefix of it, or a function from
        the parameters to one of these; True where `inner` applies. It must not depend on values.
      mask_compatible_extra_args: whether extra arguments with the structure of the updates are
        masked too before `inner` sees them.

    Returns:
      A transformation; updates where the mask is False come back untouched.

    Raises:
      TypeError: if a mask holds something other than bools.
      ValueError: if the mask does not fit the parameters.

    Example:
      >>> import jax
      >>> from optx_core import add_decayed_weights, masked
      >>> kernels = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
      >>> tx = masked(add_decayed_weights(1e-4), kernels)
    """
    check_transformation_like("masked", inner)
    inner = with_extra_args_support(inner)

    def init(params: Params) -> MaskedState:
        return MaskedState(inner.init(keep_where(mask_like(mask, params, "masked"), params)))

    def stages(
        flow: Flow, state: MaskedState, params: Params = None, **extra_args: Any
    ) -> Callable[[], MaskedState]:
        flags = mask_like(mask, flow.skeleton if params is None else params, "masked")
        extra = extra_args
        if mask_compatible_extra_args:
            extra = {
                name: keep_where(flags, value) if flow.has_structure_of(value) else value
                for name, value in extra_args.items()
            }
        with flow.only(flags):
            kept = None if params is None else keep_where(flags, params)
            finish = flow.through(inner, state.inner_state, kept, **extra)
        return lambda: MaskedState(finish())

    return staged(init, stages)
