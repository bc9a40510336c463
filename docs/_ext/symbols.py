"""The legend of a page's equations: what each symbol means."""

from __future__ import annotations

import html
import inspect
import re
import unicodedata
from importlib import import_module

import equations
import names

# What a letter means on the pages of a package, unless the page says otherwise.
_CONVENTIONS = {
    "optx_aliases": {
        "g": "the gradient, or what the transformation before this one returned, of one array",
        "G": "the gradient, or what the transformation before this one returned, of one matrix",
        "p": "the parameter",
        "u": "the update",
        "lr": "the learning rate",
        "m": "the mean of past gradients, as defined above",
        "v": "the size of past gradients, as defined above",
        "I": "the identity matrix",
        "ε": "noise with independent standard normal entries",
    },
    "optx_core": {
        "g": "the gradient, or what the transformation before this one returned, of one array",
        "p": "the parameter",
        "u": "the update",
        "θ": "the parameters",
    },
    "optx_schedules": {
        "n": "the step, counted from 0",
        "s": "the schedule: s(n) is its value at step n",
    },
    "optx_losses": {"i": "an example, or an entry of one", "c": "a class"},
    "optx_second_order": {
        "θ": "the parameters",
        "L": "the loss, a mean over the B examples of a batch",
        "B": "the number of examples",
        "b": "an example",
    },
    "optx_estimators": {
        "θ": "the parameters",
        "f": "the function whose expectation is differentiated",
        "x": "a sample",
        "i": "the number of a sample",
        "p": "the density of a sample",
        "E": "an expectation",
        "g": "the estimate of the gradient",
    },
}
_STEPS = "the number of steps, this one included"


def legend(page: names.Page, modules: list[str], text: str) -> dict[str, str]:
    """The symbols of a page's equations that neither the equations nor the text of the page explain.

    Args:
      page: the page.
      modules: those whose equations stand on it.
      text: the page without the equations and the examples.

    Returns:
      The meaning of each symbol, in the Markdown of docstrings: fields of states, then conventions.
    """
    package = page.package.partition(".")[0]
    rules = _rules(modules)
    if not rules:
        return {}
    states = {}
    for module in modules:
        states |= _of_states(module, rules)
    used = symbols(rules)
    conventions = _CONVENTIONS.get(package, {})
    found = {
        symbol: told
        for symbol, told in conventions.items()
        if symbol in used - set(states)
        and (package == "optx_aliases" or not explains(text, symbol))
    }
    if "m" in found and not re.search("m ←|m̂(?!1)", rules):  # m1, or a number
        del found["m"]
    if "v" in found and not re.search("v ←|v̂", rules):
        del found["v"]
    if package == "optx_aliases" and "ᵗ" in rules and "t" not in states | found:
        found["t"] = _STEPS
    return found | states


def symbols(rules: str) -> set[str]:
    """The symbols of equations: names of one or two letters, without accents and indices."""
    found = set()
    for kind, token in equations._tokens(rules):
        if kind == "name":
            plain = "".join(c for c in token if not unicodedata.combining(c))
            plain = plain.partition("_")[0].rstrip("0123456789")
            parts = plain if plain[:1] in "Σ½σπ" else [plain]  # products of letters
            found |= {x for x in parts if 0 < len(x) <= 2 and x not in _FUNCTIONS}
    if not re.search(r"π[(_]|∂π|log π|diag\(π", rules):
        found.discard("π")  # the number
    return found


def unexplained(page: names.Page, text: str) -> set[str]:
    """The symbols of a page's equations that it does not explain.

    Args:
      page: the page.
      text: all of its Markdown.
    """
    shown = re.findall(r"```\{raw\} html\n(.*?)\n```", text, re.DOTALL)
    if not shown:
        return set()
    rules = _rules([page.module])
    told = unicodedata.normalize("NFC", prose_of(text))
    return {
        symbol
        for symbol in symbols(rules)
        if not explains(told, symbol) and not _is_defined(symbol, rules)
    }


def prose_of(text: str) -> str:
    """The text of a page without equations, examples and escapes."""
    text = re.sub(r"```(\{raw\} html|pycon|\{image\}).*?```", "", text, flags=re.DOTALL)
    return html.unescape(text).replace("\\", "")


def explains(text: str, symbol: str) -> bool:
    """Returns whether a symbol stands in a text by itself."""
    return re.search(rf"(?<![\w'’]){re.escape(symbol)}(?![A-Za-z'’])", text) is not None


def _is_defined(symbol: str, rules: str) -> bool:
    """Returns whether equations define a symbol: whether it stands alone before ← or =."""
    sign = r"[\u0302\u0303\u0304\u0307]?(?:_\w+|[0-9ᵢⱼₖₜ₀-₉])?"
    plain = unicodedata.normalize("NFD", rules)
    return (
        re.search(rf"(?:^|[\s(]){re.escape(symbol)}{sign}[′']?(?:\([^()]*\))? *[←=≈~]", plain)
        is not None
    )


def _rules(modules: list[str]) -> str:
    return "\n".join(
        part for m in modules for part in names.module_doc(m)[0] if equations.is_equation(part)
    )


def _of_states(module: str, rules: str) -> dict[str, str]:
    """The symbols that the states of a module explain: "mu: m, a tree of ..." is m, of the field mu."""
    found = {}
    for name, value in vars(import_module(module)).items():
        if (
            inspect.isclass(value)
            and value.__module__.startswith("optx_")
            and hasattr(value, "_fields")
        ):
            for field, text in names.read(value).entries.get("Attributes", {}).items():
                symbol, comma, rest = text.partition(", ")
                match = re.match(r"(\S{1,6}?),? (?=\S)", text)
                own = value.__module__ == module
                if comma and len(symbol) <= 4 and (own or _stands(symbol, rules)):
                    found[symbol] = f"`{name}.{field}`, {' '.join(rest.split())}"
                elif len(field) == 1 and _stands(field, rules):
                    found[field] = f"`{name}.{field}`, {' '.join(text.split())}"
                elif match and match[1] != "a" and _stands(match[1], rules):
                    rest = " ".join(text.removeprefix(match[1]).split())
                    found[match[1]] = f"`{name}.{field}`{'' if rest[0] == ',' else ' '}{rest}"
    return found


def _stands(symbol: str, rules: str) -> bool:
    """Returns whether a symbol, not a word, stands in equations."""
    word = re.fullmatch(r"[A-Za-z]{3,}", symbol)
    return not word and re.search(rf"(?<!\w){re.escape(symbol)}(?!\w)", rules) is not None


# Functions, differentials, sums and English words of one or two letters.
_FUNCTIONS = {
    *("ln", "tr", "qr", "KL", "Σ", "Π", "½", "dx", "dy", "ds", "dH", "ij"),
    *("a", "an", "as", "at", "by", "if", "in", "is", "it", "of", "on", "or", "s", "so", "to", "up"),
}
