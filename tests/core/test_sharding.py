"""Layouts on meshes of eight fake devices, in a process of their own."""

import pathlib

import pytest

SCRIPT = pathlib.Path(__file__).with_name("sharding_on_eight_devices.py")


@pytest.mark.parametrize(
    "part", ["state_sharding", "zero1", "conformance", "no_drift", "outside", "norms"]
)
def test_on_eight_devices(part, on_devices):
    assert on_devices(SCRIPT, part).strip().endswith("ok")
