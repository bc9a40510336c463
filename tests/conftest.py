"""Settings every test runs under: strict promotion of dtypes and ranks, quick compilation, bounded memory."""

import itertools
import os
import pathlib
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the time goes into compiling small programs. LLVM's optimizations are left out: they change
# neither the program that XLA makes, its bytes and its buffers, nor what is promised of the numbers.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The table of all optimizers serves the tests of several folders.
sys.path.append(str(pathlib.Path(__file__).parent / "aliases"))

_finished = itertools.count(1)


@pytest.fixture
def x64():
    """Runs the test in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True)
def bounded_memory():
    """Compiled programs are kept for as long as a process lives: some gigabytes in a run of this suite."""
    yield
    if next(_finished) % 50 == 0:
        jax.clear_caches()
