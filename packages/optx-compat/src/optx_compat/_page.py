"""The page docs/from_optax.md, and the lines that the command prints, from the table."""

from __future__ import annotations

from optx_compat._rewrite import home
from optx_compat._table import DIFFERS, MISSING, OLDER, OPTAX, TABLE

_TOP = f"""\
<!-- Written by `python -m optx_compat --page`; a test compares it with the table. -->

# From optax to optx

`import optx_compat as optax` runs a program of optax {OPTAX} on optx. The command says where each name that a
program or notebook uses is, and rewrites it with those names:

```console
$ pip install optx-compat
$ python -m optx_compat train.py
$ python -m optx_compat --write train.py
```

Public names from optax's private modules (`from optax._src import base`) are rewritten too. An import without
a counterpart stays as it is, and is listed with the reason; so is a string that names optax. To a library
that tests for optax's classes, pass `optx_compat.as_optax(tx)`.

The numbers are those of optax but for the rows of [where the numbers differ](differences.md); what they say
of all optimizers is not repeated here. optx accepts transformations of optax, and the fields of states have
optax's names.
"""


def page() -> str:
    """The page, one section for each module of optax."""
    text = [_TOP, "## Adapters\n", _ADAPTERS, _rows(_adapters())]
    for module, homes in TABLE.items():
        names = sorted(name for name in homes if not name.startswith("_") and name != "as_optax")
        same: dict[str, list[str]] = {}
        renamed, differs = [], []
        for name in names:
            where, ours = home(module, name) or ("", "")
            if where.startswith("optx_compat"):
                continue
            older = ", of older versions" if name in OLDER.get(module, "").split() else ""
            if name in DIFFERS:
                differs.append((f"`{name}`{older}", f"`{where}.{ours}`", DIFFERS[name]))
            elif ours != name:
                renamed.append((f"`{name}`{older}", f"`{where}.{ours}`", "renamed"))
            else:
                same.setdefault(where, []).append(f"`{name}`")
        missing = [
            (f"`{full.removeprefix(module + '.')}`", "none", why)
            for full, why in MISSING.items()
            if full.rpartition(".")[0] == module
        ]
        text.append(f"## {module}\n")
        text += [f"The same in `{where}`: {', '.join(same[where])}.\n" for where in sorted(same)]
        text.append(_rows([*renamed, *differs, *missing]))
    return "\n".join(filter(None, text))


_ADAPTERS = """\
Where a program would fail with the function of optx, `optx_compat` has one in the form of optax's.
"""


def _adapters() -> list[tuple[str, str, str]]:
    """The adapters, and what they call."""
    return [
        (f"`{module}.{name}`", f"`{'.'.join(place)}`", DIFFERS[name])
        for module, homes in TABLE.items()
        for name in homes
        if name in DIFFERS and (place := home(module, name)) and place[0].startswith("optx_compat")
    ]


def _rows(rows: list[tuple[str, str, str]]) -> str:
    if not rows:
        return ""
    lines = ["| optax | optx | |", "| --- | --- | --- |", *(f"| {' | '.join(r)} |" for r in rows)]
    return "\n".join([*lines, ""])
