"""One reduction over the devices for many micro-batches, on eight fake devices."""

import pathlib

import pytest

from optx_core import multi_steps, scale, skip_not_finite

SCRIPT = pathlib.Path(__file__).with_name("reductions_on_eight_devices.py")
PARTS = ("gradients", "zero1", "other_axes", "reductions", "multi_steps", "diloco", "refusals")


def test_devices_accumulate_their_own_gradients_and_reduce_them_once(on_devices):
    assert on_devices(SCRIPT, *PARTS).strip().endswith("ok")


def test_devices_that_skip_their_own_micro_batches_are_refused():
    with pytest.raises(ValueError, match="axis_name cannot be combined with should_skip_update_fn"):
        multi_steps(scale(-1.0), 2, axis_name="data", should_skip_update_fn=skip_not_finite)
