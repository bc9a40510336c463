"""Settings every test runs under: strict promotion of dtypes and ranks, quick compilation, bounded memory."""

import collections
import gc
import importlib.metadata
import itertools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

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

# Each of several processes has a core: threads of XLA that compile one small program wait for each other.
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})

# For the cache of compiled programs, below.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Many tests compile the same programs, in two or more processes: a cache for the time of one run, keyed by
# XLA on the program, its options and the compiler. Set JAX_COMPILATION_CACHE_DIR to keep it between runs.
_CACHE = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _CACHE = tempfile.mkdtemp(prefix="optx-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE  # the other processes of this run inherit it
    jax.config.update("jax_compilation_cache_dir", _CACHE)

# What serves the tests of several folders: the share of cases that run, the table of all optimizers.
SHARED = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parent / "aliases")]
sys.path += SHARED

import sampling  # noqa: E402 (found in the folder above)

_finished = itertools.count(1)


def pytest_addoption(parser):
    parser.addoption(
        "--full", action="store_true", help="run every case: see the markers `full` and `sampled`"
    )
    parser.addoption(
        "--turn", type=int, default=0, help="which share of the cases of `sampled` tests to run"
    )


def pytest_configure(config):
    for marker in (
        "full: a whole product of cases, of which a sample always runs; `--full` runs it",
        "sampled(n): one in n of the cases of this test runs, all of them with `--full` or by name",
    ):
        config.addinivalue_line("markers", marker)
    everything = config.getoption("--full") or _by_name(config)
    os.environ[sampling.CASES] = "all" if everything else str(config.getoption("--turn"))


def _by_name(config):
    """Whether the tests are chosen by name: few, and wanted as they are."""
    return bool(config.getoption("keyword")) or any("::" in arg for arg in config.args)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """One process has run a few tests before others have started."""
    return 0 if _by_name(config) else None


def _left_out(item, by_name, turn):
    sampled = item.get_closest_marker("sampled")
    if sampled is None or by_name:
        return item.get_closest_marker("full") is not None
    # Two tests of one table take different rows, each the same ones in every run.
    return not sampling.is_in_share(item.nodeid, sampled.args[0], turn)


def _function(item):
    """The test, without its case."""
    return item.nodeid.partition("[")[0]


def pytest_collection_modifyitems(config, items):
    """Without `--full`, leaves out the tests marked `full` and most of those marked `sampled`."""
    if config.getoption("--full"):
        return
    by_name, turn = _by_name(config), config.getoption("--turn")
    left_out = [item for item in items if _left_out(item, by_name, turn)]
    started = {_function(item) for item in set(items) - set(left_out)}
    for item in [item for item in left_out if item.get_closest_marker("sampled")]:
        if _function(item) not in started and not item.get_closest_marker("full"):
            started.add(_function(item))  # a sample is never empty
            left_out.remove(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        kept = set(items) - set(left_out)
        items[:] = [item for item in items if item in kept]


def pytest_collection_finish():
    """Exempts the objects that live as long as the run from garbage collection."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def pytest_terminal_summary(terminalreporter):
    """Prints the ten files that took longest."""
    seconds = collections.Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "duration"):
                seconds[report.nodeid.partition("::")[0]] += report.duration
    if len(seconds) > 1:
        terminalreporter.section("slowest files")
        for path, spent in seconds.most_common(10):
            terminalreporter.write_line(f"{spent:7.1f} s  {path}")


def pytest_unconfigure():
    if _CACHE:
        shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.fixture
def x64():
    """Runs the test in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def on_devices():
    """Runs Python in a process of its own with fake devices: `on_devices(script, *arguments, count=8)`.

    Warnings are errors there too, and `sampling.share` knows which cases to run.
    """
    warnings = ["-W", "error", "-W", "ignore:Error reading persistent compilation cache entry"]

    def run(*arguments, count=8):
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
        done = subprocess.run(
            [sys.executable, *warnings, *map(str, arguments)],
            env={
                **os.environ,
                "JAX_PLATFORMS": "cpu",
                "XLA_FLAGS": flags.strip(),
                "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), *SHARED]),
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
    if next(_finished) % 200 == 0:
        jax.clear_caches()
