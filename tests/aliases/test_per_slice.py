"""Each optimizer around the layers of a stack moves them as it moves an array for each layer."""

import chex
import jax
import jax.numpy as jnp
import pytest
from optimizer_rows import ROWS

import optx_aliases
from optx_core import Slices, chain, clip_by_global_norm, per_slice

LAYERS = 3
MEASURES = {  # all parameters, or the loss
    *("dadapt_adamw", "dadapt_sgd", "dog", "dowg", "lbfgs", "mechanize", "momo", "momo_adam"),
    *("normalize", "polyak_sgd", "prodigy", "sam", "scale_by_backtracking_linesearch"),
    *("scale_by_zoom_linesearch", "quantize_state"),
}
DRAWS = {"kron", "noisy_sgd", "apollo_mini"}  # random numbers: other ones in each slice
BY_THE_ARRAY = ("lamb", "lars", "fromage", "novograd", "adafactor", "adam_mini", "muon", "soap")


def stacked(k):
    x = jnp.cos(k + jnp.arange(1.0, 1 + LAYERS * 6).reshape(LAYERS, 2, 3))
    return {"w": x, "b": x[:, 0], "one": jnp.sin(k + 1.0)}


def apart(tree):
    layers = [{"w": tree["w"][k], "b": tree["b"][k]} for k in range(LAYERS)]
    return [*layers, tree["one"]]


def run(tx, layout):
    params = layout(stacked(0.0))
    state = tx.init(params)
    for k in (1.0, 2.0):
        updates, state = tx.update(
            layout(stacked(k)),
            state,
            params,
            value=jnp.asarray(1.0),
            grad=layout(stacked(k)),
            value_fn=lambda p: jnp.asarray(1.0),
            grad_fn=lambda p, i: p,
        )
    return updates


def check(name):
    tx = ROWS[name].make()
    updates = jax.jit(lambda: run(per_slice(tx, {"w": 1, "b": 1, "one": 0}), lambda t: t))()
    expected = jax.jit(lambda: run(tx, apart))()
    chex.assert_trees_all_close(apart(updates), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", [name for name in ROWS if name not in BY_THE_ARRAY])
def test_layers_of_a_stack_move_like_arrays_of_their_own(name):
    kind = name.split(",")[0]
    if kind in DRAWS:
        pytest.skip("draws random numbers")
    if kind in MEASURES:
        with pytest.raises(TypeError, match=r"per_slice: .* outside"):
            check(name)
    else:
        check(name)


@pytest.mark.parametrize("name", BY_THE_ARRAY)
def test_norms_and_factors_are_those_of_each_layer(name):
    check(name)


def test_each_head_and_each_block_of_a_fused_weight_has_its_own_norm():
    tx = ROWS["lamb"].make()
    x = jnp.cos(jnp.arange(1.0, 1 + 2 * 3 * 8)).reshape(2, 3, 8)
    params = {"heads": x[0].reshape(3, 2, 4), "qkv": x, "layers": x.reshape(2, 2, 3, 4)}
    slices = {"heads": Slices((1,)), "qkv": Slices((0,), (4, 2, 2)), "layers": 2}
    sliced = per_slice(tx, slices)
    updates, _ = sliced.update(jax.tree.map(jnp.cos, params), sliced.init(params), params)

    def pieces(tree):
        return [
            *(tree["heads"][:, k] for k in range(2)),
            *(part for row in tree["qkv"] for part in jnp.split(row, (4, 6), axis=-1)),
            *tree["layers"].reshape(4, 3, 4),
        ]

    grads = jax.tree.map(jnp.cos, pieces(params))
    expected, _ = tx.update(grads, tx.init(pieces(params)), pieces(params))
    chex.assert_trees_all_close(pieces(updates), expected, rtol=1e-6)


def test_noise_differs_from_slice_to_slice():
    tx = per_slice(ROWS["noisy_sgd"].make(), 1)
    grads = {"w": jnp.zeros((4, 3))}
    updates, _ = tx.update(grads, tx.init(grads), grads)
    assert len({tuple(row) for row in updates["w"].tolist()}) == 4


def test_what_measures_all_parameters_is_put_outside():
    tx = chain(clip_by_global_norm(1.0), per_slice(ROWS["lamb"].make(), {"w": 1, "b": 1, "one": 0}))
    chex.assert_tree_all_finite(run(tx, lambda t: t))


def test_an_argument_that_is_given_whole_is_named_where_it_does_not_fit_a_slice():
    params = {"attention": {"query": jnp.ones((3, 4, 2, 2)), "key": jnp.ones((3, 4, 2, 2))}}
    logits = {"attention": jnp.full((3, 2), 200.0)}
    tx = per_slice(optx_aliases.qk_clip(), 1)
    with pytest.raises(ValueError, match="max_logits") as error:
        tx.update(params, tx.init(params), params, max_logits=logits)
    assert any("per_slice: max_logits is given whole" in note for note in error.value.__notes__)
    outside = chain(per_slice(optx_aliases.sgd(0.1), 1), optx_aliases.qk_clip())
    outside.update(params, outside.init(params), params, max_logits=logits)
