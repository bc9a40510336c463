"""Training on meshes of eight fake devices: layouts times the optimizers whose states differ in kind."""

import pathlib

import pytest

import sampling

SCRIPT = pathlib.Path(__file__).with_name("sharded_training_on_eight_devices.py")
PAIRS = 6 * 7  # layouts times optimizers


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_losses_layouts_bytes_and_compilations_are_as_computed(kind, on_devices):
    lines = on_devices(SCRIPT, kind).splitlines()
    assert lines[-1] == "ok"
    assert len(lines) == len(sampling.share(range(PAIRS), 6)) + 1
