"""The page of each public name, and the parts of its docstring."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import pathlib
import re
import sys
from importlib import import_module
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = {
    "optx_core": "the protocol, chains, masks, partitions, wrappers, readout, sharding",
    "optx_aliases": "the named optimizers, and the transformations they are made of",
    "optx_schedules": "learning rates and other values as functions of the step",
    "optx_losses": "losses, one value per example",
    "optx_second_order": "Hessian, Gauss–Newton and Fisher diagonals, curvature products",
    "optx_estimators": "Monte Carlo gradients of expectations",
    "optx_projections": "projections onto convex sets",
    "optx_flax": "the bridge to Flax NNX",
    "optx_testing": "the conformance kit",
    "optx_core.build": "the tools to write a transformation",
    "optx_core.tree": "mathematics on trees",
}
# The names of optax over ours have one generated page.
COMPAT = ("optx_compat", "from_optax")
_SECTION = re.compile(
    r"^(Args|Returns|Raises|Yields|Example|Examples|Attributes|Note|Notes|References):$"
)
_ENTRY = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*): (.*)", re.DOTALL)
_REFERENCE = re.compile(r"as (?:for|in) `(optx_[\w.]+|\w+)`\.?")


@dataclasses.dataclass(frozen=True)
class Page:
    """A page of the reference: one function or class, and what belongs to it.

    Attributes:
      package: the module that exports the names.
      names: the name of the page, then those that are explained on it.
      module: the private module that defines them.
      title: of the page, and its file's name.
    """

    package: str
    names: tuple[str, ...]
    module: str
    title: str

    @property
    def path(self) -> str:
        """The page's path below docs, without a suffix."""
        return f"reference/{self.package}/{self.title}"


def value_of(package: str, name: str) -> Any:
    """The object that a package exports by a name."""
    return getattr(import_module(package), name)


def home(package: str, name: str) -> str:
    """The module in which a name is defined."""
    value = value_of(package, name)
    where = getattr(value, "__module__", None)
    if isinstance(where, str) and where.startswith("optx_"):
        return where
    for module in sorted(sys.modules):
        if module.startswith(f"{package.partition('.')[0]}.") and hasattr(
            sys.modules[module], name
        ):
            source = pathlib.Path(str(sys.modules[module].__file__)).read_text(encoding="utf-8")
            if re.search(rf"^(?:type )?{name}\b.*=", source, re.MULTILINE):
                return module
    return package


@functools.cache
def pages() -> tuple[Page, ...]:
    """The pages of the reference, of all packages but optx-compat."""
    result = []
    for package in PACKAGES:
        homes: dict[str, list[str]] = {}
        for name in import_module(package).__all__:
            if not inspect.ismodule(value_of(package, name)):
                homes.setdefault(home(package, name), []).append(name)
        for module, names in homes.items():
            main = [name for name in names if _has_page(package, name)]
            members: dict[str, list[str]] = {name: [name] for name in main}
            left = []
            for name in names:
                if name not in main:
                    owner = _owner(package, name, main)
                    members[owner].append(name) if owner else left.append(name)
            if left and len(main) == 1:
                members[main[0]] += left
            elif left:
                title = left[0] if len(left) == 1 else module.rpartition(".")[2].lstrip("_")
                result.append(Page(package, tuple(left), module, title))
            result += [Page(package, tuple(all_), module, name) for name, all_ in members.items()]
    return tuple(result)


def _owner(package: str, name: str, pages: list[str]) -> str | None:
    """The function on whose page a state or a type belongs: one of the two docstrings names the other."""
    own = inspect.getdoc(value_of(package, name)) or ""
    word = re.compile(rf"\b{name}\b")
    owners = [other for other in pages if f"`{other}`" in own.partition("\n")[0]]
    owners += [
        other for other in pages if word.search(inspect.getdoc(value_of(package, other)) or "")
    ]
    return owners[0] if owners else None


def _has_page(package: str, name: str) -> bool:
    value = value_of(package, name)
    return inspect.isfunction(value) or (
        inspect.isclass(value) and ">>>" in (inspect.getdoc(value) or "")
    )


@functools.cache
def places() -> dict[tuple[str, str], str]:
    """The page of each public name of each package: (package, name) -> path below docs."""
    found: dict[tuple[str, str], str] = {}
    for page in pages():
        for name in page.names:
            if (page.package, name) in found:
                raise ValueError(f"{page.package}.{name} is on two pages")
            found[page.package, name] = page.path
    for name in import_module(COMPAT[0]).__all__:
        found[COMPAT[0], name] = COMPAT[1]
    for module in ("build", "tree"):
        found["optx_core", module] = f"reference/optx_core.{module}/index"
    return found


def link(text: str, package: str | None = None) -> tuple[str, str] | None:
    """The page and the anchor of what a docstring calls by a name; None if it is no public name.

    Args:
      text: such as "adam", "adam(1e-3)", "optx_core.masked" or "tree.get".
      package: where the docstring is: its own names come first.
    """
    text = text.strip().partition("(")[0]
    where, _, name = text.rpartition(".")
    if where in {"tree", "build"}:
        where = f"optx_core.{where}"
    search = [where] if where else [package, *PACKAGES] if package else [*PACKAGES]
    for candidate in search:
        if (candidate, name) in places():
            path = places()[str(candidate), name]
            return path, "" if path == "from_optax" else f"{candidate}.{name}".lower()
    return None


@dataclasses.dataclass
class Doc:
    """A docstring in parts.

    Attributes:
      summary: the text before the first section, in paragraphs.
      entries: for "Args", "Raises" and "Attributes" the text of each entry.
      texts: the other sections.
    """

    summary: list[str]
    entries: dict[str, dict[str, str]]
    texts: dict[str, str]


def read(value: Any) -> Doc:
    """Reads the docstring of an object."""
    lines = (inspect.getdoc(value) or "").splitlines()
    sections: list[tuple[str, list[str]]] = [("", [])]
    for line in lines:
        if match := _SECTION.fullmatch(line):
            sections.append((match[1], []))
        else:
            sections[-1][1].append(line)
    doc = Doc([], {}, {})
    for title, body in sections:
        text = inspect.cleandoc("\n".join(["", *body])) if title else "\n".join(body)
        if title in {"Args", "Raises", "Attributes"}:
            doc.entries[title] = _entries(text)
        elif title:
            doc.texts[title] = text
        else:
            doc.summary = [part for part in re.split(r"\n\s*\n", text.strip("\n")) if part.strip()]
    return doc


def _entries(text: str) -> dict[str, str]:
    found = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        if match := _ENTRY.fullmatch(entry):
            for name in match[1].split(", "):
                found[name] = inspect.cleandoc(match[2])
        elif entry:
            found[entry] = ""
    return found


def arguments(package: str, name: str) -> dict[str, str]:
    """The text of each argument, in the order of the signature; "as for `adam`" is looked up there."""
    value = value_of(package, name)
    told = {key.lstrip("*"): text for key, text in read(value).entries.get("Args", {}).items()}
    found = {}
    for key in inspect.signature(value).parameters:
        text = told.get(key, "")
        if match := _REFERENCE.fullmatch(text):
            place, _, other = match[1].rpartition(".")
            text = arguments(place or package, other).get(key, text)
        found[key] = text
    return {key: text for key, text in found.items() if text}


def module_doc(module: str) -> tuple[list[str], str]:
    """The paragraphs of a private module's docstring, and its references.

    Args:
      module: the full name.
    """
    text = (import_module(module).__doc__ or "").partition("\n\nPublic names:")[0].strip()
    parts = re.split(r"\n\s*\n", text)
    sources = [p for p in parts if re.match(r"References?:", p)]
    return [p for p in parts if p not in sources], " ".join(" ".join(sources).split())
