"""Each optimizer moves the kernels of Flax's attention as the matrices that they are."""

import pathlib

import chex
import jax
import jax.numpy as jnp
import pytest
from attention_kernels import attention
from optimizer_rows import ROWS

BY_AXES = {  # what keeps numbers for axes
    "adafactor": "factors the two largest axes",
    "adam_mini": "one number for each head",
    "came": "factors the two last axes",
    "galore": "projects leaves of two axes, by default",
    "sm3": "one number for each index of each axis",
}
MATRIX = ("muon", "dion2", "soap", "shampoo", "kl_shampoo", "kron", "apollo_mini", "scion")


def plain(given):
    """The same numbers as matrices, under names that say nothing."""
    kernels = given["block"]["attention"]
    return {
        "block": {
            "linear": {
                name: {"kernel": x["kernel"].reshape((-1, 6) if name == "out" else (6, -1))}
                for name, x in kernels.items()
            }
        }
    }


def run(tx, layout, **sizes):
    params = layout(attention(**sizes))
    state = tx.init(params)
    for k in (1.0, 2.0):
        grads = layout(attention(k, **sizes))
        updates, state = tx.update(
            grads,
            state,
            params,
            value=jnp.asarray(1.0),
            grad=grads,
            value_fn=lambda p: jnp.asarray(1.0),
            grad_fn=lambda p, i: p,
        )
    return updates


def check(name, **sizes):
    tx = ROWS[name].make()
    updates = jax.jit(lambda: plain(run(tx, lambda t: t, **sizes)))()
    expected = jax.jit(lambda: run(tx, plain, **sizes))()
    chex.assert_trees_all_close(updates, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", [x for x in ROWS if x.split(",")[0] not in (*BY_AXES, *MATRIX)])
def test_kernels_of_attention_move_as_matrices(name):
    check(name)


@pytest.mark.parametrize("name", MATRIX)
def test_optimizers_of_matrices_know_the_kernels_of_attention(name):
    check(name)


@pytest.mark.parametrize("name", ["soap", "kron", "apollo_mini"])
def test_a_single_head_as_wide_as_the_model_is_no_square_slot(name):
    check(name, heads=1, width=6)


def test_their_state_and_updates_lie_on_a_mesh_as_the_kernels_do(on_devices):
    on_devices(pathlib.Path(__file__).with_name("attention_on_four_devices.py"), count=4)
