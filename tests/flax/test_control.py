"""Reading and changing what an optimizer works with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_core
from flax import nnx
from optx_core import (
    apply_if_finite,
    chain,
    global_norm,
    inject_hyperparams,
    monitor,
    multi_steps,
    partition,
    scale_by_learning_rate,
    trace,
    with_ema,
)
from optx_flax import (
    eval_params,
    hyperparams,
    label_params,
    learning_rates,
    metrics,
    set_hyperparam,
)


def made(tx):
    model = nnx.Linear(2, 3, kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
    return model, nnx.Optimizer(model, tx(model) if not hasattr(tx, "init") else tx, wrt=nnx.Param)


def push(model, optimizer):
    optimizer.update(model, jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param)))


def injected(rate=1.0):
    return inject_hyperparams(scale_by_learning_rate)(learning_rate=rate)


def by_kind(model):
    groups = {"k": injected(1.0), "b": injected(2.0)}
    return partition(groups, label_params(model, {"kernel": "k", "bias": "b"}))


def test_a_number_changes_without_compiling_again():
    model, optimizer = made(with_ema(chain(trace(0.0), injected())))
    traced = []

    @nnx.jit
    def step(model, optimizer):
        traced.append(1)
        push(model, optimizer)

    seen = []
    for rate in (1.0, 0.5, 0.25):
        set_hyperparam(optimizer, "learning_rate", rate)
        step(model, optimizer)
        seen.append(float(model.kernel[0, 0]))
    assert seen == [0.0, -0.5, -0.75]
    assert len(traced) == 1
    assert float(hyperparams(optimizer)["learning_rate"]) == 0.25


def test_a_label_says_which_number_is_meant():
    model, optimizer = made(by_kind)
    with pytest.raises(KeyError, match=r"several 'learning_rate'.*choose one with label="):
        set_hyperparam(optimizer, "learning_rate", 0.1)
    set_hyperparam(optimizer, "learning_rate", 0.5, label="k")
    push(model, optimizer)
    np.testing.assert_allclose(model.kernel[...], 0.5)
    np.testing.assert_allclose(model.bias[...], -2.0)


def test_it_works_inside_a_step():
    model, optimizer = made(injected())

    @nnx.jit
    def step(model, optimizer, rate):
        set_hyperparam(optimizer, "learning_rate", rate)
        push(model, optimizer)

    step(model, optimizer, jnp.float32(0.25))
    np.testing.assert_allclose(model.kernel[...], 0.75)


MISTAKES = {
    "not injected": (
        trace(0.9),
        "decay",
        0.5,
        KeyError,
        r"inject_hyperparams\(adamw\)\(learning_rate=1e-3\)",
    ),
    "another name": (
        injected(),
        "lr",
        0.5,
        KeyError,
        r"no 'lr' can be set.*the state has .*'learning_rate'|no 'lr' can be set.*'learning_rate'",
    ),
    "another label": (by_kind, "learning_rate", 0.5, KeyError, "under 'x' can be set"),
    "scheduled": (
        injected(lambda count: 0.5**count),
        "learning_rate",
        0.5,
        ValueError,
        "a schedule sets 'learning_rate' at every step",
    ),
    "another shape": (
        injected(),
        "learning_rate",
        np.ones(2),
        ValueError,
        r"has the shape \(\), not \(2,\)",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_an_error_that_names_the_cure(name):
    tx, number, value, error, message = MISTAKES[name]
    _, optimizer = made(tx)
    with pytest.raises(error, match=message):
        set_hyperparam(
            optimizer, number, value, **({"label": "x"} if name == "another label" else {})
        )


def test_metrics_tell_what_was_measured_and_skipped():
    tx = apply_if_finite(chain(monitor({"norm": global_norm}), injected()), 5)
    model, optimizer = made(multi_steps(tx, 1))
    push(model, optimizer)
    bad = jax.tree.map(lambda p: jnp.full_like(p, jnp.nan), nnx.state(model, nnx.Param))
    optimizer.update(model, bad)
    told = metrics(optimizer)
    np.testing.assert_allclose(told["norm"], 3.0)
    assert int(told["total_notfinite"]) == 1
    assert int(told["gradient_step"]) == 2
    assert float(told["learning_rate"]) == 1.0


def test_a_schedule_is_read_at_the_optimizers_own_count():
    model, optimizer = made(scale_by_learning_rate(lambda count: 0.5**count))
    push(model, optimizer)
    push(model, optimizer)
    assert float(hyperparams(optimizer)["learning_rate"]) == 0.25


def test_a_place_as_hyperparams_names_it_says_which_number_is_meant():
    optimizer = made(lambda model: chain(trace(0.0), by_kind(model)))[1]
    assert set(hyperparams(optimizer)) == {"decay", "1/k/learning_rate", "1/b/learning_rate"}
    set_hyperparam(optimizer, "1/k/learning_rate", 0.5)
    rates = learning_rates(optimizer)
    assert {name: float(rate) for name, rate in rates.items()} == {
        "1/k/learning_rate": 0.5,
        "1/b/learning_rate": 2.0,
    }
    with pytest.raises(KeyError, match="no '0/k/learning_rate' can be set"):
        set_hyperparam(optimizer, "0/k/learning_rate", 0.1)


class Normed(nnx.Module):
    def __init__(self):
        self.norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
        self.head = nnx.Linear(3, 1, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))


def test_the_averages_go_into_a_copy_of_the_model():
    model = Normed()
    tx = chain(scale_by_learning_rate(1.0), with_ema(trace(0.0), 0.5))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    for _ in range(3):
        push(model, optimizer)
    averages = eval_params(model, optimizer)
    params = nnx.state(model, nnx.Param)
    assert jax.tree.structure(averages) == jax.tree.structure(params)
    for average, param in zip(*map(jax.tree.leaves, (averages, params)), strict=True):
        assert average.dtype == param.dtype
    copy = nnx.clone(model)
    nnx.update(copy, averages)
    # 0, −1, −2, −3 with weights 1/8, 1/8, 1/4, 1/2
    assert [float(m.norm.bias[...][0]) for m in (model, copy)] == [-3.0, -2.125]


def test_the_functions_of_the_packages_read_averages_in_flaxs_containers_too():
    model = Normed()
    optimizer = nnx.Optimizer(model, with_ema(trace(0.0), 0.5), wrt=nnx.Param)
    push(model, optimizer)
    params = nnx.state(model, nnx.Param)
    averages = optx_core.eval_params(optimizer.opt_state, params)
    expected = eval_params(model, optimizer)
    assert jax.tree.structure(averages) == jax.tree.structure(params)
    for one, other in zip(*map(jax.tree.leaves, (averages, expected)), strict=True):
        np.testing.assert_array_equal(one, other)
    wider = jax.tree.map(lambda p: jnp.zeros((*p.shape, 1)), params)  # as many arrays
    for others in (nnx.state(model.head, nnx.Param), wider):
        with pytest.raises(
            ValueError, match="eval_params: the averages belong to other parameters"
        ):
            optx_core.eval_params(optimizer.opt_state, others)


def test_an_optimizer_without_an_average_has_none_to_read():
    model, optimizer = made(trace(0.9))
    with pytest.raises(KeyError, match="eval_params: the state contains 0 averages"):
        eval_params(model, optimizer)
