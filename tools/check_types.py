"""Type checks: mypy strict on every package, each with a count of the files it saw.

hatch check types
"""

from __future__ import annotations

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main() -> int:
    """Checks all packages; returns the number of those that failed."""
    failed = 0
    for source in sorted(ROOT.glob("packages/optx-*/src/optx_*")):
        files = len(list(source.rglob("*.py")))
        command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", str(source)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        print(f"{source.name}: {done.stdout.strip().splitlines()[-1] if done.stdout else ''}")
        if done.returncode or f"{files} source file" not in done.stdout:
            failed += 1
            print(done.stdout, done.stderr, sep="\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
