"""Builds the site: runs what the pages show, writes the reference, then calls Sphinx.

    hatch run docs:build            # everything; what has not changed is not run again
    hatch run docs:build --fresh    # from nothing
    hatch run docs:serve            # builds, then serves docs/_build/html

Nothing is fetched. A fault on a page (a block that fails or prints something else, a name that does not
exist, a link that leads nowhere) ends the build with its place.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import http.server
import importlib.metadata
import io
import multiprocessing
import os
import pathlib
import runpy
import shutil
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Sequence

DOCS = pathlib.Path(__file__).resolve().parent
ROOT = DOCS.parent
BUILD = DOCS / "_build"
FIGURES, GALLERY, HTML = BUILD / "figures", BUILD / "gallery", BUILD / "html"
# The examples of the gallery, with shorter runs than their own defaults.
EXAMPLES = {
    "language_model": ["--steps", "60"],
    "digits": ["--steps", "200"],
    "discrete_latents": [
        "--steps",
        "300",
        "--methods",
        "leave-one-out",
        "DisARM",
    ],
    "range_test": [],
    "lora": ["--steps", "300"],
    "gan": ["--steps", "6000"],
    "sharded": [],
    "laplace": [],
    "pruning": [],
    "pendulum": [],
}


@dataclasses.dataclass(frozen=True)
class Task:
    """A program to run before Sphinx.

    Attributes:
      name: for messages.
      command: the program and its arguments.
      inputs: files on which its results depend, besides the packages.
      eight: whether it needs eight devices.
      output: the file that takes what it prints; None if it prints faults alone.
    """

    name: str
    command: tuple[str, ...]
    inputs: tuple[pathlib.Path, ...]
    eight: bool = False
    output: pathlib.Path | None = None


def tasks() -> list[Task]:
    """All tasks, the long ones first."""
    ext = DOCS / "_ext"
    sys.path.insert(0, str(ext))
    import names

    result = []
    for name, arguments in EXAMPLES.items():
        file = ROOT / f"examples/{name}.py"
        folder = str(GALLERY.relative_to(ROOT))  # some print where the picture is
        picture = ["--plot", f"{folder}/{name}.svg"]
        command = (
            str(file),
            *arguments,
            *(["--out", folder] if name in {"digits", "language_model"} else picture),
        )
        result.append(Task(name, command, (file,), name == "sharded", GALLERY / f"{name}.txt"))
    figures = ext / "figures.py"
    rows = tuple(sorted((ROOT / "tests/aliases/optimizer_rows").glob("*.py")))
    for part in "01":
        command = (str(figures), "optimizers", part, "2", str(FIGURES))
        result.append(Task(f"trajectories {part}", command, (figures, *rows)))
    curves = (figures, ext / "loss_curves.py")
    result.append(Task("curves", (str(figures), "curves", str(FIGURES)), curves))
    checker = ext / "blocks.py"
    for package in names.PACKAGES:
        command = (str(checker), "--examples", package)
        result.append(Task(f"examples of {package}", command, (checker, ext / "names.py")))
    for page in sorted([*DOCS.glob("*.md"), *DOCS.glob("guide/*.md")]):
        command = (str(checker), str(page))
        result.append(
            Task(f"blocks of {page.name}", command, (page, checker), page.name == "scale.md")
        )
    return result


def digest(files: Sequence[pathlib.Path]) -> str:
    """A hash of files and their names."""
    found = hashlib.sha256()
    for file in files:
        found.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


def start(flags: list[str]) -> None:
    """Prepares a process that runs tasks: jax, which it imports once for all of them, reads these."""
    os.environ.update({"JAX_PLATFORMS": "cpu", "MPLBACKEND": "Agg", "COLUMNS": "110"})
    if importlib.metadata.version("jaxlib").startswith(
        "0.10."
    ):  # as in the tests: half of the time
        flags = [*flags, "--xla_cpu_use_fusion_emitters=false"]
    os.environ["XLA_FLAGS"] = " ".join(flags)
    os.chdir(ROOT)
    sys.path.insert(0, str(DOCS / "_ext"))


def run(task: Task, packages: str) -> tuple[Task, bool, float, str]:
    """Runs a task unless its inputs are unchanged; returns whether it is well, its CPU time, its messages."""
    stamp = BUILD / "stamps" / task.name.replace(" ", "_")
    key = digest(task.inputs) + packages + repr(task.command)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == key:
        return task, True, 0.0, ""
    begin, good, printed = time.process_time(), True, io.StringIO()
    sys.argv = list(task.command)
    import jax

    # Examples run for a while; of all else most of the time is compilation.
    jax.config.update("jax_disable_most_optimizations", task.output is None)
    try:
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            runpy.run_path(task.command[0], run_name="__main__")
    except SystemExit as end:
        good = not end.code
    except Exception:  # noqa: BLE001 (reported, and ends the build)
        good = False
        printed.write(traceback.format_exc())
    jax.clear_caches()
    if good:
        if task.output:
            task.output.write_text(printed.getvalue(), encoding="utf-8")
        stamp.write_text(key, encoding="utf-8")
    told = printed.getvalue() if task.output is None or not good else ""
    return task, good, time.process_time() - begin, told


def run_all() -> bool:
    """Runs the tasks in two processes, and those for eight devices in a third."""
    for folder in (FIGURES, GALLERY, BUILD / "stamps"):
        folder.mkdir(parents=True, exist_ok=True)
    packages = digest(sorted(ROOT.glob("packages/*/src/**/*.py")))
    context = multiprocessing.get_context("spawn")
    pool = functools.partial(concurrent.futures.ProcessPoolExecutor, mp_context=context)
    flags = ["--xla_force_host_platform_device_count=8"]
    good = True
    with (
        pool(2, initializer=start, initargs=([],)) as ordinary,
        pool(1, initializer=start, initargs=(flags,)) as eight,
    ):
        waiting = [(eight if t.eight else ordinary).submit(run, t, packages) for t in tasks()]
        for future in concurrent.futures.as_completed(waiting):
            task, succeeded, seconds, told = future.result()
            good &= succeeded
            word = "FAILED" if not succeeded else "ran" if seconds else "unchanged:"
            print(f"{word} {task.name} ({seconds:.0f} s of CPU)\n{told}".strip(), flush=True)
    return good


def build(*, fresh: bool) -> int:
    """Builds the site; returns an exit status."""
    if fresh:
        shutil.rmtree(BUILD, ignore_errors=True)
    if not run_all():
        return 1
    python = [sys.executable]
    if subprocess.run([*python, str(DOCS / "_ext/reference.py")], check=False).returncode:
        return 1
    options = ["-q", "-n", "-W", "--keep-going", "-j", "2", "-d", str(BUILD / "doctrees")]
    sphinx = [*python, "-m", "sphinx", *options, str(DOCS), str(HTML)]
    status = subprocess.run(sphinx, check=False).returncode
    if status == 0:
        print(
            f"the site is in {HTML.relative_to(ROOT)}; open index.html, or `hatch run docs:serve`"
        )
    return status


def main() -> int:
    """Builds, and serves if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fresh", action="store_true", help="run everything again")
    parser.add_argument("--serve", type=int, metavar="PORT", help="serve the site afterwards")
    arguments = parser.parse_args()
    status = build(fresh=arguments.fresh)
    if status == 0 and arguments.serve:
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(HTML))
        print(f"http://localhost:{arguments.serve}", flush=True)
        http.server.ThreadingHTTPServer(("localhost", arguments.serve), handler).serve_forever()
    return status


if __name__ == "__main__":
    sys.exit(main())
