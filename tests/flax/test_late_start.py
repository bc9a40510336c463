"""Parameters that join later: their moments go with counts of their own."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax import nnx
from optx_core import (
    TreeMismatchError,
    chain,
    clip_by_global_norm,
    ema,
    inject_hyperparams,
    multi_steps,
    partition,
    scale_by_learning_rate,
    with_ema,
)
from optx_core.build import Count, Moment, Positive, Rate, SecondMoment, rule
from optx_flax import (
    abstract_state,
    compile_step,
    freeze,
    hyperparams,
    label_params,
    late_start,
    migrate_opt_state,
    restore_into,
)


class AdamState(NamedTuple):
    count: Count
    mu: Moment
    nu: SecondMoment


@rule(AdamState)
def by_adam(g, s, /, b1: Rate = 0.9, b2: Rate = 0.999, eps: Positive = 1e-8):
    t = s.count
    mu = b1 * s.mu + (1 - b1) * g
    nu = b2 * s.nu + (1 - b2) * g * g
    return mu / (1 - b1**t) / (jnp.sqrt(nu / (1 - b2**t)) + eps), s._replace(mu=mu, nu=nu)


def adam(rate=0.1):
    return chain(by_adam(), scale_by_learning_rate(rate))


class Model(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first = nnx.Linear(3, 3, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(3, 3, rngs=rngs)])


LATE = ("layers/0/bias", "layers/0/kernel")


def gradient(model, step, wrt=nnx.Param):
    """Random gradients that depend on the path and the step alone."""
    pairs, structure = jax.tree.flatten(nnx.state(model, wrt))
    draw = np.random.default_rng(step)
    drawn = [draw.normal(size=(3, 3)) for _ in range(8)]
    return structure.unflatten(
        [
            jnp.asarray(d[: p.size // 3].reshape(p.shape), jnp.float32)
            for p, d in zip(pairs, drawn[: len(pairs)], strict=True)
        ]
    )


def train(model, optimizer, steps):
    """The updates of each step, by path."""
    made = []
    update = nnx.jit(lambda m, o, g: o.update(m, g))
    for step in steps:
        updates = update(model, optimizer, gradient(model, step))
        made.append(
            {"/".join(map(str, path)): np.asarray(u) for path, u in nnx.to_flat_state(updates)}
        )
    return made


OPTIMIZERS = {
    "adam": adam(),
    "a clip before it": chain(clip_by_global_norm(1.0), adam()),
    "injected": inject_hyperparams(adam)(0.1),
    "accumulated": multi_steps(adam(), 2),
    "an average of its updates": chain(ema(0.99, debias=True), scale_by_learning_rate(0.1)),
    "in a group": partition({"all": adam()}, lambda params: jax.tree.map(lambda p: "all", params)),
    "averaged": with_ema(adam(), 0.9),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("serialized", [False, True], ids=["live", "restored"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_unfrozen_parameter_moves_as_with_a_new_optimizer_and_the_others_go_on(name, serialized):
    tx = OPTIMIZERS[name]
    model = Model()
    old = nnx.Optimizer(model, freeze(model, "layers", tx), wrt=nnx.Param)
    train(model, old, range(30))
    other, third = nnx.clone(model), nnx.clone(model)
    new = nnx.Optimizer(model, tx, wrt=nnx.Param)
    given = nnx.to_pure_dict(nnx.state((model, old))) if serialized else old
    report = migrate_opt_state(given, model, new)
    assert report.late == (LATE,)
    got = train(model, new, range(100, 110))
    as_new = train(other, nnx.Optimizer(other, tx, wrt=nnx.Param), range(100, 110))
    as_before = train(third, old, range(100, 110))
    clipped = name == "a clip before it"  # the norm of all gradients, frozen ones too, is the same
    for a, b, c in zip(got, as_new, as_before, strict=True):
        for path in LATE:
            np.testing.assert_allclose(a[path], b[path], rtol=1e-4, atol=1e-7)
        for path in ("first/bias", "first/kernel"):
            if not clipped:
                np.testing.assert_allclose(a[path], c[path], rtol=1e-4, atol=1e-7)


def test_the_situation_that_late_start_is_for():
    """Zero moments with the count of the others: three times the learning rate."""
    params = {"new": jnp.ones(3), "old": jnp.ones(3)}
    tx = adam()
    state = tx.init(params)
    state = (state[0]._replace(count=jnp.int32(1000)), state[1])
    updates, _ = tx.update(params, state, params)
    assert float(-updates["new"][0]) > 0.25
    joined = late_start(tx, "new")
    updates, state = joined.update(params, joined.init(params)._replace(inner_state=state), params)
    np.testing.assert_allclose(-updates["new"], 0.1, rtol=1e-5)
    assert (int(state.counts["0"]["count"]["new"]), int(state.inner_state[0].count)) == (1, 1001)


def test_schedules_go_on_and_can_be_read():
    model = Model()
    tx = adam(lambda count: 1.0 / (1.0 + jnp.float32(count)))
    old = nnx.Optimizer(model, freeze(model, "layers", tx), wrt=nnx.Param)
    train(model, old, range(4))
    new = nnx.Optimizer(model, tx, wrt=nnx.Param)
    migrate_opt_state(old, model, new)
    np.testing.assert_allclose(hyperparams(new)["learning_rate"], 0.2)
    moves = train(model, new, [7])[0]
    np.testing.assert_allclose(np.abs(moves["layers/0/kernel"]), 0.2, rtol=1e-4)


def test_layers_that_are_unfrozen_one_after_another_have_their_own_counts():
    model = Model()
    tx = adam()
    optimizer = nnx.Optimizer(model, freeze(model, [r"bias", "layers"], tx), wrt=nnx.Param)
    for frozen, steps in ((r"bias$", 3), (None, 2)):
        train(model, optimizer, range(steps))
        next_tx = tx if frozen is None else freeze(model, frozen, tx)
        new = nnx.Optimizer(model, next_tx, wrt=nnx.Param)
        report = migrate_opt_state(optimizer, model, new)
        optimizer = new
    train(model, optimizer, range(4))
    assert report.late == (("first/bias", "layers/0/bias"), ("layers/0/kernel",))
    counts = optimizer.opt_state.counts["0"]["count"]
    assert int(optimizer.opt_state.inner_state[0].count[...]) == 9
    assert int(counts["layers"]["0"]["kernel"][...]) == 6
    assert int(counts["first"]["bias"][...]) == 4
    # In groups by age nothing is late: each group has its count.
    labels = label_params(model, {r"first/kernel": "a", r"layers/0/kernel": "b", r".": "c"})
    grouped = nnx.Optimizer(model, partition(dict.fromkeys("abc", tx), labels), wrt=nnx.Param)
    assert migrate_opt_state(optimizer, model, grouped).late == ()
    told = {k: int(grouped.opt_state.inner_states[k].inner_state[0].count[...]) for k in "abc"}
    assert told == {"a": 9, "b": 6, "c": 4}


def test_a_group_of_new_parameters_has_a_count_of_zero():
    model = Model()
    old = nnx.Optimizer(model, freeze(model, "layers", adam()), wrt=nnx.Param)
    train(model, old, range(5))
    groups = partition(
        {"old": adam(), "new": adam()}, label_params(model, {"first": "old", "layers": "new"})
    )
    new = nnx.Optimizer(model, groups, wrt=nnx.Param)
    assert migrate_opt_state(old, model, new).late == ()
    states = new.opt_state.inner_states
    assert int(states["old"].inner_state[0].count[...]) == 5
    assert int(states["new"].inner_state[0].count[...]) == 0


def test_parameters_that_are_added_to_the_model_start_anew():
    model = Model()
    old = nnx.Optimizer(model, adam(), wrt=nnx.Param)
    train(model, old, range(5))
    model.lora = nnx.LoRA(3, 2, 3, rngs=nnx.Rngs(1))
    both = (nnx.Param, nnx.LoRAParam)
    new = nnx.Optimizer(model, adam(), wrt=nnx.Any(*both))
    assert migrate_opt_state(old, model, new).late == (("lora/lora_a", "lora/lora_b"),)
    only = nnx.Optimizer(model, adam(), wrt=nnx.LoRAParam)
    with pytest.raises(ValueError, match="nothing that the new optimizer can use"):
        migrate_opt_state(old, model, only)
    assert int(only.opt_state[0].count[...]) == 0


def damaged():
    model = Model()
    optimizer = nnx.Optimizer(model, adam(), wrt=nnx.Param)
    train(model, optimizer, range(5))
    saved = nnx.to_pure_dict(nnx.state((model, optimizer)))
    del saved[1]["opt_state"][0]["nu"]["layers"][0]["kernel"]
    return saved


def test_moments_that_a_checkpoint_lacks_have_counts_of_their_own():
    model = Model()
    optimizer = nnx.Optimizer(model, adam(), wrt=nnx.Param)
    report = restore_into((model, optimizer), damaged(), strict=False)
    assert report.missing == ("1/opt_state/0/nu/layers/0/kernel",)
    assert report.late == (("layers/0/kernel",),)
    assert "1/opt_state/0/mu/layers/0/kernel" not in report.restored
    # Half of its moments would be with the wrong count: both are new.
    assert (
        float(jnp.max(jnp.abs(optimizer.opt_state.inner_state[0].mu["layers"][0]["kernel"][...])))
        == 0
    )
    moves = train(model, optimizer, [7])[0]
    np.testing.assert_allclose(np.abs(moves["layers/0/kernel"]), 0.1, rtol=1e-4)


@pytest.mark.parametrize("back", [restore_into, None], ids=["restored", "migrated"])
def test_a_checkpoint_says_which_parameters_joined_later(back):
    model = Model()
    optimizer = nnx.Optimizer(model, adam(), wrt=nnx.Param)
    restore_into((model, optimizer), damaged(), strict=False)
    train(model, optimizer, range(2))
    saved = nnx.to_pure_dict(nnx.state((model, optimizer)))
    other = Model()
    fresh = nnx.Optimizer(other, adam(), wrt=nnx.Param)
    if back is None:
        nnx.update(other, nnx.state(model))
        migrate_opt_state(saved, other, fresh)
    else:
        restore_into((other, fresh), saved)
    assert fresh.tx == optimizer.tx == late_start(adam(), ("layers/0/kernel",))
    a, b = train(model, optimizer, [9])[0], train(other, fresh, [9])[0]
    for path in a:
        np.testing.assert_array_equal(a[path], b[path])
    # A checkpoint from before it takes the wrapper off again.
    plain = Model()
    before = nnx.Optimizer(plain, adam(), wrt=nnx.Param)
    restore_into((other, fresh), nnx.to_pure_dict(nnx.state((plain, before))))
    assert fresh.tx == adam()


def test_a_refused_checkpoint_changes_nothing():
    model = Model()
    optimizer = nnx.Optimizer(model, adam(), wrt=nnx.Param)
    restore_into((model, optimizer), damaged(), strict=False)
    saved = nnx.to_pure_dict(nnx.state((model, optimizer)))
    del saved[1]["opt_state"]["inner_state"][0]["count"]
    other = Model()
    fresh = nnx.Optimizer(other, adam(), wrt=nnx.Param)
    with pytest.raises(ValueError, match="missing in the checkpoint"):
        restore_into((other, fresh), saved)
    assert fresh.tx == adam()
    train(other, fresh, range(1))


def test_it_works_in_a_compiled_step_and_has_an_abstract_state():
    model = Model()
    optimizer = nnx.Optimizer(model, late_start(adam(), LATE), wrt=nnx.Param)
    state = nnx.state((model, optimizer))
    assert jax.tree.structure(abstract_state(model, optimizer)) == jax.tree.structure(state)

    def step_fn(model, optimizer):
        grads = nnx.grad(lambda m: m.layers[0](m.first(jnp.ones((1, 3)))).sum())(model)
        optimizer.update(model, grads)

    with compile_step(step_fn, model, optimizer) as step:
        step()
    assert int(optimizer.opt_state.counts["0"]["count"]["layers"]["0"]["bias"][...]) == 1


class Blockwise(NamedTuple):
    inner_state: object
    scales: object


MISTAKES = {
    "no transformation": (lambda: late_start("w"), TypeError, "late_start"),
    "in two cohorts": (lambda: late_start(adam(), "w", ["w"]), ValueError, "w is in two cohorts"),
    "an unknown parameter": (
        lambda: late_start(adam(), "v").init({"w": jnp.ones(2)}),
        TreeMismatchError,
        "no parameter v; the parameters are w",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_an_error_that_names_the_cure(name):
    call, error, message = MISTAKES[name]
    with pytest.raises(error, match=message):
        call()


def test_state_that_does_not_tell_its_parameter_is_refused():
    class Other:
        def init(self, params):
            return Blockwise(adam().init(params), (jnp.ones(4),))

        def update(self, updates, state, params=None, **_):
            return updates, state

    with pytest.raises(
        ValueError, match=r"opt_state/scales/0 does not tell its parameter.*partition"
    ):
        late_start(Other(), "w").init({"w": jnp.ones(2)})
