"""Groups of parameters: labels on any container, frozen ones, torch's lists of dicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax import nnx
from optx_core import (
    add_decayed_weights,
    chain,
    inject_hyperparams,
    masked,
    partition,
    scale_by_learning_rate,
    trace,
)
from optx_flax import freeze, hyperparams, label_params, mask, param_groups, set_hyperparam


class Block(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first = nnx.Linear(2, 3, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(3, 1, use_bias=False, rngs=rngs)])


@pytest.fixture
def model():
    return Block()


def by_path(tree):
    """The leaves by path, as strings."""
    return {
        "/".join(str(getattr(k, "key", k)) for k in path): x
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }


def moved(model, tx):
    """How far each parameter goes in one update by gradients of one."""
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    before = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    optimizer.update(model, jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param)))
    after = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    far = jax.tree.map(lambda a, b: round(float(jnp.max(a - b)), 4), before, after)
    return by_path(far), optimizer


def rate(learning_rate):
    return scale_by_learning_rate(learning_rate)


FAST_AND_SLOW = {"fast": rate(1.0), "slow": rate(0.1)}
RULES = {r"bias$": "fast", r".": "slow"}
EXPECTED = {"first/bias": 1.0, "first/kernel": 0.1, "layers/0/kernel": 0.1}
LABELS = {
    "labels of a module": lambda m: label_params(m, RULES),
    "labels of a state": lambda m: label_params(nnx.state(m, nnx.Param), RULES),
    "labels of a pure dict": lambda m: label_params(
        nnx.to_pure_dict(nnx.state(m, nnx.Param)), RULES
    ),
    "by a function of path and value": lambda m: label_params(
        m, lambda path, p: "fast" if "bias" in path else "slow"
    ),
    "labels in Variables": lambda m: jax.tree.map(
        lambda p: "fast" if p.ndim == 1 else "slow", nnx.state(m, nnx.Param)
    ),
    "a prefix": lambda m: {"first": {"bias": "fast", "kernel": "slow"}, "layers": "slow"},
    "a function of the parameters": lambda m: lambda params: label_params(params, RULES),
    "a prefix by a function": lambda m: (
        lambda params: {
            "first": {"bias": "fast", "kernel": "slow"},
            "layers": "slow",
        }
    ),
}


@pytest.mark.parametrize("name", LABELS)
def test_partition_takes_labels_on_any_container(model, name):
    assert moved(model, partition(FAST_AND_SLOW, LABELS[name](model)))[0] == EXPECTED


@pytest.mark.parametrize("name", LABELS)
def test_and_for_parameters_in_any_container(model, name):
    labels = LABELS[name](model)
    tx = partition(FAST_AND_SLOW, labels)
    for params in (
        nnx.as_pure(nnx.state(model, nnx.Param)),
        nnx.to_pure_dict(nnx.state(model, nnx.Param)),
    ):
        updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
        assert {k: round(-float(jnp.max(u)), 4) for k, u in by_path(updates).items()} == EXPECTED


@pytest.mark.parametrize(
    "rule",
    [r"kernel$", lambda path, p: p.ndim > 1, [r"first/kernel", nnx.PathContains("layers")]],
    ids=["a regular expression", "a function", "a list"],
)
def test_masked_takes_masks_by_path(model, rule):
    tx = chain(masked(add_decayed_weights(1.0), mask(model, rule)), rate(1.0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    kernel = np.asarray(model.first.kernel[...])
    model.first.bias[...] = jnp.ones(3)
    optimizer.update(model, jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param)))
    np.testing.assert_array_equal(model.first.bias[...], 1.0)
    np.testing.assert_allclose(model.first.kernel[...], kernel - kernel)
    np.testing.assert_array_equal(model.layers[0].kernel[...], 0.0)


def test_labels_of_another_model_are_an_error_with_the_paths(model):
    labels = label_params(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), {".": "fast"})
    with pytest.raises(ValueError, match="no label for first/bias, first/kernel, layers/0/kernel"):
        nnx.Optimizer(model, partition({"fast": rate(1.0)}, labels), wrt=nnx.Param)


def test_frozen_parameters_do_not_move_and_own_nothing(model):
    tx = freeze(model, [r"kernel$"], chain(trace(0.9), rate(1.0)))
    far, optimizer = moved(model, tx)
    assert far == {"first/bias": 1.0, "first/kernel": 0.0, "layers/0/kernel": 0.0}
    assert [x.shape for x in jax.tree.leaves(nnx.as_pure(optimizer.opt_state))] == [(3,)]
    assert freeze(model, r"kernel$", trace(0.9)) == freeze(model, r"kernel$", trace(0.9))
    with pytest.raises(ValueError, match="'kernels' matches no parameter"):
        freeze(model, "kernels", trace(0.9))


def test_frozen_parameters_may_have_no_gradient_at_all(model):
    trained = nnx.All(nnx.Param, nnx.Not(nnx.PathContains("layers")))
    optimizer = nnx.Optimizer(model, chain(trace(0.9), rate(1.0)), wrt=trained)
    kept = np.asarray(model.layers[0].kernel[...])
    grads = nnx.grad(lambda m: jnp.sum(m.first.kernel[...]), argnums=nnx.DiffState(0, trained))(
        model
    )
    assert "layers" not in grads
    optimizer.update(model, grads)
    np.testing.assert_array_equal(model.layers[0].kernel[...], kept)


def test_groups_have_settings_of_their_own(model):
    groups = [{"params": r"bias$", "learning_rate": 1.0}, {"learning_rate": 0.1}]
    assert moved(model, param_groups(model, groups, rate))[0] == EXPECTED
    named = [
        {"params": [r"first/bias", r"layers"], "name": "some"},
        {"params": nnx.PathContains("first"), "learning_rate": 2.0, "name": "others"},
    ]
    far, optimizer = moved(model, param_groups(model, named, rate, learning_rate=1.0))
    assert far == {"first/bias": 1.0, "first/kernel": 2.0, "layers/0/kernel": 1.0}
    assert hyperparams(optimizer) == {
        "some/learning_rate": 1.0,
        "others/learning_rate": 2.0,
    }


def test_a_group_can_be_changed_between_steps(model):
    groups = [{"params": r"bias$", "learning_rate": 1.0}, {}]
    tx = param_groups(model, groups, inject_hyperparams(scale_by_learning_rate), learning_rate=0.1)
    far, optimizer = moved(model, tx)
    assert far == EXPECTED
    set_hyperparam(optimizer, "learning_rate", 0.5, label="1")
    before = np.asarray(model.first.kernel[...])
    optimizer.update(model, jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param)))
    np.testing.assert_allclose(before - model.first.kernel[...], 0.5, rtol=1e-6)


MISTAKES = {
    "no groups": ([], ValueError, "there are no groups"),
    "torch's lr": (
        [{"params": ".", "lr": 0.1}],
        TypeError,
        r"scale_by_learning_rate has no argument 'lr' \(use learning_rate\)",
    ),
    "an unknown argument": (
        [{"params": ".", "rate": 0.1}],
        TypeError,
        "group 0: scale_by_learning_rate has no argument 'rate'; its arguments are learning_rate",
    ),
    "the rest, not last": (
        [{"learning_rate": 0.1}, {"params": "."}],
        ValueError,
        "group 0 has no 'params'",
    ),
    "a name twice": (
        [
            {"params": "bias", "name": "a", "learning_rate": 1.0},
            {"name": "a", "learning_rate": 1.0},
        ],
        ValueError,
        "two groups are called 'a'",
    ),
    "a rule twice": (
        [{"params": "bias", "learning_rate": 1.0}, {"params": "bias", "learning_rate": 2.0}],
        ValueError,
        "the rule 'bias' is in two groups",
    ),
    "an unmatched parameter": (
        [{"params": "bias", "learning_rate": 1.0}],
        ValueError,
        "matches first/kernel, layers/0/kernel",
    ),
    "a group of nobody": (
        [{"params": "embed", "learning_rate": 1.0}, {"learning_rate": 1.0}],
        ValueError,
        "'embed' matches no parameter",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_groups_is_an_error_that_names_the_cure(model, name):
    groups, error, message = MISTAKES[name]
    with pytest.raises(error, match=message):
        param_groups(model, groups, scale_by_learning_rate)
