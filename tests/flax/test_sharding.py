"""Layouts of optimizer state on meshes of eight fake devices, in processes of their own."""

import os
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("sharding_on_eight_devices.py")
PARTS = [
    ("shard_state", "unannotated", "off_the_mesh"),
    ("zero1", "placing"),
    ("creation", "checkpoint", "mistakes"),
]


@pytest.mark.parametrize("parts", PARTS, ids=", ".join)
def test_on_eight_devices(parts):
    env = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    }
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *parts],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith("ok")
