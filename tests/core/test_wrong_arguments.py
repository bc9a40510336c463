"""Wrong parameters, states, updates and schedules are refused by an error that names them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import (
    EmptyState,
    TreeMismatchError,
    add_decayed_weights,
    apply_every,
    apply_if_finite,
    apply_updates,
    chain,
    ema,
    flatten,
    incremental_update,
    inject_hyperparams,
    masked,
    master_weights,
    multi_steps,
    named_chain,
    partition,
    periodic_update,
    scale_by_learning_rate,
    scale_by_schedule,
    trace,
    with_ema,
    zero_nans,
)

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
MODEL = {"layer": {"act": jax.nn.gelu, "w": jnp.ones((2, 2))}}


class Pair(NamedTuple):
    a: jax.Array
    b: jax.Array


TRANSFORMATIONS = {
    "trace": trace(0.9),
    "ema": ema(0.9),
    "chain": chain(trace(0.9), scale_by_learning_rate(0.1)),
    "named_chain": named_chain(("a", trace(0.9)), ("b", scale_by_learning_rate(0.1))),
    "masked": masked(trace(0.9), True),
    "partition": partition({"a": trace(0.9)}, "a"),
    "multi_steps": multi_steps(scale_by_learning_rate(0.1), 2),
    "with_ema": with_ema(scale_by_learning_rate(0.1), 0.9),
    "master_weights": master_weights(scale_by_learning_rate(0.1)),
    "apply_if_finite": apply_if_finite(trace(0.9), 2),
    "apply_every": apply_every(2),
    "flatten": flatten(trace(0.9)),
    "inject_hyperparams(trace)": inject_hyperparams(trace)(0.9),
}
OTHER = {"nothing": None, "a mapping": {"w": jnp.ones(2)}, "a pair": (EmptyState(), EmptyState())}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_init_on_a_model_with_functions_names_the_path_and_the_filter(name):
    message = r"params\['layer'\]\['act'\] is <.*gelu.*, which is not an array.*eqx.filter\(model, "
    with pytest.raises(TypeError, match=message) as caught:
        TRANSFORMATIONS[name].init(MODEL)
    assert str(caught.value).startswith(f"{name}: ")


def test_init_on_shapes_without_the_values_that_it_needs_says_so():
    shapes = {"w": jax.ShapeDtypeStruct((2, 3), jnp.bfloat16)}
    with pytest.raises(
        TypeError, match=r"with_ema: params\['w'\] is a Shape.*jax.eval_shape\(tx.init"
    ):
        TRANSFORMATIONS["with_ema"].init(shapes)
    assert jax.eval_shape(TRANSFORMATIONS["with_ema"].init, shapes).ema["w"].shape == (2, 3)
    assert not zero_nans().init(shapes).found_nan["w"]  # needs the shapes alone


@pytest.mark.parametrize("other", OTHER)
@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_the_state_of_another_transformation_is_named(name, other):
    tx = TRANSFORMATIONS[name]
    with pytest.raises(ValueError, match=r"was made by the init of another") as caught:
        tx.update(PARAMS, OTHER[other], PARAMS)
    whose = "trace" if name == "flatten" else name  # its state is that of the inner one
    assert str(caught.value).startswith(f"{whose}: ")


def test_the_first_place_where_a_state_differs_is_named():
    tx = chain(trace(0.9), partition({"a": trace(0.9), "b": ema(0.9)}, {"w": "a", "b": "b"}))
    state = tx.init(PARAMS)
    inner = state[1].inner_states
    wrong = (state[0], state[1]._replace(inner_states={**inner, "b": inner["a"]}))
    message = r"state\[1\].inner_states\['b'\].inner_state is TraceState, not EmaState"
    with pytest.raises(TreeMismatchError, match=message):
        tx.update(PARAMS, wrong, PARAMS)


def test_an_error_of_another_cause_is_left_as_it_is():
    def fails(count):
        raise KeyError("mine")

    tx = scale_by_schedule(fails)
    with pytest.raises(KeyError, match="mine"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS)


MISMATCHES = {
    "a named tuple for a tuple": ((PARAMS["w"],) * 2, Pair(*(PARAMS["w"],) * 2), r"\[0\]|\.a"),
    "a tuple too short": ((PARAMS["w"],) * 3, (PARAMS["w"],) * 2, r"\[2\] has no partner"),
    "a list for a dict": (PARAMS, [PARAMS["w"]], r"\['b'\] has no partner|\[0\] has no partner"),
    "a tree for an array": (
        {"w": PARAMS},
        {"w": PARAMS["w"]},
        r"\['w'\].*(not an array|no partner)",
    ),
    "an array for a tree": (
        {"w": PARAMS["w"]},
        {"w": PARAMS},
        r"\['w'\].*(not an array|no partner)",
    ),
    "what update returns": (PARAMS, (PARAMS, ()), r"\[0\]\['b'\] has no partner"),
    "None for all": (None, PARAMS, r"\['b'\] has no partner"),
    "another shape": (PARAMS, {**PARAMS, "b": jnp.ones(4)}, r"updates\['b'\] is \(4,\)"),
    "text": (PARAMS, {**PARAMS, "b": "text"}, r"updates\['b'\] is not an array but 'text'"),
    "a function": ({**PARAMS, "b": jnp.sin}, PARAMS, r"params\['b'\] is not an array but "),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_updates_that_do_not_fit_the_parameters_are_refused_by_path(name):
    params, updates, message = MISMATCHES[name]
    with pytest.raises(TreeMismatchError, match=rf"^apply_updates: .*({message})"):
        apply_updates(params, updates)


@pytest.mark.parametrize("name", [n for n in MISMATCHES if n not in ("text", "a function")])
def test_averages_of_trees_that_do_not_fit_are_refused_by_path(name):
    params, updates, _ = MISMATCHES[name]
    with pytest.raises(TreeMismatchError, match="incremental_update: "):
        incremental_update(updates, params, 0.5)
    with pytest.raises(TreeMismatchError, match="periodic_update: "):
        periodic_update(updates, params, jnp.int32(2), 2)


SCHEDULED = {
    "scale_by_learning_rate": scale_by_learning_rate,
    "scale_by_schedule": scale_by_schedule,
    "trace": trace,
    "ema": ema,
    "add_decayed_weights": add_decayed_weights,
    "inject_hyperparams": inject_hyperparams(scale_by_learning_rate),
}


@pytest.mark.parametrize("value", [(1e-3,), [1e-3], {"rate": 1e-3}, None])
@pytest.mark.parametrize("name", SCHEDULED)
def test_a_schedule_that_returns_no_number_is_refused(name, value):
    def run(tx):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS)

    with pytest.raises(TypeError, match=r"a schedule must return a number, but .* returned "):
        run(SCHEDULED[name](lambda count: value))


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_parameters_of_numpy_in_double_precision_give_no_warning(name):
    params = {"w": np.ones((2, 3)), "b": np.ones(3)}  # a warning is an error
    tx = TRANSFORMATIONS[name]
    updates, _ = tx.update(params, tx.init(params), params)
    moved = apply_updates(params, updates)
    assert {x.dtype for x in jax.tree.leaves(moved)} == {jnp.dtype("float32")}
