"""Builds each package and tries it alone, as somebody who installs only that package would.

    hatch run isolated:check                         # every package
    hatch run isolated:check optx-losses             # some
    hatch run isolated:check --lowest                # with the lowest dependencies they declare
    hatch run isolated:check --smoke                 # their tests imported, not run

For each package: an sdist, a wheel from that sdist, the exact list of the wheel's files, the
licence, `twine check --strict`; a new environment with that wheel, the wheels of the siblings that
it needs and the registry for the rest; `pip check`; an import before any test tool is there; then
the package's own tests, and the README's example, from a copy outside the checkout.
"""

from __future__ import annotations

import argparse
import email
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEST_PACKAGES = ("optx-core", "optx-testing")  # what the tests of each package need
TEST_TOOLS = ["pytest", "pytest-xdist", "chex", "hypothesis", "numpy"]


def run(*command: object, cwd: pathlib.Path | None = None, quiet: bool = True) -> str:
    """Runs a command; on failure prints what it said, and stops."""
    env = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    env["JAX_PLATFORMS"] = "cpu"
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(f"FAILED: {' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
        raise SystemExit(1)
    if not quiet:
        print(done.stdout.strip())
    return done.stdout


def build(package: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """Builds an sdist, and the wheel from it; returns the wheel."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, package)
    (wheel,) = out.glob(f"{package.name.replace('-', '_')}-*.whl")
    run(
        sys.executable,
        "-m",
        "twine",
        "check",
        "--strict",
        *out.glob(f"{wheel.stem.split('-')[0]}-*"),
    )
    return wheel


def siblings(package: pathlib.Path) -> list[pathlib.Path]:
    """The packages of this repository that a package depends on."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    names = (re.split(r"[^\w-]", need)[0] for need in project["dependencies"])
    return [ROOT / "packages" / name for name in names if name.startswith("optx-")]


def check_contents(package: pathlib.Path, wheel: pathlib.Path) -> None:
    """The wheel holds the modules, py.typed, the licence and metadata, and nothing else."""
    module = package.name.replace("-", "_")
    source = package / "src"
    expected = {
        str(path.relative_to(source))
        for path in (source / module).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        licence = archive.read(f"{info}/licenses/LICENSE")
    expected |= {f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "licenses/LICENSE")}
    if names != expected:
        raise SystemExit(f"{wheel.name}: wrong files: {sorted(names ^ expected)}")
    if f"{module}/py.typed" not in names:
        raise SystemExit(f"{wheel.name}: no py.typed")
    if metadata["License-Expression"] != "Apache-2.0" or licence != (ROOT / "LICENSE").read_bytes():
        raise SystemExit(f"{wheel.name}: wrong licence")


def try_alone(
    package: pathlib.Path, wheels: pathlib.Path, wheel: pathlib.Path, lowest: bool, smoke: bool
) -> None:
    """Installs the wheel alone, imports it, runs (or only imports) its tests, runs its README."""
    module = package.name.replace("-", "_")
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        run("uv", "venv", "--quiet", "--python", sys.executable, place / "env")
        python = place / "env" / "bin" / "python"
        install = ("uv", "pip", "install", "--quiet", "--python", python, "--find-links", wheels)
        # uv takes the lowest of what is asked for by name: the package's own dependencies.
        project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
        resolution = ("--resolution", "lowest-direct", *project["dependencies"]) if lowest else ()
        run(*install, *resolution, wheel)
        run("uv", "pip", "check", "--python", python)
        run(
            python, "-I", "-c", f"import {module}; [getattr({module}, n) for n in {module}.__all__]"
        )
        shown = run("uv", "pip", "list", "--python", python)
        print("   ", ", ".join(re.findall(r"^(?:jax|flax|optx-core) +\S+", shown, re.MULTILINE)))
        constraints = place / "installed.txt"
        frozen = run("uv", "pip", "freeze", "--python", python)
        constraints.write_text("\n".join(li for li in frozen.splitlines() if "file:" not in li))
        kit = next(
            wheels.glob("optx_testing-*.whl")
        )  # a test tool too, once the package stands alone
        run(*install, "--constraint", constraints, *TEST_TOOLS, kit)
        tests = place / "tests"
        tests.mkdir()
        for shared in (ROOT / "tests").glob("*.py"):
            shutil.copy(shared, tests)
        shutil.copytree(
            ROOT / "tests" / module.removeprefix("optx_"), tests / module.removeprefix("optx_")
        )
        settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"][
            "ini_options"
        ]
        lines = [f"  {line}" for line in settings["filterwarnings"]]
        (place / "pytest.ini").write_text(
            "[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\nfilterwarnings =\n"
            + "\n".join(lines)
        )
        how = "--collect-only" if smoke else "--numprocesses=auto"
        out = run(python, "-m", "pytest", "-q", how, "-c", place / "pytest.ini", tests, cwd=place)
        print("   ", out.strip().splitlines()[-1])
        examples = re.findall(
            r"```python\n(.*?)```", (package / "README.md").read_text(), re.DOTALL
        )
        if not examples:
            raise SystemExit(f"{package.name}: its README shows no example")
        for number, example in enumerate(examples):
            (place / f"readme_{number}.py").write_text(example)
            run(python, "-W", "error", f"readme_{number}.py", cwd=place)
        print(f"    {len(examples)} examples of the README ran")


def main() -> None:
    """Checks the packages named, or all."""
    parser = argparse.ArgumentParser(description="Build and try each package alone.")
    parser.add_argument("packages", nargs="*", help="distributions; all by default")
    parser.add_argument("--lowest", action="store_true", help="with the lowest direct dependencies")
    parser.add_argument("--smoke", action="store_true", help="tests are imported, not run")
    args = parser.parse_args()
    everything = sorted(path.parent for path in ROOT.glob("packages/optx-*/pyproject.toml"))
    unknown = set(args.packages) - {path.name for path in everything}
    if unknown:
        parser.error(f"no package {', '.join(sorted(unknown))}")
    chosen = [path for path in everything if not args.packages or path.name in args.packages]
    with tempfile.TemporaryDirectory() as folder:
        wheels = pathlib.Path(folder)
        needed = [ROOT / "packages" / name for name in TEST_PACKAGES]
        needed += [sibling for package in chosen for sibling in siblings(package)]
        built = {path: build(path, wheels) for path in dict.fromkeys([*needed, *chosen])}
        for package in chosen:
            print(f"{package.name}{' (lowest)' if args.lowest else ''}")
            check_contents(package, built[package])
            try_alone(package, wheels, built[package], args.lowest, args.smoke)
    print(f"{len(chosen)} packages stand alone")


if __name__ == "__main__":
    main()
