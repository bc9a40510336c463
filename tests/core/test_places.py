"""One naming of places for `hyperparams`, `metrics`, `learning_rates` and `tree.get`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from optx_core import (
    EmptyState,
    GradientTransformation,
    GradientTransformationExtraArgs,
    MultiSteps,
    apply_if_finite,
    build,
    chain,
    clip,
    clip_by_global_norm,
    ema,
    freeze,
    global_norm,
    hyperparams,
    inject_hyperparams,
    learning_rates,
    masked,
    metrics,
    monitor,
    multi_steps,
    named_chain,
    offload,
    partition,
    per_slice,
    scale,
    scale_by_learning_rate,
    scale_by_schedule,
    selective_transform,
    trace,
    tree,
    with_ema,
    zero1,
)
from optx_core.build import LeafStep, leafwise, recorded

PARAMS = {"w": jnp.ones(2), "b": jnp.ones(3)}
LABELS = {"w": "a", "b": "c"}
MASK = {"w": True, "b": False}


def halving(count):
    return 0.5 ** jnp.asarray(count, float)


def rising(count):
    return 1.0 + jnp.asarray(count, float)


class DampedState(NamedTuple):
    damping: build.Factor


@recorded
def damped(damping=0.25):
    """Scales the updates by a number in its state."""
    return leafwise(
        lambda flow, state, params, **_: LeafStep(
            lambda g, *, factor: factor * g,
            operands={"factor": state.damping},
            close=lambda: state,
        ),
        lambda params: DampedState(jnp.float32(damping)),
    )


@recorded
def momentum_sgd(learning_rate):
    """An optimizer made of parts that are hidden behind its call."""
    return chain(trace(0.9), scale_by_learning_rate(learning_rate))


@recorded
def two_schedules(decay: build.Real, learning_rate: build.Real):
    """Its learning rate has the second count."""
    return chain(scale_by_schedule(decay), scale_by_learning_rate(learning_rate))


injected = inject_hyperparams(momentum_sgd)
groups = partition({"a": injected(0.5), "c": momentum_sgd(halving)}, LABELS)

# name: (the optimizer, its learning rates after two updates)
RATES = {
    "a number": (momentum_sgd(0.5), {"learning_rate": 0.5}),
    "a schedule": (momentum_sgd(halving), {"learning_rate": 0.25}),
    "scale": (chain(trace(0.9), scale(-0.5)), {"learning_rate": 0.5}),
    "scale_by_schedule": (
        chain(scale_by_schedule(halving), scale(-1.0)),
        {"learning_rate": 0.25},
    ),
    "ascent": (scale_by_learning_rate(0.5, flip_sign=False), {"learning_rate": -0.5}),
    "clipped": (chain(clip(1.0), momentum_sgd(0.5), clip(1.0)), {"learning_rate": 0.5}),
    "scaled afterwards": (chain(momentum_sgd(0.5), scale(0.5)), {"learning_rate": 0.25}),
    "gradients scaled before": (chain(scale(0.5), momentum_sgd(0.5)), {"learning_rate": 0.5}),
    "a factor in the state": (chain(momentum_sgd(0.5), damped()), {"learning_rate": 0.125}),
    "injected": (injected(0.5), {"learning_rate": 0.5}),
    "injected schedule": (injected(halving), {"learning_rate": 0.25}),
    "injected, a factor, a schedule": (
        chain(injected(0.5), damped(), scale_by_schedule(halving)),
        {"learning_rate": 0.5 * 0.25 * 0.25},
    ),
    "groups": (groups, {"a/learning_rate": 0.5, "c/learning_rate": 0.25}),
    "groups, then a factor": (
        chain(clip(1.0), groups, damped()),
        {"1/a/learning_rate": 0.125, "1/c/learning_rate": 0.0625},
    ),
    "names": (
        named_chain(("x", groups), ("y", scale(0.5))),
        {"x/a/learning_rate": 0.25, "x/c/learning_rate": 0.125},
    ),
    "a mask": (
        chain(momentum_sgd(0.5), masked(scale(0.5), MASK)),
        {"1/True/learning_rate": 0.25, "1/False/learning_rate": 0.5},
    ),
    "frozen": (
        chain(momentum_sgd(0.5), freeze(MASK)),
        {"1/True/learning_rate": 0.0, "1/False/learning_rate": 0.5},
    ),
    "the others trained": (
        selective_transform(momentum_sgd(0.5), freeze_mask=MASK),
        {"train/learning_rate": 0.5, "freeze/learning_rate": 0.0},
    ),
    "accumulated": (multi_steps(momentum_sgd(halving), 2), {"learning_rate": 0.5}),
    "accumulated by optax's name": (MultiSteps(momentum_sgd(halving), 2), {"learning_rate": 0.5}),
    "MultiSteps in a chain": (
        chain(clip(1.0), MultiSteps(momentum_sgd(0.5), 2)),
        {"learning_rate": 0.5},
    ),
    "wrapped": (with_ema(apply_if_finite(momentum_sgd(halving), 2), 0.9), {"learning_rate": 0.25}),
    "optax's pair": (GradientTransformation(*momentum_sgd(halving)), {"learning_rate": 0.25}),
    "no learning rate": (chain(trace(0.9), clip(1.0)), {}),
}


def after_two(tx):
    def run(params):
        state = tx.init(params)
        for _ in range(2):
            _, state = tx.update(params, state, params)
        return state

    return jax.jit(run)(PARAMS)


@pytest.mark.parametrize("name", RATES)
def test_the_effective_learning_rate_is_the_product_of_all_factors(name):
    tx, expected = RATES[name]
    state = after_two(tx)
    rates = learning_rates(tx, state)
    assert {place: float(rate) for place, rate in rates.items()} == pytest.approx(expected)
    traced = jax.jit(lambda state: learning_rates(tx, state))(state)
    assert {place: float(rate) for place, rate in traced.items()} == pytest.approx(expected)


@pytest.mark.parametrize(
    "name", ["a schedule", "injected, a factor, a schedule", "groups, then a factor"]
)
def test_the_effective_learning_rate_is_what_a_step_is_multiplied_by(name):
    tx, _ = RATES[name]
    state = after_two(tx)
    last = tree.map_params(tx, jnp.zeros_like, state)  # no momentum
    updates, _ = tx.update(jax.tree.map(lambda p: 0.1 * p, PARAMS), last, PARAMS)
    rates = learning_rates(tx, last)
    by_leaf = {
        "w": rates.get("1/a/learning_rate", rates.get("learning_rate")),
        "b": rates.get("1/c/learning_rate", rates.get("learning_rate")),
    }
    for leaf, rate in by_leaf.items():
        assert float(updates[leaf][0]) == pytest.approx(-0.1 * float(rate))


def test_what_no_recorded_function_made_has_no_learning_rate():
    with pytest.raises(TypeError, match=r"learning_rates: .* was not made by a recorded function"):
        learning_rates(GradientTransformation(lambda p: EmptyState(), None), ())


def test_numbers_in_the_state_have_one_name_in_all_readings():
    twin = partition({"a": injected(0.5), "c": injected(0.25)}, LABELS)
    tx = chain(clip_by_global_norm(1.0), twin)
    state = tx.init(PARAMS)
    names = {"1/a/learning_rate", "1/c/learning_rate"}
    assert {name for name in hyperparams(tx, state) if "learning_rate" in name} == names
    assert set(metrics(state)) == names
    assert set(learning_rates(tx, state)) == names
    for name in names:
        assert float(tree.get(state, name)) == float(hyperparams(tx, state)[name])
        assert float(metrics(state)[name]) == float(hyperparams(tx, state)[name])
        lowered = tree.set(state, **{name: 0.125})
        assert float(learning_rates(tx, lowered)[name]) == 0.125


def test_groups_are_found_by_label_after_jax_has_sorted_them():
    twin = {"z": injected(0.5), "a": injected(0.25)}
    for tx in (
        partition(twin, {"w": "z", "b": "a"}),
        named_chain(*twin.items()),
        chain(partition(twin, {"w": "z", "b": "a"})),
    ):
        state = jax.tree.map(jnp.copy, tx.init(PARAMS))
        read = hyperparams(tx, state)
        rates = {name.split("/")[-2]: float(read[name]) for name in read if "learning" in name}
        assert rates == {"z": 0.5, "a": 0.25}
        assert {k: read[k] for k in metrics(state)} == metrics(state)


def test_measurements_of_groups_are_named_by_their_places():
    tx = chain(
        monitor({"norm": global_norm}),
        partition({k: monitor({"norm": global_norm}) for k in "ac"}, LABELS),
    )
    state = tx.init(PARAMS)
    assert set(metrics(state)) == {"0/norm", "1/a/norm", "1/c/norm"}
    for name, value in metrics(state).items():
        assert tree.get(state, name) is value


def test_parts_at_one_place_are_told_apart_by_their_names():
    tx = with_ema(trace(0.5), 0.9)
    assert hyperparams(tx, tx.init(PARAMS)) == {"with_ema/decay": 0.9, "trace/decay": 0.5}
    twice = apply_if_finite(apply_if_finite(scale(1.0), 2), 3)
    read = metrics(twice.init(PARAMS))
    assert set(read) == {
        f"{owner}/{name}"
        for owner in ("ApplyIfFiniteState", "ApplyIfFiniteState[1]")
        for name in ("notfinite_count", "last_finite", "total_notfinite")
    }
    assert len({id(value) for value in read.values()}) == len(read)


def test_a_schedule_is_read_at_the_count_of_its_own_part():
    tx = chain(clip(1.0), two_schedules(rising, halving))
    state = after_two(tx)
    moved = (state[0], (state[1][0]._replace(count=jnp.int32(7)), state[1][1]))
    read = hyperparams(tx, moved)
    assert float(read["decay"]) == 8.0
    assert float(read["learning_rate"]) == 0.25
    assert float(learning_rates(tx, moved)["learning_rate"]) == 8.0 * 0.25
    again = (state[0], (state[1][0], state[1][1]._replace(count=jnp.int32(0))))
    assert float(hyperparams(tx, again)["learning_rate"]) == 1.0
    assert float(hyperparams(tx, again)["decay"]) == 3.0


def test_the_numbers_of_multi_steps_under_optax_name_can_be_read():
    tx = MultiSteps(chain(ema(0.9), scale_by_learning_rate(0.5)), 2)
    assert hyperparams(tx, tx.init(PARAMS)) == {"decay": 0.9, "learning_rate": 0.5}
    outer = chain(clip(1.0), tx)
    assert hyperparams(outer, outer.init(PARAMS))["decay"] == 0.9
    pair = GradientTransformationExtraArgs(*scale_by_learning_rate(0.5))
    assert hyperparams(pair, pair.init(PARAMS)) == {"learning_rate": 0.5}


def by_size(params):
    return jax.tree.map(lambda p: "a" if p.size > 2 else "c", params)


def is_large(params):
    return jax.tree.map(lambda p: p.size > 2, params)


scheduled = chain(trace(0.9), scale_by_learning_rate(halving))


@pytest.mark.parametrize(
    "tx",
    [
        partition({"a": scheduled, "c": scheduled}, by_size),
        masked(scheduled, is_large),
        chain(scheduled, freeze(is_large)),
    ],
    ids=["partition", "masked", "freeze"],
)
def test_functions_that_choose_parameters_are_no_schedules(tx):
    names = {name.split("/")[-1] for name in hyperparams(tx, tx.init(PARAMS))}
    assert names == {"decay", "learning_rate"}


@pytest.mark.parametrize("wrap", [lambda tx: with_ema(tx, 0.9), lambda tx: apply_if_finite(tx, 2)])
def test_the_parts_of_a_named_chain_in_a_wrapper_are_read(wrap):
    tx = wrap(named_chain(("x", clip(1.0)), ("y", scheduled)))
    state = tx.init(PARAMS)
    assert float(hyperparams(tx, state)["learning_rate"]) == 1.0
    assert float(learning_rates(tx, state)["learning_rate"]) == 1.0


def grouped(rate=0.3):
    return partition({"a": momentum_sgd(rate), "c": momentum_sgd(halving)}, LABELS)


@pytest.mark.parametrize(
    "wrap",
    [
        offload,
        lambda inner: per_slice(inner, 0),
        lambda inner: zero1(inner, "data", mesh=jax.make_mesh((1,), ("data",))),
    ],
    ids=["offload", "per_slice", "zero1"],
)
@pytest.mark.parametrize(
    "make",
    [
        lambda: inject_hyperparams(momentum_sgd)(halving),
        grouped,
        lambda: masked(grouped(), True),
        lambda: with_ema(inject_hyperparams(grouped)(0.3), 0.9),
        lambda: multi_steps(momentum_sgd(halving), 1),
    ],
    ids=["injected", "partition", "masked partition", "averaged", "accumulated"],
)
def test_a_wrapper_whose_state_is_the_inner_ones_changes_no_names_or_numbers(wrap, make):
    for read in (hyperparams, learning_rates):
        expected, given = (
            read(tx, tx.update(PARAMS, tx.init(PARAMS), PARAMS)[1]) for tx in (make(), wrap(make()))
        )
        assert expected or read is hyperparams
        assert {k: float(x) for k, x in given.items()} == {k: float(x) for k, x in expected.items()}
