"""The values that a compiled step holds, and the placeholders for them in the objects."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp

from flax import nnx
from optx_flax._paths import listed


class Hold:
    """The values of the objects while a compiled step works on them.

    The placeholders in the objects keep it alive, so that no value is lost with the step.
    """

    def __init__(
        self, step: Any, program: Any, objects: tuple[Any, ...], leaves: list[Any]
    ) -> None:
        self.step = weakref.ref(step)
        self.program = program
        self.objects = objects
        self.leaves = leaves
        self.results: list[tuple[list[Any], Any]] = []
        self.returned = False

    def take(self, *, copy: bool) -> None:
        """Puts placeholders into the objects, and copies the arrays that others may share."""
        self._put([Held(self)] * len(self.leaves))
        if copy:
            try:
                for k in range(len(self.leaves)):  # one at a time: an array of its own is freed
                    self.leaves[k] = jnp.copy(self.leaves[k])
            except BaseException:
                self.give_back()
                raise

    def run(self, call: Callable[..., Any], args: tuple[Any, ...], *, wait: bool) -> None:
        """Runs a program on the values; `commit` takes over what it returns."""
        try:
            # In C from the call to the list, so that no interrupt comes between a step and its results.
            self.results.extend(map(call, [self.leaves], *([x] for x in args)))
            if wait:  # an error in a callback may show only now
                jax.block_until_ready(self.results)
                jax.effects_barrier()
        except BaseException as error:
            if wait:
                self.results.clear()
            self.commit()
            if lost := self.lost():
                error.add_note(_loss(lost))
            raise

    def commit(self) -> Any:
        """Takes the values of a finished step; returns its result."""
        if not self.results:
            return None
        self.leaves, out = self.results.pop()
        return out

    def lost(self) -> list[str]:
        """The paths of values that a failed step took with it."""
        pairs = zip(self.program.paths, self.leaves, strict=True)
        return ["/".join(path) for path, x in pairs if x.is_deleted()]

    def give_back(self) -> None:
        """Puts the values into the objects."""
        if not self.returned:
            self.commit()
            lost = self.lost()
            self._put([Held(self) if x.is_deleted() else x for x in self.leaves])
            self.returned = True
            if lost:
                raise LostError(_loss(lost))

    def _put(self, leaves: list[Any]) -> None:
        nnx.update(self.objects, self.program.structure.unflatten(leaves))


class LostError(RuntimeError):
    """Values of the objects were lost with a donated step that failed."""


def _loss(lost: list[str]) -> str:
    return (
        "compile_step: the step failed while it ran, with the memory of its objects donated to it; "
        f"the values of {listed(lost)} are lost. compile_step(..., donate=False) keeps the values from "
        "before a failed step"
    )


class HeldError(RuntimeError):
    """A read of a value that a compiled step holds."""


class HeldAttributeError(HeldError, AttributeError):
    """The same as an AttributeError, as hasattr() asks for."""


class Held:
    """A placeholder in an object for a value that a compiled step holds."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold

    def __repr__(self) -> str:
        return "<lost>" if self._hold.returned else "<held by compile_step until sync()>"

    def _reason(self) -> str:
        hold = self._hold
        if hold.returned:
            lost = hold.lost()
            return _loss(lost) if lost else "this object was copied while a compiled step held it"
        if hold.step() is None:  # it was collected where objects cannot be changed
            hold.give_back()
            return "the compiled step that held this value is gone, and the value is back: read it again"
        return (
            "this value is held by a compiled step: call its sync(), or read it after the end of its "
            "`with` block"
        )

    def refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise HeldError(self._reason())

    def __getattr__(self, name: str) -> NoReturn:
        raise HeldAttributeError(self._reason())

    dtype = property(refuse)  # getattr(x, "dtype", None) must not pass
    __getitem__ = __call__ = __array__ = __jax_array__ = __reduce_ex__ = refuse
    __float__ = __int__ = __index__ = __bool__ = __len__ = __iter__ = refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = refuse
    __rtruediv__ = __matmul__ = __rmatmul__ = __neg__ = __pow__ = __lt__ = __gt__ = refuse
