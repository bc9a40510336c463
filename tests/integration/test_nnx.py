"""The cheat sheet's workflow: our optimizers through `nnx.Optimizer` and `nnx.jit`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flax import nnx
from optx_aliases import adam, adamw, rmsprop, sgd
from optx_core import (
    add_decayed_weights,
    apply_updates,
    chain,
    clip_by_global_norm,
    partition,
    scale,
    scale_by_learning_rate,
)
from optx_flax import label_params, mask
from optx_losses import squared_error
from optx_schedules import warmup_cosine_decay_schedule


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


def train(tx, steps=15):
    model = MyModel(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx(model) if not hasattr(tx, "init") else tx, wrt=nnx.Param)
    losses = []
    for _ in range(steps):
        model, optimizer, loss_val = train_step(model, optimizer, X, Y)
        losses.append(float(loss_val))
    return losses, nnx.to_pure_dict(nnx.state(model, nnx.Param)), optimizer


lr_schedule = warmup_cosine_decay_schedule(
    init_value=0.0, peak_value=1e-3, warmup_steps=1000, decay_steps=9000
)
RECIPES = {
    "adam": adam(learning_rate=1e-3),
    "adam with clipping": chain(clip_by_global_norm(1.0), adam(learning_rate=1e-3)),
    "adam with a schedule": adam(learning_rate=lr_schedule),
    "chain() in a chain": chain(chain(), scale(-1e-2)),
    "weight decay and scale": chain(add_decayed_weights(1e-4), scale(-1e-2)),
    "adamw on kernels": lambda m: adamw(1e-3, mask=mask(m, r"kernel$")),
    "adamw on matrices": adamw(1e-3, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
    "sgd": sgd(1e-2, momentum=0.9),
    "rmsprop": rmsprop(1e-3),
}


@pytest.mark.parametrize("name", RECIPES)
def test_an_nnx_model_trains_as_the_same_tree_of_arrays_does(name):
    tx = RECIPES[name]
    losses, params, optimizer = train(tx)
    assert np.isfinite(losses).all()
    model = MyModel(nnx.Rngs(0))
    graph, state = nnx.split(model, nnx.Param)
    plain = nnx.to_pure_dict(state)
    tx = optimizer.tx
    opt_state = tx.init(plain)

    @jax.jit
    def step(plain, opt_state):
        def loss_fn(plain):
            nnx.replace_by_pure_dict(state, plain)
            return mse_loss(nnx.merge(graph, state), X, Y)

        loss, grads = jax.value_and_grad(loss_fn)(plain)
        updates, opt_state = tx.update(grads, opt_state, plain)
        return apply_updates(plain, updates), opt_state, loss

    for _ in losses:
        plain, opt_state, _ = step(plain, opt_state)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), params, plain)


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


def test_the_cheat_sheets_labels_are_an_error_that_names_the_cure():
    model = MyModel(nnx.Rngs(0))
    params = nnx.state(model, nnx.Param)
    param_labels = jax.tree_util.tree_map_with_path(label_fn, params)
    partitioned_opt = partition(transforms=TRANSFORMS, param_labels=param_labels)
    with pytest.raises(
        ValueError, match=r"no parameter is labelled 'biases'.*optx_flax\.label_params"
    ):
        nnx.Optimizer(model, partitioned_opt, wrt=nnx.Param)


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
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), params, plain)


def test_the_learning_rate_enters_the_compiled_step_as_a_number():
    def first(rate):
        tx = scale_by_learning_rate(rate)
        return tx.update(jnp.ones(1), tx.init(None))[0]

    compiled = []
    step = jax.jit(lambda rate: compiled.append(1) or first(rate))
    assert [float(step(r)[0]) for r in (0.5, 0.25)] == [-0.5, -0.25]
    assert len(compiled) == 1
