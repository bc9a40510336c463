"""The same numbers as optax for the wrappers; an optax checkpoint goes on in ours."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import optx_aliases
import optx_core
import optx_projections
from optx_testing import check_transformation

PARAMS = {"a": jnp.linspace(-1.0, 1.0, 8), "b": {"c": jnp.linspace(0.1, 2.0, 12).reshape(3, 4)}}


def mask(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


def early(step):
    return step < 5


ROWS = {
    "MultiSteps": lambda o, a: o.MultiSteps(a.adam(0.01), 3).gradient_transformation(),
    "MultiSteps, sum": lambda o, a: o.MultiSteps(
        a.sgd(0.01), 2, use_grad_mean=False
    ).gradient_transformation(),
    "apply_every": lambda o, a: o.chain(a.sgd(0.1), o.apply_every(3)),
    "apply_if_finite": lambda o, a: o.apply_if_finite(a.adam(0.01), 3),
    "masked": lambda o, a: o.masked(a.adam(0.01), mask),
    "masked, by a prefix": lambda o, a: o.masked(a.adam(0.01), {"a": True, "b": False}),
    "masked twice, by prefixes": lambda o, a: o.masked(
        o.masked(a.adam(0.01), {"a": False, "b": {"c": True}}), {"a": True, "b": True}
    ),
    "partition, by a prefix": lambda o, a: o.partition(
        {"slow": o.chain(a.adam(0.01), a.sgd(1.0)), "fast": a.sgd(0.1, momentum=0.9)},
        {"a": "slow", "b": "fast"},
    ),
    "freeze": lambda o, a: (
        o.chain(a.adam(0.01), o.transforms.freeze(mask({**PARAMS})))
        if o is optax
        else o.chain(a.adam(0.01), o.freeze(mask({**PARAMS})))
    ),
    "selective_transform": lambda o, a: o.selective_transform(
        a.adam(0.01), freeze_mask=mask({**PARAMS})
    ),
    "conditionally_mask": lambda o, a: o.conditionally_mask(a.adam(0.01), early),
    "conditionally_transform": lambda o, a: o.conditionally_transform(a.adam(0.01), early),
    "flatten": lambda o, a: o.flatten(a.adam(0.01)),
    "inject_hyperparams": lambda o, a: o.inject_hyperparams(a.adam)(learning_rate=0.01),
    "inject_hyperparams, schedule": lambda o, a: o.inject_hyperparams(a.sgd)(
        learning_rate=lambda count: 0.1 / (1 + count), momentum=0.9
    ),
    "adaptive_grad_clip": lambda o, a: o.chain(o.adaptive_grad_clip(0.01), a.sgd(0.1)),
    "clip_by_block_rms": lambda o, a: o.chain(o.clip_by_block_rms(0.1), a.sgd(0.1)),
    "zero_nans": lambda o, a: o.chain(o.zero_nans(), a.sgd(0.1)),
    "normalize_by_update_norm": lambda o, a: o.chain(o.normalize_by_update_norm(2.0), a.sgd(0.1)),
    "keep_params_nonnegative": lambda o, a: o.chain(a.sgd(0.5), o.keep_params_nonnegative()),
}


def train(tx, module, params=PARAMS, state=None, start=0, steps=8):
    state = tx.init(params) if state is None else state

    @jax.jit
    def step(params, state, k):
        grads = jax.tree.map(lambda p: jnp.sin(3 * p + k) + 0.1 * p, params)
        updates, state = tx.update(grads, state, params)
        return module.apply_updates(params, updates), state

    for k in range(start, start + steps):
        params, state = step(params, state, jnp.asarray(k, float))
    return params, state


def pair(name):
    return ROWS[name](optx_core, optx_aliases), ROWS[name](optax, optax)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ROWS)
def test_a_wrapper_gives_the_numbers_of_optax(name):
    ours, theirs = pair(name)
    made, expected = train(ours, optx_core)[0], train(theirs, optax)[0]
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-6, atol=2e-6), made, expected
    )


def places(state):
    """The path of each array and of each masked node, whichever library's."""
    empty = lambda x: isinstance(x, tuple) and not x
    found, _ = jax.tree_util.tree_flatten_with_path(state, is_leaf=empty)
    return sorted(
        jax.tree_util.keystr(path)
        for path, x in found
        if not isinstance(x, tuple) or type(x).__name__ == "MaskedNode"
    )


CHECKPOINTS = [
    "MultiSteps",
    "masked",
    "masked, by a prefix",
    "masked twice, by prefixes",
    "partition, by a prefix",
    "inject_hyperparams",
    "inject_hyperparams, schedule",
    "apply_if_finite",
]


@pytest.mark.parametrize("name", [*CHECKPOINTS, "chain"])
def test_a_checkpoint_of_optax_goes_on_in_ours(name, tmp_path):
    if name == "chain":
        ours = optx_core.chain(optx_core.clip_by_global_norm(1.0), optx_aliases.adamw(0.01))
        theirs = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.01))
    else:
        ours, theirs = pair(name)
    params, state = train(theirs, optax, steps=4)
    expected, _ = train(theirs, optax, params, state, start=4)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", ours.init(PARAMS))
    assert jax.tree.structure(restored) == jax.tree.structure(ours.init(PARAMS))
    assert places(ours.init(PARAMS)) == places(theirs.init(PARAMS))
    made, _ = train(ours, optx_core, params, restored, start=4)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-6, atol=2e-6), made, expected
    )


WRAPPERS = {
    "multi_steps": lambda tx: optx_core.multi_steps(tx, 2),
    "apply_if_finite": lambda tx: optx_core.apply_if_finite(tx, 2),
    "with_ema": lambda tx: optx_core.with_ema(tx, 0.9),
    "masked": lambda tx: optx_core.masked(tx, mask),
    "chain": lambda tx: optx_core.chain(optx_core.clip_by_global_norm(1.0), tx),
    "skip_if": lambda tx: optx_core.skip_if(tx),
    "dynamic_loss_scale": lambda tx: optx_core.dynamic_loss_scale(tx, 4.0),
    "conditionally_mask": lambda tx: optx_core.conditionally_mask(tx, early),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_our_wrappers_hold_optax_own_adam(name, monkeypatch):
    # optax itself does not run under the strict promotion that the kit turns on.
    monkeypatch.setattr(jax, "numpy_dtype_promotion", lambda _: no_change())
    check_transformation(WRAPPERS[name](optax.adam(1e-2)), promises=(1, 3, 6))


class no_change:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


@pytest.mark.parametrize("k", [0, 1, 5])
def test_lookahead_gives_the_numbers_of_optax(k):
    made = []
    for o in (optx_core, optax):
        tx = o.lookahead(o.chain(o.trace(0.9), o.scale(-0.1)), 3, 0.5)
        params = o.LookaheadParams.init_synced(PARAMS)
        state = tx.init(params)
        for _ in range(k):
            grads = jax.tree.map(jnp.sin, params.fast)
            updates, state = tx.update(grads, state, params)
            params = o.apply_updates(params, updates)
        made.append(tuple(params))
    chex.assert_trees_all_close(*made, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "non_negative",
        "simplex",
        "l1_ball",
        "l1_sphere",
        "l2_ball",
        "l2_sphere",
        "linf_ball",
    ],
)
def test_projections_are_those_of_optax(name):
    x = {"a": jnp.asarray([1.5, -2.0, 0.3]), "b": jnp.asarray([[0.7], [-0.1]])}
    ours = getattr(optx_projections, f"projection_{name}")(x)
    theirs = getattr(optax.projections, f"projection_{name}")(x)
    chex.assert_trees_all_close(ours, theirs, rtol=1e-5, atol=1e-6)
