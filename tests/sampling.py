"""The selection of test cases: a share of them, which changes with the turn, or all.

`hatch test --turn 1` runs the next share, `hatch test --full` runs all, and so does a test chosen by name.
"""

import hashlib
import os

CASES = "OPTX_CASES"
"""The environment variable that says which cases run, in every process of a run: "all", or the turn."""


def is_in_share(case, n, turn):
    """Returns whether a case runs at a turn, where one in n does."""
    return _place(case, n, turn) == 0


def share(cases, n, salt=""):
    """Returns one in n of the cases of a test or a script; others for another salt."""
    cases, chosen = list(cases), os.environ.get(CASES, "0")
    if chosen == "all" or len(cases) <= 1:
        return cases
    n = min(n, len(cases))
    return cases[_place(salt, n, int(chosen)) :: n]


def _place(text, n, turn):
    """Returns a number below n that depends on the text and the turn, and is the same in every run."""
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) + turn) % n
