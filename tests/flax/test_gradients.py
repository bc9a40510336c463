"""Gradients over micro-batches, and the loss as a function of the parameters."""

import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax import nnx
from optx_core import scale_by_learning_rate
from optx_flax import compile_step, micro_value_and_grad, value_fn


@pytest.fixture(autouse=True)
def as_a_user_has_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


class Model(nnx.Module):
    def __init__(self, normed=False, dropped=False, dtype=jnp.float32):
        rngs = nnx.Rngs(0)
        self.linear = nnx.Linear(3, 4, rngs=rngs, param_dtype=dtype)
        self.norm = nnx.BatchNorm(4, rngs=rngs, momentum=0.5) if normed else None
        self.dropout = nnx.Dropout(0.5, rngs=rngs) if dropped else None
        self.seen = nnx.Variable(jnp.array(0))

    def __call__(self, x):
        self.seen[...] += 1
        x = self.linear(x)
        x = self.norm(x) if self.norm is not None else x
        return self.dropout(x) if self.dropout is not None else x


X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)
Y = jnp.sin(X[:, :1])


def mean_loss(model, x, y):
    return jnp.mean((model(x) - y) ** 2)


def sum_loss(model, x, y):
    return jnp.sum((model(x) - y) ** 2)


@pytest.mark.parametrize(("loss_fn", "reduction"), [(mean_loss, "mean"), (sum_loss, "sum")])
@pytest.mark.parametrize("size", [2, 8])
def test_slices_give_the_gradient_of_the_whole_batch(loss_fn, reduction, size):
    model = Model()
    run = micro_value_and_grad(loss_fn, size, reduction=reduction)
    loss, grads = nnx.jit(run)(model, X, Y)
    assert int(model.seen[...]) == 8 // size
    expected, expected_grads = nnx.value_and_grad(loss_fn)(Model(), X, Y)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert jax.tree.structure(grads) == jax.tree.structure(expected_grads)
    chex.assert_trees_all_close(grads, expected_grads, rtol=1e-4, atol=0.0)


def test_auxiliary_output_is_reduced_too():
    run = micro_value_and_grad(
        lambda m, x, y: (mean_loss(m, x, y), {"x": jnp.mean(x)}), 4, has_aux=True
    )
    (_, aux), _ = run(Model(), X, Y)
    np.testing.assert_allclose(aux["x"], jnp.mean(X), rtol=1e-5)


def test_gradients_of_bf16_parameters_are_summed_in_float32():
    model = Model(dtype=jnp.bfloat16)

    def loss_fn(model, x):
        return jnp.sum(model.linear.bias[...]) * jnp.sum(x)

    x = jnp.array([256.0, 1.0, 1.0, 1.0], jnp.bfloat16)[:, None]
    _, grads = micro_value_and_grad(loss_fn, 1, reduction="sum")(model, x)
    assert grads["linear"]["bias"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(grads["linear"]["bias"][...], np.float32), 260.0)


def test_batch_statistics_and_random_streams_go_from_slice_to_slice():
    model, expected = Model(normed=True, dropped=True), Model(normed=True, dropped=True)
    micro_value_and_grad(mean_loss, 2)(model, X, Y)
    for k in range(4):  # slice k holds the examples k and k + 4
        mean_loss(expected, X[k::4], Y[k::4])
    np.testing.assert_allclose(model.norm.mean[...], expected.norm.mean[...], rtol=1e-5)
    assert int(model.dropout.rngs.count[...]) == int(expected.dropout.rngs.count[...])


def test_micro_batches_inside_a_compiled_step():
    model = Model()
    optimizer = nnx.Optimizer(model, scale_by_learning_rate(0.1), wrt=nnx.Param)

    def step_fn(model, optimizer, x, y):
        loss, grads = micro_value_and_grad(mean_loss, 2)(model, x, y)
        optimizer.update(model, grads)
        return loss

    with compile_step(step_fn, model, optimizer) as step:
        losses = [float(step(X, Y)) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert int(model.seen[...]) == 20


def test_eight_devices_reduce_their_gradients_once(on_devices):
    script = pathlib.Path(__file__).with_name("gradients_on_eight_devices.py")
    assert on_devices(script).strip().endswith("ok")


def test_mistakes_with_micro_batches_are_errors():
    with pytest.raises(ValueError, match="reduction must be 'mean' or 'sum', not 'max'"):
        micro_value_and_grad(mean_loss, 2, reduction="max")
    with pytest.raises(ValueError, match="microbatch_size=3 does not divide the 8 examples"):
        micro_value_and_grad(mean_loss, 3)(Model(), X, Y)

    def sows(model, x, y):
        model.hidden = nnx.Intermediate(x)
        return mean_loss(model, x, y)

    with pytest.raises(ValueError, match=r"hidden.* appeared in loss_fn.*nnx\.pop"):
        micro_value_and_grad(sows, 2)(Model(), X, Y)

    def grows(model, x, y):
        model.seen.set_value(jnp.zeros(3))
        return jnp.sum(x)

    with pytest.raises(
        ValueError, match=r"seen of the model was int32\[\], after loss_fn it is float32"
    ):
        micro_value_and_grad(grows, 2)(Model(), X, Y)


def test_the_value_function_is_the_loss_that_was_differentiated():
    model = Model(normed=True, dropped=True)
    f = value_fn(model, mean_loss, X, Y)
    before = jax.tree.map(np.asarray, nnx.as_pure(nnx.state(model, nnx.BatchStat)))
    loss, grads = nnx.value_and_grad(mean_loss)(model, X, Y)
    params = nnx.state(model, nnx.Param)
    for form in (params, nnx.as_pure(params), nnx.to_pure_dict(params)):
        np.testing.assert_array_equal(f(form), loss)
    ours = jax.grad(f)(nnx.as_pure(params))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        ours,
        nnx.as_pure(grads),
    )
    moved = jax.tree.map(
        lambda a, b: not np.array_equal(a, b), before, nnx.as_pure(nnx.state(model, nnx.BatchStat))
    )
    assert all(jax.tree.leaves(moved))  # by the gradient's pass, and by no evaluation of f
    assert int(model.seen[...]) == 1


def test_a_plain_merge_fails_where_the_value_function_serves():
    model = Model(normed=True)
    graphdef, params, _ = nnx.split(model, nnx.Param, ...)
    with pytest.raises(ValueError, match=r"(?i)path|missing|leaves"):
        nnx.merge(graphdef, params)
    assert np.isfinite(float(value_fn(model, mean_loss, X, Y)(params)))


def test_the_value_function_takes_an_auxiliary_output_and_refuses_other_parameters():
    f = value_fn(Model(), lambda m, x, y: (mean_loss(m, x, y), x), X, Y, has_aux=True)
    assert f(nnx.state(Model(), nnx.Param)).shape == ()
    with pytest.raises(ValueError, match="the model has 2 parameters, got 1; wrt= must be"):
        f({"linear": {"bias": jnp.zeros(4)}})
