"""Transformations restricted to some leaves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from optx_core import Params, PyTree, build, tree, with_extra_args_support
from optx_core._engine.labels import keep_where, mask_prefix
from optx_core._engine.staged import staged


class MaskedState(NamedTuple):
    """State of `masked`.

    Attributes:
      inner_state: the inner transformation's state, with a masked node for each leaf, or each subtree,
        where the mask is False.
    """

    inner_state: build.InnerState


@build.recorded
def masked(
    inner: Any,
    mask: PyTree | Callable[[Params], PyTree],
    *,
    mask_compatible_extra_args: bool = False,
) -> build.Transformation:
    """Applies a transformation to some leaves; the others pass unchanged.

    The inner transformation keeps no state and does no work for the others.

    Args:
      inner: the transformation.
      mask: a tree of bools with the structure of the parameters, a prefix of it, or a function from
        the parameters to one of these; True where `inner` applies. It must not depend on values.
      mask_compatible_extra_args: whether extra arguments with the structure of the updates are
        also masked before they are passed to `inner`. `grad`, the current gradient, always is. The
        functions `value_fn`, `grad_fn` and `obj_fn` are called with all parameters, the masked ones at
        their current values, so that `inner` may be a line search, for example.

    Returns:
      A transformation; updates where the mask is False are returned unchanged.

    Raises:
      TypeError: if the mask contains a value that is not a bool.
      ValueError: if the mask does not fit the parameters.

    Example:
      >>> import jax
      >>> from optx_core import add_decayed_weights, masked
      >>> kernels = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
      >>> tx = masked(add_decayed_weights(1e-4), kernels)
    """
    return restricted("masked", inner, mask, mask_compatible_extra_args)


def restricted(
    where: str,
    inner: Any,
    mask: PyTree | Callable[[Params], PyTree],
    mask_compatible_extra_args: bool = False,
) -> build.Transformation:
    """Makes the transformation of `masked`; `where` is the function to name in errors."""
    build.check_transformation_like(where, inner)
    inner = with_extra_args_support(inner)

    def init(params: Params) -> MaskedState:
        return MaskedState(inner.init(keep_where(mask_prefix(mask, params, where), params)))

    def stages(
        flow: build.Flow, state: MaskedState, params: Params = None, **extra_args: Any
    ) -> Callable[[], MaskedState]:
        build.check_state(flow.trail, MaskedState, state)
        flags = mask_prefix(mask, flow.skeleton if params is None else params, where)
        extra = {
            name: keep_where(flags, value)
            if (mask_compatible_extra_args or name == "grad") and flow.has_structure_of(value)
            else value
            for name, value in extra_args.items()
        }
        inner_params = None
        if params is not None:
            inner_params = keep_where(flags, params)
            extra |= {
                name: _of_selected(function, flags, params, name == "grad_fn")
                for name, function in extra_args.items()
                if name in ("value_fn", "grad_fn", "obj_fn") and callable(function)
            }
        with flow.only(flags):
            finish = flow.through(inner, state.inner_state, inner_params, **extra)
        return lambda: MaskedState(finish())

    return staged(init, stages)


def _of_selected(
    function: Callable[..., Any], flags: PyTree, params: Params, returns_tree: bool
) -> Callable[..., Any]:
    """Restricts a function of all parameters to those whose flag is True; the others are held fixed."""
    keep, prefix = tree.flatten(flags)
    others = prefix.flatten_up_to(params)

    @functools.wraps(function)  # keeps the signature, which lists the extra arguments
    def of_selected(selected: Params, *args: Any, **kwargs: Any) -> Any:
        parts = [
            own if flag else other
            for own, other, flag in zip(prefix.flatten_up_to(selected), others, keep, strict=True)
        ]
        result = function(prefix.unflatten(parts), *args, **kwargs)
        return keep_where(flags, result) if returns_tree else result

    return of_selected
