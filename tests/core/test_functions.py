"""Micro-batches, safe norms and small helpers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import (
    TreeMismatchError,
    all_finite,
    apply_updates,
    merge_params,
    micro_grad,
    micro_vmap,
    microbatch,
    reshape_batch_axis,
    safe_increment,
    safe_norm,
    safe_root_mean_squares,
    scale_gradient,
)


def loss(w, x, y):
    return jnp.mean((x @ w - y) ** 2)


W = jnp.asarray([0.5, -1.0, 2.0])
BATCH = jnp.asarray(np.random.default_rng(0).normal(size=(12, 3)), jnp.float32)
TARGETS = jnp.sum(BATCH, axis=1)


@pytest.mark.parametrize("size", [1, 3, 4, 12])
def test_the_gradient_of_slices_is_that_of_the_batch(size):
    expected = jax.grad(loss)(W, BATCH, TARGETS)
    made = jax.jit(micro_grad(loss, size, batch_argnums=(1, 2)))(W, BATCH, TARGETS)
    np.testing.assert_allclose(made, expected, rtol=1e-5)
    value, made = micro_grad(loss, size, batch_argnums=(1, 2), return_value=True)(W, BATCH, TARGETS)
    np.testing.assert_allclose(value, loss(W, BATCH, TARGETS), rtol=1e-5)
    np.testing.assert_allclose(made, expected, rtol=1e-5)


def test_sums_statistics_and_auxiliary_output_are_reduced_too():
    total = lambda w, x, y: jnp.sum((x @ w - y) ** 2)
    made = micro_grad(total, 4, batch_argnums=(1, 2), reduction="sum")(W, BATCH, TARGETS)
    np.testing.assert_allclose(made, jax.grad(total)(W, BATCH, TARGETS), rtol=1e-5)
    each = jnp.stack([jax.grad(loss)(W, BATCH[k::3], TARGETS[k::3]) for k in range(3)])
    told = micro_grad(loss, 4, batch_argnums=(1, 2), reduction="statistics")(W, BATCH, TARGETS)
    np.testing.assert_allclose(told.mean, each.mean(0), rtol=1e-5)
    np.testing.assert_allclose(told.variance, each.var(0), rtol=1e-4)
    assert told.count == 3
    with_aux = lambda w, x, y: (loss(w, x, y), {"mean": jnp.mean(x)})
    grads, aux = micro_grad(with_aux, 4, batch_argnums=(1, 2), has_aux=True)(W, BATCH, TARGETS)
    np.testing.assert_allclose(grads, jax.grad(loss)(W, BATCH, TARGETS), rtol=1e-5)
    np.testing.assert_allclose(aux["mean"], jnp.mean(BATCH), atol=1e-6)


def test_bf16_gradients_are_summed_in_float32():
    ones = jnp.ones((4096, 1), jnp.bfloat16)
    made = micro_grad(lambda w, x: jnp.sum(w * x), 1, reduction="sum")(
        jnp.ones((), jnp.bfloat16), ones
    )
    assert (made.dtype, float(made)) == (jnp.bfloat16, 4096.0)


def test_a_batch_is_mapped_in_slices():
    f = lambda x, w: jnp.tanh(x @ w)
    np.testing.assert_allclose(
        micro_vmap(f, 4)(BATCH, W), jax.vmap(f, in_axes=(0, None))(BATCH, W), rtol=1e-6
    )
    made = microbatch(lambda x: x.sum(1), 3, in_axes=1, reduction="stack")(BATCH.T)
    assert made.shape == (4, 3)


@pytest.mark.parametrize(
    ("batch", "size", "message"),
    [
        (
            {"x": jnp.ones((6, 2))},
            4,
            r"microbatch_size=4 does not divide the 6 examples of batch\['x'\]",
        ),
        ({"x": jnp.ones(6), "y": jnp.ones(5)}, 1, "axis 0 must have the same size everywhere"),
        ({"x": jnp.ones(())}, 1, r"axis 0 must have the same size everywhere: batch\['x'\]: None"),
    ],
)
def test_a_batch_that_cannot_be_sliced_is_refused_by_path(batch, size, message):
    with pytest.raises(ValueError, match=message):
        reshape_batch_axis(batch, size)


def test_norms_have_a_floor_and_a_gradient_that_is_never_nan():
    assert safe_norm(jnp.zeros(3), 1e-3) == pytest.approx(1e-3)
    assert safe_norm(jnp.asarray([3.0, 4.0]), 1.0, ord=1) == 7.0
    np.testing.assert_allclose(
        safe_norm(jnp.ones((2, 4)), 0.0, axis=1, keepdims=True), [[2.0], [2.0]]
    )
    for f in (safe_norm, safe_root_mean_squares):
        np.testing.assert_array_equal(jax.grad(lambda x, f=f: f(x, 0.0))(jnp.zeros(2)), [0.0, 0.0])
    np.testing.assert_allclose(
        jax.grad(lambda x: safe_norm(x, 0.0, ord=1))(jnp.zeros(2)), [0.0, 0.0]
    )


def test_small_helpers():
    assert not all_finite({"a": jnp.ones(1), "b": jnp.asarray(jnp.nan), "n": jnp.int32(1)})
    assert all_finite({})
    assert safe_increment(jnp.int32(2**31 - 1)) == 2**31 - 1
    for wrong in (True, 1j):
        with pytest.raises(ValueError, match="safe_increment: a count must be an integer, not"):
            safe_increment(wrong)
    f = lambda x: scale_gradient({"x": x}, -2.0)["x"] ** 2
    assert (float(f(3.0)), float(jax.grad(f)(3.0))) == (9.0, -12.0)
    assert jax.jvp(f, (3.0,), (1.0,))[1] == -12.0


def checkpoints(dtype=jnp.float32, count=5):
    """The iterates of a run with a constant learning rate, and the updates between them."""
    rng = np.random.default_rng(0)
    start = {"w": jnp.asarray(rng.normal(size=(2, 3)), dtype), "n": None, "k": jnp.arange(2)}
    moves = [
        {"w": jnp.asarray(rng.normal(size=(2, 3)), dtype), "n": None, "k": None}
        for _ in range(1, count)
    ]
    made = [start]
    for move in moves:
        made.append({**apply_updates(made[-1], move), "k": made[-1]["k"] + 1})
    return made, moves


def square_root(j):
    return 1 - np.sqrt(j / 5)


@pytest.mark.parametrize("decay", [None, square_root, lambda j: float(j < 2), lambda j: 1.0])
def test_merging_is_the_decay_of_the_updates_between_the_checkpoints(decay):
    made, moves = checkpoints()
    weights = [1 - j / 5 if decay is None else decay(j) for j in range(5)]
    expected = sum(
        (w * np.asarray(move["w"], np.float64) for w, move in zip(weights[1:], moves, strict=True)),
        np.asarray(made[0]["w"], np.float64),
    )
    merged = merge_params(made, decay)
    np.testing.assert_allclose(merged["w"], expected, rtol=1e-5, atol=1e-6)
    assert merged["n"] is None
    assert merged["k"].tolist() == [4, 5]


def test_merged_checkpoints_are_averaged_in_float32_and_are_not_changed():
    made, _ = checkpoints(jnp.bfloat16, 3)
    before = [np.asarray(params["w"], np.float32) for params in made]
    merged = merge_params(made)["w"]
    assert merged.dtype == jnp.bfloat16
    expected = jnp.asarray(np.mean(before, axis=0)).astype(jnp.bfloat16)
    np.testing.assert_array_equal(np.asarray(merged, np.float32), np.asarray(expected, np.float32))
    for params, old in zip(made, before, strict=True):
        np.testing.assert_array_equal(np.asarray(params["w"], np.float32), old)
    alone = merge_params(made[:1])
    np.testing.assert_array_equal(np.asarray(alone["w"], np.float32), before[0])


@pytest.mark.parametrize(
    ("decay", "message"),
    [
        (lambda j: 0.5, "decay must fall from 1 to no less than 0, but is 0.5, 0.5"),
        (lambda j: 1.0 + j, "but is 1, 2"),
        (lambda j: 1.0 - 2 * j, "but is 1, -1"),
        (lambda j: np.nan, "but is nan, nan"),
    ],
)
def test_a_decay_that_is_none_is_refused(decay, message):
    with pytest.raises(ValueError, match=message):
        merge_params([{"w": jnp.ones(1)}] * 2, decay)


def test_checkpoints_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="merge_params: there are no checkpoints"):
        merge_params([])
    with pytest.raises(TreeMismatchError, match=r"\['w'\] is \(2,\), the old one is \(1,\)"):
        merge_params([{"w": jnp.ones(1)}, {"w": jnp.ones(2)}])
