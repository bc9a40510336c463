"""The protocol of gradient transformations, and its types.

A transformation is a pair of pure functions. `init(params)` returns the initial state; `update(updates,
state, params, **extra_args)` transforms updates (initially the gradients) and returns them with the new
state. Any object with these two attributes is a transformation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, Self, TypeAlias

import jax

from optx_core._protocol.diagnosis import why_init_failed, why_update_failed
from optx_core._protocol.kinds import Number
from optx_core._protocol.recorded import Call, Part, Recorded

PyTree: TypeAlias = Any
Params: TypeAlias = Any
Updates: TypeAlias = Any
OptState: TypeAlias = Any
Scalar: TypeAlias = Annotated[float | jax.Array, Number(schedule=False)]
"""A number: a Python float, a 0-d array or a traced value."""
Schedule: TypeAlias = Callable[[Any], Any]
"""A function from the step count (0 at the first step) to a number."""
ScalarOrSchedule: TypeAlias = Annotated[float | jax.Array | Schedule, Number()]
"""A number, or a schedule."""
TransformInitFn: TypeAlias = Callable[[Params], OptState]
TransformUpdateFn: TypeAlias = Callable[..., tuple[Updates, OptState]]


class EmptyState(NamedTuple):
    """The state of a stateless transformation."""


class MaskedNode(NamedTuple):
    """Replaces a masked leaf: a tree node without leaves."""


class _Pair(NamedTuple):
    init: TransformInitFn
    update: TransformUpdateFn


class GradientTransformation(Recorded, _Pair):
    """A pair of pure functions that transforms gradients.

    Attributes:
      init: takes the parameters (a tree of arrays), returns the initial state.
      update: takes `(updates, state, params=None, **extra_args)`, returns `(updates, state)`: the
        updates with the structure, shapes and dtypes of the given ones, the state with those of the
        given state.

    It is also the plain tuple `(init, update)`. Transformations created by optx's functions print as the
    call that created them, and are equal, with equal hashes, when their calls are; so are their `init`
    and `update`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import scale
      >>> tx = scale(-0.5)
      >>> params = {"w": jnp.ones(2)}
      >>> state = tx.init(params)
      >>> updates, state = tx.update({"w": jnp.array([1.0, 2.0])}, state, params)
      >>> updates["w"]
      Array([-0.5, -1. ], dtype=float32)
    """

    def _blank_copy(self) -> Self:
        return tuple.__new__(type(self), self)

    def _recorded_as(self, call: Call) -> Self:
        copy = super()._recorded_as(call)
        init = copy.init

        def why_update(name: str, updates: Any, state: Any, params: Any = None, *_: Any) -> Any:
            return why_update_failed(name, init, state, updates if params is None else params)

        parts = (
            Part(init, call, "init", why_init_failed),
            Part(copy.update, call, "update", why_update),
        )
        result = tuple.__new__(type(copy), parts)
        result.__dict__.update(copy.__dict__)
        return result


class GradientTransformationExtraArgs(GradientTransformation):
    """A `GradientTransformation` whose `update` accepts any keyword arguments.

    It uses those that it needs (such as `value=` and `grad=` in a line search) and ignores the others; if
    one is missing, the error names it. Every transformation of optx is one.
    """


Transformation: TypeAlias = GradientTransformationExtraArgs
"""The return type of a function that makes a transformation."""
Mask: TypeAlias = PyTree | Callable[[Params], PyTree] | None
"""A tree of bools, a prefix of one, or a function from the parameters to one; None selects all leaves."""
