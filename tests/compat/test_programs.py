"""Programs that were written for optax: with one line changed, and rewritten by the command."""

import ast
import pathlib
import re

import chex
import jax
import numpy as np
import pytest

from optx_compat._rewrite import rewrite
from optx_compat._uses import Program

PROGRAMS = sorted((pathlib.Path(__file__).parent / "programs").glob("*.py"))


def run(source):
    namespace = {}
    exec(compile(source, "program", "exec"), namespace)
    return namespace["main"]()


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_rewritten_program_computes_what_it_computed(path):
    source = path.read_text()
    changed = re.sub(r"(import|from) optax", r"\1 optx_compat", source)
    changed = re.sub(r"^import optx_compat$", "import optx_compat as optax", changed, flags=re.M)
    rewritten = rewrite(Program(source.encode())).decode()
    assert not re.search(r"\boptax\b", ast.unparse(ast.parse(rewritten)).split('"""', 2)[2])
    assert re.findall("#.*", rewritten) == re.findall("#.*", source)
    one, other = run(changed), run(rewritten)
    chex.assert_trees_all_equal(one, other)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(one))
