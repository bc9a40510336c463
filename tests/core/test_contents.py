"""`help` shows the public names of a package."""

import platform
import pydoc
import runpy
import sys

import jax
import pytest

import optx_core
from optx_core import build, tree


@pytest.mark.parametrize("package", [optx_core, build, tree], ids=lambda p: p.__name__)
def test_help_lists_the_public_names_before_the_private_modules(package):
    shown = pydoc.render_doc(package, renderer=pydoc.plaintext)
    place = shown.index("PACKAGE CONTENTS") if "PACKAGE CONTENTS" in shown else len(shown)
    assert all(name in shown[:place] for name in package.__all__)


def test_a_report_names_python_jax_the_packages_and_the_devices(capsys, monkeypatch):
    # The examples of every module are tests too: one may have imported it in this process.
    monkeypatch.delitem(sys.modules, "optx_core.__main__", raising=False)
    runpy.run_module("optx_core", run_name="__main__")
    said = capsys.readouterr().out
    for part in (
        f"Python {platform.python_version()}",
        f"jax {jax.__version__}",
        "optx-core ",
        "devices: ",
    ):
        assert part in said
