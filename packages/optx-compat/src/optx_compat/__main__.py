"""Lists where the names of optax that programs use are in optx, and rewrites the programs.

    python -m optx_compat train.py src/         # where each name is, and the imports to write
    python -m optx_compat --write train.py      # rewrites the files

The exit status is 1 if a name has no counterpart, 2 if a file cannot be read.
"""

from __future__ import annotations

import argparse
import ast
import pathlib
import sys
from collections.abc import Iterator

from optx_compat._page import page
from optx_compat._rewrite import home, imports, rewrite
from optx_compat._table import DIFFERS, why_missing
from optx_compat._uses import Program


def _files(paths: list[str]) -> Iterator[pathlib.Path]:
    for path in map(pathlib.Path, paths):
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def _report(program: Program) -> tuple[list[str], int]:
    """The lines about one program, and the number of names without a counterpart."""
    lines: dict[tuple[str, str], list[int]] = {}
    for use in program.uses:
        lines.setdefault((use.module, use.name), []).append(use.node.lineno)
    text, missing = [], 0
    for (module, name), places in sorted(lines.items()):
        at = f"line {', '.join(map(str, sorted(set(places))))}"
        full = f"{module}.{name}" if name else module
        if name in ("", "*"):
            text.append(f"  {full}: a module used as a value, {at}; optx_compat takes its place")
        elif place := home(module, name):
            why = f"  ({DIFFERS[name]})" if name in DIFFERS else ""
            text.append(f"  {full} -> {'.'.join(place)}{why}")
        else:
            missing += 1
            text.append(f"  {full} -> nothing, {at}: {why_missing(module, name)}")
    for node in program.imports:
        text.append(f"  line {node.lineno}, instead of `{ast.unparse(node)}`:")
        text += [f"      {line}" for line in imports(program, node)]
    return text, missing


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m optx_compat",
        description="Say where the names of optax that programs use are in optx.",
        epilog="The exit status is 1 if a name has no counterpart, 2 if a file cannot be read.",
    )
    parser.add_argument("files", nargs="*", help="programs, or folders of them")
    parser.add_argument("--write", action="store_true", help="rewrite the files")
    parser.add_argument("--page", action="store_true", help="print the table, as Markdown")
    args = parser.parse_args(arguments)
    if args.page:
        print(page(), end="")  # noqa: T201
        return 0
    if not args.files:
        parser.error("name a file")
    status = 0
    for path in _files(args.files):
        try:
            program = Program(path.read_bytes())
        except (OSError, SyntaxError, ValueError) as error:
            print(f"{path}: {error}", file=sys.stderr)  # noqa: T201
            status = 2
            continue
        if not program.imports:
            continue
        text, missing = _report(program)
        print(path, *text, sep="\n")  # noqa: T201
        if missing:
            status = max(status, 1)
        if args.write:
            path.write_bytes(rewrite(program))
    return status


if __name__ == "__main__":
    sys.exit(main())
