"""Training on meshes of eight fake devices: every layout times the optimizers whose states differ in kind."""

import os
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("sharded_training_on_eight_devices.py")
LAYOUTS = 6
GROUPS = [("adamw", "adafactor", "sm3", "MultiSteps", "partition"), ("lbfgs", "muon")]
# These programs run for microseconds: what they cost is their compilation.
FLAGS = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true"
)


@pytest.mark.parametrize("optimizers", GROUPS, ids=", ".join)
@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_losses_layouts_bytes_and_compilations_are_as_computed(kind, optimizers):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), kind, ",".join(optimizers)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": FLAGS},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "ok"
    assert len(lines) == LAYOUTS * len(optimizers) + 1
