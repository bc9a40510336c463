"""`per_slice` with transformations of the core: layouts of states, absent leaves, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import (
    EmptyState,
    MaskedNode,
    Slices,
    TreeMismatchError,
    add_noise,
    apply_if_finite,
    chain,
    clip_by_block_rms,
    clip_by_global_norm,
    diloco,
    hyperparams,
    inject_hyperparams,
    partition,
    per_slice,
    scale,
    summarize,
    trace,
    tree,
)
from optx_core.build import wrapping


def test_the_state_is_that_of_the_transformation_inside():
    params = {"w": jnp.ones((3, 2, 4)), "b": jnp.ones(4), "n": jnp.arange(2), "none": None}
    tx, inner = (
        per_slice(chain(trace(0.9), clip_by_block_rms(1.0)), {"w": 2, "b": 0, "n": 1, "none": 1}),
        trace(0.9),
    )
    state = tx.init(params)
    assert jax.tree.map(jnp.shape, state[0]) == jax.tree.map(jnp.shape, inner.init(params))
    assert tree.get(state, "trace")["w"].shape == (3, 2, 4)


def test_a_none_gradient_leaves_an_array_and_its_state_alone_with_and_without_parameters():
    params = {"a": jnp.ones((2, 3)), "b": jnp.ones((2, 3))}
    tx = per_slice(trace(0.9), 1)
    _, state = tx.update(params, tx.init(params), params)
    for given in (params, None):
        updates, new = tx.update({"a": None, "b": params["b"]}, state, given)
        assert updates["a"] is None
        np.testing.assert_array_equal(new.trace["a"], state.trace["a"])
        np.testing.assert_allclose(new.trace["b"], 1.9)


def test_slices_of_random_numbers_differ_and_the_key_is_one():
    tx = per_slice(add_noise(0.1, 0.5, key=0), {"w": 2, "b": 0})
    zeros = {"w": jnp.zeros((2, 3, 4)), "b": jnp.zeros(4)}
    state = tx.init(zeros)
    updates, new = tx.update(zeros, state)
    again, _ = tx.update(zeros, new)
    assert len(np.unique(np.concatenate([updates["w"].ravel(), again["w"].ravel()]))) == 48
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert [x.shape for x in jax.tree.leaves(new)] == [x.shape for x in jax.tree.leaves(state)]


def test_hyperparameters_and_tables_see_through_it():
    tx = per_slice(inject_hyperparams(scale)(0.5), 1)
    params = {"w": jnp.ones((2, 3))}
    assert float(hyperparams(tx, tx.init(params))["step_size"]) == 0.5
    assert "w" in str(summarize(tx, params))


def test_labels_of_arrays_outside_the_slice_are_not_missed():
    labels = {"w": "a", "b": "b"}
    tx = per_slice(
        partition({"a": scale(2.0), "b": scale(3.0)}, lambda p: labels), {"w": 1, "b": 0}
    )
    ones = {"w": jnp.ones((2, 3)), "b": jnp.ones(2)}
    updates, _ = tx.update(ones, tx.init(ones), ones)
    assert (float(updates["w"][0, 0]), float(updates["b"][0])) == (2.0, 3.0)


@pytest.mark.parametrize(
    ("inner", "why"),
    [
        (clip_by_global_norm(1.0), "takes the norm of all parameters"),
        (apply_if_finite(scale(1.0), 3), "each slice would have its own"),
        (diloco(scale(1.0), trace(0.9), 2, fragments=2), "belongs to several parameters"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_measures_more_than_a_slice_is_refused(inner, why):
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones((2, 3))}
    tx = per_slice(inner, {"w": 1, "b": 0})
    with pytest.raises(TypeError, match=f"per_slice: .*{why}"):
        tx.update(params, tx.init(params), params)


def test_a_line_search_is_refused():
    tx = per_slice(chain(reads_the_loss()), 1)
    params = {"w": jnp.ones((2, 3))}
    with pytest.raises(TypeError, match=r"per_slice: .* calls value_fn"):
        tx.update(params, tx.init(params), params, value_fn=lambda p: 0.0)


def reads_the_loss():
    def update(updates, state, params=None, *, value_fn, **_):
        return tree.scale(value_fn(params), updates), state

    return wrapping(lambda params: EmptyState(), update)


@pytest.mark.parametrize(
    ("slices", "error", "text"),
    [
        (3, ValueError, r"per_slice: the parameter\['w'\] of shape \(2, 4\) has no axis 2"),
        (-1, TypeError, r"the parameter\['w'\]: slices must be the number .* not -1"),
        (True, TypeError, "not True"),
        (1.0, TypeError, "not 1.0"),
        (Slices((0, -2)), ValueError, "names an axis of .* twice"),
        (Slices((2,)), ValueError, "has no axis 2"),
        (Slices((), (1, 2)), ValueError, r"the sizes \(1, 2\) add up to 3, axis 1 has 4"),
        (Slices((1,), (1, 3)), ValueError, "cuts an axis of the stack"),
        ({"v": 1}, ValueError, "no label for w"),
    ],
    ids=repr,
)
def test_wrong_slices_are_refused_by_the_path(slices, error, text):
    with pytest.raises(error, match=text):
        per_slice(scale(1.0), slices).init({"w": jnp.ones((2, 4))})


def test_slices_check_their_own_numbers():
    with pytest.raises(TypeError, match="axes must be a tuple of ints, not 1"):
        Slices(1)
    with pytest.raises(ValueError, match="sizes must be positive"):
        Slices((0,), (1, 0))


def test_a_state_of_another_transformation_is_refused():
    params = {"w": jnp.ones((2, 3))}
    with pytest.raises(TreeMismatchError, match="per_slice: state is EmptyState, not TraceState"):
        per_slice(trace(0.9), 1).update(params, scale(1.0).init(params), params)


def test_masked_nodes_and_none_pass_through():
    params = {"w": jnp.ones((2, 3)), "m": MaskedNode(), "n": None}
    tx = per_slice(trace(0.9), {"w": 1, "m": 1, "n": 2})
    updates, _ = tx.update(params, tx.init(params), params)
    assert updates["m"] == MaskedNode()
    assert updates["n"] is None
