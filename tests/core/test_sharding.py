"""Layouts on meshes of eight fake devices, in a process of their own."""

import os
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("sharding_on_eight_devices.py")


@pytest.mark.parametrize("part", ["state_sharding", "zero1", "conformance", "no_drift"])
def test_on_eight_devices(part):
    env = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), part],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith("ok")
