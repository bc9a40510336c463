"""`rule`: what follows from equations and declarations, and what is refused."""

import pickle
from typing import Annotated, Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import (
    EmptyState,
    PyTree,
    build,
    chain,
    hyperparams,
    inject_hyperparams,
    metrics,
    tree,
)
from optx_testing import check_transformation


class State(NamedTuple):
    count: build.Count
    mu: build.Moment
    nu: build.SecondMoment
    start: Annotated[PyTree, build.slot(fill="params", constant=True)]
    rows: Annotated[PyTree, build.slot(init=lambda p, **_: jnp.zeros_like(p.sum()))]


traced = []


@build.rule(State, params=True)
def everything(
    g: jax.Array,
    p: jax.Array,
    s: State,
    /,
    b1: build.Rate = 0.9,
    pair: tuple[build.Rate, build.Positive] = (0.99, 1e-3),
    steps: build.PositiveInt = 2,
    kind: Literal["one", "two"] = "one",
    mu_dtype: build.DType = None,
    *,
    flag: bool = False,
) -> tuple[jax.Array, State]:
    """Uses a declaration of each kind."""
    traced.append(g.shape)
    b2, eps = pair
    t = s.count
    m = b1 * s.mu + (1 - b1) * g
    v = b2 * s.nu + (1 - b2) * build.abs_squared(g)
    u = m / (1 - b1**t) / (jnp.sqrt(v / (1 - b2**t)) + eps) + 0.0 * (p - s.start)
    return (-u if flag else u), s._replace(mu=m, nu=v, rows=s.rows + steps * jnp.sum(g).real)


PARAMS = {"w": jnp.ones((3, 2)), "b": jnp.ones(2), "none": None}


def run(tx, steps=3, params=PARAMS):
    state = tx.init(params)
    for _ in range(steps):
        updates, state = tx.update(jax.tree.map(lambda p: 0.5 * p, params), state, params)
    return updates, state


def test_a_rule_keeps_every_promise():
    check_transformation(everything())


def test_the_public_signature_is_that_of_the_equations_without_their_arrays():
    import inspect

    assert list(inspect.signature(everything).parameters) == [
        "b1", "pair", "steps", "kind", "mu_dtype", "flag"
    ]  # fmt: skip
    assert repr(everything(0.5)).startswith("everything(b1=0.5, pair=(0.99, 0.001), steps=2")
    assert everything(0.5) == everything(b1=0.5) == pickle.loads(pickle.dumps(everything(0.5)))


def test_the_state_is_made_from_the_declarations():
    state = everything(mu_dtype=jnp.bfloat16).init(
        jax.tree.map(lambda p: p.astype(jnp.complex64), PARAMS)
    )
    assert state.mu["w"].dtype == jnp.complex64  # bfloat16 has no complex partner
    assert state.nu["w"].dtype == jnp.float32
    assert everything(mu_dtype=jnp.bfloat16).init(PARAMS).mu["w"].dtype == jnp.bfloat16
    assert state.rows["w"].shape == ()
    assert state.mu["none"] is None
    chex.assert_trees_all_equal(everything().init(PARAMS).start, PARAMS)


def test_the_constant_slot_stays_and_the_others_move():
    _, state = run(everything())
    chex.assert_trees_all_equal(state.start, PARAMS)
    assert int(state.count) == 3
    assert float(state.rows["b"]) == 6.0


def test_equations_need_no_module():
    code = """
import jax.numpy as jnp
from optx_core import build

def leaf(g, *, x):
    return x * g

@build.factory
def times(x: build.Positive = 2.0):
    return build.leafwise(lambda flow, s, p, **_: build.LeafStep(leaf, operands={"x": x}))

(updates, _), shown = times(3.0).update(jnp.ones(2), times().init(None)), repr(times())
"""
    space = {}
    exec(code, space)  # without a `__name__`, unlike a program or a notebook
    assert space["leaf"].__module__ is None
    np.testing.assert_array_equal(space["updates"], [3.0, 3.0])
    assert space["shown"] == "times(x=2.0)"


def test_each_shape_is_traced_once_and_another_number_traces_nothing():
    traced.clear()
    params = {str(k): jnp.ones(5) for k in range(20)} | {"w": jnp.ones((2, 3))}
    step = jax.jit(lambda tx_b1, s: everything(tx_b1).update(params, s, params))
    state = everything(0.9).init(params)
    step(jnp.float32(0.9), state)
    assert sorted(set(traced)) == [(2, 3), (5,)]
    assert len(traced) == 2
    run(everything(0.25), params=params)
    first = len(traced)
    run(everything(0.75), params=params)
    assert len(traced) == first


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"b1": 1.0}, ValueError, "everything: b1 must be less than 1, not 1.0"),
        ({"b1": "x"}, TypeError, "everything: b1 must be a number, not 'x'"),
        ({"b1": None}, TypeError, "everything: b1 must be a number, not None"),
        ({"pair": (0.9, 0.0)}, ValueError, r"everything: pair\[1\] must be greater than 0"),
        ({"pair": 0.9}, TypeError, "everything: pair must be 2 numbers, not 0.9"),
        ({"steps": 0}, ValueError, "everything: steps must be at least 1, not 0"),
        ({"steps": 1.5}, ValueError, "everything: steps must be an int of at least 1, not 1.5"),
        (
            {"kind": "three"},
            ValueError,
            "everything: kind must be one of 'one', 'two', not 'three'",
        ),
    ],
)
def test_an_argument_out_of_its_range_is_refused_when_the_transformation_is_made(
    arguments, error, message
):
    with pytest.raises(error, match=message):
        everything(**arguments)


def test_update_without_the_parameters_says_how_to_pass_them():
    tx = everything()
    with pytest.raises(ValueError, match="everything needs the parameters: call update"):
        tx.update(PARAMS, tx.init(PARAMS))


def test_schedules_are_taken_for_every_number_of_a_pair_too():
    tx = everything(lambda n: 0.5 + 0.1 * n.astype(float), pair=(lambda n: 0.9, 1e-3))
    check_transformation(tx, promises=(1, 3))
    state = tx.init(PARAMS)
    assert type(state).__name__ == "ScheduledState"
    values = hyperparams(tx, state)
    assert float(values["b1"]) == 0.5
    assert float(values["pair[0]"]) == pytest.approx(0.9)
    assert values["pair[1]"] == 1e-3
    injected = inject_hyperparams(everything)(lambda n: 0.5, pair=(lambda n: 0.9, 1e-3), steps=3)
    state = injected.init(PARAMS)
    assert set(state.hyperparams) == {"b1", "pair[0]", "pair[1]"}
    updates, state = injected.update(PARAMS, state, PARAMS)
    plain = everything(0.5, (0.9, 1e-3), 3)
    chex.assert_trees_all_close(
        updates, plain.update(PARAMS, plain.init(PARAMS), PARAMS)[0], rtol=1e-6
    )
    assert set(metrics(state)) == {"b1", "pair[0]", "pair[1]"}


def test_what_is_not_declared_is_an_error_when_the_module_is_imported():
    class Undeclared(NamedTuple):
        mu: PyTree

    with pytest.raises(TypeError, match=r"f: Undeclared\.mu needs a declaration: Count, Moment"):

        @build.rule(Undeclared)
        def f(g, s, /): ...

    with pytest.raises(TypeError, match="f: eps needs a declaration: Rate, Positive"):

        @build.rule()
        def f(g, /, eps=1e-8): ...

    with pytest.raises(TypeError, match="f: the equations must begin with g, p, s"):

        @build.rule(State, params=True)
        def f(g, s, /): ...

    with pytest.raises(TypeError, match="f: learning_rate needs a state with a Count"):

        @build.rule()
        def f(g, /, learning_rate: build.LearningRate): ...


def test_equations_that_change_a_shape_are_refused_by_name():
    @build.rule()
    def broken(g, /):
        return g[:1]

    with pytest.raises(TypeError, match="broken turned g of shape"):
        broken().update(jnp.ones(3), EmptyState())


@pytest.mark.parametrize("b", [0.0, 0.5, 0.9, 0.999, 0.99999999])
@pytest.mark.parametrize("t", [1, 2, 1000, 10**6])
def test_a_rate_is_rounded_once(b, t, x64):
    """1 − b and 1 − bᵗ in float32 are those of double precision, rounded."""
    rate = build.rate_of(b)
    narrow = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), rate)
    exact = -np.expm1(t * np.log1p(-(1.0 - b))) if b else 1.0
    np.testing.assert_allclose(1 - narrow ** jnp.int32(t), exact, rtol=3e-7)
    np.testing.assert_allclose(1 - narrow, 1.0 - b, rtol=1e-7)
    x = jnp.float32(3.0)
    np.testing.assert_allclose(narrow**t * x, 3.0 * (1 - exact), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(2 - narrow, 2 - b, rtol=1e-7)


class Annotations:
    """What declares nothing is judged by its value."""


def by_value(
    scale: "Fingerprint",  # noqa: F821 (an annotation that means nothing)
    rate: "float",
    steps: int = 3,
    loops=4,
    key: Any = None,
    fn: "Callable[[float], float] | None" = None,  # noqa: F821
    cls: Any = None,
):
    from optx_core import scale as scale_

    assert fn is None or callable(fn)
    return scale_(scale * rate * steps * loops)


def test_a_factory_without_declarations_is_injected_by_the_values():
    tx = inject_hyperparams(by_value)(2.0, lambda n: 3.0, key=jax.random.key(0), cls=dict)
    state = tx.init(PARAMS)
    assert set(state.hyperparams) == {"scale", "rate", "loops"}
    updates, _ = tx.update({"w": jnp.ones(1)}, state)
    assert float(updates["w"][0]) == 2.0 * 3.0 * 3 * 4
    legacy = inject_hyperparams(by_value, "loops")(2.0, 3.0, key=jnp.zeros(2, jnp.uint32))
    assert set(legacy.init(PARAMS).hyperparams) == {"scale", "rate"}


def test_map_params_works_on_every_wrapper_of_declared_states():
    from optx_core import LookaheadParams, lookahead, masked, master_weights, multi_steps

    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    spec = {"a": "A", "b": "B"}
    inner = everything()

    def names(tx, params=params):
        return tree.map_params(tx, lambda slot, name: name, tx.init(params), spec)

    for tx in (inner, chain(inner, inner), multi_steps(inner, 2), master_weights(inner)):
        shown = [x for x in jax.tree.leaves(names(tx)) if isinstance(x, str)]
        assert len(shown) >= 8
        assert set(shown) == {"A", "B"}
    ahead = lookahead(inner, 2, 0.5)
    assert names(ahead, LookaheadParams.init_synced(params)).fast_state.mu == spec
    only_a = names(masked(inner, {"a": True, "b": False})).inner_state
    assert only_a.mu["a"] == "A"
    assert only_a.mu["b"] == ()


class NoisyState(NamedTuple):
    count: build.Count
    key: build.Key


@build.rule(NoisyState)
def noisy(g, s, /, size: build.Nonnegative = 1.0, key: build.Key = 0):
    return size * jax.random.normal(s.key.at(s.count), g.shape, g.dtype), s


def test_a_key_is_drawn_for_each_array_and_each_update_and_stays_in_the_state():
    params = {"a": jnp.ones(3), "b": jnp.ones(3), "c": None}
    tx = noisy(key=jax.random.key(7))
    assert tx == noisy(key=jax.random.key(7)) != noisy(key=7 + 1)
    first, state = tx.update(params, tx.init(params))
    second, state = tx.update(params, state)
    drawn = [np.asarray(u[k]).tobytes() for u in (first, second) for k in "ab"]
    assert len(set(drawn)) == 4
    expected = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), 2), 1)
    np.testing.assert_array_equal(second["b"], jax.random.normal(expected, 3))
    chex.assert_trees_all_equal(state.key, jax.random.key(7))
    alone, _ = noisy(key=7).update(params, noisy(key=7).init(params))
    np.testing.assert_array_equal(alone["b"], first["b"])


def test_a_key_needs_a_field_and_an_argument_of_one_name():
    with pytest.raises(TypeError, match="key must also be an argument"):
        build.rule(NoisyState)(lambda g, s: (g, s))
    with pytest.raises(TypeError, match="key needs a state field of the same name"):

        @build.rule()
        def keyless(g, key: build.Key = 0):
            return g
