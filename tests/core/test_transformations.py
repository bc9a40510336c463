"""What the elementary transformations compute, and how they combine."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import (
    EmptyState,
    GradientTransformation,
    MaskedNode,
    TreeMismatchError,
    adaptive_grad_clip,
    add_decayed_weights,
    apply_updates,
    chain,
    clip,
    clip_by_block_rms,
    clip_by_global_norm,
    ema,
    freeze,
    global_norm,
    identity,
    incremental_update,
    masked,
    named_chain,
    partition,
    periodic_update,
    scale,
    scale_by_learning_rate,
    scale_by_schedule,
    selective_transform,
    set_to_zero,
    stateless,
    trace,
    with_extra_args_support,
)
from optx_core._engine import norms as _norms
from optx_core.build import LeafStep, leafwise, recorded, schedulable


def run(tx, grads, params=None, steps=1, **extra):
    state = tx.init(params if params is not None else grads)
    for _ in range(steps):
        updates, state = tx.update(grads, state, params, **extra)
    return updates, state


# Elementary transformations


def test_momentum_sums_and_nesterov_looks_ahead():
    g, decay = np.array([1.0, -2.0]), 0.5
    t = np.zeros(2)
    for _ in range(3):
        t = g + decay * t
    np.testing.assert_allclose(run(trace(decay), jnp.asarray(g, jnp.float32), steps=3)[0], t)
    ahead = run(trace(decay, nesterov=True), jnp.asarray(g, jnp.float32), steps=3)[0]
    np.testing.assert_allclose(ahead, g + decay * t)


def test_an_average_is_debiased_to_the_constant_it_averages():
    g = jnp.array([3.0, -1e-6])
    for steps in (1, 2, 50):
        np.testing.assert_allclose(run(ema(0.999), g, steps=steps)[0], g, rtol=1e-6)
    np.testing.assert_allclose(run(ema(0.5, debias=False), g)[0], g / 2)


@pytest.mark.parametrize("norm", [0.0, 1e-30, 1e-3, 1.0, 5.0, 1e30])
@pytest.mark.parametrize("limit", [0.0, 1e-3, 1.0, 1e35])
def test_clipping_by_the_global_norm_keeps_the_direction_at_any_size(norm, limit):
    direction = {"a": np.array([0.6]), "b": np.array([[0.0, -0.8]])}
    grads = jax.tree.map(lambda d: jnp.asarray(d * norm, jnp.float32), direction)
    updates, _ = run(clip_by_global_norm(limit), grads)
    expected = jax.tree.map(lambda d: d * min(norm, limit), direction)
    chex.assert_trees_all_close(updates, expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_clipping_passes_on_updates_whose_norm_is_not_finite(bad):
    grads = {"a": jnp.array([bad, 2.0]), "b": jnp.array([1e-3])}
    updates, _ = run(clip_by_global_norm(1.0), grads)
    chex.assert_trees_all_equal(updates, grads)


@pytest.mark.parametrize("make", [clip_by_block_rms, adaptive_grad_clip], ids=lambda f: f.__name__)
def test_clipping_of_an_array_limits_an_enormous_entry_and_keeps_an_infinite_one(make):
    tx, params = make(0.5), jnp.ones((4, 1))
    for size in (1e15, 1e25, 3e38, 1e25j):
        update = tx.update(jnp.asarray([[size], [2.0], [-3.0], [0.0]]), tx.init(params), params)[0]
        norm = np.linalg.norm(update)
        np.testing.assert_allclose(
            norm, 1.0, rtol=1e-5
        )  # 0.5·2 in both: the root of 4 entries, ‖p‖
        assert update[1].real > 0 > update[2].real, size
    update = tx.update(jnp.asarray([[jnp.inf], [2.0], [-3.0], [0.0]]), tx.init(params), params)[0]
    assert update[0] == jnp.inf
    assert bool(jnp.all(jnp.isfinite(update[1:])))
    unclipped = jnp.asarray([[0.1], [-0.2], [0.3], [1e-30]])
    np.testing.assert_array_equal(tx.update(unclipped, tx.init(params), params)[0], unclipped)


def test_clipping_in_half_precision_does_not_overflow():
    grads = jnp.full(1000, 6e4, jnp.float16)
    updates, _ = run(clip_by_global_norm(1.0), grads)
    np.testing.assert_allclose(updates, 1 / np.sqrt(1000), rtol=1e-3)


def test_a_leaf_of_many_is_clipped_by_the_norm_of_all():
    grads = {f"w{k}": jnp.ones(k % 3 + 1) for k in range(100)}
    updates, _ = run(clip_by_global_norm(2.0), grads)
    assert global_norm(updates) == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({}, 0.0),
        ({"a": None, "b": MaskedNode()}, 0.0),
        (jnp.zeros((0, 3)), 0.0),
        (jnp.array(-2.0), 2.0),
        (jnp.array([3e-30, 4e-30]), 5e-30),
        (jnp.array([3e37, 4e37]), 5e37),
        ({"a": jnp.array(1e-30), "b": jnp.array(1.0)}, 1.0),
        (jnp.array([3 + 4j, 0]), 5.0),
        (jnp.array([3e25 + 4e25j]), 5e25),
        (jnp.full(4, 300.0, jnp.float16), 600.0),
        (jnp.array([jnp.inf, 1.0]), np.inf),
        (jnp.array([jnp.nan, 1.0]), np.nan),
    ],
)
def test_the_global_norm_neither_overflows_nor_underflows(tree, expected, monkeypatch):
    for norm in (global_norm(tree), jax.jit(lambda tree: global_norm(tree))(tree)):
        assert norm.dtype == jnp.float32
        np.testing.assert_allclose(norm, expected, rtol=1e-6)
    monkeypatch.setattr(_norms, "_by_branch", _norms._at_once)  # what runs on accelerators
    again = jax.jit(lambda tree: global_norm(tree))(tree)
    np.testing.assert_allclose(again, expected, rtol=1e-6)


@pytest.mark.parametrize("size", [1e-300, 1e-140, 1.0, 1e140, 1e300])
def test_the_global_norm_in_double_precision(size, x64):
    x = jnp.asarray([3 * size, 4 * size])
    for norm in (global_norm(x), jax.jit(_norms._at_once)([x])):
        assert norm.dtype == jnp.float64
        np.testing.assert_allclose(norm, 5 * size, rtol=1e-14)
    np.testing.assert_allclose(jax.grad(global_norm)(x), [0.6, 0.8], rtol=1e-14)


def test_the_global_norm_has_second_derivatives_and_complex_and_integer_leaves():
    x = jnp.asarray([3.0, 4.0])
    expected = (np.eye(2) - np.outer([0.6, 0.8], [0.6, 0.8])) / 5
    np.testing.assert_allclose(jax.hessian(global_norm)(x), expected, atol=1e-6)
    slope = jax.grad(global_norm)(jnp.asarray([3 - 4j]))
    np.testing.assert_allclose(slope, [0.6 + 0.8j], rtol=1e-6)  # jax's conjugate of the direction
    assert global_norm({"a": jnp.asarray([3, 0]), "b": jnp.asarray([4.0])}) == 5.0
    many = jax.vmap(global_norm)(jnp.asarray([[3.0, 4.0], [3e30, 4e30], [0.0, 0.0]]))
    np.testing.assert_allclose(many, [5.0, 5e30, 0.0], rtol=1e-6)


@pytest.mark.parametrize("x", [[0.0, 0.0], [3e-30, 4e-30], [3.0, 4.0], [3e30, 4e30]])
def test_the_gradient_of_the_global_norm_is_the_direction(x):
    slope = jax.grad(global_norm)(jnp.asarray(x))
    np.testing.assert_allclose(slope, [0.0, 0.0] if x[0] == 0 else [0.6, 0.8], rtol=1e-6)


def test_clip_is_refused_for_complex_updates():
    with pytest.raises(TypeError, match="clip: complex numbers have no order"):
        run(clip(1.0), jnp.array([1j]))


def test_a_number_may_be_a_schedule_everywhere():
    def schedule(count):
        return 1 / (1 + count).astype(float)

    for make in (clip, clip_by_global_norm, lambda s: chain(scale_by_schedule(s)), trace, ema):
        tx = make(schedule)
        state = tx.init(jnp.ones(2))
        for _ in range(3):
            _, state = tx.update(jnp.ones(2), state)
        counts = [x for x in jax.tree.leaves(state) if x.dtype == jnp.int32]
        assert 3 in [int(c) for c in counts]


def test_the_first_step_is_step_zero_of_a_schedule():
    seen = [0.0, 10.0, 20.0]
    tx = scale_by_schedule(lambda count: jnp.asarray(seen)[count])
    state = tx.init(None)
    for expected in seen:
        updates, state = tx.update(jnp.array(1.0), state)
        assert updates == expected


def test_weight_decay_follows_its_mask_and_its_schedule():
    params = {"w": jnp.array([2.0]), "b": jnp.array([2.0])}
    grads = jax.tree.map(jnp.ones_like, params)
    tx = add_decayed_weights(lambda count: 0.5 * (1 + count).astype(float), {"w": True, "b": False})
    updates, state = run(tx, grads, params, steps=2)
    assert (updates["w"], updates["b"]) == (3.0, 1.0)
    assert state.inner_state.count == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: clip(-1.0), "clip: max_delta must be at least 0, not -1.0"),
        (lambda: clip_by_global_norm(float("nan")), "max_norm must be at least 0"),
        (lambda: trace(1.5), "trace: decay must be at most 1, not 1.5"),
        (lambda: ema(-0.1), "ema: decay must be at least 0"),
        (lambda: add_decayed_weights(-1e-4), "weight_decay must be at least 0"),
        (lambda: scale_by_learning_rate(float("nan")), "learning_rate must be a number"),
        (lambda: scale("fast"), "step_size must be a number, not 'fast'"),
        (lambda: scale(lambda n: 1.0), "for a schedule use scale_by_schedule"),
        (lambda: scale_by_schedule(0.1), "takes a function of the step, not 0.1"),
        (lambda: chain(scale(1.0), trace), r"chain: argument 1: .*\(call it: trace\(\.\.\.\)\)"),
        (lambda: named_chain(scale(1.0)), r"argument 0 must be \(name, transformation\)"),
        (
            lambda: named_chain(("a", scale(1.0)), ("a", scale(1.0))),
            "the name 'a' is given twice",
        ),
        (lambda: partition([scale(1.0)], {}), "transforms must be a dict by label"),
        (lambda: masked(3, True), "masked takes transformations"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_built(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_weight_decay_says_how_to_pass_the_parameters():
    with pytest.raises(
        ValueError, match=r"add_decayed_weights needs the parameters: call update\("
    ):
        run(add_decayed_weights(0.1), jnp.ones(2))


# Chains


def test_an_empty_chain_is_the_identity():
    grads = {"a": jnp.ones(2), "b": None}
    updates, state = run(chain(), grads)
    assert updates is not None
    assert state == ()
    np.testing.assert_array_equal(updates["a"], grads["a"])


def test_a_chain_applies_its_members_in_order():
    params = jnp.array([4.0])
    tx = chain(add_decayed_weights(0.5), scale(-2.0), clip(1.0), add_decayed_weights(1.0))
    assert run(tx, jnp.array([1.0]), params)[0] == 3.0


def test_a_chain_equals_its_members_one_after_another():
    members = [clip_by_global_norm(1.0), trace(0.9), ema(0.5), scale(-0.1)]
    grads = {"a": jnp.linspace(-2, 2, 7), "b": {"c": jnp.ones((2, 3))}}
    together = chain(*members)
    states, state = [tx.init(grads) for tx in members], together.init(grads)
    for _ in range(3):
        updates, state = together.update(grads, state)
        one = grads
        for k, tx in enumerate(members):
            one, states[k] = tx.update(one, states[k])
        chex.assert_trees_all_close(updates, one, rtol=1e-6, atol=0.0)
        chex.assert_trees_all_close(state, tuple(states), rtol=1e-6, atol=0.0)


def test_a_chain_hands_extra_arguments_to_those_who_name_them():
    seen = []

    class Reads:
        def init(self, params):
            return EmptyState()

        def update(self, updates, state, params=None, *, value):
            seen.append(value)
            return updates, state

    class Ignores:
        def init(self, params):
            return EmptyState()

        def update(self, updates, state, params=None):
            return updates, state

    run(chain(Reads(), Ignores(), scale(1.0)), jnp.ones(1), value=3.0, grad="unused")
    assert seen == [3.0]


def test_the_state_of_another_chain_is_refused():
    with pytest.raises(ValueError, match="the state has 1 parts, but there are 2 transformations"):
        chain(scale(1.0), scale(1.0)).update(jnp.ones(1), chain(scale(1.0)).init(None))


def test_a_named_chain_names_its_states():
    tx = named_chain(("momentum", trace(0.5)), ("step", scale(-1.0)))
    updates, state = run(tx, jnp.ones(1), steps=2)
    assert list(state) == ["momentum", "step"]
    assert updates == -1.5


def test_leafwise_members_of_a_chain_share_one_pass_over_each_array():
    tx = chain(
        clip_by_global_norm(1.0), trace(0.9), ema(0.9), add_decayed_weights(0.1), scale(-1.0)
    )
    params = jnp.ones(3)
    jaxpr = jax.make_jaxpr(tx.update)(params, tx.init(params), params)
    calls = [eqn for eqn in jaxpr.eqns if eqn.primitive.name in ("jit", "pjit")]
    leaf_calls = [c for c in calls if "trace" in c.params["name"]]
    assert len(leaf_calls) == 1
    assert leaf_calls[0].params["name"] == "scale_trace_ema_add_decayed_weights"


def test_equal_shapes_are_traced_once():
    traced = []

    def leaf(g, *, rate):
        traced.append(g.shape)
        return g * rate

    tx = leafwise(lambda flow, state, params, **_: LeafStep(leaf, operands={"rate": 0.5}))
    grads = {f"w{k}": jnp.ones((k % 2) + 1) for k in range(50)}
    jax.jit(tx.update)(grads, tx.init(None))
    assert sorted(traced) == [(1,), (2,)]


def test_another_learning_rate_is_not_another_program():
    traced = []

    def leaf(g, *, rate):
        traced.append(rate)
        return g * rate

    def make(rate):
        return leafwise(lambda flow, state, params, **_: LeafStep(leaf, operands={"rate": rate}))

    for rate in (0.1, 0.2, 0.3):
        updates, _ = run(make(rate), jnp.ones(3))
        np.testing.assert_allclose(updates, rate)
    assert len(traced) == 1


# Promises about leaves


def test_a_mismatch_names_the_calls_the_path_and_both_shapes():
    tx = chain(clip(1.0), trace(0.9))
    state = tx.init({"dense": {"kernel": jnp.ones((3, 1))}})
    with pytest.raises(
        TreeMismatchError,
        match=r"trace: updates\['dense'\]\['kernel'\] is \(1, 3\), the parameter is \(3, 1\)",
    ):
        tx.update({"dense": {"kernel": jnp.ones((1, 3))}}, state)


def test_another_structure_names_what_has_no_partner():
    tx = trace(0.9)
    with pytest.raises(TreeMismatchError, match=r"updates\['a'\] has no partner in the state's tr"):
        tx.update({"a": jnp.ones(1)}, tx.init({"b": jnp.ones(1)}))


def test_a_gradient_for_a_parameter_that_was_none_is_refused():
    tx = trace(0.9)
    with pytest.raises(TreeMismatchError, match=r"updates\['a'\] has a gradient .* but no trace"):
        tx.update({"a": jnp.ones(1)}, tx.init({"a": None}))


def test_a_parameter_without_gradient_keeps_its_state():
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    tx = chain(trace(0.5), scale(-1.0))
    _, state = run(tx, params)
    updates, after = tx.update({"a": jnp.ones(2), "b": None}, state, params)
    assert updates["b"] is None
    np.testing.assert_array_equal(after[0].trace["b"], state[0].trace["b"])
    np.testing.assert_array_equal(after[0].trace["a"], [1.5, 1.5])


def test_bf16_updates_of_a_chain_are_rounded_once():
    g = jnp.asarray([1.0 + 2**-7], jnp.bfloat16)
    updates, _ = run(chain(scale(1 / 3), scale(3.0)), g)
    assert updates.dtype == jnp.bfloat16
    assert updates == g


def test_a_leaf_that_changes_a_shape_is_refused():
    tx = leafwise(lambda flow, state, params, **_: LeafStep(lambda g: g[:1]))
    with pytest.raises(TypeError, match=r"turned g of shape \(3,\) into \(1,\): a leaf must"):
        run(tx, jnp.ones(3))


# Masks and partitions


def test_masked_leaves_are_untouched_and_own_no_state():
    params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2), "n": None}
    updates, state = run(masked(trace(0.5), {"w": True, "b": False, "n": True}), params, steps=2)
    np.testing.assert_array_equal(updates["w"], np.full((2, 2), 1.5))
    np.testing.assert_array_equal(updates["b"], np.ones(2))
    assert state.inner_state.trace["b"] == MaskedNode()
    assert len(jax.tree.leaves(state)) == 1


def test_a_norm_under_a_mask_is_that_of_the_masked_leaves():
    grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    updates, _ = run(masked(clip_by_global_norm(1.0), {"a": True, "b": False}), grads)
    assert (updates["a"], updates["b"]) == (1.0, 4.0)


def test_masks_nest():
    params = {"a": jnp.ones(1), "b": jnp.ones(1), "c": jnp.ones(1)}
    inner = masked(scale(2.0), lambda p: {name: name != "b" for name in p})
    tx = masked(inner, {"a": True, "b": True, "c": False})
    updates, _ = run(tx, params)
    assert [float(updates[k][0]) for k in "abc"] == [2.0, 1.0, 1.0]


def test_steps_before_and_after_a_mask_share_the_pass():
    params = {"a": jnp.ones(1), "b": jnp.ones(1)}
    tx = chain(scale(2.0), masked(add_decayed_weights(1.0), {"a": True, "b": False}), scale(10.0))
    updates, _ = run(tx, params, params)
    assert (updates["a"], updates["b"]) == (30.0, 20.0)


@pytest.mark.parametrize(
    "labels",
    [
        {"x": {"w": "fast", "b": "slow"}, "y": {"w": "slow", "b": "slow"}},
        {"x": {"w": "fast", "b": "slow"}, "y": "slow"},
        lambda params: {"x": {"w": "fast", "b": "slow"}, "y": "slow"},
    ],
    ids=["tree", "prefix", "function"],
)
def test_a_partition_gives_each_group_its_transformation(labels):
    params = {"x": {"w": jnp.ones(1), "b": jnp.ones(1)}, "y": {"w": jnp.ones(1), "b": None}}
    tx = partition({"fast": trace(0.5), "slow": scale(0.1)}, labels)
    updates, state = run(tx, params, params, steps=2)
    np.testing.assert_allclose(updates["x"]["w"], 1.5)
    np.testing.assert_allclose([updates["x"]["b"], updates["y"]["w"]], 0.1, rtol=1e-6)
    assert updates["y"]["b"] is None
    assert len(jax.tree.leaves(state)) == 1


def test_a_partition_refuses_unknown_and_unused_labels_with_their_paths():
    params = {"x": {"w": jnp.ones(1)}, "y": jnp.ones(1)}
    with pytest.raises(ValueError, match="no transformation for the label 'a' at x/w"):
        partition({"b": identity()}, {"x": "a", "y": "b"}).init(params)
    with pytest.raises(ValueError, match="no parameter is labelled 'c'; the labels are"):
        partition({"b": identity(), "c": identity()}, {"x": "b", "y": "b"}).init(params)


def test_labels_that_do_not_fit_say_where():
    with pytest.raises(ValueError, match="no label for y; no parameter for the label at z"):
        partition({"a": identity()}, {"x": "a", "z": "a"}).init(
            {"x": jnp.ones(1), "y": jnp.ones(1)}
        )


def test_a_mask_of_something_else_than_bools_is_refused():
    with pytest.raises(TypeError, match="a mask must contain only True and False, not 'yes'"):
        masked(identity(), {"a": "yes"}).init({"a": jnp.ones(1)})
    with pytest.raises(TypeError, match="selective_transform: a mask must contain only True and"):
        selective_transform(identity(), freeze_mask={"a": "yes"}).init({"a": jnp.ones(1)})
    with pytest.raises(ValueError, match="freeze: the labels do not fit the parameters: no label"):
        freeze({"a": True}).init({"a": jnp.ones(1), "b": jnp.ones(1)})


@pytest.mark.parametrize("array", [np.array, np.bool_, jnp.array], ids=["NumPy", "scalar", "JAX"])
def test_a_mask_may_contain_arrays_of_one_bool(array):
    params = {"a": jnp.ones(1), "b": jnp.ones(1)}
    mask = {"a": array(True), "b": array(False)}
    selective = selective_transform(scale(2.0), freeze_mask=mask)
    for tx, expected in ((masked(scale(2.0), mask), (2.0, 1.0)), (selective, (0.0, 2.0))):
        updates, _ = jax.jit(tx.update)(params, tx.init(params))
        assert (updates["a"], updates["b"]) == expected
    with pytest.raises(TypeError, match="a mask must contain only True and False"):
        masked(scale(2.0), {"a": jnp.array([True]), "b": True}).init(params)


def test_extra_arguments_can_be_masked_with_the_updates():
    seen = []

    def update(updates, state, params=None, *, curvature, **_):
        seen.append(curvature)
        return updates, state

    inner = GradientTransformation(lambda p: EmptyState(), update)
    params = {"a": jnp.ones(1), "b": jnp.ones(1)}
    tx = masked(inner, {"a": True, "b": False}, mask_compatible_extra_args=True)
    run(tx, params, curvature=params)
    assert seen[0]["b"] == MaskedNode()


def test_set_to_zero_in_a_partition_freezes_without_state():
    params = {"a": jnp.ones(1), "b": jnp.ones(1)}
    tx = partition({"train": trace(0.9), "freeze": set_to_zero()}, {"a": "train", "b": "freeze"})
    updates, state = run(tx, params)
    assert updates["b"] == 0.0
    assert len(jax.tree.leaves(state)) == 1


# Foreign transformations and functions


def test_extra_arguments_support_keeps_what_has_it_and_wraps_what_has_not():
    tx = scale(1.0)
    assert with_extra_args_support(tx) is tx
    bare = GradientTransformation(lambda p: (), lambda g, s, p=None: (g, s))
    wrapped = with_extra_args_support(bare)
    assert wrapped.update(1.0, (), value=2.0) == (1.0, ())
    assert wrapped == with_extra_args_support(bare)
    with pytest.raises(TypeError, match="objects with init and update, not 3"):
        with_extra_args_support(3)


def test_stateless_functions_see_the_parameters():
    tx = stateless(lambda updates, params: jax.tree.map(lambda g, p: g * p, updates, params))
    assert run(tx, jnp.array(2.0), jnp.array(3.0))[0] == 6.0


@recorded
@schedulable("rate")
def own(rate, offset=0.0):
    return leafwise(
        lambda flow, state, params, **_: LeafStep(
            own_leaf, operands={"rate": rate, "offset": offset}
        )
    )


def own_leaf(g, *, rate, offset):
    return rate * g + offset


def test_a_transformation_of_ones_own_takes_schedules_with_one_decorator():
    tx = own(lambda count: 10 * (count + 1), offset=1.0)
    updates, state = run(tx, jnp.array(1.0), steps=2)
    assert (updates, state.count) == (21.0, 2)
    assert own(0.5) == own(rate=0.5)


# Applying updates


def test_updates_are_added_in_the_parameters_dtype():
    params = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(1), "c": None, "n": jnp.int32(3)}
    updates = {"a": jnp.full(2, 0.5), "b": jnp.ones(1, jnp.bfloat16), "c": None, "n": None}
    moved = apply_updates(params, updates)
    assert moved["a"].dtype == jnp.bfloat16
    assert moved["b"].dtype == jnp.float32
    assert (moved["n"], moved["c"]) == (3, None)
    np.testing.assert_array_equal(moved["a"].astype(float), [1.5, 1.5])


def test_a_missing_update_leaves_the_parameter():
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    moved = apply_updates(params, {"a": None, "b": MaskedNode()})
    chex.assert_trees_all_equal(moved, params)


@pytest.mark.parametrize(
    ("p", "u", "message"),
    [
        (
            jnp.ones((3, 1)),
            jnp.ones((1, 3)),
            r"updates\['w'\] is \(1, 3\), the parameter is \(3, 1\)",
        ),
        (jnp.int32(1), jnp.float32(1), r"updates\['w'\] is float32, the parameter is int32"),
        (jnp.ones(1), jnp.ones(1, jnp.complex64), "complex64, the parameter is float32"),
        (None, jnp.ones(1), r"updates\['w'\] is \(1,\), the parameter is missing"),
    ],
)
def test_an_update_that_does_not_fit_is_refused_by_path(p, u, message):
    with pytest.raises(TreeMismatchError, match=message):
        apply_updates({"w": p}, {"w": u})


def test_incremental_update_goes_a_part_of_the_way():
    old, new = {"a": jnp.zeros(1, jnp.bfloat16), "n": 1}, {"a": jnp.ones(1), "n": 2}
    made = incremental_update(new, old, 0.25)
    assert made["a"].dtype == jnp.bfloat16
    assert (made["a"], made["n"]) == (0.25, 2)


@pytest.mark.parametrize(("steps", "expected"), [(0, 1.0), (1, 0.0), (2, 0.0), (3, 1.0)])
def test_periodic_update_takes_the_new_every_so_often(steps, expected):
    assert periodic_update(jnp.ones(1), jnp.zeros(1), jnp.asarray(steps), 3) == expected


def test_ten_thousand_leaves_are_no_trouble():
    params = {f"w{k}": np.ones(k % 4 + 1, np.float32) for k in range(10_000)}
    tx = chain(clip_by_global_norm(1.0), trace(0.9), scale(-0.1))
    updates, _ = jax.eval_shape(tx.update, params, jax.eval_shape(tx.init, params), params)
    assert len(updates) == 10_000
