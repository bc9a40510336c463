"""On a mesh each matrix has an owner, with Auto and with Explicit axes, however the matrices lie."""

import itertools
import pathlib

import pytest

import sampling

SCRIPT = pathlib.Path(__file__).with_name("owners_on_eight_devices.py")
SAMPLE = (
    "muon/Auto/rows/unequal",
    "soap/Explicit/2-D/equal",
    "kron/Explicit/stacked/equal",
    "galore/Auto/columns/equal",
)
SITUATIONS = (
    *("odd_sizes", "derivatives", "wrong_axis", "programs_differ"),
    "apollo_leaves_matrices_in_place",
)
LAYOUTS = ("replicated", "rows", "columns", "2-D", "stacked")


def test_a_device_does_its_share_and_exchanges_twice(on_devices):
    on_devices(SCRIPT, *sampling.share(SAMPLE + SITUATIONS, 3))


NAMES = (
    *("muon", "muon row", "muon entry", "muon scalar"),
    *("dion2", "soap", "shampoo", "kl_shampoo", "kron", "galore"),
)
CASES = [pair for pair in itertools.product(NAMES, LAYOUTS) if pair != ("galore", "stacked")]


@pytest.mark.full
@pytest.mark.parametrize(("name", "layout"), CASES)  # galore projects no stacks
def test_so_it_does_in_every_layout(name, layout, on_devices):
    kinds = itertools.product(("Auto", "Explicit"), ("equal", "unequal"))
    on_devices(SCRIPT, *(f"{name}/{kind}/{layout}/{matrices}" for kind, matrices in kinds))
