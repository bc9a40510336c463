"""Which of many cases run: a share of them, another one at each turn, or all.

`hatch test --turn 1` runs the next share, `hatch test --full` runs all, and so does a test chosen by name.
"""

import hashlib
import os

CASES = "OPTX_CASES"
"""The environment variable that tells scripts in processes of their own: "all", or the number of the turn."""


def is_in_share(case, n, turn):
    """Whether a case, a string, is in the share of one in n that runs at a turn: the same in every run."""
    return (int.from_bytes(hashlib.sha256(case.encode()).digest()[:4]) + turn) % n == 0


def share(cases, n, salt=""):
    """Returns one in n of the cases of a script; others for another salt."""
    cases, chosen = list(cases), os.environ.get(CASES, "0")
    if chosen == "all" or len(cases) <= 1:
        return cases
    n = min(n, len(cases))
    first = next(k for k in range(n) if is_in_share(salt, n, int(chosen) + k))
    return cases[first::n]
