"""Checkpoints of a model and its optimizer through Orbax: whole, after a change of the optimizer, damaged."""

import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from flax import nnx
from optx_aliases import adabelief, adam, adamw
from optx_core import apply_updates, chain, clip_by_global_norm, inject_hyperparams, with_ema
from optx_flax import abstract_state, freeze, migrate_opt_state, param_groups, restore_into


@pytest.fixture(autouse=True)
def as_a_user_has_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


class Model(nnx.Module):
    def __init__(self, seed=0):
        rngs = nnx.Rngs(seed)
        self.layers = nnx.List([nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 1, rngs=rngs)])
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.layers[1](self.dropout(self.norm(self.layers[0](x))))


X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)


@nnx.jit
def train_step(model, optimizer):
    loss, grads = nnx.value_and_grad(lambda m: jnp.mean((m(X) - 1) ** 2))(model)
    optimizer.update(model, grads)
    return loss


def made(tx, seed=0, steps=0):
    model = Model(seed)
    optimizer = nnx.Optimizer(model, tx(model) if not hasattr(tx, "init") else tx, wrt=nnx.Param)
    for _ in range(steps):
        push(model, optimizer)
    return model, optimizer


def push(model, optimizer):
    """An update by gradients made up, which compiles nothing."""
    optimizer.update(model, jax.tree.map(jnp.sin, nnx.state(model, nnx.Param)))


def plain(objects):
    def leaf(x):
        return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    return jax.tree.map(leaf, nnx.as_pure(nnx.state(objects)))


def save(path, model, optimizer):
    with ocp.StandardCheckpointer() as saver:
        saver.save(path, nnx.state((model, optimizer)))
    return path


def grouped(model):
    groups = [{"params": r"bias$|^norm/", "weight_decay": 0.0}, {}]
    return param_groups(model, groups, inject_hyperparams(adamw), learning_rate=1e-2)


@pytest.mark.parametrize(
    "tx", [with_ema(adamw(1e-2)), grouped], ids=["adamw with an average", "groups, injected"]
)
def test_a_run_goes_on_as_if_it_had_not_stopped(tx, tmp_path):
    model, optimizer = made(tx, steps=2)
    path = save(tmp_path / "saved", model, optimizer)
    expected = [float(train_step(model, optimizer)) for _ in range(2)]
    other, again = made(tx, seed=1)
    with ocp.StandardCheckpointer() as saver:
        restored = saver.restore(path, abstract_state(other, again))
    report = restore_into((other, again), restored)
    assert report.missing == report.unexpected == report.mismatched == ()
    assert [float(train_step(other, again)) for _ in range(2)] == expected


def raw(path):
    """A checkpoint as it is, without a target: nested dicts."""
    with warnings.catch_warnings(), ocp.PyTreeCheckpointer() as saver:
        warnings.filterwarnings("ignore", "Sharding info not provided")
        return saver.restore(path)


def moments(optimizer, field):
    """A moment of each parameter, wherever in the state it stands."""
    found = {}
    for path, x in jax.tree_util.tree_leaves_with_path(nnx.as_pure(optimizer.opt_state)):
        names = [str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path]
        if field in names:
            found["/".join(names[names.index(field) + 1 :])] = np.asarray(x)
    return found


def adam_state(optimizer):
    """The ScaleByAdamState, wherever it stands."""
    found = []

    def look(node):
        if hasattr(node, "mu"):
            found.append(node)
            return
        if isinstance(node, tuple | list):
            [look(child) for child in node]
        elif isinstance(node, dict):
            [look(child) for child in node.values()]

    look(optimizer.opt_state)
    return found[0]


CHANGES = {
    "a clip in front": (adam(1e-2), chain(clip_by_global_norm(1.0), adam(1e-2)), set()),
    "adam to adamw with an average": (
        adam(1e-2),
        with_ema(adamw(1e-2, weight_decay=0.1), 0.9),
        {"count", "ema"},
    ),
    "unfreezing": (lambda m: freeze(m, r"^layers/0", adam(1e-2)), adam(1e-2), {"0"}),
}


@pytest.mark.parametrize("serialized", [False, True], ids=["live", "from a checkpoint"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_optimizer_takes_over_every_matching_moment(name, serialized, tmp_path):
    before, after, fresh = CHANGES[name]
    model, old = made(before, steps=3)
    given = raw(save(tmp_path / "saved", model, old)) if serialized else old
    new = nnx.Optimizer(model, after, wrt=nnx.Param)
    report = migrate_opt_state(given, model, new)
    for field in ("mu", "nu"):
        kept, carried = moments(old, field), moments(new, field)
        for path, x in carried.items():
            expected = kept.get(path, np.zeros_like(x))
            np.testing.assert_array_equal(x, expected, err_msg=path)
    assert int(adam_state(new).count[...]) == 3
    assert int(new.step[...]) == 3
    assert {path.split("/")[1] for path in report.fresh} == fresh
    assert report.dropped == report.ambiguous == ()
    assert not any(v.get_value() is None for _, v in nnx.to_flat_state(nnx.state(new)))
    push(model, new)
    if name == "unfreezing":
        assert all("layers/0" in path for path in report.fresh)


def test_after_the_change_the_steps_are_those_of_the_new_optimizer_on_the_old_moments():
    model, old = made(adam(1e-2), steps=3)
    tx = with_ema(adamw(1e-2, weight_decay=0.1), 0.9)
    new = nnx.Optimizer(model, tx, wrt=nnx.Param)
    migrate_opt_state(old, model, new)
    params = nnx.as_pure(nnx.state(model, nnx.Param))
    grads = jax.tree.map(jnp.sin, params)
    by_hand = adamw(1e-2, weight_decay=0.1)
    state = (nnx.as_pure(old.opt_state)[0], *by_hand.init(params)[1:])
    updates, _ = by_hand.update(grads, state, params)
    new.update(model, jax.tree.map(jnp.sin, nnx.state(model, nnx.Param)))
    expected = apply_updates(params, updates)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        nnx.as_pure(nnx.state(model, nnx.Param)),
        expected,
    )


def test_trap_a_gap_that_flax_passes_over_is_refused_and_the_cure_named(tmp_path):
    model, old = made(lambda m: freeze(m, r"^layers/0", adam(1e-2)), steps=1)
    restored = raw(save(tmp_path / "saved", model, old))
    changed, new = made(adam(1e-2))
    before = plain((changed, new))
    with pytest.raises(ValueError, match=r"missing in the checkpoint: .*Use migrate_opt_state"):
        restore_into((changed, new), restored)
    chex.assert_trees_all_equal(plain((changed, new)), before)
    report = restore_into((changed, new), restored, strict=False)
    assert len(report.restored) > 5  # the model, which did not change
    np.testing.assert_array_equal(changed.layers[0].kernel[...], model.layers[0].kernel[...])
    moved = migrate_opt_state(restored, changed, new)
    assert sum("/mu/" in path for path in moved.carried) == 4


def test_moments_of_another_optimizer_with_the_same_fields_are_not_taken_for_its_own():
    model = Model()
    old = nnx.Optimizer(model, adabelief(1e-3), wrt=nnx.Param)
    new = nnx.Optimizer(model, adam(1e-3), wrt=nnx.Param)
    with pytest.raises(ValueError, match="nothing that the new optimizer can use"):
        migrate_opt_state(old, model, new)
