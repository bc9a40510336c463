"""Each broken transformation is blamed for the promise that it breaks, on the leaf where it breaks."""

import jax
import jax.numpy as jnp
import pytest

from optx_core import GradientTransformationExtraArgs
from optx_core.build import LeafStep, Real, leafwise, recorded
from optx_testing import BrokenPromiseError, check_transformation


def by_leaf(leaf, init=lambda params: ()):
    """A transformation of the user's own: `leaf(g)` for each gradient, without a state."""

    def update(updates, state, params=None, **_):
        return jax.tree.map(leaf, updates), state

    return GradientTransformationExtraArgs(init, update)


def adds_text(g):
    return g + "one"


def indexes(g):
    return g * jnp.sum(g[:1])


def multiplies_by_an_int_array(g):
    return g * jnp.arange(1, 2, dtype=jnp.int32)[0]


def multiplies_by_a_row(g):
    return g * jnp.ones(g.shape[-1:], g.dtype) if g.ndim else g


def branches(g):
    return g if jnp.sum(jnp.abs(g)) > 0 else -g


def refuses_half(g):
    if g.dtype == jnp.bfloat16:
        raise ValueError("no bfloat16 here")
    return g


def refuses_complex(g):
    return jnp.maximum(g, -jnp.inf) if not jnp.iscomplexobj(g) else jnp.floor(g)


def widens(g):
    return g.astype(jnp.float32) if g.dtype != jnp.float64 else g


def largest(g):
    return g / (1 + jnp.max(jnp.abs(g)))


def divides(g):
    return g / jnp.abs(g).astype(g.dtype)


def loops(g):
    return jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * 0.5), (0, g))[1]


@jax.custom_batching.custom_vmap
def alone(p):
    return -p


@alone.def_vmap
def refuse_batches(axis_size, in_batched, p):
    raise NotImplementedError("no batches")


def replaces_by_parameters():
    return GradientTransformationExtraArgs(
        lambda p: (), lambda g, s, p=None, **_: (jax.tree.map(alone, p), s)
    )


def narrows_double(g):
    return g.astype(jnp.float32).astype(g.dtype) if g.dtype != jnp.float64 else g.astype("float32")


def mean_square():
    """Keeps the mean square of each leaf: 0/0 for an empty one."""

    def init(params):
        return jax.tree.map(lambda p: jnp.zeros((), jnp.float32), params)

    def update(updates, state, params=None, **_):
        state = jax.tree.map(
            lambda g, v: jnp.mean(jnp.abs(g).astype(jnp.float32) ** 2), updates, state
        )
        return updates, state

    return GradientTransformationExtraArgs(init, update)


def refuses_none():
    def update(updates, state, params=None, **_):
        for g in jax.tree.leaves(updates, is_leaf=lambda x: x is None):
            g.astype(jnp.float32)
        return updates, state

    return GradientTransformationExtraArgs(lambda p: (), update)


def drops_a_leaf():
    def update(updates, state, params=None, **_):
        return {name: g for name, g in updates.items() if name != "bias"}, state

    return GradientTransformationExtraArgs(lambda p: (), update)


def counts_in_a_list():
    def update(updates, state, params=None, **_):
        return updates, {"memory": [*state["memory"], jnp.zeros(())]}

    return GradientTransformationExtraArgs(lambda p: {"memory": []}, update)


def holds_text():
    return GradientTransformationExtraArgs(
        lambda p: {"name": "mine"}, lambda g, s, p=None, **_: (g, s)
    )


def needs_the_loss():
    def update(updates, state, params=None, *, value, **_):
        return updates, state

    return GradientTransformationExtraArgs(lambda p: (), update)


def init_fails():
    def init(params):
        return params["no such parameter"]

    return GradientTransformationExtraArgs(init, lambda g, s, p=None, **_: (g, s))


def takes_no_extra():
    def update(updates, state, params=None):
        return updates, state

    return GradientTransformationExtraArgs(lambda p: (), update)


def refuses_extra():
    def update(updates, state, params=None, **extra):
        if extra:
            raise ValueError(f"unexpected {sorted(extra)}")
        return updates, state

    return GradientTransformationExtraArgs(lambda p: (), update)


class Unequal:
    """An argument whose comparison fails."""

    def __eq__(self, other):
        raise RuntimeError("not to be compared")

    __hash__ = object.__hash__


@recorded
def with_option(option):
    del option
    return leafwise(lambda flow, state, params, **_: LeafStep(lambda g: g))


@recorded
def unpicklable(lock):
    del lock
    return leafwise(lambda flow, state, params, **_: LeafStep(lambda g: g))


class Lock:
    def __reduce__(self):
        raise RuntimeError("a lock stays here")


@recorded
def power_and_rate(rate: Real, power: Real):
    """Takes the rate as an operand and the power as a Python float."""
    return leafwise(
        lambda flow, state, params, **_: LeafStep(
            lambda g, *, rate: rate * g * float(power), operands={"rate": jnp.asarray(rate)}
        )
    )


@recorded
def unscheduled(rate: Real):
    """Says that it takes a schedule, and does not."""
    return leafwise(
        lambda flow, state, params, **_: LeafStep(
            lambda g, *, rate: rate * g, operands={"rate": jnp.asarray(rate)}
        )
    )


# name: (the transformation, the promise it breaks, what the error says)
BROKEN = {
    "a TypeError in update": (
        by_leaf(adds_text),
        1,
        r"update: TypeError",
    ),
    "an IndexError on a scalar": (by_leaf(indexes), 1, r"update, on params\['scale'\]: "),
    "an error in init": (init_fails(), 1, r"init: KeyError: 'no such parameter'"),
    "a required argument": (needs_the_loss(), 1, r"update: TypeError: .*'value'"),
    "no extra arguments": (takes_no_extra(), 1, r"unknown extra arguments \(TypeError: .*\*\*_"),
    "extra arguments refused": (refuses_extra(), 1, r"unknown extra arguments \(ValueError: unexp"),
    "a comparison that fails": (with_option(Unequal()), 2, r"pickled and compared: RuntimeError"),
    "an error of pickle": (unpicklable(Lock()), 2, r"cannot be pickled: RuntimeError: a lock"),
    "a state that grows": (counts_in_a_list(), 3, r"state.*\['memory'\]\[0\] is new"),
    "a state of text": (holds_text(), 3, r"state\['name'\] is not an array but 'mine'"),
    "a lost update": (drops_a_leaf(), 4, r"updates changed structure: \['bias'\] is missing"),
    "NaN in the state of an empty leaf": (mean_square(), 4, r"state\['empty'\] is NaN: nan"),
    "a maximum of nothing": (by_leaf(largest), 4, r"on params\['empty'\].*float32\[0, 3\]: Value"),
    "no None among the gradients": (
        refuses_none(),
        4,
        r"update, on params\['none'\], .*None: Attr",
    ),
    "bfloat16 refused": (by_leaf(refuses_half), 5, r"bfloat16: ValueError: no bf"),
    "complex refused": (by_leaf(refuses_complex), 5, r"complex parameters: "),
    "updates widened": (by_leaf(widens), 5, r"updates\['bias'\] is float32, not bfloat16"),
    "0 / 0": (by_leaf(divides), 6, r"after a zero gradient: updates\['bias'\] is not finite"),
    "a number that cannot be traced": (
        power_and_rate(0.5, 2.0),
        7,
        r"power_and_rate with a traced value for power: ConcretizationTypeError",
    ),
    "a schedule that is not taken": (
        unscheduled(0.5),
        7,
        r"unscheduled with a schedule for rate: TypeError",
    ),
    "dtypes promoted": (
        by_leaf(multiplies_by_an_int_array),
        8,
        r"strict promotion .*: TypePromotionError",
    ),
    "ranks promoted": (
        by_leaf(multiplies_by_a_row),
        8,
        r"strict promotion .*, on params\['kernel'\]: ValueError",
    ),
    "a branch on values": (by_leaf(branches), 8, r"update, traced.*TracerBoolConversionError"),
    "no vmap": (replaces_by_parameters(), 8, r"under vmap: NotImplementedError: no batches"),
    "no reverse mode": (by_leaf(loops), 8, r"under grad: ValueError: Reverse-mode"),
    "single precision": (by_leaf(narrows_double), 8, r"in double precision: updates.* is float32"),
}
# Breakers of a late promise that refuse nothing by path are checked for their own promise alone.
FROM = {4: (1, 4, 8), 5: (1, 5, 8), 6: (1, 5, 6, 8), 7: (1, 7, 8), 8: (1, 8)}


@pytest.mark.parametrize("name", BROKEN)
def test_the_broken_promise_is_named_with_its_leaf(name):
    tx, promise, message = BROKEN[name]
    with pytest.raises(BrokenPromiseError, match=message) as caught:
        check_transformation(tx, promises=FROM.get(promise, tuple(range(1, 9))))
    assert caught.value.promise == promise
    assert str(caught.value).startswith(f"promise {promise}: ")


def test_an_error_of_the_transformation_is_the_cause():
    with pytest.raises(BrokenPromiseError) as caught:
        check_transformation(by_leaf(refuses_half), promises=[5])
    assert isinstance(caught.value.__cause__, ValueError)


def test_only_the_promises_asked_for_are_blamed():
    check_transformation(by_leaf(multiplies_by_a_row), promises=[1, 3, 5, 6])
    with pytest.raises(BrokenPromiseError, match="TracerBool") as caught:
        check_transformation(by_leaf(branches), promises=[6])
    assert caught.value.promise == 6


def test_an_error_in_extra_args_is_not_blamed_on_the_transformation():
    with pytest.raises(TypeError, match=r"extra_args\(params, updates\) raised KeyError: 'loss'"):
        check_transformation(needs_the_loss(), extra_args=lambda params, updates: {}["loss"])
