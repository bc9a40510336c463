"""All optimizers and all schedules as data, and back."""

import importlib.util
import inspect
import json
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable
from typing import get_origin

import numpy as np
import pytest
from optimizer_rows import ROWS

import optx_aliases
import optx_core
import optx_projections
import optx_schedules
import optx_second_order
from optx_core import from_config, to_config
from optx_core._protocol.kinds import Number, declared, hints_of, is_number
from optx_core._state.config_names import may_be_called

PACKAGES = [optx_core, optx_aliases, optx_schedules, optx_projections, optx_second_order]
# The arguments that no JSON can hold, each to be given a name.
WITHOUT_A_FORM = {
    "adadelta, decay": "weight_decay_mask",
    "adamw, corrected decay": "learning_rate",
    "adamw, independent decay": "learning_rate",
    "sophia": "hessian_diagonal_fn",
}


def schedules():
    path = pathlib.Path(__file__).parents[1] / "schedules/test_schedules.py"
    spec = importlib.util.spec_from_file_location("table_of_schedules", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TABLE


def through_json(made, names=None, defaults=True):
    config = to_config(made, names, defaults=defaults)
    return from_config(json.loads(json.dumps(config, allow_nan=False)), names)


@pytest.mark.parametrize("name", ROWS)
def test_every_optimizer_is_written_and_read_again(name):
    tx, names = ROWS[name].make(), None
    if name in WITHOUT_A_FORM:
        argument = WITHOUT_A_FORM[name]
        with pytest.raises(TypeError, match=rf"\.{argument} is .*names={{'{argument}': "):
            to_config(tx)
        names = {argument: optx_core.build.call_of(tx).arguments[argument]}
    for defaults in (True, False):
        again = through_json(tx, names, defaults)
        assert again == tx
        assert hash(again) == hash(tx)
        assert repr(again) == repr(tx)


@pytest.mark.parametrize("make", [*schedules().values(), lambda: -(2 ** schedules()["cosine"]())])
def test_every_schedule_is_written_and_read_again(make):
    schedule = make()
    again = through_json(schedule)
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert again(7) == schedule(7)


def test_a_whole_recipe_is_read_from_data():
    rate = {
        "name": "warmup_cosine_decay_schedule",
        "init_value": 0.0,
        "peak_value": 1e-3,
        "warmup_steps": 10,
        "decay_steps": 100,
    }
    groups = {
        "matrices": {"name": "muon", "learning_rate": rate, "ns_steps": 3},
        "others": {"name": "adamw", "learning_rate": 1e-3, "mask": {"$object": "kernels"}},
    }
    config = {
        "name": "multi_steps",
        "inner": {
            "name": "partition",
            "transforms": groups,
            "param_labels": {"w": "matrices", "b": "others"},
        },
        "every_k": 4,
    }

    def kernels(params):
        return {name: name == "w" for name in params}

    written = optx_core.multi_steps(
        optx_core.partition(
            {
                "matrices": optx_aliases.muon(
                    optx_schedules.warmup_cosine_decay_schedule(0.0, 1e-3, 10, 100), ns_steps=3
                ),
                "others": optx_aliases.adamw(1e-3, mask=kernels),
            },
            {"w": "matrices", "b": "others"},
        ),
        4,
    )
    assert from_config(config, {"kernels": kernels}) == written


def test_options_factories_and_estimators_have_a_form():
    dims = optx_aliases.MuonDimensionNumbers((0, 1), 2)
    for tx in (
        optx_aliases.muon(0.1, muon_weight_dimension_numbers={"w": dims, "b": None}),
        optx_core.per_slice(optx_aliases.lamb(0.1), {"w": optx_core.Slices((1,), (2, 3)), "b": 1}),
        optx_core.inject_hyperparams(optx_aliases.adamw)(optx_schedules.linear_schedule(1, 0, 9)),
        optx_aliases.sophia(0.1, hessian_diagonal_fn=optx_second_order.hutchinson_estimator(1)),
    ):
        assert through_json(tx) == tx


def test_a_public_name_is_called_in_one_package_only():
    called = [
        name
        for package in PACKAGES
        for name in package.__all__
        if may_be_called(getattr(package, name))
    ]
    assert len(called) == len(set(called))
    assert {"adamw", "chain", "linear_schedule", "MuonDimensionNumbers"} <= set(called)
    assert not {"minimize", "plot", "find_learning_rate"} & set(called)


def test_reading_a_config_of_the_core_imports_no_sibling():
    script = (
        "import sys, optx_core; tx = optx_core.from_config({'name': 'scale', 'step_size': 1.0});"
        "optx_core.to_config(tx); print([m for m in sys.modules if m.startswith('optx_')"
        " and not m.startswith('optx_core')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


OPTIMIZER = optx_aliases.sgd(0.1)
NOT_A_NUMBER = ("0.1", True, {"value": 0.1}, OPTIMIZER, optx_aliases.sgd)


def wrong_values(hint):
    if hint is bool:
        return float("nan"), [1.0], OPTIMIZER
    kinds = declared(hint)
    if isinstance(kinds, Number) or (isinstance(kinds, tuple) and all(map(is_number, kinds))):
        return NOT_A_NUMBER
    return ("text", {"a": 1}) if get_origin(hint) is Callable else ()


@pytest.mark.parametrize("name", ROWS)
def test_no_argument_is_of_another_type(name):
    call = optx_core.build.call_of(ROWS[name].make())
    for argument, hint in hints_of(call.function).items():
        for wrong in wrong_values(hint):
            with pytest.raises((TypeError, ValueError), match=r"must (be|return)|takes|needs"):
                call.replace(**{argument: wrong})


ANYTHING = ("a", None, float("nan"), True, [1.0], {}, 3, lambda x: x, object(), 1j, np.ones((2, 3)))


@pytest.mark.parametrize("name", ROWS)
def test_whatever_an_argument_is_an_error_is_not_pythons(name):
    call = optx_core.build.call_of(ROWS[name].make())
    errors = []
    for argument, parameter in inspect.signature(call.function).parameters.items():
        for value in ANYTHING if parameter.kind is not parameter.VAR_POSITIONAL else ():
            try:
                call.replace(**{argument: value})
            except (TypeError, ValueError) as error:
                errors.append(str(error))
    assert not [e for e in errors if not re.match(r"[\w.]+: ", e) and call.name not in e]


SWITCHES = [
    (module.__name__, name, argument)
    for module in PACKAGES
    for name in module.__all__
    if may_be_called(getattr(module, name)) and inspect.isfunction(getattr(module, name))
    for argument, hint in hints_of(getattr(module, name)).items()
    if hint is bool
]


@pytest.mark.parametrize(("module", "name", "argument"), SWITCHES)
def test_a_text_is_no_truth_value(module, name, argument):
    function = getattr(sys.modules[module], name)
    needed = [
        key
        for key, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL
    ]
    with pytest.raises(TypeError, match=f"{argument} must be True or False, not 'false'"):
        function(**dict.fromkeys(needed) | {argument: "false"})
