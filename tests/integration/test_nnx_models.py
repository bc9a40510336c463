"""Models of all kinds under our optimizers, against the same arrays in plain dicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax import nnx
from optx_aliases import adamw, lbfgs, sgd
from optx_core import (
    apply_updates,
    chain,
    clip_by_global_norm,
    partition,
    scale_by_learning_rate,
    trace,
)
from optx_flax import compile_step, freeze, label_params, param_groups, trainable, value_fn


@pytest.fixture(autouse=True)
def as_a_user_has_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)
Y = jnp.sin(jnp.sum(X, axis=1, keepdims=True))


class Everything(nnx.Module):
    """BatchNorm, Dropout, a tied weight, a list, a bias that is None, whole numbers, a flag."""

    def __init__(self, rngs):
        self.layers = nnx.List(
            [nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 4, use_bias=False, rngs=rngs)]
        )
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.tied = self.layers[1].kernel
        self.head = nnx.Linear(4, 1, rngs=rngs)
        self.shift = nnx.Variable(jnp.array([1, 2, 3, 4], jnp.int32))
        self.on = nnx.Variable(jnp.array(True))

    def __call__(self, x):
        x = self.dropout(self.norm(self.layers[1](nnx.relu(self.layers[0](x)))))
        x = x @ self.tied[...].T + 0.1 * self.shift[...]
        return jnp.where(self.on[...], self.head(x), 0.0)


def loss_fn(model, x, y):
    return jnp.mean((model(x) - y) ** 2)


def train_step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(loss_fn)(model, x, y)
    optimizer.update(model, grads)
    return loss


def test_a_model_with_everything_trains_as_its_arrays_do():
    tx = chain(clip_by_global_norm(1.0), adamw(1e-2))
    model = Everything(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    graphdef, params, rest = nnx.split(Everything(nnx.Rngs(0)), nnx.Param, ...)
    params, rest = nnx.as_pure(params), nnx.as_pure(rest)
    state = tx.init(params)

    @jax.jit
    def plain_step(params, rest, state):
        def pure(params):
            inner = nnx.merge(graphdef, params, rest)
            return loss_fn(inner, X, Y), nnx.as_pure(nnx.split(inner, nnx.Param, ...)[2])

        (loss, rest), grads = jax.value_and_grad(pure, has_aux=True)(params)
        updates, state = tx.update(grads, state, params)
        return apply_updates(params, updates), rest, state, loss

    with compile_step(train_step, model, optimizer) as step:
        for _ in range(4):
            loss = step(X, Y)
            params, rest, state, expected = plain_step(params, rest, state)
            np.testing.assert_allclose(loss, expected, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        nnx.as_pure(nnx.state(model, nnx.Param)),
        params,
    )
    assert model.tied is model.layers[1].kernel
    np.testing.assert_array_equal(model.shift[...], [1, 2, 3, 4])
    moments = nnx.to_pure_dict(nnx.as_pure(optimizer.opt_state[1][0].mu))
    assert jax.tree.structure(moments) == jax.tree.structure(nnx.to_pure_dict(params))


def test_a_line_search_runs_on_a_model_with_batch_norm_and_dropout():
    model = Everything(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, lbfgs(memory_size=3), wrt=nnx.Param)

    def step_fn(model, optimizer, x, y):
        f = value_fn(model, loss_fn, x, y)  # before the gradient: the same dropout mask
        before = nnx.as_pure(nnx.state(model, nnx.Param))
        loss, grads = nnx.value_and_grad(loss_fn)(model, x, y)
        optimizer.update(model, grads, value=loss, grad=grads, value_fn=f)
        return loss, f(before), f(nnx.state(model, nnx.Param))

    with compile_step(step_fn, model, optimizer) as step:
        seen = [step(X, Y) for _ in range(4)]
    for loss, same, after in seen:
        np.testing.assert_allclose(loss, same, rtol=1e-6)
        assert float(after) < float(loss)  # each search went down, on its own mask
    assert not np.array_equal(model.norm.mean[...], np.zeros(4))
    assert int(model.dropout.rngs.count[...]) == 4


class Counted(nnx.Module):
    """Whole numbers and flags among the parameters themselves."""

    def __init__(self):
        self.w = nnx.Param(jnp.linspace(-1, 1, 6).reshape(3, 2))
        self.counts = nnx.Param(jnp.arange(3, dtype=jnp.int32))
        self.flags = nnx.Param(jnp.array([True, False]))
        self.bias = nnx.Param(None)


@pytest.mark.parametrize("tx", [adamw(0.1), sgd(0.1, 0.9)], ids=["adamw", "sgd"])
def test_integer_and_boolean_parameters_pass_untouched(tx):
    model = Counted()
    optimizer = nnx.Optimizer(model, tx, wrt=trainable)
    slots = [x for x in jax.tree.leaves(nnx.as_pure(optimizer.opt_state)) if x.ndim]
    assert {x.shape for x in slots} == {(3, 2)}

    def step_fn(model, optimizer):
        chosen = nnx.DiffState(0, trainable)
        optimizer.update(model, nnx.grad(lambda m: jnp.sum(m.w[...] ** 2), argnums=chosen)(model))

    before = np.asarray(model.w[...])
    with compile_step(step_fn, model, optimizer) as step:
        step()
        step()
    np.testing.assert_array_equal(model.counts[...], [0, 1, 2])
    np.testing.assert_array_equal(model.flags[...], [True, False])
    assert model.counts[...].dtype == jnp.int32
    assert not np.array_equal(model.w[...], before)


def test_trap_flax_has_no_gradient_for_whole_numbers():
    """`trainable` is for that: with `wrt=nnx.Param` flax fails, first in one place, then in the other."""
    model = Counted()
    model.bias = None
    optimizer = nnx.Optimizer(model, sgd(0.1), wrt=nnx.Param)
    with pytest.raises(TypeError, match="requires real- or complex-valued inputs"):
        nnx.grad(lambda m: jnp.sum(m.w[...] ** 2))(model)
    grads = nnx.grad(lambda m: jnp.sum(m.w[...] ** 2), allow_int=True)(model)
    with pytest.raises(TypeError, match="float0"):
        optimizer.update(model, grads)


def test_two_optimizers_on_disjoint_filters_are_one_with_two_groups():
    def kind(name):
        return nnx.All(nnx.Param, nnx.PathContains(name))

    model, together = nnx.Linear(3, 1, rngs=nnx.Rngs(0)), nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    kernels = nnx.Optimizer(model, adamw(1e-2), wrt=kind("kernel"))
    biases = nnx.Optimizer(model, sgd(1e-1), wrt=kind("bias"))
    labels = label_params(together, {"kernel": "k", "bias": "b"})
    both = nnx.Optimizer(
        together, partition({"k": adamw(1e-2), "b": sgd(1e-1)}, labels), wrt=nnx.Param
    )

    def step_fn(model, kernels, biases, x, y):
        grads = nnx.grad(loss_fn)(model, x, y)
        kernels.update(model, grads)
        biases.update(model, grads)

    with (
        compile_step(step_fn, model, kernels, biases) as one,
        compile_step(train_step, together, both) as other,
    ):
        for _ in range(3):
            one(X, Y)
            other(X, Y)
    np.testing.assert_allclose(model.kernel[...], together.kernel[...], rtol=1e-6)
    np.testing.assert_allclose(model.bias[...], together.bias[...], rtol=1e-6)


def test_an_ensemble_under_vmap_is_its_members():
    tx = chain(trace(0.9), scale_by_learning_rate(0.1))

    @nnx.vmap(in_axes=0, out_axes=0)
    def make(key):
        model = nnx.Linear(3, 1, rngs=nnx.Rngs(key))
        return model, nnx.Optimizer(model, tx, wrt=nnx.Param)

    keys = jax.random.split(jax.random.key(0), 3)
    models, optimizers = make(keys)
    step = nnx.jit(nnx.vmap(train_step, in_axes=(0, 0, None, None)))
    compiled = compile_step(nnx.vmap(train_step, in_axes=(0, 0, None, None)), models, optimizers)
    losses = [step(models, optimizers, X, Y), compiled(X, Y)]
    compiled.sync()
    assert losses[0].shape == (3,)
    np.testing.assert_array_equal(optimizers.step[...], [2, 2, 2])
    for k, key in enumerate(keys):
        model = nnx.Linear(3, 1, rngs=nnx.Rngs(key))
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        for loss in losses:
            np.testing.assert_allclose(train_step(model, optimizer, X, Y), loss[k], rtol=1e-5)
        np.testing.assert_allclose(models.kernel[k], model.kernel[...], rtol=1e-5)


@pytest.mark.parametrize("how", ["groups", "frozen"])
def test_groups_and_frozen_parts_of_a_model_with_everything(how):
    model = Everything(nnx.Rngs(0))
    if how == "groups":
        groups = [{"params": r"norm|bias$", "weight_decay": 0.0}, {"weight_decay": 0.1}]
        tx = param_groups(model, groups, adamw, learning_rate=1e-2)
    else:
        tx = freeze(model, [r"^layers/", r"^norm/"], adamw(1e-2))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    for _ in range(2):
        train_step(model, optimizer, X, Y)
    after = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, after)
    assert moved["head"] == {"bias": True, "kernel": True}
    assert moved["layers"][0]["kernel"] == (how == "groups")
