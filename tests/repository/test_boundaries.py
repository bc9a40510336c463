"""What may import and depend on what."""

import ast
import importlib
import pathlib
import re
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/optx-*/pyproject.toml"))
ALLOWED = {"optx-core": {"jax", "numpy"}}
BRIDGE = {"jax", "numpy", "optx_core", "flax"}
SIBLING = {"jax", "numpy", "optx_core"}
EXTRAS = {"matplotlib", "rich", "orbax"}  # imported inside functions, declared as extras


def allowed(package):
    if package.name == "optx-core":
        return {"jax", "numpy", "optx_core"}
    return BRIDGE if package.name == "optx-flax" else SIBLING


def imports(path):
    """(module, at the top level) of every import of a file."""
    tree = ast.parse(path.read_text())
    top = set(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node in top


def settings(package):
    return tomllib.loads((package / "pyproject.toml").read_text())


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_imports_only_what_it_may(package):
    own = package.name.replace("-", "_")
    extras = {
        re.split(r"[^\w-]", need)[0]
        for needs in settings(package)["project"].get("optional-dependencies", {}).values()
        for need in needs
    }
    for path in package.glob("src/**/*.py"):
        for name, at_top in imports(path):
            root = name.split(".")[0]
            if root in EXTRAS and any(extra.startswith(root) for extra in extras):
                assert not at_top, f"{path.name} imports the extra {name} at its top"
                continue
            assert root in allowed(package) | {own} | sys.stdlib_module_names, f"{path}: {name}"
            assert not name.startswith(("jax._src", "jaxlib")), f"{path}: {name}"
            if root == "optx_core" and own != "optx_core":
                assert not any(part.startswith("_") for part in name.split(".")), f"{path}: {name}"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_declares_exactly_what_it_imports(package):
    own = package.name.replace("-", "_")
    used = {
        name.split(".")[0]
        for path in package.glob("src/**/*.py")
        for name, at_top in imports(path)
        if at_top
    }
    used -= {own, "numpy"} | sys.stdlib_module_names  # numpy is jax's own dependency
    needs = settings(package)["project"]["dependencies"]
    declared = {re.split(r"[^\w-]", need)[0].replace("-", "_") for need in needs}
    assert declared == used | {"jax"}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_siblings_range_admits_the_core_beside_it(package):
    version = settings(ROOT / "packages/optx-core")["project"]["version"]
    for need in settings(package)["project"]["dependencies"]:
        if need.startswith("optx-core"):
            major, minor, _ = map(int, version.split("."))
            assert need == f"optx-core>={major}.{minor},<{major}.{minor + 1}"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_has_its_papers_in_order(package):
    assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert not (package / "LICENSE").is_symlink()
    assert settings(package)["project"]["version"] in (package / "CHANGELOG.md").read_text()
    module = package / "src" / package.name.replace("-", "_")
    assert (module / "py.typed").exists()
    assert "```python" in (package / "README.md").read_text()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_the_table_of_contents_is_sorted_and_complete(package):
    name = package.name.replace("-", "_")
    for path in package.glob("src/**/__init__.py"):
        if path.parent.name.startswith("_"):
            continue
        tree = ast.parse(path.read_text())
        listed = next(
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
        )
        assert sorted(set(listed)) == sorted(listed), f"{path}: a name twice"
        assert listed == sorted(listed), f"{path}: __all__ is not sorted"
        checked = [n for n in tree.body if isinstance(n, ast.If) and n.test.id == "TYPE_CHECKING"]
        nodes = checked[0].body if checked else tree.body
        imported = {
            alias.asname or alias.name
            for node in nodes
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert imported == set(listed), f"{path}: {imported ^ set(listed)}"
        if checked:  # what is imported late is where the checker thinks it is
            seen = {
                node.module.partition(".")[2]: tuple(alias.name for alias in node.names)
                for node in nodes
            }
            seen.pop("")
            assert seen == importlib.import_module(name)._CONTENTS
    public = {
        str(path.relative_to(package / "src" / name))
        for path in package.glob("src/**/*.py")
        if not path.name.startswith("_")
    }
    assert not public, f"public modules: {public}"


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("packages/*/src/**/*.py")), ids=lambda path: path.stem
)
def test_a_module_stays_readable(path):
    table_of_contents = path.name == "__init__.py"
    assert table_of_contents or len(path.read_text().splitlines()) <= 400
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


def test_no_file_tells_people_to_install_somebody_elses_optx():
    pattern = re.compile(r"pip install (-U )?optx(?![-\w])")
    for path in ROOT.rglob("*.md"):
        assert not pattern.search(path.read_text()), path
