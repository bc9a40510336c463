"""The pages of the reference, written from the docstrings as Markdown below docs/reference.

Run by `docs/build.py` before Sphinx, which imports neither jax nor optx.
"""

from __future__ import annotations

import ast
import functools
import inspect
import json
import pathlib
import re
import textwrap
from importlib import import_module
from typing import Any

import equations
import names
import symbols

DOCS = pathlib.Path(__file__).resolve().parents[1]
# The folders of optx_aliases; those of other packages come in the order of their names.
_ORDER = (
    "_elementwise _layerwise _matrix _low_memory _parameter_free _line_search _minimize _wrappers "
    "_transforms"
)


def write(facts: dict[str, dict[str, Any]], pictures: set[str]) -> None:
    """Writes all pages; files that would not change are left alone.

    Args:
      facts: for the name of an optimizer its bytes (`figures.py`).
      pictures: names of the pictures there are in docs/_build/figures, without a suffix.
    """
    wanted = {}
    for page in names.pages():
        wanted[DOCS / f"{page.path}.md"] = page_text(page, facts, pictures)
    for package in names.PACKAGES:
        wanted[DOCS / f"reference/{package}/index.md"] = index_text(package)
    wanted[DOCS / "reference/by_paper.md"] = by_paper()
    (DOCS / "reference").mkdir(exist_ok=True)
    for path in (DOCS / "reference").rglob("*.md"):
        if path not in wanted:
            path.unlink()
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def prose(text: str, package: str) -> str:
    """Text of a docstring as Markdown: public names become links, other signs stay what they are."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(
        _code(part[1:-1], package) if i % 2 else _escape(part) for i, part in enumerate(parts)
    )


def _escape(text: str) -> str:
    return re.sub(r"([\\*_\[\]<>$|#~{}])", r"\\\1", text)


def _code(text: str, package: str) -> str:
    found = names.link(text, package) if re.fullmatch(r"[\w.]+(\(.*\))?", text) else None
    if found is None or not found[1]:
        return f"`{text}`"
    target = _target(text, package)
    return f"{{py:obj}}`{text} <{target}>`"


def _target(text: str, package: str) -> str:
    """The full name of what `names.link` finds."""
    where, _, name = text.strip().partition("(")[0].rpartition(".")
    where = f"optx_core.{where}" if where in {"tree", "build"} else where
    search = [where] if where else [package, *names.PACKAGES]
    return next(f"{p}.{name}" for p in search if (p, name) in names.places())


def paragraphs(parts: list[str], package: str) -> str:
    """Paragraphs of a docstring: equations, lists, code and prose."""
    result = []
    for part in parts:
        if equations.is_equation(part):
            result.append(f"```{{raw}} html\n{equations.display(part)}\n```")
        elif all(line.startswith("  ") for line in part.splitlines()):
            result.append(f"```text\n{textwrap.dedent(part)}\n```")
        elif re.match(r"- |\d\. ", part):
            items = re.split(r"\n(?=- |\d\. )", part)
            bullet = re.compile(r"(- |\d\. )(.*)", re.DOTALL)
            matches = filter(None, map(bullet.fullmatch, items))
            result += [m[1] + prose(" ".join(m[2].split()), package) for m in matches]
        elif part.count("\n") and sum("  " in line.strip() for line in part.splitlines()) > 1:
            result.append(f"```text\n{part}\n```")  # columns
        else:
            result.append(prose(" ".join(part.split()), package))
    return "\n\n".join(result)


def signature(package: str, name: str) -> str:
    """The call of a function, without annotations."""
    try:
        parameters = list(inspect.signature(names.value_of(package, name)).parameters.values())
    except (TypeError, ValueError):
        return ""
    shown = []
    for p in parameters:
        default = p.default
        if default is not p.empty and (" at 0x" in repr(default) or "<" in repr(default)):
            default = _Shown(getattr(default, "__name__", "..."))
        shown.append(p.replace(annotation=p.empty, default=default))
    return str(inspect.Signature(shown))


class _Shown:
    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def page_text(page: names.Page, facts: dict[str, dict[str, Any]], pictures: set[str]) -> str:
    """The text of one page."""
    package, name = page.package, page.names[0]
    # Not in the tree of contents, which the theme writes on each page: the pages of the packages link here.
    text = ["---\norphan: true\n---", f"# {page.title}"]
    text.append(f"[{package}](index.md)")
    if page.title == name:
        signature_, summary, *details = _entry(package, name)
        text += [signature_, summary]
        rest = page.names[1:]
    else:
        details = []
        rest = page.names
    rule, modules = _rule(page)
    text += rule
    here = len(text)
    picture = f"{package}.{name}"
    if picture in pictures:
        caption = _caption(package)
        path = f"/_build/figures/{picture}.svg"
        text.append(f"```{{image}} {path}\n:alt: {caption}\n:class: figure\n```")
        text.append(f"*{caption}*")
    text += details
    if package == "optx_aliases" and name in facts:
        text += _memory(name, facts[name])
    text += _differences(name)
    for other in rest:
        text += [f"## {other}", *_entry(package, other, level=3)]
    if sources := names.module_doc(page.module)[1]:
        text += ["## Source", prose(re.sub(r"^References?: ", "", sources), package)]
    family = [
        p.title
        for p in names.pages()
        if (p.package, p.module) == (page.package, page.module) and p != page
    ]
    if family:
        links = ", ".join(f"[{_escape(title)}]({title}.md)" for title in family)
        text += ["## See also", links]
    text[here:here] = _legend(page, modules, text)
    return "\n\n".join(filter(None, text)) + "\n"


def _caption(package: str) -> str:
    if package == "optx_schedules":
        return "The value at each step."
    if package == "optx_losses":
        return "The value and its derivative."
    problems = "Rosenbrock’s function and on a narrow quadratic"
    return f"Trajectories on {problems}, at the best of a few learning rates."


def _entry(package: str, name: str, level: int = 2) -> list[str]:
    """One public name: its signature, text, arguments and example."""
    value = names.value_of(package, name)
    heading = "#" * level
    if not (inspect.isfunction(value) or inspect.isclass(value)):
        code, told = _definition(package, name)
        directive = f"````{{py:data}} {package}.{name}\n````"
        return [directive, f"```python\n{code}\n```" if code else "", prose(told, package)]
    doc = names.read(value)
    kind = "function" if inspect.isfunction(value) else "class"
    fields = getattr(value, "_fields", None)
    call = f"({', '.join(fields)})" if fields else signature(package, name)
    text = [f"````{{py:{kind}}} {package}.{name}{call}\n````"]
    text.append(paragraphs(doc.summary, package))
    told = (
        names.arguments(package, name) if inspect.isfunction(value) else doc.entries.get("Args", {})
    )
    if told:
        text += [f"{heading} Arguments", _list(told, package)]
    if attributes := doc.entries.get("Attributes"):
        text += [f"{heading} Attributes", _list(attributes, package)]
    for section in ("Returns", "Yields", "Note", "Notes"):
        if section in doc.texts:
            text += [
                f"{heading} {section}",
                paragraphs(re.split(r"\n\s*\n", doc.texts[section]), package),
            ]
    if raises := doc.entries.get("Raises"):
        text += [f"{heading} Raises", _list(raises, package)]
    if methods := _methods(value):
        text += [f"{heading} Methods", _list(methods, package)]
    for section in ("Example", "Examples"):
        if section in doc.texts:
            text += [f"{heading} Example", f"```pycon\n{doc.texts[section]}\n```"]
    return text


def _methods(value: Any) -> dict[str, str]:
    """The public methods that a class defines, with the first paragraphs of their docstrings."""
    if not inspect.isclass(value) or hasattr(value, "_fields"):
        return {}
    found = {}
    for name, method in vars(value).items():
        function = method.__func__ if isinstance(method, classmethod | staticmethod) else method
        is_property = isinstance(method, property)
        if not name.startswith("_") and (inspect.isfunction(function) or is_property):
            told = inspect.getdoc(function) or ""
            if told:
                parameters = (
                    list(inspect.signature(function).parameters)[1:] if not is_property else []
                )
                call = "" if is_property else f"({', '.join(parameters)})"
                found[f"{name}{call}"] = told.split("\n\n")[0]
    return found


def _list(entries: dict[str, str], package: str) -> str:
    """A definition list."""
    items = []
    for key, text in entries.items():
        told = prose(" ".join(text.split()), package) or "\\"
        items.append(f"`{key}`\n: {told}")
    return "\n\n".join(items)


def _definition(package: str, name: str) -> tuple[str, str]:
    """The assignment that defines an alias, and the string below it."""
    page = next(p for p in names.pages() if p.package == package and name in p.names)
    body = ast.parse(inspect.getsource(import_module(page.module))).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if any(isinstance(t, ast.Name) and t.id == name for t in targets):
            told = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                told = str(after.value.value)
            value = getattr(node, "value", None)
            return f"{name} = {ast.unparse(value)}" if value else "", told
    return "", ""


def _rule(page: names.Page) -> tuple[list[str], list[str]]:
    """The module's docstring: the update rule, or what the functions of the module have in common.

    Returns:
      The parts of the text, and the modules whose equations stand in it.
    """
    package = page.package
    parts, _ = names.module_doc(page.module)
    if not parts or page.module.partition(".")[0] != package.partition(".")[0]:
        return [], []  # an alias of another package's class
    found = any(map(equations.is_equation, parts))
    title = "Update rule" if package == "optx_aliases" else "Definition" if found else "Background"
    if len(parts) == 1 and not found and "=" not in parts[0] and "`" not in parts[0]:
        return [], []
    text, modules = [f"## {title}", paragraphs(parts, package)], [page.module]
    own = set(_functions(page.module))
    named = (
        "`(scale_by_\\w+)`" if found else "`(\\w+)`"
    )  # without equations, those of what it names
    for name in dict.fromkeys(re.findall(named, "\n".join(parts))):
        if (package, name) not in names.places() or name in own:
            continue
        module = names.home(package, name)
        inner = [p for p in names.module_doc(module)[0] if equations.is_equation(p)]
        if inner:
            step = "the step of " if name.startswith("scale_by") else ""
            text += [f"where {step}{_code(name, package)} is", paragraphs(inner, package)]
            modules.append(module)
    return text, modules


def _functions(module: str) -> list[str]:
    """The names of the functions that a module defines."""
    members = vars(import_module(module)).items()
    return [n for n, v in members if getattr(v, "__module__", "") == module]


def _legend(page: names.Page, modules: list[str], text: list[str]) -> list[str]:
    """The symbols of the equations that stand in a page, each with its meaning."""
    told = symbols.prose_of("\n".join(text))
    found = symbols.legend(page, modules, told)
    rows = [f"*{_escape(s)}*: {prose(t, page.package)}" for s, t in found.items()]
    return ["- " + "\n- ".join(rows)] if rows else []


def _memory(name: str, fact: dict[str, Any]) -> list[str]:
    """The bytes of state and of a step, of the row of the tests' table."""
    text = f"State: **{fact['state']:.3g} bytes** for each float32 parameter of a 1,024 × 1,024 matrix."
    if fact.get("floor"):
        text += (
            f" A step has to read and write at least {fact['floor']:g} bytes for each; "
            f"a step compiled for the CPU may take {fact['over_floor']:g} times that, which the tests check."
        )
    ahead = _ahead().get(name)
    if ahead:
        text += f" Compiled for a GPU it moves {ahead[0]} bytes (optax: {ahead[1] or 'no such optimizer'})."
    return ["## Memory", text]


@functools.cache
def _ahead() -> dict[str, tuple[str, str]]:
    """The bytes of a step compiled for a GPU, ours and optax's, from the benchmarks' table."""
    found = {}
    text = (names.ROOT / "benchmarks/RESULTS_aliases_ahead.md").read_text(encoding="utf-8")
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 11 and re.match(r"\d", cells[1]):
            found[cells[0]] = cells[1].split()[0], cells[3]
    return found


def _differences(name: str) -> list[str]:
    """The rows of docs/differences.md that name it."""
    text = (DOCS / "differences.md").read_text(encoding="utf-8")
    result = []
    tables = re.split(r"^## ", text, flags=re.MULTILINE)
    for table, other in zip(tables, ("optax", "the authors’ code"), strict=True):
        rows = []
        for line in table.splitlines():
            cells = line.strip().strip("|").split(" | ")
            if line.startswith("| ") and len(cells) == 4 and not line.startswith("| ---"):
                subject = cells[0].strip()
                tick = "" if "_" in name or name in _optimizers() else "`"
                named = re.search(rf"{tick}(?<![\w.]){name}(?!\w){tick}", subject)
                if named and not subject.endswith(f", `{name}`"):  # there it is an argument
                    rows.append(line)
        if rows:
            column = "optax" if other == "optax" else "the authors"
            head = [f"| where | {column} | optx | why |", "| --- | --- | --- | --- |"]
            result += [f"## Where it differs from {other}", "\n".join(head + rows)]
    return result


@functools.cache
def _optimizers() -> set[str]:
    return {n for p in names.pages() if p.package == "optx_aliases" for n in p.names}


def index_text(package: str) -> str:
    """The page of a package: its names, by the folder that holds them."""
    own = [page for page in names.pages() if page.package == package]
    folders: dict[str, list[names.Page]] = {}
    for page in own:
        parts = page.module.split(".")
        folders.setdefault(parts[1] if len(parts) > 2 else "", []).append(page)
    text = [
        f"# {package}",
        f"````{{py:module}} {package}\n````",
        f"{names.PACKAGES[package].capitalize()}.",
    ]
    for folder, pages in sorted(folders.items(), key=lambda item: _ORDER.find(item[0])):
        if len(folders) > 1:
            module = import_module(
                f"{pages[0].module.split('.')[0]}.{folder}" if folder else package
            )
            title = (module.__doc__ or folder).strip().splitlines()[0].rstrip(".")
            text.append(f"## {prose(title, package)}")
        rows = ["| name | |", "| --- | --- |"]
        for page in sorted(pages, key=lambda p: p.title.lower()):
            summary = names.read(names.value_of(package, page.names[0])).summary
            told = " ".join(summary[0].split()) if summary and page.title == page.names[0] else ""
            others = ", ".join(_code(n, package) for n in page.names[page.title == page.names[0] :])
            told = prose(re.split(r"(?<=[.:;]) ", told)[0].rstrip(":"), package)
            cell = f"{told} With {others}." if told and others else told or others
            rows.append(f"| [{_escape(page.title)}]({page.title}.md) | {cell} |")
        text.append("\n".join(rows))
    return "\n\n".join(text) + "\n"


def by_paper() -> str:
    """The index by paper: each reference of a module's docstring, and what implements it."""
    found: dict[str, dict[str, None]] = {}
    for page in names.pages():
        text = names.module_doc(page.module)[1]
        text = re.sub(r"^References?: ", "", text).rstrip(".")
        for source in re.split(r"; (?=[A-Z][^\"]*\")", text):
            # One row for a paper, whichever of its algorithms it is.
            if match := re.match(r'[^"]*"[^"]*"(?:, \d{4})?', source.strip()):
                entry = found.setdefault(match[0], {})
                entry[f"{page.package}.{page.names[0]}"] = None
    rows = ["| paper | here |", "| --- | --- |"]
    for source in sorted(found, key=str.casefold):
        links = ", ".join(f"{{py:obj}}`{n.rpartition('.')[2]} <{n}>`" for n in found[source])
        rows.append(f"| {_escape(source)} | {links} |")
    return "# By paper\n\n" + "\n".join(rows) + "\n"


def load(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """The facts that `figures.py` left in a folder."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(path.glob("facts*.json")):
        found |= json.loads(file.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    FIGURES = DOCS / "_build" / "figures"
    write(load(FIGURES), {path.stem for path in FIGURES.glob("*.svg")})
