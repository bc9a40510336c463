"""The names of optax that a program uses, and where."""

from __future__ import annotations

import ast
import codecs
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from optx_compat._table import MISSING, TABLE


class Use(NamedTuple):
    """A name of optax in a program.

    Attributes:
      module: the module of optax.
      name: the name in it; "" where the module itself is a value.
      node: the expression, or the statement that imports the name.
      alias: the variable of the module; "" for an imported name.
    """

    module: str
    name: str
    node: ast.expr | ast.stmt
    alias: str = ""


class Program:
    """A parsed program.

    Attributes:
      source: its text, in UTF-8.
      imports: the statements that import optax or names of it.
      top: those of them that always run, in their order.
      modules: the module of optax that each variable refers to.
      uses: the names of optax that it uses.
      unclear: the variables of modules that are bound to something else too: what they refer to is unknown.
      strings: the strings that name optax as code does, such as the argument of `import_module`.
    """

    def __init__(self, source: bytes) -> None:
        source = source.removeprefix(codecs.BOM_UTF8)
        tree = parse(source)
        self.source = source
        self._nodes = nodes = list(ast.walk(tree))
        self.imports = [
            node
            for node in nodes
            if isinstance(node, ast.Import | ast.ImportFrom) and _imports_optax(node)
        ]
        self.top = [node for node in tree.body if node in self.imports]
        bound = {pair for node in self.imports for pair in _bound_modules(node)}
        self.modules = dict(bound)
        others = {name for node in nodes if node not in self.imports for name in _bindings(node)}
        others |= {name for name, module in bound if module != self.modules[name]}
        self.unclear = others & set(self.modules)
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self.uses = [*self._imported_names(), *self._attributes(nodes), *self._in_strings(nodes)]
        self._claims = Counter(self.span(use.node) for use in self.uses)
        annotations = {id(use.node) for use in self.uses}
        self.strings = [
            node
            for node in nodes
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in annotations
            and _CODE.search(node.value)
        ]

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """The bytes of a node."""
        assert node.end_lineno is not None  # noqa: S101  # the parser sets them
        assert node.end_col_offset is not None  # noqa: S101
        first = self._starts[node.lineno - 1] + node.col_offset
        return first, self._starts[node.end_lineno - 1] + node.end_col_offset

    def has_place(self, node: ast.expr) -> bool:
        """Returns whether the source at a node's position is the node; in f-strings of 3.11 it may not be."""
        first, last = self.span(node)
        text = "".join(self.source[first:last].decode(errors="replace").split())
        return text == ast.unparse(node) and self._claims[first, last] == 1

    def _imported_names(self) -> Iterator[Use]:
        used = {(use.module, use.alias) for use in self._attributes(self._nodes)}
        for node in self.imports:
            for item in node.names:
                full = item.name if isinstance(node, ast.Import) else f"{node.module}.{item.name}"
                alias = item.asname or (item.name if isinstance(node, ast.ImportFrom) else "optax")
                served = full in TABLE or (is_private(full) and (full, alias) in used)
                if _is_optax(full) and not served:
                    module, _, name = full.rpartition(".")
                    yield Use(module, name, node)

    def _module(self, node: ast.expr) -> str | None:
        """The module of optax that an expression refers to."""
        if isinstance(node, ast.Name):
            return self.modules.get(node.id)
        if isinstance(node, ast.Attribute) and (outer := self._module(node.value)):
            inner = f"{outer}.{node.attr}"
            return inner if inner in TABLE or is_private(inner) else None
        return None

    def _attributes(self, nodes: list[ast.AST]) -> Iterator[Use]:
        inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
        for node in nodes:
            if not isinstance(node, ast.Attribute | ast.Name):
                continue
            if module := self._module(node):
                if id(node) not in inner:
                    yield Use(module, "", node, _root(node))
            elif isinstance(node, ast.Attribute) and (module := self._module(node.value)):
                known = node.attr in TABLE.get(module, ()) or f"{module}.{node.attr}" in MISSING
                if known or _root(node) not in self.unclear:
                    yield Use(module, node.attr, node, _root(node))

    def _in_strings(self, nodes: list[ast.AST]) -> Iterator[Use]:
        """Modules in annotations that are strings."""
        for outer in nodes:
            for annotation in (getattr(outer, "annotation", None), getattr(outer, "returns", None)):
                for node in ast.walk(annotation) if annotation else ():
                    if isinstance(node, ast.Constant) and isinstance(node.value, str):
                        for alias in set(re.findall(r"\w+", node.value)) & set(self.modules):
                            yield Use(self.modules[alias], "", node, alias)


def is_private(module: str) -> bool:
    """Returns whether a name is that of a private module of optax; its package `_src` holds nothing else."""
    return re.fullmatch(r"optax\._src(\.\w+)?", module) is not None


def parse(source: bytes) -> ast.Module:
    r"""Parses a program, or the code of a notebook, where lines for IPython count as constants.

    Args:
      source: the program, in UTF-8.

    Returns:
      Its tree; positions are those in `source`.

    Raises:
      SyntaxError: for what neither Python nor IPython reads.

    Example:
      >>> from optx_compat._uses import parse
      >>> [type(node).__name__ for node in parse(b"%matplotlib inline\nimport optax").body]
      ['Expr', 'Import']
    """
    try:
        return ast.parse(source.decode())
    except SyntaxError:
        masked = _MAGIC.sub(lambda line: _masked(line[1], line[2]), source)
        if masked == source:
            raise
        return ast.parse(masked.decode())


# `%matplotlib inline`, `%%time`, `!pip install x \`, `files = !ls`, `?adam`, `adam??`
_MAGIC = re.compile(
    rb"^([ \t]*(?:[\w., \t]+=[ \t]*(?=[%!]))?)"
    rb"((?:[%!?](?:[^\r\n]*\\\r?\n)*[^\r\n]*|[\w.]+\?\??[ \t]*(?=\r?$)))",
    re.MULTILINE,
)
_CODE = re.compile(
    r"\A\s*optax(\.\w+)*\s*\Z|^\s*(>>> |\.\.\. )?\s*(import|from) optax\b", re.MULTILINE
)


def _masked(before: bytes, magic: bytes) -> bytes:
    """A line of IPython as a constant and a comment of as many bytes."""
    return before + b"0" + re.sub(rb"[^\r\n]", b"#", magic[1:])


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_optax(module: str | None) -> bool:
    return module is not None and module.split(".")[0] == "optax"


def _imports_optax(node: ast.Import | ast.ImportFrom) -> bool:
    if isinstance(node, ast.Import):
        return any(_is_optax(item.name) for item in node.names)
    return node.level == 0 and _is_optax(node.module)


def _bound_modules(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    """(variable, module of optax) of an import."""
    for item in node.names:
        if isinstance(node, ast.ImportFrom):
            full = f"{node.module}.{item.name}"
            if full in TABLE or is_private(full):
                yield item.asname or item.name, full
        elif _is_optax(item.name):
            yield (item.asname, item.name) if item.asname else ("optax", "optax")


def _bindings(node: ast.AST) -> Iterator[str]:
    """The variables that a node binds."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
            yield name
        case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
            yield name
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            yield from names
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            for item in names:
                yield item.asname or item.name.split(".")[0]
