"""The checks before a release, on a repository of two small packages."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"
PROJECT = """[project]
name = "{name}"
version = "{version}"
description = "d"
readme = "README.md"
license = "Apache-2.0"
license-files = ["LICENSE"]
keywords = ["jax"]
requires-python = ">=3.11"
classifiers = ["Development Status :: 4 - Beta", "Typing :: Typed", "Programming Language :: Python :: 3.11"]
dependencies = {needs}
"""


@pytest.fixture
def release(monkeypatch, tmp_path):
    """The module, looking at a repository below tmp_path in which optx-core 0.1.0 is released."""
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.delitem(sys.modules, "isolated", raising=False)
    spec = importlib.util.spec_from_file_location("release", TOOLS / "release.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "release", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    write(tmp_path, "optx-core", "0.1.0", [])
    write(tmp_path, "optx-losses", "0.1.0", ["optx-core>=0.1,<0.2"])
    git = ("git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org")
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["commit", "-qm", "m"],
        ["tag", "optx-core-v0.1.0"],
    ):
        subprocess.run([*git, *command], check=True)
    return module


def write(root, name, version, needs, log="## {version} (unreleased)\n\n- A change.\n"):
    folder = root / "packages" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(
        PROJECT.format(name=name, version=version, needs=str(needs).replace("'", '"'))
    )
    (folder / "CHANGELOG.md").write_text(f"# Changelog\n\n{log.format(version=version)}")


def problems(release, root, name, final=False):
    here = {path.name: release.Package(path) for path in (root / "packages").iterdir()}
    package = here[name]
    return "; ".join(
        [
            *release.version_problems(package),
            *release.changelog_problems(package, final),
            *release.metadata_problems(package, final),
            *release.range_problems(package, here),
        ]
    )


def test_packages_in_order_have_no_problems(release, tmp_path):
    assert not problems(release, tmp_path, "optx-core")
    assert not problems(release, tmp_path, "optx-losses")


def test_a_released_version_must_not_change(release, tmp_path):
    (tmp_path / "packages/optx-core/CHANGELOG.md").write_text("## 0.1.0 (2026-01-01)\n\n- More.\n")
    assert "raise the version" in problems(release, tmp_path, "optx-core")


@pytest.mark.parametrize(
    ("version", "log", "needs", "said"),
    [
        ("0.0.9", "## {version} (unreleased)\n\n- A.\n", [], "below 0.1.0, which is released"),
        (
            "0.2.0",
            "## 0.1.0 (unreleased)\n\n- A.\n",
            [],
            "the first section of CHANGELOG.md is not",
        ),
        ("0.2.0", "## {version} (unreleased)\n\n", [], "says nothing about 0.2.0"),
        ("0.2.0", "## {version} (soon)\n\n- A.\n", [], "'soon' is neither a date"),
        ("0.2.0-rc1", "## {version} (unreleased)\n\n- A.\n", [], "is written 0.2.0rc1"),
        ("newest", "## {version} (unreleased)\n\n- A.\n", [], "is not a version"),
        (
            "0.2.0",
            "## {version} (unreleased)\n\n- A.\n",
            ["optx-losses>=0.2,<0.3"],
            "optx-losses stands at 0.1.0",
        ),
        ("0.2.0", "## {version} (unreleased)\n\n- A.\n", ["optx-losses>=0.1"], "has no upper end"),
    ],
)
def test_a_problem_is_named(release, tmp_path, version, log, needs, said):
    write(tmp_path, "optx-core", version, needs, log)
    assert said in problems(release, tmp_path, "optx-core")


def test_the_final_check_wants_a_date_and_addresses(release, tmp_path):
    said = problems(release, tmp_path, "optx-losses", final=True)
    assert "is `unreleased`; write the date" in said
    assert "[project.urls] has no Source, Changelog, Issues" in said


def test_the_notes_are_the_section_of_the_version(release, tmp_path):
    log = "## {version} (2026-02-01)\n\n### Added\n\n- New.\n\n## 0.0.1 (2026-01-01)\n\n- Old.\n"
    write(tmp_path, "optx-losses", "0.1.0", ["optx-core>=0.1,<0.2"], log)
    text = release.notes(release.Package(tmp_path / "packages" / "optx-losses"))
    assert "- New." in text
    assert "Old" not in text
    assert "`optx-core>=0.1,<0.2`" in text


def test_the_lowest_core_is_built_from_its_tag(release, tmp_path, monkeypatch):
    write(tmp_path, "optx-core", "0.1.5", [])
    here = {path.name: release.Package(path) for path in (tmp_path / "packages").iterdir()}
    wheels, out = tmp_path / "wheels", tmp_path / "lowest"
    wheels.mkdir()
    out.mkdir()
    (wheels / "optx_core-0.1.5-py3-none-any.whl").touch()

    def build(folder, into):
        version = release.Package(folder).project["version"]
        (into / f"optx_core-{version}-py3-none-any.whl").touch()

    monkeypatch.setattr(release, "build", build)
    release.lowest_wheels(here["optx-losses"], here, wheels, out)
    assert [path.name for path in out.iterdir()] == ["optx_core-0.1.0-py3-none-any.whl"]
