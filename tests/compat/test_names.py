"""The names of optax, each at its home."""

import importlib
import pkgutil
import subprocess
import sys

import jax.numpy as jnp
import pytest

import optx_aliases
import optx_compat
import optx_compat.losses
import optx_core
from optx_compat import adamw, as_optax, projections
from optx_compat._table import MISSING, TABLE
from optx_compat.contrib import muon
from optx_compat.tree_utils import tree_l1_norm, tree_l2_norm, tree_linf_norm


@pytest.mark.parametrize("module", sorted(TABLE))
def test_every_name_is_there_and_listed(module):
    ours = importlib.import_module(module.replace("optax", "optx_compat", 1))
    listed = set(ours.__all__)
    assert {name for name in TABLE[module] if not name.startswith("_")} <= listed
    assert listed == set(dir(ours))
    for name in TABLE[module]:
        assert getattr(ours, name) is not None


def test_a_name_is_the_function_of_optx_itself():
    assert adamw is optx_aliases.adamw
    assert muon is optx_compat.contrib.muon is optx_aliases.muon
    assert optx_compat.multi_transform is optx_core.partition
    assert optx_compat.tree_utils.tree_add is optx_core.tree.add
    assert repr(optx_compat.scale(2.0)) == "scale(step_size=2.0)"
    assert projections is optx_compat.projections


@pytest.mark.parametrize(
    ("module", "name", "said"),
    [
        ("optx_compat", "nnls", "optx has no optax.nnls: use scipy.optimize.nnls"),
        ("optx_compat", "muon", "optax 0.2.8 has no optax.muon; it is optax.contrib.muon"),
        ("optx_compat", "adamn", "optax 0.2.8 has no optax.adamn$"),
        ("optx_compat", "_src", "optax._src is private"),
        ("optx_compat.losses", "adam", "it is optax.adam"),
        ("optx_compat.experimental.aggregating", "process", "use optx_core.chain"),
    ],
)
def test_a_name_that_is_not_there_says_what_to_use(module, name, said):
    with pytest.raises(AttributeError, match=said):
        getattr(importlib.import_module(module), name)


def test_every_reason_is_of_a_name_that_is_missing():
    for full in MISSING:
        module, _, name = full.rpartition(".")
        assert name not in TABLE[module]


def test_a_public_name_in_a_private_module_of_optax_is_the_public_one():
    """The command rewrites `optax._src.base.Params` as if it were `optax.Params`."""
    optax = pytest.importorskip("optax")
    compared = 0
    for info in pkgutil.iter_modules(importlib.import_module("optax._src").__path__):
        if info.name.endswith("_test"):
            continue
        private = importlib.import_module(f"optax._src.{info.name}")
        for name in set(TABLE["optax"]) & set(vars(private)):
            if hasattr(optax, name):
                assert getattr(private, name) is getattr(optax, name), (info.name, name)
                compared += 1
    assert compared > 150


def test_importing_the_names_imports_no_package_of_optx():
    code = (
        "import sys, optx_compat.losses; "
        "print([m for m in sys.modules if m.startswith(('jax', 'optx')) and '_compat' not in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_norms_of_older_versions():
    tree = {"a": jnp.array([3.0, -4.0]), "b": None}
    assert tree_l1_norm(tree) == 7
    assert tree_l2_norm(tree) == 5
    assert tree_l2_norm(tree, True) == 25
    assert tree_linf_norm(tree) == 4


def test_as_optax_says_how_to_install_optax(monkeypatch):
    monkeypatch.setitem(sys.modules, "optax", None)
    with pytest.raises(ImportError, match=r"pip install 'optx-compat\[optax\]'"):
        as_optax(adamw(1e-3))
