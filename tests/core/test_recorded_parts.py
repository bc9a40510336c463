"""`init` and `update` of a recorded transformation print, compare, hash and pickle by its call."""

import collections
import copy
import inspect
import pickle
import sys
import types

import jax
import jax.numpy as jnp
import pytest

from optx_core import (
    add_decayed_weights,
    chain,
    clip_by_global_norm,
    ema,
    inject_hyperparams,
    masked,
    named_chain,
    partition,
    scale,
    scale_by_learning_rate,
    trace,
)

ROWS = {
    "scale(step_size=0.5)": lambda: scale(0.5),
    "trace(decay=0.9)": lambda: trace(0.9),
    "trace(decay=0.9, nesterov=True)": lambda: trace(0.9, nesterov=True),
    "chain(clip_by_global_norm(max_norm=1.0), chain(scale(step_size=-0.1)))": lambda: chain(
        clip_by_global_norm(1.0), chain(scale(-0.1))
    ),
    "named_chain(('a', trace(decay=0.9)), ('b', scale(step_size=0.1)))": lambda: named_chain(
        ("a", trace(0.9)), ("b", scale(0.1))
    ),
    "masked(inner=ema(decay=0.9), mask=True)": lambda: masked(ema(0.9), True),
    "partition(transforms={'a': scale(step_size=0.5)}, param_labels='a')": lambda: partition(
        {"a": scale(0.5)}, "a"
    ),
    "inject_hyperparams(trace)(decay=0.5)": lambda: inject_hyperparams(trace)(decay=0.5),
    "add_decayed_weights(weight_decay=0.1)": lambda: add_decayed_weights(0.1),
}
PARAMS = {"w": jnp.ones((2, 3))}


@pytest.mark.parametrize("shown", ROWS)
def test_the_functions_print_the_call_without_its_defaults(shown):
    tx = ROWS[shown]()
    assert repr(tx.init) == f"{shown}.init"
    assert repr(tx.update) == f"{shown}.update"
    assert [repr(part) for part in tx] == [f"{shown}.init", f"{shown}.update"]


@pytest.mark.parametrize("shown", ROWS)
def test_the_functions_compare_hash_copy_and_pickle_by_the_call(shown):
    tx, again = ROWS[shown](), ROWS[shown]()
    for name in ("init", "update"):
        part, other = getattr(tx, name), getattr(again, name)
        for same in (other, pickle.loads(pickle.dumps(part)), copy.deepcopy(part)):
            assert same == part
            assert hash(same) == hash(part)
    assert tx.init != tx.update
    assert tx.update != scale(0.25).update
    assert tx.update != 3


@pytest.mark.parametrize("shown", ROWS)
def test_the_functions_run_and_keep_their_signatures(shown):
    tx = ROWS[shown]()
    assert list(inspect.signature(tx.init).parameters) == ["params"]
    names = list(inspect.signature(tx.update).parameters)
    assert names == ["updates", "state", "params", "extra_args"]
    state = jax.jit(tx.init)(PARAMS)
    updates, _ = jax.jit(tx.update)(PARAMS, state, PARAMS)
    assert updates["w"].shape == (2, 3)


def test_a_call_inside_a_call_adds_no_layer():
    tx = chain(scale(0.5))
    assert not hasattr(tx.init.__wrapped__, "__wrapped__")
    assert not hasattr(tx.update.__wrapped__, "__wrapped__")
    assert not hasattr(inject_hyperparams(trace)(0.5).update.__wrapped__, "__wrapped__")


def test_equal_calls_share_a_compiled_program():
    traced = []

    def scheduled(count):
        traced.append(1)
        return 0.1

    def step(tx):
        return jax.jit(tx.update)(PARAMS, tx.init(PARAMS), PARAMS)

    tx = scale_by_learning_rate(scheduled)
    step(tx)
    first = len(traced)
    again = scale_by_learning_rate(scheduled)
    assert step(again)[0]["w"].shape == (2, 3)
    assert len(traced) == first


def test_the_plain_pair_of_functions_still_tells_the_call():
    pair = tuple(chain(scale(0.5)))
    assert type(pair) is tuple
    assert pair == tuple(chain(scale(0.5)))
    assert pickle.loads(pickle.dumps(pair)) == pair
    assert str(pair) == ("(chain(scale(step_size=0.5)).init, chain(scale(step_size=0.5)).update)")


def test_a_document_of_equinox_prints_the_call(monkeypatch):
    module = types.ModuleType("wadler_lindig")
    module.TextDoc = str
    monkeypatch.setitem(sys.modules, "wadler_lindig", module)
    assert trace(0.9).__pdoc__(indent=2) == "trace(decay=0.9)"
    assert inject_hyperparams(trace)(0.5).__pdoc__() == "inject_hyperparams(trace)(decay=0.5)"


@pytest.mark.parametrize(
    "make", [dict, collections.OrderedDict, lambda d: collections.defaultdict(bool, d)]
)
def test_a_mask_that_the_caller_changes_later_is_that_of_the_call(make):
    params, mask = make({"w": jnp.ones(2), "b": jnp.ones(2)}), make({"w": [True], "b": False})
    params["w"] = [params["w"]]
    tx = masked(scale(0.5), mask)
    shown = repr(tx)
    mask["w"][0], mask["b"] = False, True
    updates, _ = tx.update(params, tx.init(params))
    assert (float(updates["w"][0][0]), float(updates["b"][0])) == (0.5, 1.0)
    assert repr(tx) == shown
