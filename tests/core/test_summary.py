"""The table of an optimizer over the parameters."""

import jax
import jax.numpy as jnp
import pytest

from optx_core import (
    EmptyState,
    GradientTransformation,
    MaskedNode,
    MultiSteps,
    add_decayed_weights,
    chain,
    clip_by_global_norm,
    ema,
    flatten,
    freeze,
    inject_hyperparams,
    masked,
    multi_steps,
    named_chain,
    partition,
    scale_by_learning_rate,
    selective_transform,
    summarize,
    trace,
    with_ema,
)
from optx_core.build import recorded

F32, BF16 = jnp.float32, jnp.bfloat16
PARAMS = {
    "dense": {
        "kernel": jax.ShapeDtypeStruct((4, 8), F32),
        "bias": jax.ShapeDtypeStruct((8,), BF16),
    },
    "scale": jax.ShapeDtypeStruct((), F32),
    "none": None,
    "masked": MaskedNode(),
}
BIAS, KERNEL, SCALE = "['dense']['bias']", "['dense']['kernel']", "['scale']"
LABELS = {
    "dense": {"kernel": "matrix", "bias": "rest"},
    "scale": "rest",
    "none": "rest",
    "masked": "rest",
}
MATRICES = {
    "dense": {"kernel": True, "bias": False},
    "scale": False,
    "none": False,
    "masked": False,
}


def halving(count):
    return 0.5 ** jnp.asarray(count, float)


def momentum(rate):
    return chain(trace(0.9), scale_by_learning_rate(rate))


@recorded
def decayed(learning_rate, weight_decay, mask=None):
    return chain(
        trace(0.9), add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate)
    )


ALL = dict.fromkeys((BIAS, KERNEL, SCALE), "")
BYTES = {BIAS: 32, KERNEL: 128, SCALE: 4}
SGD = {"decay": 0.9, "learning_rate": 0.5}
# name: (the optimizer, groups, numbers by leaf, bytes by leaf, shared bytes)
ROWS = {
    "a chain": (momentum(0.5), ALL, dict.fromkeys(ALL, SGD), BYTES, 0),
    "a schedule": (
        momentum(halving),
        ALL,
        {key: {**SGD, "learning_rate": 1.0} for key in ALL},
        BYTES,
        4,
    ),
    "injected": (
        inject_hyperparams(decayed)(0.5, 0.1),
        ALL,
        {key: {"learning_rate": 0.5, "weight_decay": 0.1} for key in ALL},
        BYTES,
        12,
    ),
    "groups": (
        chain(
            clip_by_global_norm(1.0),
            partition({"matrix": momentum(0.5), "rest": scale_by_learning_rate(0.25)}, LABELS),
        ),
        {BIAS: "rest", KERNEL: "matrix", SCALE: "rest"},
        {
            BIAS: {"max_norm": 1.0, "learning_rate": 0.25},
            KERNEL: {"max_norm": 1.0, **SGD},
            SCALE: {"max_norm": 1.0, "learning_rate": 0.25},
        },
        {BIAS: 0, KERNEL: 128, SCALE: 0},
        0,
    ),
    "groups in groups": (
        partition(
            {
                "matrix": momentum(0.5),
                "rest": partition(
                    {"b": scale_by_learning_rate(0.25), "s": scale_by_learning_rate(0.125)},
                    lambda params: jax.tree.map(lambda p: "b" if p.ndim else "s", params),
                ),
            },
            LABELS,
        ),
        {BIAS: "rest/b", KERNEL: "matrix", SCALE: "rest/s"},
        {BIAS: {"learning_rate": 0.25}, KERNEL: SGD, SCALE: {"learning_rate": 0.125}},
        {BIAS: 0, KERNEL: 128, SCALE: 0},
        0,
    ),
    "a mask for one number": (
        decayed(0.5, 0.1, mask=MATRICES),
        ALL,
        {
            BIAS: {"learning_rate": 0.5},
            KERNEL: {"learning_rate": 0.5, "weight_decay": 0.1},
            SCALE: {"learning_rate": 0.5},
        },
        BYTES,
        0,
    ),
    "a masked part": (
        chain(masked(ema(0.9), MATRICES), scale_by_learning_rate(0.5)),
        ALL,
        {BIAS: {"learning_rate": 0.5}, KERNEL: SGD, SCALE: {"learning_rate": 0.5}},
        {BIAS: 0, KERNEL: 128, SCALE: 0},
        4,
    ),
    "frozen": (
        selective_transform(momentum(0.5), freeze_mask=MATRICES),
        {BIAS: "", KERNEL: "frozen", SCALE: ""},
        {BIAS: SGD, KERNEL: {}, SCALE: SGD},
        {BIAS: 32, KERNEL: 0, SCALE: 4},
        0,
    ),
    "frozen last": (
        chain(momentum(0.5), freeze(MATRICES)),
        {BIAS: "", KERNEL: "frozen", SCALE: ""},
        dict.fromkeys(ALL, SGD),
        BYTES,
        0,
    ),
    "accumulated": (
        multi_steps(momentum(0.5), 2),
        ALL,
        dict.fromkeys(ALL, SGD),
        {name: 2 * size for name, size in BYTES.items()},
        8,
    ),
    "accumulated by optax's name": (
        MultiSteps(momentum(0.5), 2),
        ALL,
        dict.fromkeys(ALL, SGD),
        {name: 2 * size for name, size in BYTES.items()},
        8,
    ),
    "two numbers of one name": (
        with_ema(trace(0.9), 0.5),
        ALL,
        {key: {"with_ema/decay": 0.5, "trace/decay": 0.9} for key in ALL},
        {name: 2 * size for name, size in BYTES.items()},
        4,
    ),
    "named": (
        named_chain(
            ("m", trace(0.9)),
        ),
        ALL,
        {key: {"decay": 0.9} for key in ALL},
        BYTES,
        0,
    ),
    "flattened": (
        flatten(trace(0.9)),
        ALL,
        {key: {"decay": 0.9} for key in ALL},
        dict.fromkeys(ALL, 0),
        164,
    ),
    "not recorded": (
        GradientTransformation(lambda params: EmptyState(), None),
        ALL,
        {key: {} for key in ALL},
        dict.fromkeys(ALL, 0),
        0,
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_groups_numbers_and_bytes_of_each_parameter(name):
    tx, groups, numbers, sizes, shared = ROWS[name]
    made = summarize(tx, PARAMS)
    assert {row.path: row.group for row in made.rows} == groups
    read = {
        row.path: {key: float(value) for key, value in row.hyperparams.items()} for row in made.rows
    }
    assert {path: pytest.approx(values) for path, values in numbers.items()} == read
    if name != "flattened":
        assert {row.path: row.state_bytes for row in made.rows} == sizes
        assert made.shared_bytes == shared
    state = jax.eval_shape(tx.init, PARAMS)
    assert made.state_bytes == sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    assert {row.path: (row.shape, row.dtype) for row in made.rows} == {
        BIAS: ((8,), BF16),
        KERNEL: ((4, 8), F32),
        SCALE: ((), F32),
    }


def test_it_prints_a_table():
    tx = partition({"matrix": momentum(0.5), "rest": scale_by_learning_rate(0.25)}, LABELS)
    made = summarize(tx, PARAMS)
    assert str(made) == repr(made)
    assert str(made).splitlines() == [
        "parameter             shape  dtype     group       state",
        "-" * 56,
        "['dense']['bias']         8  bfloat16  [1] rest      0 B",
        "['dense']['kernel']     4×8  float32   [2] matrix  128 B",
        "['scale']            scalar  float32   [1] rest      0 B",
        "[1] rest: learning_rate=0.25",
        "[2] matrix: decay=0.9, learning_rate=0.5",
        "3 parameters with 41 entries; 128 B of state, of which 0 B belong to no parameter",
    ]
    assert {name: len(rows) for name, rows in made.groups.items()} == {"rest": 2, "matrix": 1}


def test_nothing_is_allocated():
    huge = {"w": jax.ShapeDtypeStruct((1_000_000, 1_000_000), F32)}
    before = len(jax.live_arrays())
    made = summarize(momentum(0.5), huge)
    assert len(jax.live_arrays()) == before
    assert made.state_bytes == 4 * 10**12
    assert "3.6 TiB" in str(made)


def test_it_runs_on_arrays_and_on_traced_parameters():
    params = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), PARAMS)
    seen = []

    def init(params):
        seen.append(summarize(momentum(0.5), params))
        return params

    jax.eval_shape(init, params)
    assert seen[0] == summarize(momentum(0.5), params) == summarize(momentum(0.5), PARAMS)


def test_no_parameters_at_all():
    assert str(summarize(momentum(0.5), {})).endswith("0 B belong to no parameter")
