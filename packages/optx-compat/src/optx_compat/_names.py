"""The names of a module of optax, each imported from its home in optx at its first use."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from optx_compat._table import TABLE, submodules, why_missing


def optax_names(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Makes the `__getattr__`, `__dir__` and `__all__` of a module from the table.

    Args:
      package: the module's `__name__`, such as `optx_compat.losses` for `optax.losses`.

    Returns:
      The two functions and the list.

    Example:
      >>> from optx_compat._names import optax_names
      >>> optax_names("optx_compat.assignment")[2]
      ['base_hungarian_algorithm', 'hungarian_algorithm']
    """
    theirs = package.replace("optx_compat", "optax", 1)
    homes, modules = TABLE[theirs], submodules(theirs)
    names = sorted([*(name for name in homes if not name.startswith("_")), *modules])

    def getattr_(name: str) -> Any:
        if name in modules:
            return import_module(f"{package}.{name}")
        if name not in homes:
            # local: the names alone need no package of optx
            from optx_core.build import is_from_import

            message = f"{package}.{name}: {why_missing(theirs, name)}"
            if not name.startswith("_") and is_from_import():
                raise ImportError(message, name=package)
            raise AttributeError(message)
        module, _, ours = homes[name].partition(":")
        value = getattr(import_module(module), ours)
        setattr(sys.modules[package], name, value)
        return value

    return getattr_, lambda: names, names
