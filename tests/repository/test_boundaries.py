"""What may import and depend on what."""

import ast
import importlib
import importlib.util
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
EXTRAS = {"matplotlib", "rich", "orbax", "optax"}  # imported inside functions, declared as extras


def allowed(package):
    if package.name == "optx-core":
        return {"jax", "numpy", "optx_core"}
    if package.name == "optx-compat":
        return SIBLING | imported_by_name(package)
    return BRIDGE if package.name == "optx-flax" else SIBLING


def imported_by_name(package):
    """The packages in the table of optx-compat, which imports each name at its first use."""
    if package.name != "optx-compat":
        return set()
    table = importlib.import_module("optx_compat._table").TABLE
    return {home.split(".")[0].split(":")[0] for homes in table.values() for home in homes.values()}


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
            if root.startswith("optx_") and root != own:
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
    used |= imported_by_name(package)
    used -= {own, "numpy"} | sys.stdlib_module_names  # numpy is jax's own dependency
    needs = settings(package)["project"]["dependencies"]
    declared = {re.split(r"[^\w-]", need)[0].replace("-", "_") for need in needs}
    assert declared == used | {"jax"}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_the_range_of_a_sibling_admits_the_one_beside_it(package):
    for need in settings(package)["project"]["dependencies"]:
        if need.startswith("optx-"):
            name = re.split(r"[^\w-]", need)[0]
            version = settings(ROOT / "packages" / name)["project"]["version"]
            major, minor, _ = map(int, version.split("."))
            assert need == f"{name}>={major}.{minor},<{major}.{minor + 1}"


def test_the_lowest_versions_that_are_tested_are_those_declared():
    tested = tomllib.loads((ROOT / "hatch.toml").read_text())["envs"]["lowest"]
    assert settings(ROOT / "packages/optx-core")["project"]["requires-python"] == ">=3.11"
    assert tested["python"] == "py3.11"
    pinned = {need for need in tested["extra-dependencies"] if "==" in need}
    declared = {
        need.replace(">=", "==") + (".0" if need.count(".") == 1 else "")
        for package in PACKAGES
        for need in settings(package)["project"]["dependencies"]
        if not need.startswith("optx-")
    }
    assert pinned - {need for need in pinned if need.startswith("jaxlib")} == declared


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_has_its_papers_in_order(package):
    assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert not (package / "LICENSE").is_symlink()
    assert settings(package)["project"]["version"] in (package / "CHANGELOG.md").read_text()
    module = package / "src" / package.name.replace("-", "_")
    assert (module / "py.typed").exists()
    assert "```python" in (package / "README.md").read_text()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_name_of_the_public_surface_is_there_and_every_other_module_is_private(package):
    name = package.name.replace("-", "_")
    source = package / "src" / name
    for path in source.glob("**/__init__.py"):
        module = ".".join(path.parent.relative_to(package / "src").parts)
        if "._" not in module:
            loaded = importlib.import_module(module)
            missing = [public for public in loaded.__all__ if not hasattr(loaded, public)]
            assert not missing, f"{module} lists {missing}"
    public = {
        str(path.relative_to(source))
        for path in source.glob("**/*.py")
        if not any(part.startswith("_") for part in path.relative_to(source).parts)
    }
    assert not public, f"public modules: {public}"


def test_the_stubs_are_those_that_the_tool_writes():
    spec = importlib.util.spec_from_file_location("write_stubs", ROOT / "tools/write_stubs.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    written = tool.stubs()
    assert set(written) == set(ROOT.glob("packages/*/src/**/__init__.pyi"))
    for path, text in written.items():
        assert path.read_text() == text, f"{path} is out of date: run python tools/write_stubs.py"


# Inside a package, a folder imports from itself and from those before it.
ORDER = {
    "optx_core": [
        "_contents",
        "_protocol",
        "_engine",
        "tree",
        "build",  # what the folders below are written with, as other packages are
        "_training",
        "_combinators",
        "_transforms",
        "_wrappers",
        "_state",
    ],
    "optx_aliases": [
        "_transforms",
        "_elementwise",
        "_layerwise",
        "_matrix",
        "_parameter_free",
        "_low_memory",
        "_line_search",
        "_wrappers",
        "_minimize",
    ],
}


@pytest.mark.parametrize("name", ORDER)
def test_imports_inside_a_package_go_one_way(name):
    order = ORDER[name]
    source = ROOT / "packages" / name.replace("_", "-") / "src" / name
    for path in source.glob("*/**/*.py"):
        here = order.index(path.relative_to(source).parts[0])
        for module, _ in imports(path):
            parts = module.split(".")
            if parts[0] == name and len(parts) > 1 and parts[1] in order:
                assert order.index(parts[1]) <= here, f"{path.relative_to(ROOT)} imports {module}"


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
