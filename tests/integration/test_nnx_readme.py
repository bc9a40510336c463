"""The snippets of optx-flax's README run, one after another, and do what they are said to."""

import pathlib
import re

import jax
import pytest

README = pathlib.Path(__file__).parents[2] / "packages" / "optx-flax" / "README.md"


@pytest.fixture(autouse=True)
def as_a_user_has_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_the_readme_runs(capsys):
    space = {}
    fenced = r"^```python[^\n]*\n(.*?)^```$"
    for code in re.findall(fenced, README.read_text(), re.MULTILINE | re.DOTALL):
        exec(code, space)
    first, last = map(float, capsys.readouterr().out.split())
    assert last < 0.1 * first
    assert int(space["optimizer"].step[...]) == 100
    assert space["report"].missing == space["report"].unexpected == ()
