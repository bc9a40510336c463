"""Every example in a docstring runs, in an interpreter as a user has it."""

import doctest
import importlib
import pathlib
import pkgutil

import jax
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = sorted(path.name for path in ROOT.glob("packages/*/src/optx_*"))


def modules():
    for name in NAMES:
        package = importlib.import_module(name)
        yield name
        for info in pkgutil.walk_packages(package.__path__, f"{name}."):
            yield info.name


@pytest.fixture(autouse=True)
def as_a_user_has_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.sampled(12)  # `hatch run docs:build` runs all that the site shows
@pytest.mark.parametrize("name", list(modules()))
def test_the_examples_run(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, verbose=False)
    assert failed == 0


@pytest.mark.parametrize("name", NAMES)
def test_every_public_function_and_class_has_an_example(name):
    package = importlib.import_module(name)
    for public in package.__all__:
        value = getattr(package, public)
        if callable(value) and hasattr(value, "__doc__") and value.__module__.startswith("optx"):
            assert value.__doc__, f"{name}.{public} has no docstring"
            is_state = isinstance(value, type)
            assert is_state or ">>>" in value.__doc__, f"{name}.{public} has no example"
