"""Programs of optax rewritten for optx.

Only the bytes of the names and of their imports change, so comments and formatting stay. Where a program
uses a module as a value (`getattr(optax, name)`), or a name that has no counterpart, its import becomes
`import optx_compat as optax`. What optx_compat does not have either (names that are imported one by one and
have no counterpart, private modules) stays imported from optax.
"""

from __future__ import annotations

import ast
import io
import tokenize

from optx_compat._table import TABLE
from optx_compat._uses import Program, Use, is_private, parse


def home(module: str, name: str) -> tuple[str, str] | None:
    """The module of optx that holds a name of optax, and the name there; None if there is none."""
    module = "optax" if is_private(module) else module  # where the public name is, if there is one
    where, _, ours = TABLE[module].get(name, "").partition(":") if module in TABLE else ("", "", "")
    if where.startswith("optx_compat."):  # the adapters are public under the names of optax
        return (_compat(module), name)
    return (where, ours) if where else None


def _compat(module: str) -> str:
    """The module of optx_compat for a module of optax."""
    return module.replace("optax", "optx_compat", 1)


def _stays(program: Program, use: Use) -> bool:
    """Returns whether the text of a use must stay unchanged."""
    return (
        home(use.module, use.name) is None
        or use.alias in program.unclear
        or not isinstance(use.node, ast.expr)
        or not program.has_place(use.node)
    )


def _kept(program: Program, alias: str) -> bool:
    """Returns whether a variable of a module must go on referring to the module of optax itself."""
    return any(
        use.alias == alias and use.module not in TABLE and _stays(program, use)
        for use in program.uses
    ) or (alias == "optax" and any(_stays_bound(program, node) for node in program.imports))


def _stays_bound(program: Program, node: ast.Import | ast.ImportFrom) -> bool:
    """Returns whether an import such as `import optax._src.base` stays, and with it the variable `optax`."""
    return isinstance(node, ast.Import) and any(
        not item.asname and _unserved(program, item.name) for item in node.names
    )


def _unserved(program: Program, module: str) -> bool:
    """Returns whether `import module` must stay: optx_compat has no such module, and the program needs it."""
    if module.split(".", maxsplit=1)[0] != "optax" or module in TABLE:
        return False
    uses = [use for use in program.uses if use.alias and use.module == module]
    return not uses or any(_stays(program, use) for use in uses)


def imports(program: Program, node: ast.Import | ast.ImportFrom) -> list[str]:
    """The statements to write instead of one that imports optax, without those that earlier ones need."""
    lines = _imports(program, node)
    if node in program.top:
        before = program.top[: program.top.index(node)]
        earlier = {line for other in before for line in _imports(program, other)}
        lines = [line for line in lines if line not in earlier]
    return lines


def _imports(program: Program, node: ast.Import | ast.ImportFrom) -> list[str]:
    lines: list[str] = []
    names: dict[str, list[str]] = {}
    for item in node.names:
        given = f" as {item.asname}" if item.asname else ""
        full = item.name if isinstance(node, ast.Import) else f"{node.module}.{item.name}"
        if isinstance(node, ast.Import):
            theirs = item.name.split(".")[0] == "optax"
            if not theirs or (not given and _unserved(program, item.name)):
                lines.append(f"import {item.name}{given}")
            if theirs:
                lines += _module_imports(
                    program, item.asname or "optax", full if given else "optax"
                )
        elif full in TABLE or is_private(full):
            lines += _module_imports(program, item.asname or item.name, full)
        else:
            where, ours = home(str(node.module), item.name) or (str(node.module), item.name)
            if item.name == "*" and where in TABLE:
                where = _compat(where)
            called = item.asname or item.name
            names.setdefault(where, []).append(ours + (f" as {called}" if called != ours else ""))
    lines += [f"from {where} import {', '.join(sorted(names[where]))}" for where in sorted(names)]
    return list(dict.fromkeys(lines))


def _module_imports(program: Program, alias: str, module: str) -> list[str]:
    """The imports that a variable of a module needs."""
    uses = [use for use in program.uses if use.alias == alias]
    needed = set()
    for use in uses:
        if not _stays(program, use) and (place := home(use.module, use.name)):
            top = place[0].split(".")[0]
            needed.add(f"import {top if top.startswith('optx_') else place[0]}")
    lines = sorted(needed)
    if not uses or any(_stays(program, use) for use in uses):
        if module in TABLE and not _kept(program, alias):
            lines.append(f"import {_compat(module)} as {alias}")
        elif module != alias:
            where, _, name = module.rpartition(".")
            as_itself = is_private(module) and name == alias
            lines.append(
                f"from {where} import {name}" if as_itself else f"import {module} as {alias}"
            )
        elif not any(_stays_bound(program, node) for node in program.imports):
            lines.append(f"import {module}")
    return lines


def rewrite(program: Program) -> bytes:
    """The program with the names of optx."""
    edits = []
    for use in program.uses:
        place = home(use.module, use.name)
        if use.alias and place and not _stays(program, use):
            edits.append((program.span(use.node), f"{place[0]}.{place[1]}"))
    edits += [_statement(program, node) for node in program.imports]
    text = program.source
    for (first, last), new in sorted(edits, reverse=True):
        text = text[:first] + new.encode() + text[last:]
    parse(text)
    return text


def _statement(program: Program, node: ast.Import | ast.ImportFrom) -> tuple[tuple[int, int], str]:
    """The place of a statement, and the imports for it as one text, with the comments that stood inside."""
    first, last = program.span(node)
    line_start = program.source.rfind(b"\n", 0, first) + 1
    before, after = program.source[line_start:first], program.source[last:].split(b"\n", 1)[0]
    if before.strip() or after.strip().startswith(b";"):  # other statements on its line
        return (first, last), "; ".join(imports(program, node)) or "pass"
    inside = io.BytesIO(program.source[first:last]).readline
    comments = [t.string for t in tokenize.tokenize(inside) if t.type == tokenize.COMMENT]
    end = "\r\n" if after.endswith(b"\r") or b"\r\n" in program.source[first:last] else "\n"
    lines = [*comments, *imports(program, node)]
    if not lines and not after.strip():  # nothing is left of the line
        last = min(last + len(after) + 1, len(program.source))
    return (first, last), f"{end}{before.decode()}".join(lines)
