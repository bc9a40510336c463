"""`help` shows the public names of a package."""

import pydoc

import pytest

import optx_core
from optx_core import build, tree


@pytest.mark.parametrize("package", [optx_core, build, tree], ids=lambda p: p.__name__)
def test_help_lists_the_public_names_before_the_private_modules(package):
    shown = pydoc.render_doc(package, renderer=pydoc.plaintext)
    place = shown.index("PACKAGE CONTENTS") if "PACKAGE CONTENTS" in shown else len(shown)
    assert all(name in shown[:place] for name in package.__all__)
