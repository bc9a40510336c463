"""Writes the `__init__.pyi` of each package from the table in its `__init__.py`.

    python tools/write_stubs.py

Type checkers and editors read the stubs; a test fails when one is out of date.
"""

from __future__ import annotations

import ast
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / f"packages/{name}/src") for name in ("optx-core", "optx-compat")]

from optx_compat._table import TABLE, submodules  # noqa: E402
from optx_core._contents import parse_contents  # noqa: E402


def stubs() -> dict[pathlib.Path, str]:
    """The text of each stub by its path."""
    found = {}
    for path in sorted(ROOT.glob("packages/optx-*/src/optx_*/**/__init__.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id="table_of_contents"), args=[_, ast.Constant(table)]):
                    found[path.with_suffix(".pyi")] = stub(path, ast.get_docstring(tree), table)
                case ast.Call(func=ast.Name(id="optax_names")):
                    found[path.with_suffix(".pyi")] = compat_stub(path, ast.get_docstring(tree))
    return found


def stub(path: pathlib.Path, docstring: str | None, table: str) -> str:
    """The text of one stub."""
    parts = path.parent.relative_to(next(p for p in path.parents if p.name == "src")).parts
    here, top = ".".join(parts), parts[0]
    lines = [f'"""{docstring}"""', "", "# Written by tools/write_stubs.py.", ""]
    for name, module in sorted(parse_contents(table).items(), key=lambda item: (item[1], item[0])):
        origin = here if module == "." else f"{top}.{module}"
        lines.append(f"from {origin} import {name} as {name}")
    return "\n".join([*lines, ""])


def compat_stub(path: pathlib.Path, docstring: str | None) -> str:
    """The text of a stub of optx-compat, from its table."""
    parts = path.parent.relative_to(next(p for p in path.parents if p.name == "src")).parts
    here = ".".join(parts)
    theirs = here.replace("optx_compat", "optax", 1)
    lines = [f'"""{docstring}"""', "", "# Written by tools/write_stubs.py.", ""]
    lines += [f"from {here} import {name} as {name}" for name in submodules(theirs)]
    for name, home in sorted(TABLE[theirs].items(), key=lambda item: (item[1], item[0])):
        module, _, ours = home.partition(":")
        lines.append(f"from {module} import {ours} as {name}")
    # A name that is renamed is public only by `__all__`.
    names = sorted([*TABLE[theirs], *submodules(theirs)])
    return "\n".join([*lines, "", "__all__ = [", *(f'    "{name}",' for name in names), "]", ""])


if __name__ == "__main__":
    for place, text in stubs().items():
        place.write_text(text)
        print(place.relative_to(ROOT))
