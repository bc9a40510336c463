"""Every argument of every public function is documented, there or at the function referred to."""

import importlib
import inspect
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = sorted(path.name for path in ROOT.glob("packages/*/src/optx_*"))
MODULES = [*PACKAGES, "optx_core.build", "optx_core.tree"]
SECTION = re.compile(
    r"^ *(Returns|Raises|Example|Examples|Attributes|Yields|Note|References):", re.M
)
ENTRY = re.compile(r"(\*{0,2}[\w]+(?:, \*{0,2}[\w]+)*): (.*)", re.S)
REFERENCE = re.compile(r"as (?:for|in) `(optx_[\w.]+|\w+)`\.?")


def functions():
    for name in MODULES:
        module = importlib.import_module(name)
        for public in module.__all__:
            value = getattr(module, public)
            if inspect.isfunction(value):
                yield pytest.param(module, public, id=f"{name}.{public}")


def documented(function):
    """The text of each argument in a docstring."""
    text = inspect.getdoc(function) or ""
    _, found, text = text.partition("\nArgs:\n")
    if not found:
        return {}
    text = text[: match.start()] if (match := SECTION.search(text)) else text
    entries = re.split(r"\n(?=  \S)", text.rstrip())
    told = {}
    for entry in entries:
        if match := ENTRY.fullmatch(entry.strip()):
            for name in match[1].split(", "):
                told[name.lstrip("*")] = match[2]
    return told


@pytest.mark.parametrize(("module", "name"), list(functions()))
def test_every_argument_is_documented(module, name):
    function = getattr(module, name)
    told = documented(function)
    arguments = {p for p in inspect.signature(function).parameters if not p.startswith("_")}
    assert not arguments - set(told), f"not documented: {sorted(arguments - set(told))}"
    assert not set(told) - arguments, f"no such arguments: {sorted(set(told) - arguments)}"
    for argument, text in told.items():
        if match := REFERENCE.fullmatch(text):
            place, _, other = match[1].rpartition(".")
            there = documented(getattr(importlib.import_module(place) if place else module, other))
            assert argument in there, f"{argument} is not documented at {match[1]} either"
            assert not REFERENCE.fullmatch(there[argument]), f"{argument}: {match[1]} refers on"
