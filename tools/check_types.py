"""Type checks: mypy strict on every package, and what a user's checker sees of them.

hatch check types

Each package is checked with mypy, with a count of the files that it saw. Then a small user's project is
checked with mypy --strict and with pyright (basedpyright, which ships as a wheel): right code passes, and
each mistake is found.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

USER = """\
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optx_core
from optx_aliases import adamw, scale_by_adam
from optx_core import apply_updates, build, chain, clip_by_global_norm


class LionState(NamedTuple):
    mu: build.Moment


@build.rule(LionState)
def scale_by_lion(
    g: jax.Array, s: LionState, /, b1: build.Rate = 0.9, b2: build.Rate = 0.99
) -> tuple[jax.Array, LionState]:
    m = b1 * s.mu + (1 - b1) * g
    return jnp.sign(m), s._replace(mu=b2 * s.mu + (1 - b2) * g)


tx = chain(clip_by_global_norm(1.0), scale_by_adam(b1=0.5, nesterov=True), adamw(1e-3, mask=None))
lion: optx_core.GradientTransformationExtraArgs = scale_by_lion(b1=0.8)
params: dict[str, Any] = {"w": jnp.ones(3)}
updates, state = tx.update(params, tx.init(params), params)
params = apply_updates(params, updates)
"""
MISTAKES = [
    'adamw("fast")',
    "adamw(1e-3, weight=0.1)",
    "scale_by_adam(b7=0.5)",
    "scale_by_lion(0.9, 0.9, 0.9)",
    "optx_core.clip_by_globl_norm",
    "tx.updates",
]


def check_packages() -> int:
    """Checks the packages with mypy; returns the number of those that failed."""
    failed = 0
    for source in sorted(ROOT.glob("packages/optx-*/src/optx_*")):
        stubs = {path.with_suffix(".py") for path in source.rglob("*.pyi")}
        files = len(set(source.rglob("*.py")) | stubs)
        command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", str(source)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        print(f"{source.name}: {done.stdout.strip().splitlines()[-1] if done.stdout else ''}")
        if done.returncode or f"{files} source file" not in done.stdout:
            failed += 1
            print(done.stdout, done.stderr, sep="\n")
    return failed


def check_user() -> int:
    """Checks a user's project; returns the number of checkers that failed it."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        user = pathlib.Path(folder) / "user.py"
        user.write_text(USER + "".join(f"_ = {mistake}\n" for mistake in MISTAKES))
        first = len(USER.splitlines()) + 1
        expected = {first + k: mistake for k, mistake in enumerate(MISTAKES)}
        pyright = str(pathlib.Path(sys.executable).with_name("basedpyright"))
        commands = {
            "mypy --strict": [
                sys.executable,
                "-m",
                "mypy",
                "--strict",
                "--config-file=",
                str(user),
            ],
            "pyright": [pyright, "--level=error", str(user)],
        }
        for name, command in commands.items():
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            lines = {
                int(line.split("user.py:")[1].split(":")[0])
                for line in done.stdout.splitlines()
                if "user.py:" in line and "error" in line
            }
            missed = [mistake for line, mistake in expected.items() if line not in lines]
            wrong = sorted(lines - set(expected))
            print(f"a user's project under {name}: {len(expected) - len(missed)} mistakes found")
            if missed or wrong:
                failed += 1
                print(f"not found: {missed}; errors in right code at lines {wrong}", done.stdout)
    return failed


if __name__ == "__main__":
    sys.exit(check_packages() + check_user())
