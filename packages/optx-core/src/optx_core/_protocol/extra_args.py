"""Adapts any object with `init` and `update` to a transformation."""

from __future__ import annotations

import inspect
from typing import Any

from optx_core._protocol.diagnosis import short_repr
from optx_core._protocol.types import (
    GradientTransformationExtraArgs,
    OptState,
    Params,
    Updates,
)


def with_extra_args_support(tx: Any) -> GradientTransformationExtraArgs:
    """Makes any object with `init` and `update` accept arbitrary keyword arguments.

    Args:
      tx: a transformation of optx, of optax or of your own: any object with the two attributes.

    Returns:
      A transformation whose `update` accepts any keyword arguments and passes on those that the
      object's own `update` names (all of them if it takes `**extra_args`).

    Raises:
      TypeError: if the object has no callable `init` and `update`.

    Example:
      >>> from optx_core import with_extra_args_support, GradientTransformation
      >>> plain = GradientTransformation(lambda params: (), lambda g, s, p=None: (g, s))
      >>> tx = with_extra_args_support(plain)
      >>> tx.update(1.0, (), None, value=3.0)
      (1.0, ())
    """
    if isinstance(tx, GradientTransformationExtraArgs):
        return tx
    check_transformation_like("with_extra_args_support", tx)
    parameters = inspect.signature(tx.update).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return _Foreign(tx.init, tx.update)
    known = {
        parameter.name
        for parameter in list(parameters)[3:]
        if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY
    }
    return _Foreign(tx.init, _WithKnownArgs(tx.update, frozenset(known)))


def check_transformation_like(where: str, tx: Any) -> None:
    """Raises an error if an object has no `init` and `update`.

    Args:
      where: the function to name in the error.
      tx: the object passed as a transformation.

    Raises:
      TypeError: if it has no callable `init` and `update`; suggests a fix where possible.

    Example:
      >>> from optx_core import scale
      >>> from optx_core.build import check_transformation_like
      >>> check_transformation_like("mine", scale(2.0))
    """
    if not (callable(getattr(tx, "init", None)) and callable(getattr(tx, "update", None))):
        hint = ""
        if callable(tx):
            hint = f" (call it: {getattr(tx, '__name__', 'make')}(...))"
        raise TypeError(
            f"{where} takes transformations, objects with init and update, not {short_repr(tx)}{hint}"
        )


class _Foreign(GradientTransformationExtraArgs):
    """A transformation of another library, compared by its functions."""


class _WithKnownArgs:
    def __init__(self, update: Any, known: frozenset[str]) -> None:
        self.update = update
        self.known = known

    def __call__(
        self, updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        known = {name: value for name, value in extra_args.items() if name in self.known}
        return self.update(updates, state, params, **known)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _WithKnownArgs) and self.update == other.update

    def __hash__(self) -> int:
        return hash(self.update)
