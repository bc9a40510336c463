"""Every transformation of the core keeps every promise; breakers of each promise are found out."""

import jax
import jax.numpy as jnp
import pytest

from optx_core import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    add_decayed_weights,
    chain,
    clip,
    clip_by_global_norm,
    ema,
    identity,
    masked,
    named_chain,
    partition,
    scale,
    scale_by_learning_rate,
    scale_by_schedule,
    set_to_zero,
    stateless,
    stateless_with_tree_map,
    trace,
    tree,
)
from optx_core.build import LeafStep, leafwise, recorded
from optx_testing import BrokenPromiseError, check_transformation


def matrices(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


def by_rank(params):
    return jax.tree.map(lambda p: "matrix" if p.ndim > 1 else "rest", params)


def halving(count):
    return 0.5 ** jnp.asarray(count, float)


def double(updates, params):
    return jax.tree.map(lambda g: 2 * g, updates)


def triple(g, p):
    return 3 * g


ROWS = {
    "identity": (identity(), {}),
    "set_to_zero": (set_to_zero(), {}),
    "scale": (scale(0.5), {}),
    "scale_by_learning_rate": (scale_by_learning_rate(0.1), {}),
    "scale_by_schedule": (scale_by_schedule(halving), {}),
    "clip": (clip(0.1), {"complex_params": False}),
    "clip_by_global_norm": (clip_by_global_norm(1.0), {}),
    "trace": (trace(0.9), {}),
    "trace, Nesterov": (trace(0.9, nesterov=True), {}),
    "ema": (ema(0.9), {}),
    "add_decayed_weights": (add_decayed_weights(0.1), {}),
    "add_decayed_weights, mask": (add_decayed_weights(0.1, matrices), {}),
    "add_decayed_weights, schedule": (add_decayed_weights(halving), {}),
    "masked": (masked(trace(0.9), matrices), {}),
    "partition": (partition({"matrix": ema(0.9), "rest": scale(0.1)}, by_rank), {}),
    "empty chain": (chain(), {}),
    "chain": (chain(clip_by_global_norm(1.0), ema(0.9), scale(-0.1)), {}),
    "nested chain": (chain(chain(trace(0.9)), chain(chain(scale(0.1)))), {}),
    "named_chain": (named_chain(("a", trace(0.9)), ("b", scale(0.1))), {}),
    "stateless": (stateless(double), {}),
    "stateless_with_tree_map": (stateless_with_tree_map(triple), {}),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ROWS)
def test_a_transformation_of_the_core_keeps_every_promise(name):
    tx, options = ROWS[name]
    check_transformation(tx, **options)


def plain(init, update):
    return GradientTransformationExtraArgs(init, update)


def zeros(params):
    return jax.tree.map(jnp.zeros_like, params)


def slot_leaf(g, m):
    return g + m, g


def keeps(make_slot):
    """A correct transformation but for how its state is made."""
    return leafwise(
        lambda flow, state, params, **_: LeafStep(slot_leaf, slots=(state,), close=lambda m: m),
        make_slot,
    )


class Doubler:
    """A callable without equality by value: unpickled it is another."""

    def __call__(self, updates, params):
        return double(updates, params)


def grows(g, state, params=None, **_):
    return g, jnp.concatenate([state, state])


def ignores_none(g, state, params=None, **_):
    return jax.tree.map(
        lambda x: jnp.zeros(2) if x is None else x, g, is_leaf=lambda x: x is None
    ), state


def bakes(rate):
    return leafwise(
        lambda flow, state, params, **_: LeafStep(tree_leaf, operands={"rate": float(rate)})
    )


def tree_leaf(g, *, rate):
    return rate * g


bakes = recorded(bakes)


def narrow(params):
    return jax.tree.map(lambda p: jnp.zeros_like(p) if p is not None else None, params)


def batch_dependent(g, s, p=None, **_):
    return jax.tree.map(
        lambda x: x / len(jax.devices()) if isinstance(x, jax.core.Tracer) else x, g
    ), s


def divides(g, s, p=None, **_):
    return jax.tree.map(lambda x: x / jnp.abs(x), g), s


BREAKERS = {
    "no extra arguments": (1, GradientTransformation(lambda p: (), lambda g, s, p=None: (g, s))),
    "returns updates alone": (1, plain(lambda p: (), lambda g, s, p=None, **_: g)),
    "no update": (1, type("Half", (), {"init": lambda self, p: ()})()),
    "unpickled it is another": (2, stateless(Doubler())),
    "state grows": (3, plain(lambda p: jnp.zeros(2), grows)),
    "state aliases a parameter": (3, keeps(lambda p: p)),
    "state has a float": (3, plain(lambda p: 1.0, lambda g, s, p=None, **_: (g, s))),
    "one buffer twice": (
        3,
        plain(lambda p: [z := jnp.zeros(3), z], lambda g, s, p=None, **_: (g, s)),
    ),
    "broadcasts": (
        4,
        plain(zeros, lambda g, s, p=None, **_: (jax.tree.map(lambda a, b: a + b, g, s), s)),
    ),
    "invents a gradient": (4, plain(lambda p: (), ignores_none)),
    "bf16 accumulator": (5, keeps(narrow)),
    "divides by zero": (6, plain(lambda p: (), divides)),
    "float() of a number": (7, bakes(0.5)),
    "other numbers under jit": (8, plain(lambda p: (), batch_dependent)),
}


@pytest.mark.parametrize("name", BREAKERS)
def test_a_transformation_that_breaks_a_promise_is_found_out(name, monkeypatch):
    promise, tx = BREAKERS[name]
    monkeypatch.setattr(
        jax, "devices", lambda *_: [None] * 3 if name.startswith("other") else real()
    )
    with pytest.raises(BrokenPromiseError) as caught:
        check_transformation(tx, promises=[promise])
    assert caught.value.promise == promise
    assert str(caught.value).startswith(f"promise {promise}: ")


real = jax.devices


def test_the_error_names_the_leaf():
    with pytest.raises(BrokenPromiseError, match=r"state\['bias'\] is bfloat16\[8\]"):
        check_transformation(keeps(narrow), promises=[5])


def test_a_foreign_transformation_is_checked_too():
    class Mine:
        def init(self, params):
            return ()

        def update(self, updates, state, params=None, **extra_args):
            return tree.scale(0.5, updates), state

    check_transformation(Mine(), promises=[1, 3, 5, 6, 8])


def test_extra_arguments_reach_the_update():
    def update(g, s, p=None, *, value, **_):
        return tree.scale(value, g), s

    check_transformation(
        plain(lambda p: (), update),
        extra_args=lambda params, updates: {"value": jnp.float32(2.0)},
        promises=[1, 3, 6],
    )
