"""Layouts of optimizer state on meshes of eight fake devices, in processes of their own."""

import pathlib

import pytest

SCRIPT = pathlib.Path(__file__).with_name("sharding_on_eight_devices.py")
PARTS = [
    ("shard_state", "unannotated", "off_the_mesh"),
    ("zero1", "placing"),
    ("creation", "checkpoint", "mistakes"),
]


@pytest.mark.parametrize("parts", PARTS, ids=", ".join)
def test_on_eight_devices(parts, on_devices):
    assert on_devices(SCRIPT, *parts).strip().endswith("ok")
