"""Lists where the names of optax that programs use are in optx, and rewrites the programs.

    python -m optx_compat train.py src/         # where each name is, and the imports to write
    python -m optx_compat --write train.py      # rewrites the files; notebooks too

The exit status is 1 if a name has no counterpart, 2 if a file cannot be read.
"""

from __future__ import annotations

import argparse
import ast
import pathlib
import sys
from collections.abc import Iterator

from optx_compat._notebook import program_of, with_program
from optx_compat._page import page
from optx_compat._rewrite import home, imports, rewrite
from optx_compat._table import DIFFERS, TABLE, why_missing
from optx_compat._uses import Program


def _files(paths: list[str]) -> Iterator[pathlib.Path]:
    for path in map(pathlib.Path, paths):
        if not path.is_dir():
            yield path
            continue
        for file in sorted(file for end in ("py", "ipynb") for file in path.rglob(f"*.{end}")):
            folders = file.relative_to(path).parts[:-1]
            if not any(name.startswith(".") or name == "site-packages" for name in folders):
                yield file


def _read(path: pathlib.Path) -> tuple[Program, list[str]]:
    """A program, and how to speak of each of its lines."""
    if path.suffix != ".ipynb":
        source = path.read_bytes()
        return Program(source), [str(line + 1) for line in range(source.count(b"\n") + 1)]
    source, places = program_of(path.read_text(encoding="utf-8"))
    return Program(source), places


def _write(path: pathlib.Path, program: bytes) -> None:
    if path.suffix != ".ipynb":
        path.write_bytes(program)
    else:
        text = with_program(path.read_text(encoding="utf-8"), program)
        path.write_text(text, encoding="utf-8")


def _report(program: Program, places: list[str]) -> tuple[list[str], int]:
    """The lines about one program, and the number of names without a counterpart."""
    lines: dict[tuple[str, str], list[int]] = {}
    for use in program.uses:
        lines.setdefault((use.module, use.name), []).append(use.node.lineno)
    text, missing = [], 0
    for (module, name), numbers in sorted(lines.items()):
        at = f"line {', '.join(places[number - 1] for number in sorted(set(numbers)))}"
        full = f"{module}.{name}" if name else module
        if name in ("", "*") and module in TABLE:
            text.append(f"  {full}: a module used as a value, {at}; optx_compat takes its place")
        elif place := home(module, name):
            why = f"  ({DIFFERS[name]})" if name in DIFFERS else ""
            text.append(f"  {full} -> {'.'.join(place)}{why}")
        elif name:
            missing += 1
            text.append(f"  {full} -> nothing, {at}: {why_missing(module, name)}")
        else:
            missing += 1
            text.append(f"  {full} -> nothing, {at}: a private module used as a value")
    text += [
        f"  line {places[number - 1]}: a string names optax, and stays"
        for number in sorted(node.lineno for node in program.strings)
    ]
    for node in program.imports:
        written = imports(program, node)
        if not written:
            text.append(f"  line {places[node.lineno - 1]}, `{ast.unparse(node)}` goes")
        elif written == [ast.unparse(node)]:
            text.append(f"  line {places[node.lineno - 1]}, `{written[0]}` stays")
        else:
            text.append(f"  line {places[node.lineno - 1]}, instead of `{ast.unparse(node)}`:")
            text += [f"      {line}" for line in written]
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
            program, places = _read(path)
        except (OSError, SyntaxError, ValueError) as error:
            print(f"{path}: {error}", file=sys.stderr)  # noqa: T201
            status = 2
            continue
        if not program.imports and not program.strings:
            continue
        text, missing = _report(program, places)
        print(path, *text, sep="\n")  # noqa: T201
        if missing:
            status = max(status, 1)
        if args.write and program.imports:
            _write(path, rewrite(program))
    return status


if __name__ == "__main__":
    sys.exit(main())
