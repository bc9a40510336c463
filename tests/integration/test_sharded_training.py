"""Training on meshes of eight fake devices: every layout times the optimizers whose states differ in kind."""

import pathlib

import pytest

SCRIPT = pathlib.Path(__file__).with_name("sharded_training_on_eight_devices.py")
LAYOUTS = 6
GROUPS = [("adamw", "adafactor", "sm3", "MultiSteps", "partition"), ("lbfgs", "muon")]


@pytest.mark.parametrize("optimizers", GROUPS, ids=", ".join)
@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_losses_layouts_bytes_and_compilations_are_as_computed(kind, optimizers, on_devices):
    lines = on_devices(SCRIPT, kind, ",".join(optimizers)).splitlines()
    assert lines[-1] == "ok"
    assert len(lines) == LAYOUTS * len(optimizers) + 1
