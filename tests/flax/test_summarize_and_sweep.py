"""The table and the range test of `optx_core`, for NNX models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax import nnx
from optx_core import chain, clip_by_global_norm, inject_hyperparams, scale_by_learning_rate, trace
from optx_flax import digest, find_learning_rate, freeze, learning_rates, param_groups, summarize


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(2, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.last = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(self.drop(jax.nn.relu(self.norm(self.first(x)))))


def sgd(learning_rate, momentum=0.9):
    return chain(trace(momentum), scale_by_learning_rate(learning_rate))


def grouped(model):
    groups = [{"params": r"bias$|norm", "learning_rate": 0.5}, {"learning_rate": 0.25}]
    return chain(clip_by_global_norm(1.0), param_groups(model, groups, inject_hyperparams(sgd)))


def test_the_table_has_the_paths_of_rules():
    model = Net(nnx.Rngs(0))
    tx = grouped(model)
    made = summarize(model, tx)
    rates = {row.path: float(row.hyperparams["learning_rate"]) for row in made.rows}
    assert rates == {
        "first/bias": 0.5,
        "first/kernel": 0.25,
        "last/bias": 0.5,
        "last/kernel": 0.25,
        "norm/bias": 0.5,
        "norm/scale": 0.5,
    }
    assert all(row.state_bytes == 4 * np.prod(row.shape) for row in made.rows)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    assert summarize(model, optimizer) == made
    assert str(made).startswith("parameter")
    size = sum(
        x.size * x.dtype.itemsize
        for x in jax.tree.leaves(nnx.state(optimizer, nnx.OptState)["opt_state"])
    )
    assert made.state_bytes == size
    assert len(learning_rates(optimizer)) == 2


def test_abstract_models_and_states_of_parameters_serve():
    model = Net(nnx.Rngs(0))
    abstract = nnx.eval_shape(lambda: Net(nnx.Rngs(0)))
    tx = chain(trace(0.9), scale_by_learning_rate(0.1))
    assert summarize(abstract, tx) == summarize(model, tx)
    assert summarize(nnx.state(model, nnx.Param), tx) == summarize(model, tx)


def test_frozen_parameters_are_told():
    model = Net(nnx.Rngs(0))
    made = summarize(model, freeze(model, r"^first", trace(0.9)))
    assert {row.path for row in made.groups["frozen"]} == {"first/bias", "first/kernel"}
    assert all(row.state_bytes == 0 for row in made.groups["frozen"])


def test_arguments_in_another_order_are_refused():
    with pytest.raises(TypeError, match=r"call summarize\(model, optimizer\)"):
        summarize(trace(0.9), Net(nnx.Rngs(0)))


def loss(model, batch):
    x, y = batch
    return jnp.mean((model(x) - y) ** 2)


def batches(count):
    for k in range(count):
        x = jax.random.normal(jax.random.key(k), (16, 2))
        yield x, x[:, :1] - x[:, 1:]


def test_the_sweep_changes_neither_the_model_nor_its_statistics_nor_its_keys():
    model = Net(nnx.Rngs(0))
    before = digest(model)
    made = find_learning_rate(sgd, loss, model, batches(40), low=1e-4, high=100.0, steps=40)
    assert digest(model) == before
    assert made.diverged
    assert 1e-3 < made.suggestion < 10.0


def test_statistics_and_keys_go_on_in_the_copy():
    model = Net(nnx.Rngs(0))
    seen = []

    def told(model, batch):
        value = loss(model, batch)
        key = model.drop.rngs.count[...]
        jax.debug.callback(lambda n: seen.append(int(n)), key, ordered=True)
        return value

    find_learning_rate(sgd, told, model, batches(4), low=1e-4, high=1e-3, steps=4)
    jax.effects_barrier()
    assert seen == [seen[0] + k for k in range(4)]


def test_a_part_of_the_model_is_trained():
    model = Net(nnx.Rngs(0))
    wrt = nnx.All(nnx.Param, nnx.PathContains("last"))
    made = find_learning_rate(sgd, loss, model, batches(5), low=1e-4, high=1e-3, steps=5, wrt=wrt)
    assert made.losses.shape == (5,)


def test_arguments_in_the_wrong_order_are_refused_on_one_line():
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    with pytest.raises(
        TypeError, match=r"not Linear\( .*; call summarize\(model, optimizer\)"
    ) as error:
        summarize(trace(0.9), model)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250
