"""Each optimizer moves the kernels of Flax's attention as the matrices that they are."""

import pathlib

import chex
import jax
import jax.numpy as jnp
import pytest
from attention_kernels import attention
from optimizer_rows import ROWS

from optx_aliases import scale_by_adam_mini, scale_by_muon
from optx_aliases._matrix.attention import attention_axes
from optx_core import per_slice

BY_AXES = {  # what keeps numbers for axes
    "adafactor": "factors the two largest axes",
    "adadelta, decay": "decays what has two axes",
    "adam_mini": "one number for each head",
    "came": "factors the two last axes",
    "galore": "projects leaves of two axes, by default",
    "sm3": "one number for each index of each axis",
}
MATRIX = ("muon", "dion2", "soap", "shampoo", "kl_shampoo", "kron", "apollo_mini", "scion")


def plain(given):
    """The same numbers as matrices and vectors, under names that say nothing."""

    def reshaped(path, x):
        layer, leaf = (key.key for key in path[-2:])
        return x.reshape(-1 if leaf == "bias" else (-1, 6) if layer == "out" else (6, -1))

    layers = jax.tree.map_with_path(reshaped, given["block"]["attention"])
    return {"block": {"linear": layers}}


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
@pytest.mark.parametrize(
    "name", [x for x in ROWS if not {x, x.split(",")[0]} & {*BY_AXES, *MATRIX}]
)
def test_kernels_of_attention_move_as_matrices(name):
    check(name)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", MATRIX)
def test_optimizers_of_matrices_know_the_kernels_of_attention(name):
    check(name)


def without(part, given):
    """The tree without the gradient, or without the leaf, of a kernel."""
    rest, role = dict(given["block"]["attention"]), part.removeprefix("gradient of ")
    if role == part:
        del rest[role]
    else:
        rest[role] = dict.fromkeys(rest[role])
    return {"block": {"attention": rest}}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("part", ["gradient of query", "gradient of out", "query", "out"])
@pytest.mark.parametrize("name", MATRIX)
def test_kernels_of_attention_whose_others_are_not_there_are_matrices_too(name, part):
    tx, whole = ROWS[name].make(), attention()
    params = whole if part.startswith("gradient") else without(part, whole)

    def updates(layout):
        given, state = layout(params), tx.init(layout(params))
        for k in (1.0, 2.0):
            grads = layout(without(part, attention(k)))
            moves, state = tx.update(grads, state, given)
        return moves

    ours = jax.jit(lambda: plain(updates(lambda t: t)))()
    expected = jax.jit(lambda: updates(plain))()
    assert jax.tree.leaves(ours)
    chex.assert_trees_all_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_stacks_of_layers_are_no_heads_where_others_are_not_there():
    kernels = {"query": (3, 6, 6), "key": (3, 6, 2), "out": (3, 6, 6)}
    for name, shape in kernels.items():
        assert not attention_axes({name: {"kernel": jnp.ones(shape)}})


def test_a_stack_of_attentions_is_refused_by_muon_with_the_cure():
    stack = jax.tree.map(lambda x: jnp.stack([x, x, x]), attention())
    with pytest.raises(ValueError, match=r"\['out'\]\['kernel'\] of shape .* optx_core.per_slice"):
        scale_by_muon().init(stack)


@pytest.mark.parametrize("name", ["soap", "shampoo", "kl_shampoo", "kron", "apollo_mini"])
def test_a_stack_of_attentions_is_refused_where_it_would_pass_for_convolutions(name):
    stack = jax.tree.map(lambda x: jnp.stack([x, x, x]), attention())
    message = r"\['query'\]\['kernel'\] of shape \(3, 6, 2, 4\) .* optx_core.per_slice"
    with pytest.raises(ValueError, match=message):
        ROWS[name].make().init(stack)
    state = jax.eval_shape(per_slice(ROWS[name].make(), 1).init, stack)
    assert jax.tree.leaves(state)


def test_adam_mini_knows_the_heads_of_an_attention_in_a_layer_named_query():
    named = {"query": attention(), "key": attention()["block"]}
    nu = scale_by_adam_mini().init(named).nu
    for kernels in (nu["query"]["block"]["attention"], nu["key"]["attention"]):
        assert kernels["query"]["kernel"].shape == (1, 2, 1)
        assert kernels["query"]["bias"].shape == (2, 1)
        assert kernels["out"]["kernel"].shape == (1, 1, 6)


@pytest.mark.parametrize("name", ["soap", "kron", "apollo_mini"])
def test_a_single_head_as_wide_as_the_model_is_no_square_slot(name):
    check(name, heads=1, width=6)


def test_their_state_and_updates_lie_on_a_mesh_as_the_kernels_do(on_devices):
    on_devices(pathlib.Path(__file__).with_name("attention_on_four_devices.py"), count=4)
