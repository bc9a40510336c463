"""The protocol: what a gradient transformation is, and the names of its parts.

A transformation is a pair of pure functions. `init(params)` makes the state; `update(updates,
state, params, **extra_args)` turns candidate updates (gradients, at first) into better ones and
renews the state. Any object with these two attributes serves.
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
"""A value as a function of the step: takes a count of steps (0 at the first), returns a number."""
ScalarOrSchedule: TypeAlias = Annotated[float | jax.Array | Schedule, Number()]
"""A number, or a schedule of it."""
TransformInitFn: TypeAlias = Callable[[Params], OptState]
TransformUpdateFn: TypeAlias = Callable[..., tuple[Updates, OptState]]


class EmptyState(NamedTuple):
    """The state of a transformation that remembers nothing."""


class MaskedNode(NamedTuple):
    """Stands where a leaf was masked out: a tree node without leaves."""


class _Pair(NamedTuple):
    init: TransformInitFn
    update: TransformUpdateFn


class GradientTransformation(Recorded, _Pair):
    """A pair of pure functions that transforms gradients.

    Attributes:
      init: takes the parameters (a tree of arrays), returns the initial state.
      update: takes `(updates, state, params=None, **extra_args)`, returns `(updates, state)`: the
        updates with the structure, shapes and dtypes of those given, the state with its own.

    It is also the plain tuple `(init, update)`. Those made by optx's functions print as the call
    that made them, and are equal, and hash equal, when their calls are; so do their two functions.

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
        made = super()._recorded_as(call)
        init = made.init

        def why_update(name: str, updates: Any, state: Any, params: Any = None, *_: Any) -> Any:
            return why_update_failed(name, init, state, updates if params is None else params)

        parts = (
            Part(init, call, "init", why_init_failed),
            Part(made.update, call, "update", why_update),
        )
        named = tuple.__new__(type(made), parts)
        named.__dict__.update(made.__dict__)
        return named


class GradientTransformationExtraArgs(GradientTransformation):
    """A `GradientTransformation` whose `update` takes any keyword arguments.

    It uses those it needs (`value=` and `grad=` for a line search, say), ignores the others and
    names what it lacks. Every transformation of optx is one.
    """


Transformation: TypeAlias = GradientTransformationExtraArgs
"""What a function that makes a transformation returns."""
Mask: TypeAlias = PyTree | Callable[[Params], PyTree] | None
"""Which leaves: a tree of bools, a prefix of one, a function from the parameters to one; None for all."""
