"""Labels in any container through `nnx.Optimizer` against optax, and what is compiled how often.

The cheat sheet itself is in test_cheat_sheet.py, every optimizer in test_nnx_optimizers.py.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flax import nnx
from optx_aliases import adam, schedule_free_eval_params, schedule_free_sgd, sgd
from optx_core import chain, clip_by_global_norm, partition, scale_by_learning_rate
from optx_flax import eval_params, label_params
from optx_losses import squared_error


@pytest.fixture(autouse=True)
def as_a_user_has_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


class MyModel(nnx.Module):
    def __init__(self, rngs):
        self.l1 = nnx.Linear(3, 4, rngs=rngs)
        self.l2 = nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, x):
        return self.l2(nnx.relu(self.l1(x)))


def mse_loss(model, x_batch, y_batch):
    return squared_error(model(x_batch), y_batch).mean()


@nnx.jit
def train_step(model: MyModel, optimizer: nnx.Optimizer, x_batch, y_batch):
    def loss_fn_for_grad(model_to_train):
        return mse_loss(model_to_train, x_batch, y_batch)

    loss, grads = nnx.value_and_grad(loss_fn_for_grad)(model)
    optimizer.update(model, grads)

    return model, optimizer, loss


X = jnp.asarray(np.random.default_rng(0).normal(size=(16, 3)), jnp.float32)
Y = jnp.sum(X, axis=1, keepdims=True)


def train(tx, steps=5):
    model = MyModel(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx(model) if not hasattr(tx, "init") else tx, wrt=nnx.Param)
    losses = []
    for _ in range(steps):
        model, optimizer, loss_val = train_step(model, optimizer, X, Y)
        losses.append(float(loss_val))
    return losses, nnx.to_pure_dict(nnx.state(model, nnx.Param)), optimizer


def test_two_equal_optimizers_are_traced_once():
    traced = []

    @nnx.jit
    def step(model, optimizer):
        traced.append(1)
        optimizer.update(model, nnx.grad(lambda m: mse_loss(m, X, Y))(model))

    for _ in range(2):
        model = MyModel(nnx.Rngs(0))
        step(
            model, nnx.Optimizer(model, chain(clip_by_global_norm(1.0), adam(1e-3)), wrt=nnx.Param)
        )
    assert len(traced) == 1


# The cheat sheet's partition. Its label function, untouched:


def label_fn(path, param):
    return "biases" if "bias" in path else "kernels"


TRANSFORMS = {"kernels": adam(learning_rate=1e-4), "biases": sgd(learning_rate=1e-3)}


LABELS = {
    "nnx.map_state": lambda m: nnx.map_state(label_fn, nnx.state(m, nnx.Param)),
    "keystr": lambda m: jax.tree_util.tree_map_with_path(
        lambda path, p: label_fn(jax.tree_util.keystr(path), p), nnx.state(m, nnx.Param)
    ),
    "label_params": lambda m: label_params(m, {r"bias$": "biases", r"kernel$": "kernels"}),
    "prefix": lambda m: {"l1": {"bias": "biases", "kernel": "kernels"}, "l2": "kernels"},
    "function": lambda m: (
        lambda params: jax.tree_util.tree_map_with_path(
            lambda path, p: label_fn(jax.tree_util.keystr(path), p), params
        )
    ),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_in_any_container_train_through_nnx_optimizer(name):
    losses, params, _ = train(lambda m: partition(TRANSFORMS, LABELS[name](m)))
    assert losses[-1] < losses[0]
    labels = {"l1": {"bias": "b", "kernel": "k"}, "l2": {"bias": "b", "kernel": "k"}}
    if name == "prefix":
        labels["l2"] = {"bias": "k", "kernel": "k"}
    theirs = optax.partition({"k": optax.adam(1e-4), "b": optax.sgd(1e-3)}, labels)
    model = MyModel(nnx.Rngs(0))
    graph, state = nnx.split(model, nnx.Param)
    plain = nnx.to_pure_dict(state)
    opt_state = theirs.init(plain)
    for _ in losses:

        def loss_fn(plain):
            nnx.replace_by_pure_dict(state, plain)
            return mse_loss(nnx.merge(graph, state), X, Y)

        updates, opt_state = theirs.update(jax.grad(loss_fn)(plain), opt_state, plain)
        plain = optax.apply_updates(plain, updates)
    chex.assert_trees_all_close(params, plain, rtol=1e-5, atol=1e-6)


def test_the_learning_rate_enters_the_compiled_step_as_a_number():
    def first(rate):
        tx = scale_by_learning_rate(rate)
        return tx.update(jnp.ones(1), tx.init(None))[0]

    compiled = []
    step = jax.jit(lambda rate: compiled.append(1) or first(rate))
    assert [float(step(r)[0]) for r in (0.5, 0.25)] == [-0.5, -0.25]
    assert len(compiled) == 1


def test_the_averages_of_schedule_free_are_read_for_a_model():
    model, x = MyModel(nnx.Rngs(0)), X
    optimizer = nnx.Optimizer(model, schedule_free_sgd(0.1), wrt=nnx.Param)
    for _ in range(5):
        train_step(model, optimizer, x, Y)
    averages = eval_params(model, optimizer, schedule_free_eval_params)
    params = nnx.as_pure(nnx.state(model, nnx.Param))
    expected = schedule_free_eval_params(nnx.as_pure(optimizer.opt_state), params)
    chex.assert_trees_all_equal(nnx.as_pure(averages), expected)
    copy = nnx.clone(model)
    nnx.update(copy, averages)
    assert float(jnp.abs(copy.l1.kernel[...] - model.l1.kernel[...]).max()) > 1e-4
