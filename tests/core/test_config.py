"""Transformations from data, and back."""

import functools
import json
import math
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import (
    MultiSteps,
    add_decayed_weights,
    apply_if_finite,
    chain,
    clip_by_global_norm,
    ema,
    freeze,
    from_config,
    identity,
    inject_hyperparams,
    masked,
    multi_steps,
    named_chain,
    partition,
    scale,
    scale_by_learning_rate,
    scale_by_schedule,
    skip_large_updates,
    skip_not_finite,
    stateless,
    to_config,
    trace,
)
from optx_core.build import recorded


def through_json(config):
    return json.loads(json.dumps(config, allow_nan=False))


def kernels(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


@recorded
def twice(first, *others, **options):
    del options
    return chain(first, first, *others)


@recorded
def holding(what):
    del what
    return identity()


@recorded
def titled(name):
    del name
    return identity()


GIVEN = {
    "kernels": kernels,
    "twice": twice,
    "holding": holding,
    "large": {"w": np.arange(300) > 7},
    "plain": stateless(kernels)._replace(init=kernels),
}
ROWS = [
    identity,
    lambda: scale(-0.0),
    lambda: scale(1),
    lambda: scale(np.float64(0.1)),
    lambda: scale(np.float32(0.1)),
    lambda: scale_by_learning_rate(jnp.bfloat16(0.1)),
    lambda: scale(jnp.asarray(0.1)),
    lambda: scale(jnp.asarray([[0.1, jnp.inf]], jnp.bfloat16)),
    lambda: scale(np.asarray([1 + 2j, np.nan], np.complex64)),
    lambda: holding([0.5 - 1j, MappingProxyType({0: math.nan})]),
    lambda: clip_by_global_norm(float("inf")),
    lambda: trace(0.9, accumulator_dtype=jnp.bfloat16),
    lambda: trace(0.9, accumulator_dtype=np.float32),
    lambda: trace(0.9, accumulator_dtype="float32"),
    chain,
    lambda: chain(clip_by_global_norm(1.0), chain(scale(-0.1))),
    lambda: named_chain(("a", scale(1.0)), ("name", ema(0.9))),
    lambda: masked(scale(2.0), {"w": True, "b": [False, None], "c": (True,)}),
    lambda: partition({"x": scale(1.0), 3: identity()}, {"a": "x", "name": 3, "$float": 3}),
    lambda: add_decayed_weights(0.1, mask={"a": np.bool_(True)}),
    lambda: add_decayed_weights(0.1, mask=kernels),
    lambda: masked(scale(2.0), {"w": np.arange(300) > 7}),
    lambda: multi_steps(apply_if_finite(scale(1.0), 3), 2, should_skip_update_fn=skip_not_finite),
    lambda: multi_steps(
        scale(1.0),
        2,
        should_skip_update_fn=functools.partial(skip_large_updates, max_squared_norm=4.0),
    ),
    lambda: inject_hyperparams(ema, static_args=("debias",))(decay=0.5),
    lambda: freeze({"a": True}),
    lambda: twice(scale(1.0), identity(), trace(0.5), name="n"),
    lambda: chain(stateless(kernels)._replace(init=kernels)),
]


@pytest.mark.parametrize("make", ROWS)
def test_what_is_written_and_read_again_is_equal(make):
    tx = make()
    for defaults in (True, False):
        config = through_json(to_config(tx, GIVEN, defaults=defaults))
        again = from_config(config, GIVEN)
        assert type(again) is type(tx)
        assert again == tx
        assert hash(again) == hash(tx)


def test_a_config_is_written_as_a_person_would():
    tx = chain(clip_by_global_norm(1.0), named_chain(("step", trace(0.9))))
    assert to_config(tx, defaults=False) == {
        "name": "chain",
        "transformations": [
            {"name": "clip_by_global_norm", "max_norm": 1.0},
            {"name": "named_chain", "transformations": [["step", {"name": "trace", "decay": 0.9}]]},
        ],
    }


def test_a_dtype_equals_itself_however_it_was_given():
    tx = trace(0.9, accumulator_dtype=jnp.dtype("float32"))
    assert from_config(through_json(to_config(tx))) == tx


def test_python_objects_are_passed_on():
    tx = from_config({"name": "scale_by_schedule", "step_size_fn": kernels})
    assert tx == scale_by_schedule(kernels)
    pair = from_config({"name": "chain", "transformations": (scale(2.0), {"name": "identity"})})
    assert pair == chain(scale(2.0), identity())


def test_the_class_of_micro_batches_is_written_as_the_function():
    config = to_config(MultiSteps(scale(1.0), 2))
    assert from_config(config) == multi_steps(scale(1.0), 2)


def test_functions_that_are_not_recorded_may_be_given():
    assert from_config({"name": "half"}, {"half": lambda: scale(0.5)}) == scale(0.5)


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        (
            {"name": "scael", "step_size": 1.0},
            ValueError,
            "there is no 'scael'.*mean 'scale'.*chain",
        ),
        ({"name": "os.system", "command": "ls"}, ValueError, "there is no 'os.system'"),
        ({"name": "__import__", "module": "os"}, ValueError, "there is no '__import__'"),
        ({"name": "find_learning_rate"}, ValueError, "there is no 'find_learning_rate'"),
        ({"name": "EmaState"}, ValueError, "there is no 'EmaState'"),
        (
            {"name": "scale"},
            TypeError,
            "config: scale needs the argument 'step_size'; .* are step_size",
        ),
        (
            {"name": "ema", "decai": 1.0},
            TypeError,
            "no argument 'decai'.*'decay'.*are decay, debias",
        ),
        (
            {"name": "chain", "transformations": {"name": "identity"}},
            TypeError,
            "takes a list of tr",
        ),
        ({"name": "large"}, TypeError, "'large' is not a function"),
        ({"name": "twice", "first": 1, "options": [1]}, TypeError, "takes a dict of options"),
        ({"name": True}, TypeError, r"at config must be that of a function, not True; .*\$dict"),
        ({"name": {"name": "identity"}}, TypeError, r"\['name'\] makes identity\(\), which is no"),
        ({"name": {"$object": "find_learning_rate"}}, TypeError, "must be that of a function"),
        ({"mask": True}, TypeError, 'takes a dict with the "name"'),
        ("adam", TypeError, "takes a dict"),
        (
            {"name": "chain", "transformations": [{"name": "ema", "decay": {"$object": "kernel"}}]},
            ValueError,
            r"config\['transformations'\]\[0\]\['decay'\]: there is no 'kernel'.*mean 'kernels'",
        ),
        ({"name": "scale", "step_size": {"$object": "build"}}, ValueError, "no 'build'"),
        (
            {"name": "scale", "step_size": {"$float": 1.0}},
            ValueError,
            r"\$float.*is no form.*\$dict",
        ),
        ({"name": "scale", "step_size": {"$eval": "1"}}, ValueError, "is no form"),
        ({"name": "scale", "step_size": {"$dtype": "float31"}}, TypeError, "float31"),
        (
            {"$operator": "pow", "operands": [9, 9]},
            TypeError,
            r"pow needs a schedule, not \(9, 9\)",
        ),
        (
            {"$operator": "add", "operands": [{"name": "chain"}, {"name": "chain"}]},
            TypeError,
            "add needs a schedule",
        ),
        ({"$operator": "call", "operands": [9, 9]}, ValueError, "is no form"),
    ],
)
def test_a_wrong_config_is_refused_with_what_there_is(config, error, said):
    with pytest.raises(error, match=said):
        from_config(config, GIVEN)


def test_an_error_of_a_function_says_where_it_was_called():
    config = {"name": "chain", "transformations": [{"name": "ema", "decay": 2.0}]}
    with pytest.raises(ValueError, match="ema: decay") as caught:
        from_config(config)
    assert caught.value.__notes__ == [
        "from_config: the error was raised at config['transformations'][0]"
    ]


@pytest.mark.parametrize(
    ("tx", "said"),
    [
        (
            masked(scale(1.0), lambda p: True),
            r"masked\.mask is <function.*names=\{'mask': \.\.\.\}",
        ),
        (
            chain(scale(1.0), masked(scale(1.0), {"w": [np.zeros(300, bool)]})),
            r"chain\.transformations\[1\]\.mask\['w'\]\[0\] is an array bool\[300\].*1 to 256 numbers",
        ),
        (scale(jnp.zeros((0, 3))), r"float32\[0, 3\], which has no form"),
        (holding(jax.random.key(0)), r"holding\.what is an array key<.*has no form"),
        (holding({1, 2}), "holding.what is {1, 2}, which has no form"),
        (trace(0.9, accumulator_dtype=float), "accumulator_dtype is <class 'float'>"),
        (
            chain(identity()._replace(init=kernels)),
            r"chain\.transformations\[0\] is .*Transformation",
        ),
        (twice(scale(1.0)), "twice is not public in optx_core.*names={'twice': twice}"),
        (titled("t"), 'titled has an argument "name"'),
        (identity()._replace(init=kernels), "was not made by a recorded function"),
    ],
)
def test_what_json_cannot_hold_is_refused_by_the_place_of_the_argument(tx, said):
    with pytest.raises(TypeError, match=said):
        to_config(tx, {"titled": titled, "holding": holding})


def test_a_traced_number_is_refused():
    with pytest.raises(TypeError, match=r"scale\.step_size is an array float32\[\]"):
        jax.jit(lambda x: to_config(scale(x)))(1.0)


def test_an_unknown_name_says_which_packages_are_missing(monkeypatch):
    monkeypatch.setattr("optx_core._state.config_names.PACKAGES", ("optx_core", "optx_missing"))
    with pytest.raises(ValueError, match=r"zero_nans \(optx_missing not installed\)"):
        from_config({"name": "adamw"})


def test_names_must_be_strings_that_are_free():
    with pytest.raises(ValueError, match="from_config: 'scale' is a public name"):
        from_config({"name": "scale"}, {"scale": kernels})
    with pytest.raises(TypeError, match="names must be a dict by string, not by 1"):
        to_config(scale(1.0), {1: kernels})
