"""The effective learning rate and the numbers of every optimizer, with schedules and plateaus."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimizer_rows import ROWS

import optx_aliases
from optx_core import (
    chain,
    diloco,
    flatten,
    hyperparams,
    inject_hyperparams,
    learning_rates,
    master_weights,
    metrics,
    offload,
    per_slice,
    scale,
    tree,
)
from optx_core.build import call_of
from optx_schedules import reduce_on_plateau

PARAMS = {"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)}


def halving(count):
    return 0.5 ** (1 + jnp.asarray(count, float))


RATED = [
    name
    for name in ROWS
    if "," not in name and "learning_rate" in getattr(call_of(ROWS[name].make()), "arguments", ())
]


@pytest.mark.parametrize("name", RATED)
def test_the_learning_rate_of_every_optimizer_is_that_of_its_call(name):
    tx = ROWS[name].make()
    given = call_of(tx).arguments["learning_rate"]
    if not isinstance(given, float):
        pytest.skip("none is given")
    if name == "schedule_free_radam":
        given = 0.0  # rectification leaves the first steps out
    if name in ("prodigy", "dadapt_adamw", "dadapt_sgd"):
        given *= call_of(tx).arguments["estim_lr0"]  # its own estimate is a factor
    rates = jax.jit(lambda params: learning_rates(tx, tx.init(params)))(PARAMS)
    assert rates
    for rate in rates.values():
        assert float(rate) == pytest.approx(given)


@pytest.mark.parametrize(
    "name", ["adamw", "sgd", "lion", "adafactor", "muon", "schedule_free_adamw"]
)
def test_a_schedule_is_read_at_the_count_of_the_state(name):
    tx = getattr(optx_aliases, name)(halving)
    state = tx.init(PARAMS)
    for _ in range(2):
        _, state = tx.update(PARAMS, state, PARAMS)
    assert float(hyperparams(tx, state)["learning_rate"]) == pytest.approx(0.125)
    assert [float(rate) for rate in learning_rates(tx, state).values()] == pytest.approx([0.125])


def test_a_schedule_that_was_started_again_is_read_where_it_is():
    tx = optx_aliases.adamw(halving)
    state = tx.init(PARAMS)
    for _ in range(3):
        _, state = tx.update(PARAMS, state, PARAMS)
    again = tree.set(state, **{"ScaleByScheduleState/count": 0})
    assert float(hyperparams(tx, again)["learning_rate"]) == 0.5
    assert float(learning_rates(tx, again)["learning_rate"]) == 0.5
    assert int(again[0].count) == 3


def test_the_plateau_takes_part_in_the_learning_rate_and_in_the_metrics():
    tx = chain(
        inject_hyperparams(optx_aliases.sgd)(halving), reduce_on_plateau(factor=0.5, patience=1)
    )
    state = tx.init(PARAMS)
    for _ in range(3):
        _, state = tx.update(PARAMS, state, PARAMS, value=1.0)
    assert float(metrics(state)["scale"]) == 0.25
    assert float(learning_rates(tx, state)["learning_rate"]) == 0.25 * 0.0625
    np.testing.assert_allclose(hyperparams(tx, state)["learning_rate"], 0.0625)


def plateau():
    return chain(optx_aliases.sgd(0.5), reduce_on_plateau(factor=0.5, patience=1))


@pytest.mark.parametrize(
    "wrap",
    [flatten, lambda tx: per_slice(tx, 0), offload, master_weights, optx_aliases.quantize_state],
    ids=["flatten", "per_slice", "offload", "master_weights", "quantize_state"],
)
@pytest.mark.parametrize("make", [lambda: optx_aliases.prodigy(0.5), plateau])
def test_a_wrapper_counts_the_factors_inside_once(make, wrap):
    def after_three(tx):
        state = tx.init(PARAMS)
        for _ in range(3):
            _, state = tx.update(PARAMS, state, PARAMS, value=1.0)
        return float(learning_rates(tx, state)["learning_rate"])

    assert after_three(wrap(make())) == pytest.approx(after_three(make()))


@pytest.mark.parametrize(
    ("wrap", "names"),
    [
        (lambda one, other: diloco(one, other, 2), ("inner", "outer")),
        (optx_aliases.sam, ("optimizer", "adv_optimizer")),
    ],
)
def test_two_transformations_in_a_wrapper_have_a_rate_each(wrap, names):
    tx = wrap(optx_aliases.sgd(0.3), optx_aliases.sgd(0.7))
    rates = learning_rates(tx, tx.init(PARAMS))
    one, other = (f"{name}/learning_rate" for name in names)
    assert rates == {one: pytest.approx(0.3), other: pytest.approx(0.7)}
    assert hyperparams(tx, tx.init(PARAMS)) == rates


def test_the_factors_of_the_optimizer_inside_do_not_scale_the_steps_of_a_hyperball():
    tx = optx_aliases.hyperball(optx_aliases.prodigy(0.5), 0.1)
    assert learning_rates(tx, tx.init(PARAMS)) == {"learning_rate": pytest.approx(0.1)}


@pytest.mark.parametrize(
    "make",
    [
        lambda: optx_aliases.mechanize(optx_aliases.sgd(0.5), s_init=0.1),
        lambda: optx_aliases.schedule_free(
            optx_aliases.prodigy(0.5, (0.0, 0.0), estim_lr0=0.01), 0.7
        ),
        lambda: optx_aliases.schedule_free(optx_aliases.sgd(0.5), 0.7),
        lambda: chain(optx_aliases.schedule_free(optx_aliases.sign_sgd(0.5), 0.5), scale(0.5)),
    ],
    ids=[
        "mechanize",
        "schedule_free, prodigy",
        "schedule_free, sgd",
        "schedule_free, then a factor",
    ],
)
def test_the_learning_rate_of_a_wrapper_is_that_of_the_step_it_takes(make):
    tx = make()
    ones = jax.tree.map(jnp.ones_like, PARAMS)  # equal to their signs, for which Adam divides by 1
    updates, state = tx.update(ones, tx.init(PARAMS), PARAMS)
    rate = learning_rates(tx, state)["learning_rate"]
    assert float(updates["bias"][0]) == pytest.approx(-float(rate), rel=1e-3)


@pytest.mark.parametrize("name", ["muon", "dion2"])
def test_the_group_with_a_learning_rate_of_its_own_has_the_name_of_its_argument(name):
    tx = getattr(optx_aliases, name)(0.5, adam_learning_rate=halving)
    state = tx.init(PARAMS)
    _, state = tx.update(PARAMS, state, PARAMS)
    rates = learning_rates(tx, state)
    assert rates == {"learning_rate": 0.5, "adam_learning_rate": 0.25}
    assert rates.items() <= hyperparams(tx, state).items()
