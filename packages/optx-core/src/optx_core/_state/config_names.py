"""The names in a config: the public names of the packages of optx, and those that the caller gives."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from optx_core import build

Names = Mapping[str, Any]

PACKAGES = (
    "optx_core",
    "optx_aliases",
    "optx_schedules",
    "optx_projections",
    "optx_second_order",
)


def checked(where: str, names: Names | None) -> dict[str, Any]:
    """Checks and copies the names that the caller gives."""
    copied = {} if names is None else dict(names)
    for name, value in copied.items():
        if not isinstance(name, str):
            raise TypeError(f"{where}: names must be a dict by string, not by {name!r}")
        listed = public(name)
        if listed is not None and listed is not value:
            raise ValueError(f"{where}: {name!r} is a public name of optx; choose another")
    return copied


def public(name: str) -> Any:
    """Returns what a package of optx lists under a name, or None."""
    return next((getattr(module, name) for module in _modules() if name in module.__all__), None)


def all_public() -> list[str]:
    """Returns the public names of all packages."""
    return [name for module in _modules() for name in module.__all__]


def _modules() -> Iterator[Any]:
    for package in PACKAGES:
        try:
            yield import_module(package)
        except ModuleNotFoundError as error:
            if error.name != package:
                raise


def not_installed() -> str:
    """Returns a hint to the packages that are not installed, or ""."""
    found = [module.__name__ for module in _modules()]
    missing = [package for package in PACKAGES if package not in found]
    return f" ({', '.join(missing)} not installed)" if missing else ""


def may_be_called(value: Any) -> bool:
    """Returns whether a public object is a recorded function, or a class of options."""
    return hasattr(value, "records_call") or is_options(value)


def is_options(value: Any) -> bool:
    """Returns whether an object is a NamedTuple or a hashable dataclass whose fields all have defaults.

    No state is one.
    """
    if not isinstance(value, type):
        return False
    if dataclasses.is_dataclass(value):
        defaults = [field.default for field in dataclasses.fields(value)]
        return value.__hash__ is not None and dataclasses.MISSING not in defaults
    names = getattr(value, "_fields", None)
    return names is not None and len(getattr(value, "_field_defaults", ())) == len(names)


def signature_of(where: str, function: Callable[..., Any]) -> inspect.Signature:
    """Returns the signature of a function that a config may call."""
    signature = inspect.signature(function)
    if "name" in signature.parameters:
        shown = getattr(function, "__name__", build.short_repr(function))
        raise TypeError(f'{where}: {shown} has an argument "name", the key of the function itself')
    return signature


def closest(name: Any, known: Iterable[str]) -> str:
    """Returns a hint to similar names, or ""."""
    matches = difflib.get_close_matches(str(name), list(known), n=5)
    return f" (did you mean {' or '.join(map(repr, matches))}?)" if matches else ""
