"""Kinds of weight decay in every optimizer that decays."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimizer_rows import ROWS

import optx_aliases
from optx_core import apply_updates, cautious_decay, independent_decay, stateless

PARAMS = {"w": jnp.asarray([[1.0, -0.5], [0.25, 2.0]]), "b": jnp.asarray([0.5, -2.0])}
GRADS = {"w": jnp.asarray([[1.0, 0.5], [-0.25, 2.0]]), "b": jnp.asarray([0.5, 2.0])}


def decay_of(name):
    """The name of an optimizer's argument for its weight decay, or None."""
    made = getattr(optx_aliases, name)
    parameters = inspect.signature(made).parameters if inspect.isfunction(made) else ()
    return next((p for p in ("weight_decay", "weight_decay_rate") if p in parameters), None)


DECAYING = sorted(name for name in optx_aliases.__all__ if decay_of(name))
# They compute with the number: an estimate of a distance, a model of the loss, a mean of decayed gradients.
REFUSE = {"dadapt_adamw", "mechanize", "momo", "momo_adam", "novograd", "prodigy", "scale_by_novograd"}  # fmt: skip


def updates_of(name, decay):
    make = getattr(optx_aliases, name)
    parameters = inspect.signature(make).parameters
    first = next(iter(parameters.values()))
    arguments = {decay_of(name): decay}
    if first.default is inspect.Parameter.empty:
        arguments[first.name] = 0.1
    if name == "sophia":
        arguments["hessian_diagonal_fn"] = CURVATURE
    tx = make(**arguments)
    extra = {"value": jnp.float32(1.0), "obj_fn": lambda p: jnp.sum(p["w"] ** 2)}
    return tx.update(GRADS, tx.init(PARAMS), PARAMS, **extra)[0]


CURVATURE = stateless(lambda updates, params: jax.tree.map(jnp.square, updates))


@pytest.mark.parametrize("name", sorted(set(DECAYING) - REFUSE))
def test_every_optimizer_that_decays_by_add_decayed_weights_takes_a_cautious_decay(name):
    # Taken for a schedule, it would raise an error.
    made = jax.eval_shape(functools.partial(updates_of, name, cautious_decay(0.1)))
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, PARAMS)


@pytest.mark.parametrize("name", ["lion", "muon", "adafactor"])
def test_a_cautious_decay_is_all_of_it_or_none_entry_by_entry(name):
    cautious, plain, none = (updates_of(name, decay) for decay in (cautious_decay(0.1), 0.1, 0.0))
    agrees = none["w"] * PARAMS["w"] <= 0  # updates are to be added
    np.testing.assert_allclose(cautious["w"], jnp.where(agrees, plain["w"], none["w"]), rtol=1e-6)
    assert 0 < agrees.sum() < 4


@pytest.mark.parametrize("name", sorted(REFUSE))
def test_where_a_cautious_decay_is_impossible_it_is_refused(name):
    with pytest.raises(TypeError, match=r"cautious_decay\(.*\) is no schedule but a kind of"):
        updates_of(name, cautious_decay(0.1))


@pytest.mark.parametrize("make", [optx_aliases.adamw, optx_aliases.lion, optx_aliases.muon])
def test_an_independent_decay_is_not_multiplied_by_the_learning_rate(make):
    for rate in (1e-3, 0.5):
        tx = make(rate, weight_decay=independent_decay(0.01, rate))
        zeros = jax.tree.map(jnp.zeros_like, PARAMS)
        updates, _ = tx.update(zeros, tx.init(PARAMS), PARAMS)
        after = apply_updates(PARAMS, updates)["w"]
        np.testing.assert_allclose(after, 0.99 * PARAMS["w"], rtol=1e-6)


def test_the_rows_show_each_kind():
    assert {"adamw, cautious decay", "adamw, corrected decay", "adamw, independent decay"} <= set(
        ROWS
    )
