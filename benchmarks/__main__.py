"""Runs the benchmarks: `python -m benchmarks [names]`; without names the core's."""

from __future__ import annotations

import importlib
import pathlib
import sys


def main() -> None:
    """Runs the benchmarks named on the command line."""
    here = pathlib.Path(__file__).parent
    known = sorted(path.stem for path in here.glob("[a-z]*.py"))
    names = sys.argv[1:] or ["core"]
    unknown = set(names) - set(known)
    if unknown:
        raise SystemExit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    for name in names:
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
