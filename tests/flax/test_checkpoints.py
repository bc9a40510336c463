"""Putting a state back without gaps, and carrying it over to another optimizer. (Orbax: integration.)"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax import nnx
from optx_core import (
    chain,
    clip_by_global_norm,
    ema,
    inject_hyperparams,
    lookahead,
    multi_steps,
    partition,
    scale_by_learning_rate,
    trace,
    with_ema,
)
from optx_flax import abstract_state, freeze, label_params, migrate_opt_state, restore_into


class Model(nnx.Module):
    def __init__(self, seed=0):
        rngs = nnx.Rngs(seed)
        self.first = nnx.Linear(2, 3, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(3, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs)])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


def made(tx, wrt=nnx.Param, seed=0):
    model = Model(seed)
    optimizer = nnx.Optimizer(model, tx(model) if not hasattr(tx, "init") else tx, wrt=wrt)
    for _ in range(3):
        optimizer.update(model, jax.tree.map(lambda p: jnp.sin(p + 1), nnx.state(model, wrt)))
    return model, optimizer


def plain(objects):
    def leaf(x):
        return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    return jax.tree.map(leaf, nnx.as_pure(nnx.state(objects)))


def as_strings(tree):
    """Nested dicts with strings for keys, as a checkpoint comes back without a target."""
    if isinstance(tree, dict | nnx.State):
        return {str(k): as_strings(v) for k, v in tree.items()}
    return tree


MOMENTUM = chain(trace(0.9), scale_by_learning_rate(0.1))
FORMS = {
    "the state": lambda s: s,
    "pure": nnx.as_pure,
    "pure dict": nnx.to_pure_dict,
    "strings": lambda s: as_strings(nnx.to_pure_dict(s)),
    "values in containers": lambda s: jax.tree.map(lambda x: {"value": x}, nnx.to_pure_dict(s)),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_that_was_saved_comes_back(form):
    objects = made(MOMENTUM)
    expected = plain(objects)
    saved = FORMS[form](nnx.state(objects))
    others = made(MOMENTUM, seed=1)
    report = restore_into(others, saved)
    chex.assert_trees_all_equal(plain(others), expected)
    assert report.missing == report.unexpected == report.mismatched == ()
    assert len(report.restored) == len(jax.tree.leaves(expected))


def damaged(change):
    saved = nnx.to_pure_dict(nnx.state(made(MOMENTUM)))
    change(saved)
    return saved


def slots(saved):
    return saved[1]["opt_state"][0]["trace"]["first"]


DAMAGES = {
    "missing": (
        lambda s: slots(s).pop("bias"),
        r"missing in the checkpoint: 1/opt_state/0/trace/first/bias\. Use migrate_opt_state",
    ),
    "None": (
        lambda s: slots(s).update(bias=None),
        r"missing in the checkpoint: 1/opt_state/0/trace/first/bias",
    ),
    "never restored": (
        lambda s: slots(s).update(bias=jax.ShapeDtypeStruct((3,), jnp.float32)),
        r"missing in the checkpoint: 1/opt_state/0/trace/first/bias",
    ),
    "unexpected": (
        lambda s: slots(s).update(scale=jnp.ones(3)),
        "without a place: 1/opt_state/0/trace/first/scale",
    ),
    "another shape": (
        lambda s: slots(s).update(bias=jnp.ones((3, 1))),
        r"first/bias \(float32\[3, 1\] for float32\[3\]\)",
    ),
    "another dtype": (
        lambda s: slots(s).update(bias=jnp.ones(3, jnp.bfloat16)),
        r"first/bias \(bfloat16\[3\] for float32\[3\]\)",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_does_not_fit_is_refused_and_nothing_is_changed(name):
    change, message = DAMAGES[name]
    objects = made(MOMENTUM, seed=1)
    before = plain(objects)
    with pytest.raises(ValueError, match=message):
        restore_into(objects, damaged(change))
    chex.assert_trees_all_equal(plain(objects), before)


@pytest.mark.parametrize("name", DAMAGES)
def test_or_is_told_and_all_the_rest_comes_back(name):
    objects = made(MOMENTUM, seed=1)
    kept = np.asarray(objects[1].opt_state[0].trace["first"]["bias"][...])
    report = restore_into(objects, damaged(DAMAGES[name][0]), strict=False)
    told = [*report.missing, *report.unexpected, *report.mismatched]
    assert len(told) == 1
    assert "1/opt_state/0/trace/first/" in told[0]
    expected = plain(made(MOMENTUM))
    if name != "unexpected":
        np.testing.assert_array_equal(objects[1].opt_state[0].trace["first"]["bias"][...], kept)
        expected[1]["opt_state"][0]["trace"]["first"]["bias"] = jnp.asarray(kept)
    chex.assert_trees_all_equal(plain(objects), expected)


def test_the_trap_that_restore_into_is_for():
    """`nnx.update` takes the missing moment, and the one of another shape, in silence."""
    objects = made(MOMENTUM)
    nnx.update(objects, damaged(DAMAGES["another shape"][0]))
    assert objects[1].opt_state[0].trace["first"]["bias"].shape == (3, 1)


def test_the_abstract_state_has_the_structure_shapes_and_places_of_the_state():
    objects = made(with_ema(MOMENTUM))
    target = abstract_state(*objects)
    state = nnx.state(objects)
    assert jax.tree.structure(target) == jax.tree.structure(state)

    def same(a, b):
        assert (a.shape, a.dtype, a.sharding) == (b.shape, b.dtype, b.sharding)

    jax.tree.map(same, target, state)


# What is carried where the optimizer, or the set of trained parameters, changed.


def by_kind(model):
    labels = label_params(model, {r"kernel$": "kernels", r".": "rest"})
    return partition({"kernels": MOMENTUM, "rest": MOMENTUM}, labels)


CHANGES = {
    "nothing changed": (MOMENTUM, MOMENTUM),
    "a clip in front": (MOMENTUM, chain(clip_by_global_norm(1.0), MOMENTUM)),
    "a clip in front of a flat chain": (
        MOMENTUM,
        chain(clip_by_global_norm(1.0), trace(0.9), scale_by_learning_rate(0.1)),
    ),
    "the clip away": (chain(clip_by_global_norm(1.0), MOMENTUM), MOMENTUM),
    "an average around": (MOMENTUM, with_ema(MOMENTUM)),
    "the average away": (with_ema(MOMENTUM), MOMENTUM),
    "accumulation around": (MOMENTUM, multi_steps(MOMENTUM, 4)),
    "lookahead's place": (MOMENTUM, chain(MOMENTUM, clip_by_global_norm(5.0))),
    "in groups": (MOMENTUM, by_kind),
    "out of groups": (by_kind, MOMENTUM),
    "injected": (
        MOMENTUM,
        inject_hyperparams(lambda rate: chain(trace(0.9), scale_by_learning_rate(rate)))(0.1),
    ),
}


def momenta(optimizer):
    """The momentum of each parameter, wherever in the state it stands."""
    pairs = jax.tree_util.tree_leaves_with_path(nnx.as_pure(optimizer.opt_state))
    found = {}
    for path, x in pairs:
        names = [str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path]
        if "trace" in names:
            found["/".join(names[names.index("trace") + 1 :])] = np.asarray(x)
    return found


@pytest.mark.parametrize("serialized", [False, True], ids=["live", "restored"])
@pytest.mark.parametrize("name", CHANGES)
def test_every_moment_is_carried(name, serialized):
    before, after = CHANGES[name]
    model, old = made(before)
    new = nnx.Optimizer(model, after(model) if not hasattr(after, "init") else after, wrt=nnx.Param)
    given = as_strings(nnx.to_pure_dict(nnx.state((model, old)))) if serialized else old
    report = migrate_opt_state(given, model, new)
    expected = momenta(old)
    assert len(expected) == 6
    chex.assert_trees_all_equal(momenta(new), expected)
    assert int(new.step[...]) == 3
    assert report.ambiguous == ()
    assert not any(
        leaf is None for leaf in jax.tree.leaves(new.opt_state, is_leaf=lambda x: x is None)
    )
    # All is accounted for, on both sides.
    assert len(report.carried) + len(report.fresh) == len(jax.tree.leaves(nnx.state(new)))
    assert set(report.dropped).isdisjoint(report.carried.values())


def test_what_the_old_state_lacks_is_told_and_as_it_was_made():
    model, old = made(MOMENTUM)
    new = nnx.Optimizer(model, with_ema(MOMENTUM, 0.9), wrt=nnx.Param)
    report = migrate_opt_state(old, model, new)
    assert {name.split("/")[1] for name in report.fresh} == {"count", "ema"}
    assert report.dropped == ()
    np.testing.assert_array_equal(
        new.opt_state.ema["first"]["kernel"][...], model.first.kernel[...]
    )


def test_after_unfreezing_the_new_ones_start_at_zero_and_the_others_go_on():
    model, old = made(lambda m: freeze(m, r"layers", MOMENTUM))
    new = nnx.Optimizer(model, MOMENTUM, wrt=nnx.Param)
    report = migrate_opt_state(old, model, new)
    assert len(report.fresh) == 4
    assert all("/layers/" in name for name in report.fresh)
    np.testing.assert_array_equal(momenta(new)["first/kernel"], momenta(old)["first/kernel"])
    np.testing.assert_array_equal(momenta(new)["layers/0/kernel"], 0)


def test_unfreezing_by_wrt_too():
    first = nnx.All(nnx.Param, nnx.PathContains("first"))
    model, old = made(MOMENTUM, wrt=first)
    new = nnx.Optimizer(model, MOMENTUM, wrt=nnx.Param)
    report = migrate_opt_state(old, model, new)
    assert len(report.fresh) == 4
    np.testing.assert_array_equal(momenta(new)["first/bias"], momenta(old)["first/bias"])


def test_a_parameter_of_another_shape_starts_anew():
    model, old = made(MOMENTUM)
    model.first = nnx.Linear(5, 3, rngs=nnx.Rngs(0))
    new = nnx.Optimizer(model, MOMENTUM, wrt=nnx.Param)
    report = migrate_opt_state(old, model, new)
    assert report.fresh == ("opt_state/0/trace/first/kernel",)
    assert report.dropped == ("opt_state/0/trace/first/kernel",)


def test_a_slot_of_the_same_name_in_another_kind_of_state_is_not_taken():
    model, old = made(chain(ema(0.9), scale_by_learning_rate(0.1)))  # count and ema
    new = nnx.Optimizer(model, with_ema(MOMENTUM), wrt=nnx.Param)  # count, ema, inner_state
    with pytest.raises(
        ValueError, match="nothing that the new optimizer can use; it holds opt_state"
    ):
        migrate_opt_state(old, model, new)


def test_two_that_are_as_near_are_told_and_not_guessed():
    model, old = made(chain(trace(0.9), trace(0.5), scale_by_learning_rate(0.1)))
    new = nnx.Optimizer(model, MOMENTUM, wrt=nnx.Param)
    with pytest.raises(ValueError, match="nothing that the new optimizer can use"):
        migrate_opt_state(old, model, new)
    other = nnx.Optimizer(model, chain(trace(0.9), ema(0.9), trace(0.5)), wrt=nnx.Param)
    del other


def test_injected_numbers_stay_those_of_the_new_optimizer():
    tx = inject_hyperparams(trace)
    model, old = made(tx(decay=0.9))
    new = nnx.Optimizer(model, tx(decay=0.5), wrt=nnx.Param)
    report = migrate_opt_state(old, model, new)
    assert float(new.opt_state.hyperparams["decay"][...]) == 0.5
    assert report.fresh == ("opt_state/hyperparams/decay",)
    np.testing.assert_array_equal(momenta(new)["first/bias"], momenta(old)["first/bias"])
    assert lookahead is not None
