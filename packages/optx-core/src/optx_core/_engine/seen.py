"""Whether a transformation sees all parameters, a part of them, or slices."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Literal

_seen: contextvars.ContextVar[str] = contextvars.ContextVar("_seen", default="all")


@contextlib.contextmanager
def seeing(what: Literal["part", "slices"]) -> Iterator[None]:
    """Tells the transformations that run in the `with` block that they see only a part of the parameters.

    Groups may then be empty. Of slices, norms of the whole tree are refused too.
    """
    token = _seen.set("slices" if sees_slices() else what)
    try:
        yield
    finally:
        _seen.reset(token)


def sees_all() -> bool:
    """Returns whether a transformation is called with all parameters."""
    return _seen.get() == "all"


def sees_slices() -> bool:
    """Returns whether `per_slice` is the caller: updates and parameters are slices of some arrays.

    Returns:
      A bool.

    Example:
      >>> from optx_core.build import sees_slices
      >>> sees_slices()
      False
    """
    return _seen.get() == "slices"
