"""Tables of contents of packages: public names, each imported at its first use.

A package's `__init__.py` contains one table, which lists each public name once:

    __getattr__, __dir__, __all__ = table_of_contents(__name__, '''
        _huber: huber_loss
        _squared: l2_loss squared_error
    ''')

`python tools/write_stubs.py` writes the `__init__.pyi` next to it, for type checkers and editors.
Importing a package thus takes almost no time, regardless of its contents.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from importlib import import_module
from typing import Any


def parse_contents(table: str) -> dict[str, str]:
    """Parses a table of contents.

    Args:
      table: lines of the form `module: name name ...`. A line `.: name ...` lists public submodules.

    Returns:
      The module of each name, relative to the package.
    """
    modules: dict[str, str] = {}
    module = ""
    for line in filter(None, map(str.strip, table.splitlines())):
        left, colon, right = line.rpartition(":")
        module = left if colon else module
        for name in right.split():
            if name in modules:
                raise ValueError(f"table_of_contents: {name} is listed twice")
            modules[name] = module
    return modules


def table_of_contents(
    package: str, table: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Makes the `__getattr__`, `__dir__` and `__all__` of a package from a table of its names.

    Args:
      package: the package's `__name__`.
      table: lines of the form `module: name name ...`, modules relative to the distribution's top
        package; a line without a colon continues the previous one. `.: name ...` lists public submodules.

    Returns:
      The two functions and the list, for assignment in the package's `__init__.py`. The package's docstring
      lists the names, for `help`.

    Example:
      >>> from optx_core.build import table_of_contents
      >>> _, _, names = table_of_contents("optx_core", "_training.apply_updates: apply_updates")
      >>> names
      ['apply_updates']
    """
    modules = parse_contents(table)
    names = sorted(modules)
    top = package.partition(".")[0]
    if package in sys.modules:  # `help` lists the private modules first, below the docstring
        module = sys.modules[package]
        listed = textwrap.fill(", ".join(names), 90, initial_indent="  ", subsequent_indent="  ")
        module.__doc__ = f"{module.__doc__ or ''}\n\nPublic names:\n\n{listed}"

    def getattr_(name: str) -> Any:
        if name not in modules:
            hint = _elsewhere(name)
            if hint and is_from_import():
                raise ImportError(
                    f"cannot import name {name!r} from {package!r}{hint}", name=package
                )
            raise AttributeError(f"module {package!r} has no attribute {name!r}{hint}")
        if modules[name] == ".":
            return import_module(f"{package}.{name}")
        value = getattr(import_module(f"{top}.{modules[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return getattr_, lambda: names, names


def is_from_import() -> bool:
    """Returns whether `from package import name` has called a module's `__getattr__`, which calls this.

    The statement hides the message of an AttributeError, but not that of an ImportError.

    Returns:
      A bool.

    Example:
      >>> from optx_core.build import is_from_import
      >>> def __getattr__(name):
      ...     return is_from_import()
      >>> __getattr__("adam")
      False
    """
    return sys._getframe(2).f_code.co_name == "_handle_fromlist"


_MODULES = (
    "optx_core",
    "optx_core.build",
    "optx_core.tree",
    *(
        f"optx_{name}"
        for name in (
            "aliases",
            "schedules",
            "losses",
            "second_order",
            "estimators",
            "projections",
            "testing",
            "flax",
            "compat",
        )
    ),
)
_RENAMED = {
    "contrib": "optx_aliases",
    "multi_transform": "optx_core.partition",
    "tree_map_params": "optx_core.tree.map_params",
    "tree_utils": "optx_core.tree",
    "projections": "optx_projections",
    "losses": "optx_losses",
    "schedules": "optx_schedules",
}


def _elsewhere(name: str) -> str:
    """Returns a hint to the package of a name that was requested from the wrong one."""
    if name.startswith("_"):
        return ""
    if name in _RENAMED:
        return f"; use {_RENAMED[name]}"
    for wanted in dict.fromkeys((name, name.removeprefix("tree_"), name.lower())):  # Adam is adam
        for module in ("optx_core.tree",) if name.startswith(f"tree_{wanted}") else _MODULES:
            try:
                names = import_module(module).__all__
            except ImportError:
                continue
            if wanted in names:
                return f"; it is {module}.{wanted}"
    return ""
