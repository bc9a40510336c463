"""Checks that packages can be released, and writes their notes.

    hatch run release:check                          # every package
    hatch run release:check optx-losses              # one, beside released ones
    hatch run release:check --out dist               # keep the built files and the notes

A package of version 1.2.3 is released by the tag `<package>-v1.2.3`. For each package:

- its version is written as PEP 440 says, has a section in CHANGELOG.md, and is above all tags of the
  package; or its tag exists, and nothing below the package's folder has changed since;
- the metadata are complete (`twine check --strict`; licence, readme, classifiers, project URLs), the
  wheel holds the modules, `py.typed` and nothing else;
- its ranges of other optx packages admit the versions that stand here, and have an upper end;
- alone in a new environment, with the newest and with the lowest dependencies it declares (the lowest
  released optx-core, built from its tag), it installs, imports, and its README runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import pathlib
import re
import shutil
import tempfile
import tomllib

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from isolated import ROOT, TEST_PACKAGES, build, check_contents, run, try_alone

CLASSIFIERS = ("Development Status ::", "Typing :: Typed", "Programming Language :: Python ::")
URLS = ("Source", "Changelog", "Issues")
SECTION = re.compile(r"^## (\S+) \(([^)\n]+)\)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Package:
    """A package of this repository, as its files say."""

    folder: pathlib.Path

    @property
    def name(self) -> str:
        """The name of the distribution."""
        return self.folder.name

    @property
    def project(self) -> dict:
        """The [project] table."""
        return tomllib.loads((self.folder / "pyproject.toml").read_text())["project"]

    @property
    def siblings(self) -> list[Requirement]:
        """The other packages of this repository that it needs."""
        needs = map(Requirement, self.project["dependencies"])
        return [need for need in needs if need.name.startswith("optx-")]

    def tag(self, version: object) -> str:
        """Returns the git tag of a version."""
        return f"{self.name}-v{version}"

    def released(self) -> list[Version]:
        """Returns the versions that have a tag, lowest first."""
        prefix = self.tag("")
        tags = run("git", "-C", ROOT, "tag", "--list", f"{prefix}*").split()
        return sorted(Version(tag.removeprefix(prefix)) for tag in tags)


def version_problems(package: Package) -> list[str]:
    """The version against PEP 440, the changelog and the tags."""
    text = package.project["version"]
    try:
        version = Version(text)
    except InvalidVersion:
        return [f"version {text!r} is not a version by PEP 440"]
    if str(version) != text:
        return [f"version {text!r} is written {version} by PEP 440"]
    released = package.released()
    if version in released:
        changed = run(
            "git", "-C", ROOT, "diff", "--name-only", package.tag(version), "--", package.folder
        )
        return (
            [
                f"{package.tag(version)} is released, and {changed.split()[0]} differs: raise the version"
            ]
            if changed
            else []
        )
    if released and version < released[-1]:
        return [f"version {version} is below {released[-1]}, which is released"]
    return []


def changelog_problems(package: Package, final: bool) -> list[str]:
    """The changelog's first section is this version's, with words in it and, at last, a date."""
    version = package.project["version"]
    section = SECTION.search((package.folder / "CHANGELOG.md").read_text())
    if section is None or section[1] != version:
        return [f"the first section of CHANGELOG.md is not `## {version} (YYYY-MM-DD)`"]
    problems = [] if section[3].strip() else [f"CHANGELOG.md says nothing about {version}"]
    if section[2] != "unreleased":
        try:
            dt.date.fromisoformat(section[2])
        except ValueError:
            problems += [f"CHANGELOG.md: {section[2]!r} is neither a date nor `unreleased`"]
    elif final:
        problems += [f"CHANGELOG.md: {version} is `unreleased`; write the date"]
    return problems


def metadata_problems(package: Package, final: bool) -> list[str]:
    """What `twine check` does not look at."""
    project = package.project
    problems = [
        f"no classifier {wanted!r}"
        for wanted in CLASSIFIERS
        if not any(c.startswith(wanted) for c in project.get("classifiers", []))
    ]
    problems += [
        f"[project] has no {field}"
        for field in (
            "description",
            "readme",
            "license",
            "license-files",
            "keywords",
            "requires-python",
        )
        if not project.get(field)
    ]
    missing = [url for url in URLS if url not in project.get("urls", {})]
    if final and missing:
        problems += [f"[project.urls] has no {', '.join(missing)}"]
    return problems


def range_problems(package: Package, here: dict[str, Package]) -> list[str]:
    """Ranges of other packages must admit what stands beside them, and end somewhere."""
    problems = []
    for need in package.siblings:
        other = here[need.name]
        version = Version(other.project["version"])
        if not need.specifier.contains(version, prereleases=True):
            problems += [f"needs {need}, but {other.name} stands at {version}"]
        if not any(operator in str(need.specifier) for operator in ("<", "~=", "==")):
            problems += [f"{need} has no upper end: the next minor version may break it"]
    return problems


def lowest_wheels(
    package: Package, here: dict[str, Package], wheels: pathlib.Path, out: pathlib.Path
) -> None:
    """Fills `out` with the wheels of this repository, of siblings the lowest released one in the range."""
    for wheel in wheels.glob("*.whl"):
        shutil.copy(wheel, out)
    for need in package.siblings:
        other = here[need.name]
        fitting = [v for v in other.released() if v in need.specifier]
        if not fitting or str(fitting[0]) == other.project["version"]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            archive = pathlib.Path(folder) / "source.tar"
            path = other.folder.relative_to(ROOT)
            run("git", "-C", ROOT, "archive", "-o", archive, other.tag(fitting[0]), path)
            run("tar", "-xf", archive, "-C", folder)
            build(pathlib.Path(folder) / path, out)
        for wheel in out.glob(f"{other.name.replace('-', '_')}-{other.project['version']}-*.whl"):
            wheel.unlink()


def notes(package: Package) -> str:
    """The release notes: the changelog's section, and what the package needs."""
    version = package.project["version"]
    section = SECTION.search((package.folder / "CHANGELOG.md").read_text())
    needs = "\n".join(f"- `{need}`" for need in package.project["dependencies"])
    return (
        f"# {package.name} {version}\n\n{section[3].strip() if section else ''}\n\n"
        f"## Needs\n\n- Python {package.project['requires-python']}\n{needs}\n\n"
        f"`pip install {package.name}=={version}`\n"
    )


def main() -> None:
    """Checks the packages named, or all; exits with 1 where one cannot be released."""
    parser = argparse.ArgumentParser(description="Check that packages can be released.")
    parser.add_argument("packages", nargs="*", help="distributions; all by default")
    parser.add_argument("--out", type=pathlib.Path, help="keep the files and the notes here")
    parser.add_argument(
        "--final", action="store_true", help="the last check before the upload: dates and URLs too"
    )
    parser.add_argument("--quick", action="store_true", help="build nothing, install nothing")
    args = parser.parse_args()
    here = {
        path.parent.name: Package(path.parent)
        for path in ROOT.glob("packages/optx-*/pyproject.toml")
    }
    if unknown := set(args.packages) - set(here):
        parser.error(
            f"no package {', '.join(sorted(unknown))}; there are {', '.join(sorted(here))}"
        )
    chosen = [here[name] for name in sorted(args.packages or here)]
    failed = False
    for package in chosen:
        problems = [
            *version_problems(package),
            *changelog_problems(package, args.final),
            *metadata_problems(package, args.final),
            *range_problems(package, here),
        ]
        failed |= bool(problems)
        version = package.project["version"]
        fine = "is released" if Version(version) in package.released() else "may be released"
        print(f"{package.name} {version}: {'; '.join(problems) or fine}")
    if failed:
        raise SystemExit(1)
    if args.quick:
        return
    with tempfile.TemporaryDirectory() as folder:
        wheels = pathlib.Path(folder) / "wheels"
        needed = {need.name for package in chosen for need in package.siblings}
        built = {
            name: build(here[name].folder, wheels)
            for name in sorted({*TEST_PACKAGES, *needed, *(package.name for package in chosen)})
        }
        for package in chosen:
            print(package.name)
            check_contents(package.folder, built[package.name])
            lowest = pathlib.Path(folder) / f"lowest-{package.name}"
            lowest.mkdir()
            lowest_wheels(package, here, wheels, lowest)
            for low, found in ((False, wheels), (True, lowest)):
                try_alone(package.folder, found, built[package.name], lowest=low, smoke=True)
            if args.out:
                args.out.mkdir(parents=True, exist_ok=True)
                stem = package.name.replace("-", "_")
                for file in wheels.glob(f"{stem}-{package.project['version']}*"):
                    shutil.copy(file, args.out)
                (args.out / f"{package.tag(package.project['version'])}.md").write_text(
                    notes(package)
                )
    print(f"{len(chosen)} packages can be released")


if __name__ == "__main__":
    main()
