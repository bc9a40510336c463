"""Jupyter notebooks as programs: their Python cells as one text, which is put back cell by cell."""

from __future__ import annotations

import json
import re
from typing import Any

_FOREIGN = re.compile(r"%%(?!time\b|timeit\b|capture\b|prun\b)")  # such as %%bash, %%writefile
_SEPARATOR = "\n# the end of a cell: optx_compat\n"


def _python_cells(notebook: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """The numbers, from 1, and the cells that are Python."""
    return [
        (number, cell)
        for number, cell in enumerate(notebook["cells"], 1)
        if cell["cell_type"] == "code" and not _FOREIGN.match("".join(cell["source"]))
    ]


def program_of(text: str) -> tuple[bytes, list[str]]:
    """The code of a notebook as one program.

    Args:
      text: the notebook's file.

    Returns:
      The program in UTF-8, and for each of its lines the cell and the line in it.

    Raises:
      ValueError: if it is no notebook of version 4.
    """
    try:
        cells = _python_cells(json.loads(text))
        sources = [(number, "".join(cell["source"])) for number, cell in cells]
    except (KeyError, TypeError) as error:
        raise ValueError("this is not a notebook of format 4; convert it with nbconvert") from error
    places = [
        f"{line} of cell {number}"
        for number, source in sources
        for line in range(1, source.count("\n") + 3)
    ]
    return "".join(source + _SEPARATOR for _, source in sources).encode(), places


def with_program(text: str, program: bytes) -> str:
    """The notebook with the code of a program that came from it."""
    notebook = json.loads(text)
    for (_, cell), source in zip(
        _python_cells(notebook), program.decode().split(_SEPARATOR), strict=False
    ):
        cell["source"] = source.splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
