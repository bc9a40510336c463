"""Transformations print, compare, hash and pickle by the call that made them."""

import copy
import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import (
    add_decayed_weights,
    chain,
    clip_by_global_norm,
    ema,
    identity,
    masked,
    named_chain,
    partition,
    scale,
    scale_by_learning_rate,
    scale_by_schedule,
    trace,
)
from optx_core.build import call_of, recorded


def halving(count):
    return 0.5**count


ROWS = [
    identity,
    lambda: scale(0.5),
    lambda: scale(jnp.asarray(0.5)),
    lambda: scale(np.float32(0.5)),
    lambda: scale_by_schedule(halving),
    lambda: scale_by_schedule(functools.partial(halving)),
    lambda: trace(0.9, nesterov=True, accumulator_dtype=jnp.bfloat16),
    lambda: chain(),
    lambda: chain(clip_by_global_norm(1.0), chain(scale(-0.1))),
    lambda: named_chain(("a", scale(1.0)), ("b", ema(0.9))),
    lambda: masked(scale(2.0), {"w": True, "b": [False, None]}),
    lambda: partition({"x": scale(1.0), 3: identity()}, {"a": "x", "b": 3}),
    lambda: add_decayed_weights(0.1, mask={"a": np.bool_(True)}),
    lambda: scale(float("nan")) if False else clip_by_global_norm(float("inf")),
]


@pytest.mark.parametrize("make", ROWS)
def test_equal_calls_make_equal_transformations_with_equal_hashes(make):
    assert make() == make()
    assert hash(make()) == hash(make())
    assert len({make(), make()}) == 1


@pytest.mark.parametrize("make", ROWS)
def test_a_transformation_survives_pickle_and_copies(make):
    tx = make()
    assert pickle.loads(pickle.dumps(tx)) == tx
    assert copy.deepcopy(tx) == tx
    assert copy.copy(tx) == tx


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (scale(0.5), scale(0.25)),
        (scale(1.0), scale(1)),
        (scale(0.0), scale(-0.0)),
        (trace(0.9), trace(0.9, nesterov=True)),
        (trace(0.9), ema(0.9)),
        (chain(scale(1.0)), chain(scale(1.0), scale(1.0))),
        (chain(scale(1.0)), scale(1.0)),
        (scale(jnp.asarray([1.0])[0]), scale(jnp.asarray([2.0])[0])),
        (scale_by_schedule(lambda n: 1.0), scale_by_schedule(lambda n: 1.0)),
    ],
)
def test_different_calls_make_different_transformations(one, other):
    assert one != other


class Gaussian:
    @property
    def dtype(self):
        return jnp.float32


class Uniform(Gaussian):
    dtype = "float32"


# No two of them are the same argument, whatever they have in common.
ARGUMENTS = [
    *(None, False, 0, 0.0, -0.0, 0j, "0", b"0", float("nan"), "nan", np.float32(0), np.float64(0)),
    *(np.array(0.0), np.array([0.0]), np.array([[0.0]]), np.array([0]), np.array([-0.0])),
    *((), [], {}, (0,), [0], ((0,),), {0: 0}, {0: 0.0}, {0.0: 0}, {"a": 0}, {"a": {"a": 0}}),
    *(jnp.float32, jnp.bfloat16, np.dtype("int8"), float, int, object, "float32", "object"),
    *(Gaussian, Uniform, np.ndarray, jax.Array, type, np.sin, np.cos, halving),
    *(
        functools.partial(halving),
        functools.partial(halving, 0),
        functools.partial(halving, count=0),
    ),
    *(jax.random.key(0), jax.random.key(1), jax.random.key(0, impl="rbg"), jax.random.key_data),
    *(scale(0.0), scale(0), trace(0.0)),
]


@recorded
def holding(value):
    return scale_by_learning_rate(lambda count, held=value: 1.0)


def test_no_two_different_arguments_are_taken_for_equal():
    made = [holding(value) for value in ARGUMENTS]
    for i, one in enumerate(made):
        assert [k for k, other in enumerate(made) if one == other] == [i], ARGUMENTS[i]


def test_arguments_of_equal_value_are_equal_whatever_their_order_or_spelling():
    same = [
        ({"a": 1, "b": scale(1.0)}, {"b": scale(1.0), "a": 1}),
        (np.dtype("float32"), jnp.float32),
        (np.float32, jnp.float32),
        (np.array([1.0, 2.0]), np.array([1.0, 2.0])),
        (jnp.ones(2), np.ones(2, np.float32)),
        (float("nan"), float("nan")),
    ]
    for one, other in same:
        assert holding(one) == holding(other)
        assert hash(holding(one)) == hash(holding(other))


def test_positional_and_keyword_calls_are_equal():
    assert trace(0.9, True) == trace(decay=0.9, nesterov=True, accumulator_dtype=None)


@pytest.mark.parametrize(
    ("tx", "text"),
    [
        (scale(0.5), "scale(step_size=0.5)"),
        (identity(), "identity()"),
        (trace(0.9), "trace(decay=0.9, nesterov=False, accumulator_dtype=None)"),
        (chain(identity(), scale(1.0)), "chain(identity(), scale(step_size=1.0))"),
        (scale_by_schedule(halving), "scale_by_schedule(step_size_fn=halving)"),
        (
            trace(0.9, accumulator_dtype=jnp.float32),
            "trace(decay=0.9, nesterov=False, accumulator_dtype=float32)",
        ),
        (named_chain(("a", scale(2.0))), "named_chain(('a', scale(step_size=2.0)))"),
    ],
)
def test_it_prints_as_the_call_that_makes_it(tx, text):
    assert repr(tx) == text


def test_long_chains_print_one_member_a_line():
    text = repr(chain(*[trace(0.9)] * 3))
    assert text.splitlines()[0] == "chain("
    assert len(text.splitlines()) == 5


def test_a_call_can_be_read_and_made_again_with_other_arguments():
    call = call_of(trace(0.9))
    assert call.name == "trace"
    assert call.arguments == {"decay": 0.9, "nesterov": False, "accumulator_dtype": None}
    assert call.replace(decay=0.5) == trace(0.5)
    assert call_of(object()) is None


def test_a_transformation_is_the_pair_of_its_functions():
    init, update = tx = scale(2.0)
    assert (init, update) == (tx.init, tx.update)
    assert isinstance(tx, tuple)


def test_a_replaced_pair_is_no_longer_the_recorded_call():
    tx = scale(2.0)
    other = tx._replace(update=lambda g, s, p=None, **_: (g, s))
    assert call_of(other) is None
    assert other != tx


def test_traced_arguments_are_compared_by_identity_and_printed_as_traced():
    seen = []

    def f(x):
        seen.append((scale(x) == scale(x), scale(x) == scale(x + 1), repr(scale(x))))
        return x

    jax.jit(f)(1.0)
    assert seen == [(True, False, "scale(step_size=<traced float32[]>)")]


def test_a_function_with_a_static_transformation_is_traced_once_for_equal_ones():
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def step(tx, g):
        traces.append(tx)
        return tx.update(g, tx.init(g))[0]

    for _ in range(3):
        step(chain(clip_by_global_norm(1.0), scale(-0.1)), jnp.ones(2))
    step(chain(clip_by_global_norm(1.0), scale(-0.2)), jnp.ones(2))
    assert len(traces) == 2


def test_scale_by_learning_rate_flips_the_sign_unless_told_otherwise():
    for flip, expected in ((True, -0.5), (False, 0.5)):
        tx = scale_by_learning_rate(0.25, flip_sign=flip)
        assert tx.update(jnp.array(2.0), tx.init(None))[0] == expected
