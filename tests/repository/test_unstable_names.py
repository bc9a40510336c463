"""Names of jax and flax without the promise of stability: each one that a package touches, with the reason."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/optx-*/pyproject.toml"))
UNSTABLE = ("experimental", "extend", "interpreters", "_src")  # jax's own words for it

# What stands here is looked at when jax or flax has a new version. Aim: nothing.
TOUCHED = {
    "optx-aliases": {  # only the compiler knows how arrays lie on Auto axes: the owners of matrices ask it
        "jax.experimental.custom_partitioning.custom_partitioning",
    },
    "optx-core": {
        "jax.extend.core",  # run_if, offload and owners run parts of a traced program
    },
    "optx-losses": {  # a primitive of our own is the only way to all derivatives of the chunked last layer
        "jax.extend.core.Primitive",
        "jax.interpreters.ad",
        "jax.interpreters.batching",
        "jax.interpreters.mlir",
    },
    "optx-second-order": {
        "jax.extend.core",  # exact diagonals read the jaxpr of the function
    },
}


def dotted(node):
    """`a.b.c` of an attribute or a name, else ''."""
    if isinstance(node, ast.Name):
        return node.id
    root = dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{root}.{node.attr}" if root else ""


def unstable(name):
    root, *parts = name.split(".")
    private = any(part.startswith("_") and not part.startswith("__") for part in parts)
    return root in {"jax", "jaxlib", "flax", "nnx", "jnp", "lax"} and (
        root == "jaxlib" or private or any(part in UNSTABLE for part in parts)
    )


def unstable_names(source):
    """Unstable names among the imports and the attributes of a file."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute):
            found.add(dotted(node))
    return {name for name in found if unstable(name)}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_unstable_name_is_listed(package):
    files = package.glob("src/**/*.py")
    assert set().union(*(unstable_names(path.read_text()) for path in files)) == TOUCHED.get(
        package.name, set()
    )


@pytest.mark.parametrize(
    "line",
    [
        "from jax._src import core",
        "import jaxlib.xla_client",
        "from jax.experimental import pallas",
        "jax.experimental.multihost_utils.process_allgather(x)",
        "nnx.statelib._as_mapping(x)",
    ],
)
def test_unstable_names_are_recognized(line):
    assert unstable_names(line)


@pytest.mark.parametrize("line", ["import jax.numpy as jnp", "jax.core.Tracer", "self._x.__name__"])
def test_stable_names_are_not(line):
    assert not unstable_names(line)
