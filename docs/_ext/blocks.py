"""Runs the Python blocks of pages, compares what they print, and resolves every name in them.

    python docs/_ext/blocks.py docs/index.md docs/guide/*.md

The blocks of a page run in order, in one namespace. A ```text block right after one holds what it prints,
where `...` stands for anything. `<!--python ... -->` runs and is not shown. Names, attributes and keywords
are looked up wherever they stand, also in functions that are never called. Blocks whose first line says
"torch:", "keras:", "jaxopt:" or "tensorboardX:" are compiled and not run: these libraries need not be
installed.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import dataclasses
import doctest
import inspect
import io
import os
import pathlib
import re
import sys
import traceback
import types
import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import Any

_BLOCK = re.compile(
    r"^```(?P<info>[^\n`]*)\n(?P<code>.*?)^```[ ]*$|^<!--python\n(?P<hidden>.*?)^-->",
    re.MULTILINE | re.DOTALL,
)
_UNDEFINED = "there is no"
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of code on a page.

    Attributes:
      line: the line of the page on which the code starts, from 1.
      info: what follows the three ticks.
      code: the text.
    """

    line: int
    info: str
    code: str

    @property
    def is_python(self) -> bool:
        """True for Python code."""
        return self.info.split()[:1] in (["python"], ["pycon"])

    @property
    def is_foreign(self) -> bool:
        """True for code of another library, which need not be installed."""
        return bool(re.search(r"\b(torch|keras|jaxopt|tensorboardX):", self.info))


def blocks_of(text: str) -> Iterator[Block]:
    """The blocks of a page, in order."""
    for match in _BLOCK.finditer(text):
        code, info = match["code"], match["info"]
        if match["hidden"] is not None:
            code, info = match["hidden"], "python hidden"
        yield Block(text.count("\n", 0, match.start()) + 2, info, code)


def check_page(path: pathlib.Path) -> list[str]:
    """Runs the blocks of a page.

    Args:
      path: of the page.

    Returns:
      One message for each fault, with the page and the line; empty if all is well.
    """
    text = path.read_text(encoding="utf-8")
    return check_text(text, str(path))


def check_text(text: str, path: str) -> list[str]:
    """As `check_page`, of a text."""
    blocks = list(blocks_of(text))
    module = types.ModuleType("page")  # pickle and typing look a page's classes up in it
    sys.modules["page"] = module
    space = module.__dict__
    faults: list[str] = []
    trees: list[tuple[Block, ast.Module]] = []
    for i, block in enumerate(blocks):
        if not block.is_python:
            continue
        padded = "\n" * (block.line - 1) + block.code
        try:
            tree = ast.parse(padded, path)
        except SyntaxError as error:
            faults.append(f"{path}:{error.lineno}: {error.msg}")
            continue
        if block.is_foreign:
            continue
        trees.append((block, tree))
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(padded, path, "exec"), space)
        except Exception as error:  # noqa: BLE001 (all are reported)
            lines = [
                f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path
            ]
            line = (lines or [block.line])[-1]
            faults.append(f"{path}:{line}: {type(error).__name__}: {error}")
            continue
        expected = ""
        if i + 1 < len(blocks) and blocks[i + 1].info.strip() == "text":
            expected = blocks[i + 1].code
        # Now, while the variables are what the block left; a name may be defined further down.
        faults += [
            f"{path}:{line}: {told}"
            for line, told in unresolved(tree, space)
            if not told.startswith(_UNDEFINED)
        ]
        if not doctest.OutputChecker().check_output(expected, printed.getvalue(), _FLAGS):
            shown = expected or "(nothing)"
            faults.append(
                f"{path}:{block.line}: printed\n{printed.getvalue()}where the page has\n{shown}"
            )
    for _, tree in trees:
        faults += [
            f"{path}:{line}: {told}"
            for line, told in unresolved(tree, space)
            if told.startswith(_UNDEFINED)
        ]
    return faults


def unresolved(tree: ast.Module, space: dict[str, Any]) -> list[tuple[int, str]]:
    """The names, attributes and keywords of a program that nothing answers to.

    Args:
      tree: the program, which has run.
      space: its namespace.

    Returns:
      The line and the message of each fault. An argument of a function is taken for the page's variable
      of the same name, if there is one; other local variables are not looked into.
    """
    faults: list[tuple[int, str]] = []
    _Walk(space, faults).visit(tree)
    return faults


class _Walk(ast.NodeVisitor):
    """Visits a program, with the local names of the functions around."""

    def __init__(self, space: dict[str, Any], faults: list[tuple[int, str]]) -> None:
        self.space, self.faults = space, faults
        self.local: list[set[str]] = []
        self.arguments: list[set[str]] = []

    def _function(self, node: ast.FunctionDef | ast.Lambda) -> None:
        a = node.args
        given = {x.arg for x in [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg] if x}
        for default in [*a.defaults, *(d for d in a.kw_defaults if d)]:
            self.visit(default)
        body = node.body if isinstance(node.body, list) else [node.body]
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                self.visit(decorator)
        scopes = [n for n in ast.walk(node) if isinstance(n, ast.Global | ast.Nonlocal)]
        outside = {name for scope in scopes for name in scope.names}
        self.local.append((given | _assigned(body)) - outside)
        self.arguments.append(given)
        for statement in body:
            self.visit(statement)
        self.local.pop()
        self.arguments.pop()

    visit_FunctionDef = visit_Lambda = _function

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in [*node.bases, *node.decorator_list]:
            self.visit(part)
        self.local.append(_assigned(node.body))
        self.arguments.append(set())
        for statement in node.body:
            self.visit(statement)
        self.local.pop()
        self.arguments.pop()

    def _comprehension(self, node: Any) -> None:
        targets = {
            n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)
        }
        self.local.append(targets)
        self.arguments.append(set())
        self.generic_visit(node)
        self.local.pop()
        self.arguments.pop()

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._import(node, alias.name, None)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self._import(node, str(node.module), alias.name)

    def _import(self, node: ast.stmt, module: str, name: str | None) -> None:
        try:
            found = import_module(module)
            if name is not None and not hasattr(found, name):
                import_module(f"{module}.{name}")
        except ImportError as error:
            self.faults.append((node.lineno, str(error)))

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        # The name is deleted at the end of the handler, so that the page's namespace lacks it.
        self.local.append({node.name} if node.name else set())
        self.arguments.append(set())
        self.generic_visit(node)
        self.local.pop()
        self.arguments.pop()

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store) or self._is_local(node.id):
            return
        if node.id not in self.space and not hasattr(builtins, node.id):
            self.faults.append((node.lineno, f"{_UNDEFINED} {node.id}"))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Load):
            self._value(node)
        self.visit(_root(node))

    def visit_Call(self, node: ast.Call) -> None:
        function = self._value(node.func, silent=True)
        if inspect.isfunction(function) or inspect.isclass(function):
            with contextlib.suppress(TypeError, ValueError):
                parameters = inspect.signature(function).parameters
                if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                    self.faults += [
                        (node.lineno, f"{ast.unparse(node.func)} has no argument {keyword.arg}")
                        for keyword in node.keywords
                        if keyword.arg and keyword.arg not in parameters
                    ]
        self.generic_visit(node)

    def _is_local(self, name: str) -> bool:
        return any(name in names for names in self.local)

    def _value(self, node: ast.expr, *, silent: bool = False) -> Any:
        """Returns the value of a name or a chain of attributes; `_UNKNOWN` if only a run can tell."""
        if isinstance(node, ast.Name):
            hidden = next(
                (i for i in reversed(range(len(self.local))) if node.id in self.local[i]), None
            )
            if hidden is not None and node.id not in self.arguments[hidden]:
                return _UNKNOWN
            return self.space.get(node.id, getattr(builtins, node.id, _UNKNOWN))
        if not isinstance(node, ast.Attribute):
            return _UNKNOWN
        base = self._value(node.value, silent=True)
        if base is _UNKNOWN:
            return _UNKNOWN
        try:
            return getattr(base, node.attr)
        except AttributeError as error:
            if not silent:
                self.faults.append((node.lineno, f"{ast.unparse(node)}: {error}"))
        except Exception:  # noqa: BLE001 (an object's own affair, as with deleted buffers)
            pass
        return _UNKNOWN


_UNKNOWN = object()


def _root(node: ast.expr) -> ast.expr:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node


def _assigned(body: list[Any]) -> set[str]:
    """The names that statements assign, without those of functions and classes inside."""
    found: set[str] = set()
    stack = list(body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            found.add(node.name)
        stack += ast.iter_child_nodes(node)
    return found


def check_examples(package: str) -> list[str]:
    """Runs the examples in the docstrings of a package's public names, as the blocks of pages."""
    import names

    faults = []
    runner = doctest.DocTestRunner(verbose=False)
    parser = doctest.DocTestParser()
    for page in names.pages():
        if page.package != package:
            continue
        for name in page.names:
            where, text = f"{package}.{name}", inspect.getdoc(names.value_of(package, name)) or ""
            told = io.StringIO()
            try:
                example = parser.get_doctest(text, {}, where, None, None)
                runner.run(example, out=told.write, clear_globs=False)
                if not told.getvalue():
                    program = ast.parse("".join(part.source for part in example.examples))
                    found = unresolved(program, example.globs)
                    told.writelines(f"{where}: {fault}\n" for _, fault in found)
            except ValueError as error:
                told.write(f"{where}: {error}")
            faults += [told.getvalue()] if told.getvalue() else []
    return faults


def main(paths: list[str]) -> int:
    """Checks pages, or with "--examples" packages; prints the faults and returns their number."""
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    faults = []
    if paths[0] == "--examples":
        for package in paths[1:]:
            faults += check_examples(package)
    else:
        for path in paths:
            faults += check_page(pathlib.Path(path))
    for fault in faults:
        print(fault)
    return len(faults)


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    sys.exit(min(main(sys.argv[1:]), 100))
