"""Settings every test runs under: strict promotion of dtypes and ranks, quick compilation, bounded memory."""

import importlib.metadata
import itertools
import os
import pathlib
import subprocess
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the time goes into compiling small programs. LLVM's optimizations are left out: they change
# neither the program that XLA makes, its bytes and its buffers, nor what is promised of the numbers.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# XLA:CPU's newer way to write kernels takes three times as long to compile. XLA refuses flags that it
# does not know, and this one is not in all versions.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_cpu_use_fusion_emitters=false"
    if importlib.metadata.version("jaxlib").startswith("0.10.")
    else "",
)

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The table of all optimizers serves the tests of several folders.
TABLE = str(pathlib.Path(__file__).parent / "aliases")
sys.path.append(TABLE)

_finished = itertools.count(1)


@pytest.fixture
def x64():
    """Runs the test in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def on_devices():
    """Runs Python in a process of its own with fake devices: `on_devices(script, *arguments, count=8)`."""

    def run(*arguments, count=8):
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            env={
                **os.environ,
                "JAX_PLATFORMS": "cpu",
                "XLA_FLAGS": flags.strip(),
                "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), TABLE]),
            },
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    return run


@pytest.fixture(autouse=True)
def bounded_memory():
    """Compiled programs are kept for as long as a process lives: some gigabytes in a run of this suite."""
    yield
    if next(_finished) % 50 == 0:
        jax.clear_caches()
