"""Equations in plain Unicode text, as the module docstrings have them, to MathML.

Each token is kept, in its order: what is not understood stays text. Beyond that, superscripts, subscripts,
accents and roots are set as such, and a quotient whose two sides are unambiguous becomes a fraction.
"""

from __future__ import annotations

import html
import re
import unicodedata

_ABOVE = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾", "0123456789+−=()", strict=True)) | {
    "ᵀ": "T", "ᴴ": "H", "ᵗ": "t", "ⁿ": "n", "ⁱ": "i", "ᵉ": "e", "ˢ": "s", "ʲ": "j", "ᶜ": "c",
    "ᵖ": "p", "ᵏ": "k", "ᵃ": "a", "ˣ": "x", "ˡ": "l", "ᵐ": "m", "ʳ": "r",
}  # fmt: skip
_BELOW = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎", "0123456789+−=()", strict=True)) | {
    "ₐ": "a", "ₑ": "e", "ₒ": "o", "ₓ": "x", "ₕ": "h", "ₖ": "k", "ₗ": "l", "ₘ": "m", "ₙ": "n",
    "ₚ": "p", "ₛ": "s", "ₜ": "t", "ᵢ": "i", "ⱼ": "j", "ᵣ": "r", "ᵤ": "u", "ᵥ": "v",
}  # fmt: skip
_ACCENTS = {"\u0302": "^", "\u0303": "~", "\u0304": "¯", "\u0307": "˙"}
_CLOSING = {"(": ")", "[": "]", "{": "}", "⟨": "⟩", "⌊": "⌋"}
_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<code>`[^`]+`)
  | (?P<number>\d+(?:[.,]\d+)*(?:e[-−]?\d+)?)
  | (?P<name>[^\W\d_][\u0302\u0303\u0304\u0307]?(?:[^\W_]|_(?=[^\W_]))*[\u0302\u0303\u0304\u0307]?\d*)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


def mathml(line: str) -> str:
    """Returns a line of equations as an inline `<math>` element.

    Args:
      line: the text, such as "m ← b1·m + (1 − b1)·g".

    Returns:
      Well-formed MathML that contains every token of the line.
    """
    nodes, _ = _sequence(_tokens(line), 0, None)
    return f'<math displaystyle="true">{"".join(node.text for node in _fractions(nodes))}</math>'


class _Node:
    """A piece of MathML: an atom, an operator or a space."""

    def __init__(self, kind: str, text: str, inner: str | None = None) -> None:
        self.kind, self.text = kind, text
        self.inner = text if inner is None else inner  # without its parentheses


def _tokens(line: str) -> list[tuple[str, str]]:
    line = unicodedata.normalize("NFD", line.replace("é", "e").replace("ö", "o"))
    line = line.replace("=\u0338", "≠")  # an operator, not an accent
    found = []
    for match in _TOKEN.finditer(line):
        kind, text = str(match.lastgroup), match[0]
        if kind == "other" and text in _ABOVE:
            kind = "above"
        elif kind == "other" and text in _BELOW:
            kind = "below"
        elif kind == "name" and (cut := re.search(f"[{''.join(_ABOVE)}{''.join(_BELOW)}]", text)):
            found += _split(text, cut.start())
            continue
        found.append((kind, text))
    return found


def _split(text: str, at: int) -> list[tuple[str, str]]:
    """Splits a name at its first superscript or subscript character."""
    parts = [("name", text[:at])] if at else []
    for character in text[at:]:
        kind = "above" if character in _ABOVE else "below" if character in _BELOW else "name"
        if kind == "name" and parts and parts[-1][0] == "name":
            parts[-1] = ("name", parts[-1][1] + character)
        else:
            parts.append((kind, character))
    return parts


def _sequence(
    tokens: list[tuple[str, str]], at: int, closing: str | None
) -> tuple[list[_Node], int]:
    """Reads nodes up to the closing token, which the caller consumes."""
    nodes: list[_Node] = []
    while at < len(tokens):
        kind, text = tokens[at]
        if text == closing and not (closing in "|‖" and _is_spaced(tokens, at)):
            break
        if kind in {"above", "below"}:
            run = ""
            while at < len(tokens) and tokens[at][0] == kind:
                run += tokens[at][1]
                at += 1
            _attach(nodes, kind, run)
            continue
        if text == "'" and nodes and nodes[-1].text.startswith("<mtext>"):  # an apostrophe
            nodes[-1] = _Node("atom", nodes[-1].text.replace("</mtext>", "’</mtext>"))
            at += 1
            continue
        if text in "'′" and nodes and nodes[-1].kind == "atom":
            nodes[-1] = _Node("atom", f"<msup>{nodes[-1].text}<mo>′</mo></msup>")
            at += 1
            continue
        script = {"_": "msub", "^": "msup"}.get(text)
        if script and nodes and nodes[-1].kind == "atom" and at + 1 < len(tokens):
            index, at = _index(tokens, at + 1)
            nodes[-1] = _Node("atom", f"<{script}>{nodes[-1].text}{_row(index)}</{script}>")
            continue
        node, at = _one(tokens, at)
        nodes.append(node)
    return nodes, at


def _index(tokens: list[tuple[str, str]], at: int) -> tuple[str, int]:
    """Reads what follows "_" or "^": a token, a negative one, or a group without its brackets."""
    if tokens[at][1] == "{":
        nodes, end = _sequence(tokens, at + 1, "}")
        return "".join(node.text for node in _fractions(nodes)), end + 1
    node, at = _one(tokens, at)
    if node.text == '<mo stretchy="false">−</mo>' and at < len(tokens):
        value, at = _one(tokens, at)
        return node.text + value.inner, at
    return node.inner, at


def _one(tokens: list[tuple[str, str]], at: int) -> tuple[_Node, int]:
    """Reads one token, or one group in parentheses."""
    kind, text = tokens[at]
    if kind == "space":
        width = 0.35 if len(text) == 1 else 2.0 if len(text) > 2 else 1.0
        return _Node("space" if len(text) == 1 else "gap", f'<mspace width="{width}em"/>'), at + 1
    if kind == "number":
        return _Node("atom", f"<mn>{text}</mn>"), at + 1
    if kind == "code":
        return _Node("atom", f'<mtext class="code">{html.escape(text[1:-1])}</mtext>'), at + 1
    if kind == "name":
        return _Node("atom", _name(text)), at + 1
    if text in "√∛" and at + 1 < len(tokens) and tokens[at + 1][0] != "space":
        node, after = _one(tokens, at + 1)
        if node.text.startswith("<mtext>") and tokens[after : after + 1] == [("other", "(")]:
            argument, after = _one(tokens, after)  # the root of a function's value
            node = _Node("atom", _row(node.text + argument.text))
        if node.kind == "atom":
            if text == "∛":
                return _Node("atom", f"<mroot>{_row(node.inner)}<mn>3</mn></mroot>"), after
            return _Node("atom", f"<msqrt>{node.inner}</msqrt>"), after
    if text in _CLOSING or (text in "|‖" and not _is_spaced(tokens, at)):
        close = _CLOSING.get(text, text)
        nodes, end = _sequence(tokens, at + 1, close)
        if end < len(tokens) and nodes:
            inner = "".join(node.text for node in _fractions(nodes))
            tall = str("<mfrac" in inner).lower()
            fence = f'<mo fence="true" stretchy="{tall}">{{}}</mo>'
            group = fence.format(text) + inner + fence.format(close)
            return _Node("atom", _row(group), inner if text == "(" else None), end + 1
    if text in "∂∇Σ∞½π∫Π∏⊥…⋯":
        return _Node("atom", f"<mi>{text}</mi>"), at + 1
    return _Node("operator", f'<mo stretchy="false">{html.escape(text)}</mo>'), at + 1


def _is_spaced(tokens: list[tuple[str, str]], at: int) -> bool:
    """Returns whether a bar has spaces on both sides: it then means "given", not an absolute value."""
    before = at > 0 and tokens[at - 1][0] == "space"
    after = at + 1 >= len(tokens) or tokens[at + 1][0] == "space"
    return before and after


def _name(text: str) -> str:
    accent = next((a for a in text if a in _ACCENTS), None)
    plain = unicodedata.normalize("NFC", "".join(c for c in text if c not in _ACCENTS))
    base, index = plain, ""
    if match := re.fullmatch(r"([^\W\d_])_?(\d+)", plain):
        base, index = match[1], f"<mn>{match[2]}</mn>"
    elif match := re.fullmatch(r"([^\W\d_])_([^\W_]+)|([^\W\d_]+)_([^\W\d_]{1,2})", plain):
        base, index = match[1] or match[3], _letters(match[2] or match[4])
    node = _letters(base)
    if accent:
        node = f'<mover accent="true">{node}<mo stretchy="false">{_ACCENTS[accent]}</mo></mover>'
    return f"<msub>{node}{index}</msub>" if index else node


def _letters(text: str) -> str:
    if len(text) == 1:
        return f"<mi>{html.escape(text)}</mi>"
    return f"<mtext>{html.escape(text)}</mtext>"


def _attach(nodes: list[_Node], kind: str, run: str) -> None:
    """Sets a run of superscripts or subscripts at the last node."""
    text = "".join((_ABOVE if kind == "above" else _BELOW)[c] for c in run)
    if kind == "below" and text.isalpha():
        script = _letters(text)
    else:
        script = "".join(
            f"<{tag}>{part}</{tag}>"
            for part in re.findall(r"\d+|.", text)
            for tag in ["mn" if part.isdigit() else "mo" if part in "+−=()" else "mi"]
        )
    tag = "msup" if kind == "above" else "msub"
    base = nodes.pop().text if nodes and nodes[-1].kind != "space" else "<mi></mi>"
    nodes.append(_Node("atom", f"<{tag}>{base}{_row(script)}</{tag}>"))


def _row(text: str) -> str:
    return f"<mrow>{text}</mrow>"


_SLASH, _TIMES = '<mo stretchy="false">/</mo>', '<mo stretchy="false">·</mo>'


def _fractions(nodes: list[_Node]) -> list[_Node]:
    """Makes fractions of the quotients whose numerator and denominator are clear."""
    result = list(nodes)
    i = 0
    while i < len(result):
        if result[i].text == _SLASH:
            left, right = _numerator(result, i), _denominator(result, i)
            if left is not None and right is not None:
                top = [n for n in result[left:i] if n.kind != "space"]
                bottom = [n for n in result[i + 1 : right] if n.kind != "space"]
                texts = [
                    part[0].inner if len(part) == 1 else "".join(n.text for n in part)
                    for part in (top, bottom)
                ]
                fraction = f"<mfrac>{_row(texts[0])}{_row(texts[1])}</mfrac>"
                result[left:right] = [_Node("atom", fraction)]
                i = left
        i += 1
    return result


def _numerator(nodes: list[_Node], slash: int) -> int | None:
    """Returns the start of the product before the slash; None if it is ambiguous."""
    i = slash - 1
    if i >= 0 and nodes[i].kind == "space":
        i -= 1
    end = i
    while i >= 0:
        before = nodes[i - 1].text if i else ""
        after = nodes[i + 1].text if i < end else ""
        is_space_at_dot = nodes[i].kind == "space" and _TIMES in {before, after}
        if nodes[i].kind != "atom" and nodes[i].text != _TIMES and not is_space_at_dot:
            break
        i -= 1
    if i == end:
        return None
    if i >= 1 and nodes[i].kind == "space" and nodes[i - 1].kind == "atom":
        return None  # "log p(x) / q(x)": of what is the logarithm?
    return i + 1


def _denominator(nodes: list[_Node], slash: int) -> int | None:
    """Returns the end of the factor after the slash; None if it is ambiguous."""
    i = slash + 1
    if i < len(nodes) and nodes[i].kind == "space":
        i += 1
    start = i
    while i < len(nodes) and nodes[i].kind == "atom":
        i += 1
    if i == start:
        return None
    if i + 1 < len(nodes) and nodes[i].kind == "space" and nodes[i + 1].kind == "atom":
        following = nodes[i + 1].text
        return i if re.match(r"<mtext>(where|in|if|for|else|and|the|of|with)<", following) else None
    return i


_MARK = re.compile(r"[←=≤≥~≈∝]")
_PROSE = re.compile(r"(?:\b[A-Za-z’']{2,}\b,? ){4,}|(?<!\.)\.$|\w\. [A-Z]")


def is_equation(paragraph: str) -> bool:
    """Returns whether a paragraph consists of equations, one to a line, rather than prose.

    Args:
      paragraph: lines of a docstring without an empty line between them.
    """
    lines = paragraph.splitlines()
    first = re.split(r" {3,}|,  |;  ", lines[0].strip())[0]
    if _PROSE.search(first) or (re.match(r"[A-Z][a-z]+ [a-z]+ ", first) and not _MARK.match(first)):
        return False
    marks = prose = 0
    for line in lines:
        marks += bool(_MARK.search(line))
        # A remark stands in parentheses, or after a gap.
        bare = re.sub(r"\([^()]*\)", "", line.strip())
        prose += bool(_PROSE.search(bare)) and not re.search(r"\S {3,}\S|, {2,}", line.strip())
    return bool(marks) and 2 * prose < max(2, marks) and 2 * marks >= len(lines)


def _clauses(line: str) -> list[str]:
    """The parts of a line between wide gaps, between which it may be broken."""
    parts = re.split(r"\s{3,}", line)
    whole = all(part.count(a) == part.count(b) for part in parts for a, b in _CLOSING.items())
    return parts if whole else [line]


def display(paragraph: str) -> str:
    """Returns a paragraph of equations as HTML: a block, one line for each, broken where it is too wide.

    Args:
      paragraph: the equations, one to a line.
    """
    rows = []
    for line in paragraph.splitlines():
        indent = len(line) - len(line.lstrip())
        style = f' style="padding-left:{indent / 2}em"' if indent else ""
        clauses = " ".join(map(mathml, _clauses(line.strip())))
        rows.append(f"<div{style}>{clauses}</div>")
    return f'<div class="equations" tabindex="0">{"".join(rows)}</div>'
