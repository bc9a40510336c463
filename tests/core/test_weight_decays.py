"""Kinds of weight decay, in place of the number."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import (
    add_decayed_weights,
    apply_updates,
    cautious_decay,
    chain,
    corrected_decay,
    from_config,
    hyperparams,
    independent_decay,
    inject_hyperparams,
    scale_by_learning_rate,
    scale_by_schedule,
    to_config,
    trace,
)
from optx_core.build import Nonnegative, factory

PEAK = 0.2


def rate(count):
    """Rises from 0 to its peak and falls again."""
    count = jnp.asarray(count, jnp.float32)
    return PEAK * jnp.minimum(count, 6 - count) / 3


def halving(count):
    return 0.1 * 0.5 ** jnp.asarray(count, jnp.float32)


def step_of(kind, p, u, eta, decay):
    """One step of the papers."""
    match kind:
        case "decoupled":
            return p - eta * (u + decay * p)
        case "cautious":
            return p - eta * (u + decay * (u * p >= 0) * p)
        case "corrected":
            return p - eta * (u + decay * eta / PEAK * p)
        case "independent":
            return p - eta * u - (decay * p if eta > 0 else 0)
        case "cautious, corrected":
            return p - eta * (u + decay * eta / PEAK * (u * p >= 0) * p)
    raise ValueError(kind)


KINDS = {
    "decoupled": lambda decay: decay,
    "cautious": cautious_decay,
    "corrected": lambda decay: corrected_decay(decay, rate, PEAK),
    "independent": lambda decay: independent_decay(decay, rate),
    "cautious, corrected": lambda decay: cautious_decay(corrected_decay(decay, rate, PEAK)),
}


@pytest.mark.parametrize("decay", [0.1, halving])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_that_of_its_paper(kind, decay):
    start = np.linspace(-1, 1, 9)
    p, momentum = start, np.zeros(9)
    tx = chain(trace(0.9), add_decayed_weights(KINDS[kind](decay)), scale_by_learning_rate(rate))
    params = jnp.asarray(start, jnp.float32)
    state, update = tx.init(params), jax.jit(tx.update)
    for k in range(6):
        g = np.cos(5 * start + k)
        momentum = 0.9 * momentum + g
        now = 0.1 * (0.5**k if decay is halving else 1)
        p = step_of(kind, p, momentum, float(rate(k)), now)
        updates, state = update(jnp.asarray(g, jnp.float32), state, params)
        params = apply_updates(params, updates)
    np.testing.assert_allclose(params, p, rtol=1e-5, atol=1e-6)


def test_agreement_is_that_of_signs_at_every_size_and_of_directions_for_complex_numbers():
    tx = add_decayed_weights(cautious_decay(0.5))

    def decays(u, p):
        u, p = jnp.asarray(u), jnp.asarray(p)
        return (tx.update(u, tx.init(p), p)[0] != u).tolist()

    sizes = [1e-30, 1.0, 1e25]
    assert decays(sizes, sizes) == [True] * 3
    small = jnp.asarray([1e-30, -1e-30])
    assert decays([0.0, 0.0], small) == [True, True]
    assert decays(-small, small) == [False, False]
    assert decays([1.0, 0.0], [0.0, 0.0]) == [False, False]
    # Along, at a right angle (0 counts as agreement), against.
    assert decays([1 + 1j, 1 - 1j, -1 - 1j], [1 + 1j, 1 + 1j, 1 + 1j]) == [True, True, False]
    at_nan = tx.update(jnp.array([jnp.nan, 1.0]), tx.init(None), jnp.array([1.0, jnp.nan]))[0]
    assert np.isnan(at_nan).tolist() == [True, False]


def test_kinds_compare_print_pickle_and_are_data():
    for make in (
        lambda: cautious_decay(0.1),
        lambda: cautious_decay(independent_decay(0.1, 0.5)),
        lambda: corrected_decay(0.1, halving, 1.0),
    ):
        assert make() == make()
        assert pickle.loads(pickle.dumps(make())) == make()
        tx = add_decayed_weights(make())
        assert tx == add_decayed_weights(make())
        assert from_config(to_config(tx, names={"halving": halving}), names={"halving": halving}) == tx  # fmt: skip
    assert repr(cautious_decay(0.1)) == "cautious_decay(weight_decay=0.1)"
    assert cautious_decay(0.1) != cautious_decay(0.2)


def test_the_number_can_be_read():
    for given, expected in (
        (cautious_decay(0.1), 0.1),
        (cautious_decay(halving), 0.05),
        (corrected_decay(0.1, halving, 0.1), 0.05),
        (independent_decay(0.1, halving), 2.0),
    ):
        tx = chain(add_decayed_weights(given), scale_by_schedule(halving))
        _, state = tx.update(jnp.ones(1), tx.init(jnp.ones(1)), jnp.ones(1))
        np.testing.assert_allclose(hyperparams(tx, state)["weight_decay"], expected, rtol=1e-6)


@factory
def own_decay(weight_decay: Nonnegative = 0.1):
    return add_decayed_weights(weight_decay)


def test_what_would_decay_all_entries_instead_is_refused():
    message = r"cautious_decay\(weight_decay=0.1\) is no schedule but a kind of weight decay"
    for make in (own_decay, inject_hyperparams(add_decayed_weights)):
        with pytest.raises(TypeError, match=message):
            make(weight_decay=cautious_decay(0.1)).init(jnp.ones(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cautious_decay(-1.0), "cautious_decay: weight_decay must be at least 0"),
        (lambda: cautious_decay("much"), "cautious_decay: weight_decay must be a number"),
        (lambda: corrected_decay(0.1, 0.1, 0.0), "corrected_decay: peak must be greater than 0"),
        (lambda: corrected_decay(0.1, -0.1, 1.0), "learning_rate must be at least 0"),
        (lambda: independent_decay(-0.1, 0.1), "independent_decay: weight_decay must be at least"),
        (lambda: cautious_decay(cautious_decay(0.1)), "is a cautious_decay already"),
        (lambda: corrected_decay(cautious_decay(0.1), 0.1, 1.0), "which goes around the others"),
    ],
)
def test_numbers_out_of_their_range_are_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
