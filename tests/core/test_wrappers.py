"""What the wrappers compute: accumulation, skipping, averages, precision, injected numbers."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import (
    EmptyState,
    GradientTransformation,
    LookaheadParams,
    MultiSteps,
    TreeMismatchError,
    adaptive_grad_clip,
    add_noise,
    apply_every,
    apply_if_finite,
    apply_updates,
    centralize,
    chain,
    clip_by_block_rms,
    clip_by_global_norm,
    conditionally_mask,
    conditionally_transform,
    dynamic_loss_scale,
    ema,
    eval_params,
    flatten,
    freeze,
    global_norm,
    hyperparams,
    inject_hyperparams,
    lookahead,
    loss_scale,
    masked,
    master_weights,
    measure_with_ema,
    metrics,
    monitor,
    multi_steps,
    named_chain,
    partition,
    ravel_params,
    scale,
    scale_by_learning_rate,
    selective_transform,
    skip_if,
    skip_large_updates,
    skip_not_finite,
    snapshot,
    stochastic_rounding,
    trace,
    tree,
    with_ema,
    zero_nans,
)
from optx_core.build import call_of


def optimizer():
    """A stateful optimizer of the core's own parts."""
    return chain(trace(0.9), ema(0.99), scale(-0.1))


def close(x, y, rtol=1e-6, atol=1e-7):
    chex.assert_trees_all_close(x, y, rtol=rtol, atol=atol)


PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.ones(2), "n": None}


def grads_at(step):
    return {"w": jnp.cos(PARAMS["w"] * 3 + step), "b": jnp.sin(PARAMS["b"] + step), "n": None}


def drive(tx, grads, params=PARAMS, **extra):
    """Applies a list of gradients in turn; returns parameters, state and all updates."""
    state, made = tx.init(params), []
    for g in grads:
        updates, state = tx.update(g, state, params, **extra)
        params = apply_updates(params, updates)
        made.append(updates)
    return params, state, made


# Accumulation


@pytest.mark.parametrize("k", [1, 2, 7])
@pytest.mark.parametrize("mean", [True, False])
def test_k_micro_steps_equal_one_large_batch(k, mean):
    micro = [grads_at(step) for step in range(3 * k)]
    windows = [micro[k * i : k * i + k] for i in range(3)]
    whole = [jax.tree.map(lambda *g: sum(g) / (k if mean else 1), *window) for window in windows]
    tx = multi_steps(optimizer(), k, use_grad_mean=mean)
    params, state, made = drive(tx, micro)
    expected, inner_state, _ = drive(optimizer(), whole)
    close(params, expected)
    close(state.inner_opt_state, inner_state)
    assert (state.mini_step, state.gradient_step) == (0, 3)
    if k > 1:
        assert global_norm(made[0]) == 0.0


def test_a_nan_micro_batch_is_skipped_and_the_next_window_is_clean():
    bad = {"w": jnp.full((2, 3), jnp.nan), "b": jnp.ones(2), "n": None}
    tx = multi_steps(optimizer(), 2, should_skip_update_fn=skip_not_finite)
    with_bad, state, _ = drive(tx, [grads_at(0), bad, grads_at(1), bad, grads_at(2), grads_at(3)])
    without, _, _ = drive(tx, [grads_at(k) for k in range(4)])
    close(with_bad, without)
    assert not bool(state.skip_state["should_skip"])
    _, told, _ = drive(tx, [bad])
    assert (bool(told.skip_state["should_skip"]), told.skip_state["num_not_finite"]) == (True, 6)
    assert told.mini_step == 0


def test_a_nan_that_is_not_skipped_spoils_its_own_window_only():
    bad = jax.tree.map(lambda g: g * jnp.nan, grads_at(0))
    tx = multi_steps(scale(-1.0), 2)
    _, _, made = drive(tx, [bad, grads_at(1), grads_at(2), grads_at(3)])
    assert not np.isfinite(global_norm(made[1]))
    assert np.isfinite(global_norm(made[3]))


def test_large_micro_batches_can_be_skipped():
    should_skip = functools.partial(skip_large_updates, max_squared_norm=10.0)
    tx = multi_steps(scale(-1.0), 1, should_skip_update_fn=should_skip)
    _, state, made = drive(tx, [jax.tree.map(lambda g: 100 * g, grads_at(0)), grads_at(1)])
    assert global_norm(made[0]) == 0.0
    assert global_norm(made[1]) > 0.0
    assert state.gradient_step == 1


def test_the_window_may_be_a_schedule_of_the_updates():
    tx = multi_steps(scale(-1.0), lambda step: jnp.where(step < 1, 1, 3))
    _, state, made = drive(tx, [grads_at(k) for k in range(7)])
    assert [bool(global_norm(u) > 0) for u in made] == [
        True,
        False,
        False,
        True,
        False,
        False,
        True,
    ]
    assert state.gradient_step == 3


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("jit", [True, False])
def test_an_incomplete_window_ends_where_emit_is_true(mean, jit):
    # Five micro-batches of windows of three, twice: 3 + 2 and 3 + 2, as at the ends of two epochs.
    micro = [grads_at(step) for step in range(10)]
    windows = [micro[a:b] for a, b in ((0, 3), (3, 5), (5, 8), (8, 10))]
    whole = [
        jax.tree.map(lambda *g: sum(g) / (len(g) if mean else 1), *window) for window in windows
    ]
    tx = multi_steps(optimizer(), 3, use_grad_mean=mean)
    update = jax.jit(tx.update) if jit else tx.update
    params, state = PARAMS, tx.init(PARAMS)
    for step, g in enumerate(micro):
        updates, state = update(g, state, params, emit=jnp.asarray(step % 5 == 4))
        params = apply_updates(params, updates)
    expected, inner_state, _ = drive(optimizer(), whole)
    close(params, expected)
    close(state.inner_opt_state, inner_state)
    assert (state.mini_step, state.gradient_step) == (0, 4)
    assert global_norm(state.acc_grads) == 0.0


def test_emit_at_a_skipped_micro_batch_ends_a_window_that_has_others_only():
    bad = jax.tree.map(lambda g: g * jnp.nan, grads_at(0))
    tx = multi_steps(scale(-1.0), 3, should_skip_update_fn=skip_not_finite)
    state = tx.init(PARAMS)
    updates, state = tx.update(bad, state, PARAMS, emit=True)
    assert (global_norm(updates), state.gradient_step) == (0.0, 0)
    _, state = tx.update(grads_at(0), state, PARAMS)
    updates, state = tx.update(bad, state, PARAMS, emit=True)
    close(updates, jax.tree.map(lambda g: -g, grads_at(0)))
    assert (state.mini_step, state.gradient_step) == (0, 1)


def test_emit_ends_the_windows_inside_of_a_window_too():
    tx = multi_steps(multi_steps(scale(-1.0), 2), 2)
    state = tx.init(PARAMS)
    updates, state = tx.update(grads_at(0), state, PARAMS, emit=True)
    close(updates, jax.tree.map(lambda g: -g, grads_at(0)))
    class_updates, _ = MultiSteps(scale(-1.0), 2).update(
        grads_at(0), multi_steps(scale(-1.0), 2).init(PARAMS), PARAMS, emit=True
    )
    close(class_updates, updates)


@pytest.mark.parametrize("emit", [1, "yes", None, jnp.array([True])])
def test_emit_must_be_a_boolean_scalar(emit):
    tx = multi_steps(scale(-1.0), 2)
    with pytest.raises(TypeError, match="multi_steps: emit must be a boolean scalar, not "):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, emit=emit)


def test_the_class_has_the_methods_of_optax():
    tx = MultiSteps(optimizer(), every_k_schedule=2)
    state = tx.init(PARAMS)
    assert not bool(tx.has_updated(state))
    for step in range(2):
        _, state = tx.update(grads_at(step), state, PARAMS)
    assert bool(tx.has_updated(state))
    assert tx.gradient_transformation() == multi_steps(optimizer(), 2)
    assert tx.inner_opt == optimizer()
    assert MultiSteps(optimizer(), 2) == tx
    with pytest.raises(ValueError, match="every_k must be a positive int or a schedule, not 0"):
        multi_steps(optimizer(), 0)


def cost(tx, params, name):
    state = tx.init(params)
    step = jax.jit(tx.update, donate_argnums=(0, 1))
    return step.lower(params, state, params).compile().cost_analysis()[name]


def test_one_micro_step_of_one_is_the_program_of_the_optimizer_itself():
    params = {"w": jnp.ones(1000)}
    inner, wrapped = (
        cost(tx, params, "flops") for tx in (optimizer(), multi_steps(optimizer(), 1))
    )
    assert wrapped <= inner + 10
    inner, wrapped = (
        cost(tx, params, "bytes accessed") for tx in (optimizer(), multi_steps(optimizer(), 1))
    )
    assert wrapped <= inner + 100


def test_a_micro_step_moves_what_accumulating_needs_and_the_optimizer_runs_in_a_branch():
    n = 100_000
    params = {"w": jnp.ones(n)}
    whole = cost(multi_steps(optimizer(), 8), params, "bytes accessed")
    inner = cost(optimizer(), params, "bytes accessed")
    # XLA counts the body of the loop once; it runs once in eight.
    assert whole - inner <= 40 * n
    compiled = (
        jax.jit(multi_steps(optimizer(), 8).update, donate_argnums=(0, 1))
        .lower(params, multi_steps(optimizer(), 8).init(params), params)
        .compile()
    )
    assert " while(" in compiled.as_text()


def test_gradients_flow_through_accumulation_in_both_modes():
    tx = multi_steps(scale(-2.0), 2)

    def second_update(g):
        _, state = tx.update(g, tx.init(g))
        return jnp.sum(tx.update(3 * g, state)[0])

    g = jnp.array([1.0, 2.0])
    np.testing.assert_allclose(jax.grad(second_update)(g), [-4.0, -4.0])
    np.testing.assert_allclose(jax.jvp(second_update, (g,), (jnp.ones(2),))[1], -8.0)
    np.testing.assert_allclose(jax.jit(jax.grad(second_update))(g), [-4.0, -4.0])


def test_the_gradient_of_a_batch_of_conditions_is_that_of_each():
    tx = apply_if_finite(scale(-2.0), 3)

    def total(g):
        return jnp.sum(jax.vmap(lambda g: tx.update(g, tx.init(g))[0])(g))

    np.testing.assert_array_equal(jax.grad(total)(jnp.array([1.0, jnp.nan])), [-2.0, 0.0])


def test_apply_every_lets_the_sum_through():
    _, _, made = drive(chain(scale(-1.0), apply_every(3)), [grads_at(k) for k in range(6)])
    close(made[2], jax.tree.map(lambda *g: -sum(g), *[grads_at(k) for k in range(3)]))
    close(made[5], jax.tree.map(lambda *g: -sum(g), *[grads_at(k) for k in range(3, 6)]))
    assert global_norm(made[0]) == 0.0


# Skipping


def test_a_step_that_is_not_finite_changes_nothing():
    bad = {**grads_at(0), "b": jnp.array([1.0, jnp.inf])}
    tx = apply_if_finite(optimizer(), 3)
    with_bad, state, made = drive(tx, [grads_at(0), bad, bad, grads_at(1)])
    without, _, _ = drive(tx, [grads_at(0), grads_at(1)])
    close(with_bad, without)
    assert global_norm(made[1]) == 0.0
    assert (state.total_notfinite, state.notfinite_count, bool(state.last_finite)) == (2, 0, True)


@pytest.mark.parametrize(("mode", "applied"), [("accept", True), ("skip", False)])
def test_giving_up_is_explicit(mode, applied):
    bad = jnp.array([jnp.nan])
    tx = apply_if_finite(scale(-1.0), 2, when_exceeded=mode)
    state = tx.init(jnp.zeros(1))
    for _ in range(3):
        updates, state = tx.update(bad, state)
    assert bool(jnp.isnan(updates[0])) == applied
    with pytest.raises(ValueError, match="when_exceeded must be one of"):
        apply_if_finite(scale(1.0), 2, when_exceeded="explode")


def test_giving_up_can_raise_from_the_running_program():
    tx = apply_if_finite(scale(-1.0), 1, when_exceeded="raise")

    @jax.jit
    def step(state):
        return tx.update(jnp.array([jnp.nan]), state)[1]

    state = step(tx.init(jnp.zeros(1)))
    with pytest.raises(Exception, match="not finite 2 times in a row"):
        jax.block_until_ready((step(state), jax.effects_barrier()))


def test_a_spike_in_the_norm_or_in_the_loss_is_skipped():
    state = None
    tx = skip_if(scale(-1.0), "value", factor=2.0, warmup_steps=2)
    state, seen = tx.init(jnp.zeros(1)), []
    for value in (1.0, 1.1, 0.9, 5.0, 1.0, jnp.nan, 1.9):
        updates, state = tx.update(jnp.ones(1), state, value=jnp.float32(value))
        seen.append(float(updates[0]))
    assert seen == [-1.0, -1.0, -1.0, 0.0, -1.0, 0.0, -1.0]
    assert state.total_skipped == 2
    with pytest.raises(ValueError, match=r"needs the loss: call update\(.*value=loss\)"):
        tx.update(jnp.ones(1), state)
    custom = skip_if(scale(-1.0), lambda updates, params, **_: jnp.sum(updates) > 3.0)
    assert custom.update(jnp.full(1, 4.0), custom.init(jnp.zeros(1)))[0] == 0.0


def skipped_by_window(rows, window, sigmas):
    """OLMo's rule on rows of measures: those that are skipped; those that are not finite stay out."""
    known, skipped = [], []
    for row in rows:
        past = np.asarray(known[-window:], np.float64).reshape(-1, len(row))
        bad = not np.isfinite(row).all()
        if not bad:
            if len(past) + 1 >= window // 2 and len(past) > 1:
                bad = (row - past.mean(0) > sigmas * past.std(0, ddof=1)).any()
            known.append(row)
        skipped.append(bool(bad))
    return skipped


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e30])
@pytest.mark.parametrize("window", [4, 16])
def test_steps_are_skipped_by_the_mean_and_deviation_of_a_window_as_in_olmo(size, window):
    rng = np.random.default_rng(window)
    losses = 3 + 0.1 * rng.normal(size=80)
    norms = np.abs(1 + 0.2 * rng.normal(size=80))
    losses[[20, 41]] = 9.0, np.nan
    losses[60:] += 2.0  # a lasting rise
    norms[[1, 30, 50]] = 40.0, 40.0, np.inf
    rows = np.stack([losses, norms], axis=1).astype(np.float32) * np.float32([1.0, size])
    tx = skip_if(trace(0.9), ("value", "norm"), window=window, sigmas=3.0)

    def step(state, row):
        updates, state = tx.update(jnp.stack([row[1], 0.0 * row[0]]), state, value=row[0])
        return state, (state.last_skipped, updates[0] == 0.0)

    state, (skipped, still) = jax.lax.scan(step, tx.init(jnp.zeros(2)), jnp.asarray(rows))
    expected = skipped_by_window(rows, window, 3.0)
    assert skipped.tolist() == still.tolist() == expected
    assert int(state.total_skipped) == sum(expected)
    assert expected[30]
    assert sum(expected) < 15


def test_equal_measures_are_not_skipped_for_their_rounding():
    tx = skip_if(scale(-1.0), "value", window=8)
    state = tx.init(jnp.zeros(1))
    for value in [0.1] * 20 + [0.2]:
        _, state = tx.update(jnp.ones(1), state, value=jnp.float32(value))
    assert (bool(state.last_skipped), int(state.total_skipped)) == (True, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 3}, "skip_if: window must be an int of at least 4, not 3"),
        ({"window": 8.0}, "window must be an int of at least 4, not 8.0"),
        ({"window": 8, "sigmas": 0.0}, "skip_if: sigmas must be greater than 0"),
        ({"window": 8, "measure": lambda u, p: True}, "not a function that decides"),
        ({"measure": ("value", "norm")}, "several measures need a window"),
        ({"measure": ("value", "loss"), "window": 8}, "measure must be 'norm', 'value' or"),
        ({"measure": (), "window": 8}, "measure must be 'norm', 'value' or"),
    ],
)
def test_a_window_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        skip_if(scale(-1.0), **arguments)


@pytest.mark.parametrize(
    ("wrapper", "elsewhere"), [(conditionally_transform, 1.0), (conditionally_mask, 0.0)]
)
def test_a_transformation_at_some_steps_only(wrapper, elsewhere):
    tx = wrapper(chain(trace(1.0), scale(10.0)), lambda step: step % 2 == 1)
    state, seen = tx.init(jnp.zeros(1)), []
    for _ in range(4):
        updates, state = tx.update(jnp.ones(1), state)
        seen.append(float(updates[0]))
    assert seen == [elsewhere, 10.0, elsewhere, 20.0]


def test_a_condition_may_see_the_extra_arguments():
    tx = conditionally_mask(scale(1.0), lambda step, loss, **_: loss < 1.0, forward_extra_args=True)
    state = tx.init(jnp.zeros(1))
    assert tx.update(jnp.ones(1), state, loss=jnp.float32(2.0))[0] == 0.0
    assert tx.update(jnp.ones(1), state, loss=jnp.float32(0.5))[0] == 1.0


# Freezing and lookahead


def test_frozen_leaves_own_no_state_and_cost_no_work():
    tx = selective_transform(optimizer(), freeze_mask={"w": True, "b": False, "n": True})
    params, state, _ = drive(tx, [grads_at(0)])
    close(params["w"], PARAMS["w"])
    sizes = sorted(x.size for x in jax.tree.leaves(state))
    assert sizes == [1, 2, 2]
    after, state, _ = drive(
        chain(optimizer(), freeze({"w": True, "b": False, "n": True})), [grads_at(0)]
    )
    close(after, params)


def test_lookahead_is_the_papers_loop():
    fast = slow = np.array([1.0, -2.0])
    tx = lookahead(scale(-0.1), sync_period=3, slow_step_size=0.5)
    params = LookaheadParams.init_synced(jnp.asarray(fast, jnp.float32))
    state = tx.init(params)
    for step in range(1, 8):
        fast = fast - 0.1 * np.cos(fast)
        if step % 3 == 0:
            slow = slow + 0.5 * (fast - slow)
            fast = slow
        updates, state = tx.update(jnp.cos(params.fast), state, params)
        params = apply_updates(params, updates)
        close(params, LookaheadParams(fast, slow))
    with pytest.raises(
        TreeMismatchError, match="lookahead: state is LookaheadState, not SlowWeightsState"
    ):
        tx.update(params.fast, state, params.fast)


def test_lookahead_keeps_the_slow_weights_in_its_state_wherever_it_stands():
    params = {**PARAMS, "k": jnp.arange(2), "h": jnp.ones(2, jnp.bfloat16)}

    def grads(step):
        return {**grads_at(step), "k": None, "h": jnp.full(2, 0.5, jnp.bfloat16)}

    pair = LookaheadParams.init_synced(params)
    tx = lookahead(optimizer(), 3, 0.5)
    pair_state = tx.init(pair)
    chained = chain(clip_by_global_norm(1e6), tx)
    alone, state = params, chained.init(params)
    for step in range(7):
        updates, pair_state = tx.update(grads(step), pair_state, pair)
        pair = apply_updates(pair, updates)
        updates, state = jax.jit(chained.update)(grads(step), state, alone)
        alone = apply_updates(alone, updates)
        wide = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float32), tree)
        close(wide(alone), wide(pair.fast), rtol=2e-2, atol=1e-6)
        close(wide(eval_params(state, params)), wide(pair.slow), rtol=2e-2, atol=1e-6)
    assert state[1].slow["k"] is None
    assert eval_params(state)["h"].dtype == jnp.float32
    assert global_norm(jax.tree.map(jnp.subtract, alone["w"], state[1].slow["w"])) > 0.0


def test_lookahead_can_start_its_optimizer_afresh():
    tx = lookahead(trace(0.9), sync_period=2, slow_step_size=1.0, reset_state=True)
    params = LookaheadParams.init_synced(jnp.zeros(1))
    state = tx.init(params)
    for expected in (1.0, 0.0):
        _, state = tx.update(jnp.ones(1), state, params)
        assert state.fast_state.trace == expected


# Precision


def test_bf16_parameters_with_master_weights_follow_float32_to_one_ulp():
    tx, params = master_weights(scale(-1e-3)), {"w": jnp.ones(3, jnp.bfloat16)}
    g = {"w": jnp.ones(3, jnp.bfloat16)}

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(g, state, params)
        return (apply_updates(params, updates), state), params["w"][0]

    (params, state), path = jax.lax.scan(step, (params, tx.init(params)), length=1000)
    exact = 1.0 - 1e-3 * np.arange(1000)
    ulp = 2.0 ** (np.floor(np.log2(np.maximum(exact, 1e-3))) - 7)
    assert (np.abs(np.asarray(path, np.float64) - exact) <= ulp).all()
    np.testing.assert_allclose(state.master["w"], 0.0, atol=1e-4)


def test_stochastic_rounding_is_right_in_expectation_and_moves_to_neighbours_only():
    n = 4000
    params = jnp.linspace(0.5, 2.0, n).astype(jnp.bfloat16)
    tx = stochastic_rounding(scale(-1e-3), seed=3)
    moved, mean = params, np.asarray(params, np.float64)
    state = tx.init(params)
    for _ in range(50):
        before = moved
        updates, state = tx.update(jnp.ones(n, jnp.bfloat16), state, moved)
        moved = apply_updates(moved, updates)
        gap = np.asarray(before, np.float64) - np.asarray(moved, np.float64)
        assert ((gap >= 0) & (gap <= 2.0**-6)).all()
    drift = (mean - np.asarray(moved, np.float64)).mean()
    np.testing.assert_allclose(drift, 0.05, rtol=0.03)
    rounded = apply_updates(params, tree.scale(-1e-3, jnp.ones(n)))
    assert (np.asarray(rounded == params)).mean() > 0.5  # to nearest, most do not move at all


def test_stochastic_rounding_leaves_float32_and_infinities_alone():
    tx = stochastic_rounding(scale(1.0))
    params = {"a": jnp.ones(2), "b": jnp.array([jnp.inf, 1.0], jnp.bfloat16)}
    grads = {"a": jnp.full(2, 1e-3), "b": jnp.zeros(2, jnp.bfloat16)}
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_array_equal(updates["a"], grads["a"])
    assert apply_updates(params, updates)["b"][1] == 1.0


def test_the_average_of_the_parameters_is_float32_and_follows():
    tx = with_ema(scale(-1.0), decay=0.75)
    params, mean = jnp.zeros(2, jnp.bfloat16), np.zeros(2)
    state = tx.init(params)
    for _ in range(5):
        updates, state = tx.update(jnp.full(2, -0.25, jnp.bfloat16), state, params)
        params = apply_updates(params, updates)
        mean = 0.75 * mean + 0.25 * np.asarray(params, np.float64)
    assert eval_params(state).dtype == jnp.float32
    close(eval_params(state), mean)
    assert eval_params((state,), params).dtype == jnp.bfloat16
    with pytest.raises(KeyError, match="contains 0 averages"):
        eval_params(scale(1.0).init(params))


def test_an_average_at_0_999_of_bf16_parameters_moves():
    tx = with_ema(scale(1.0), decay=0.999)
    params = jnp.ones(1, jnp.bfloat16)
    state = tx.init(params)
    _, state = tx.update(jnp.ones(1, jnp.bfloat16), state, params)
    np.testing.assert_allclose(eval_params(state), 1.001, rtol=1e-6)


def test_the_loss_scale_backs_off_grows_and_has_a_ceiling():
    tx = dynamic_loss_scale(scale(-1.0), 8.0, growth_interval=2, max_scale=16.0)
    state, seen = tx.init(jnp.zeros(1)), []
    for bad in (0, 0, 0, 0, 1, 0, 1):
        g = jnp.array([jnp.inf if bad else 2.0 * float(loss_scale(state))])
        updates, state = tx.update(g, state)
        seen.append((float(updates[0]), float(loss_scale(state))))
    assert seen == [
        (-2.0, 8.0),
        (-2.0, 16.0),
        (-2.0, 16.0),
        (-2.0, 16.0),
        (0.0, 8.0),
        (-2.0, 8.0),
        (0.0, 4.0),
    ]
    assert state.total_notfinite == 2
    with pytest.raises(ValueError, match="initial_scale must be at most"):
        dynamic_loss_scale(scale(1.0), 2.0**30)


# Flat vectors


def test_flatten_keeps_one_buffer_for_each_dtype():
    params = {"a": jnp.ones((2, 2)), "b": jnp.ones(3, jnp.bfloat16), "c": jnp.ones(1), "n": None}
    tx = flatten(trace(0.5))
    updates, state = tx.update(params, tx.init(params), params)
    assert {k: v.shape for k, v in state.trace.items()} == {"bfloat16": (3,), "float32": (5,)}
    assert jax.tree.map(lambda u: (u.shape, u.dtype), updates) == jax.tree.map(
        lambda p: (p.shape, p.dtype), params
    )
    with pytest.raises(TreeMismatchError, match=r"updates\['b'\] is float32, the parameter is bf"):
        tx.update({**params, "b": jnp.ones(3)}, state, params)


def test_flatten_gives_the_same_numbers():
    grads = [grads_at(k) for k in range(3)]
    close(drive(flatten(optimizer()), grads)[0], drive(optimizer(), grads)[0])


def test_flat_parameters_train_as_the_tree_does():
    params = {"w": PARAMS["w"], "b": [PARAMS["b"], jnp.ones(2, jnp.bfloat16)], "n": jnp.int32(3)}

    def loss(p):
        return (
            jnp.sum(jnp.sin(p["w"]) ** 2)
            + jnp.sum(p["b"][0] ** 3)
            + jnp.sum(p["b"][1].astype(float))
        )

    flat, unravel = ravel_params(params)
    assert {k: v.shape for k, v in flat.items()} == {"float32": (8,), "bfloat16": (2,)}
    tx = chain(clip_by_global_norm(1.0), optimizer())
    trees = {"w": params["w"], "b": params["b"], "n": None}
    flat_state, tree_state = tx.init(flat), tx.init(trees)
    for _ in range(5):
        updates, flat_state = tx.update(
            jax.grad(lambda f: loss(unravel(f)))(flat), flat_state, flat
        )
        flat = apply_updates(flat, updates)
        grads = jax.grad(lambda p: loss({**p, "n": 3}))(trees)
        updates, tree_state = tx.update(grads, tree_state, trees)
        trees = apply_updates(trees, updates)
    made = unravel(flat)
    assert made["n"] == 3
    close(made["w"], trees["w"])
    close(made["b"][0], trees["b"][0])


def test_the_gradient_of_a_flat_view_is_one_concatenation():
    flat, unravel = ravel_params({f"w{k}": jnp.ones(k + 1) for k in range(50)})
    loss = lambda f: sum(jnp.sum(x**2) for x in jax.tree.leaves(unravel(f)))
    text = str(jax.make_jaxpr(jax.grad(loss))(flat))
    assert text.count("concatenate") == 1
    assert "pad" not in text
    with pytest.raises(TreeMismatchError, match=r"\['w0'\] is \(2,\), the parameter is \(1,\)"):
        unravel.ravel({f"w{k}": jnp.ones(max(k + 1, 2)) for k in range(50)})


# Numbers in the state, and measurements


def test_injected_numbers_live_in_the_state_and_can_be_changed():
    tx = inject_hyperparams(scale_by_learning_rate)(0.5)
    state = tx.init(jnp.ones(1))
    assert tx.update(jnp.ones(1), state)[0] == -0.5
    state = tree.set(state, learning_rate=0.25)
    traced = []

    @jax.jit
    def step(state):
        traced.append(1)
        return tx.update(jnp.ones(1), state)

    updates, state = step(state)
    assert updates == -0.25
    updates, state = step(tree.set(state, learning_rate=2.0))
    assert (float(updates[0]), len(traced), state.count) == (-2.0, 1, 2)


def test_injected_numbers_are_never_narrower_than_float32():
    state = inject_hyperparams(ema)(0.999).init(jnp.ones(2, jnp.bfloat16))
    assert state.hyperparams["decay"] == jnp.float32(0.999)
    assert list(state.hyperparams) == ["decay"]  # debias is no number


def test_injected_schedules_are_evaluated_at_each_step():
    tx = inject_hyperparams(scale_by_learning_rate)(lambda count: 0.5 ** count.astype(float))
    state, seen = tx.init(jnp.ones(1)), []
    for _ in range(3):
        updates, state = tx.update(jnp.ones(1), state)
        seen.append(float(updates[0]))
    assert seen == [-1.0, -0.5, -0.25]
    assert state.hyperparams_states["learning_rate"].count == 3


class Cooling:
    """A stateful schedule: halves at every loss above one."""

    def init(self):
        return jnp.float32(1.0)

    def update(self, state, *, loss, **_):
        return jnp.where(loss > 1.0, state / 2, state)

    def __call__(self, state):
        return state


def test_a_stateful_schedule_sees_the_extra_arguments():
    tx = inject_hyperparams(scale_by_learning_rate)(Cooling())
    state, seen = tx.init(jnp.ones(1)), []
    for loss in (2.0, 0.5, 2.0, 0.5):
        updates, state = tx.update(jnp.ones(1), state, loss=jnp.float32(loss))
        seen.append(float(updates[0]))
    assert seen == [-1.0, -0.5, -0.5, -0.25]


def test_an_injected_optimizer_prints_and_compares_by_its_call():
    make = inject_hyperparams(trace)
    assert repr(make(0.9)) == (
        "inject_hyperparams(trace)(decay=0.9, nesterov=False, accumulator_dtype=None)"
    )
    assert make(0.9) == inject_hyperparams(trace)(decay=0.9)
    assert make(0.9) != make(0.5)
    assert call_of(make(0.9)).arguments["decay"] == 0.9
    with pytest.raises(ValueError, match="trace has no argument speed"):
        inject_hyperparams(trace, static_args="speed")


def test_the_learning_rate_of_any_optimizer_can_be_read():
    halving = lambda count: 0.5 ** count.astype(float)
    rows = {
        "plain": (chain(trace(0.9), scale_by_learning_rate(0.1)), 0.1),
        "scheduled": (chain(trace(0.9), scale_by_learning_rate(halving)), 0.25),
        "named": (named_chain(("m", trace(0.9)), ("lr", scale_by_learning_rate(halving))), 0.25),
        "masked": (
            masked(scale_by_learning_rate(halving), {"w": True, "b": False, "n": True}),
            0.25,
        ),
        "injected": (inject_hyperparams(scale_by_learning_rate)(0.3), 0.3),
        "injected, scheduled": (inject_hyperparams(scale_by_learning_rate)(halving), 0.25),
        "accumulated": (multi_steps(scale_by_learning_rate(halving), 2), 0.5),
        "guarded": (apply_if_finite(scale_by_learning_rate(halving), 2), 0.25),
    }
    for name, (tx, expected) in rows.items():
        _, state, _ = drive(tx, [grads_at(0), grads_at(1)])
        assert hyperparams(tx, state)["learning_rate"] == pytest.approx(expected), name


def test_numbers_that_share_a_name_are_told_apart_by_path():
    tx = chain(
        partition(
            {"a": scale_by_learning_rate(0.1), "b": scale_by_learning_rate(0.2)},
            {"w": "a", "b": "b", "n": "a"},
        ),
        clip_by_global_norm(1.0),
    )
    numbers = hyperparams(tx, tx.init(PARAMS))
    assert numbers == {
        "0/a/learning_rate": 0.1,
        "0/b/learning_rate": 0.2,
        "max_norm": 1.0,
    }
    with pytest.raises(TypeError, match="was not made by a recorded function"):
        hyperparams(GradientTransformation(lambda p: EmptyState(), None), ())


def test_measurements_are_read_by_name():
    tx = chain(
        monitor(
            {"norm": global_norm, "clipped": measure_with_ema(lambda u: global_norm(u) > 1.0, 0.5)}
        ),
        clip_by_global_norm(1.0),
        snapshot("after", global_norm),
        apply_if_finite(scale(-1.0), 2),
    )
    state = tx.init(jnp.zeros(2))
    for g in ([3.0, 4.0], [0.3, 0.4]):
        _, state = tx.update(jnp.array(g), state)
    read = metrics(state)
    assert float(read["norm"]) == pytest.approx(0.5)
    assert float(read["after"]) == pytest.approx(0.5)
    assert float(read["clipped"]) == pytest.approx(1 / 3)
    assert {"last_finite", "total_notfinite", "notfinite_count"} < set(read)
    assert float(tree.get(state, "norm")) == pytest.approx(0.5)


# Transforms


def test_nan_entries_become_zero_and_are_told():
    tx = zero_nans()
    updates, state = tx.update(
        {"a": jnp.array([jnp.nan, 2.0]), "b": jnp.ones(1)},
        tx.init({"a": jnp.ones(2), "b": jnp.ones(1)}),
    )
    np.testing.assert_array_equal(updates["a"], [0.0, 2.0])
    assert (bool(state.found_nan["a"]), bool(state.found_nan["b"])) == (True, False)


def test_centralizing_leaves_a_mean_of_zero_over_all_axes_but_the_last():
    g = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 4, 5)), jnp.float32)
    updates, _ = centralize().update({"k": g, "b": g[0, 0, 0]}, EmptyState())
    np.testing.assert_allclose(updates["k"].mean((0, 1, 2)), np.zeros(5), atol=1e-6)
    np.testing.assert_array_equal(updates["b"], g[0, 0, 0])


def test_noise_has_the_annealed_variance_and_differs_from_leaf_to_leaf():
    tx = add_noise(0.04, 1.0, key=1)
    zeros = {"a": jnp.zeros(4000), "b": jnp.zeros(4000)}
    state = tx.init(zeros)
    for step in range(2):
        updates, state = tx.update(zeros, state)
        np.testing.assert_allclose(updates["a"].std(), np.sqrt(0.04 / (1 + step)), rtol=0.05)
    assert abs(np.corrcoef(updates["a"], updates["b"])[0, 1]) < 0.1
    with pytest.raises(ValueError, match="give a key"):
        add_noise(0.1, 0.5)


def test_clipping_array_by_array():
    g = {"a": jnp.full((2, 2), 3.0), "b": jnp.full(2, 0.5), "e": jnp.zeros((0,))}
    updates, _ = clip_by_block_rms(1.0).update(g, EmptyState())
    np.testing.assert_allclose(updates["a"], 1.0)
    np.testing.assert_allclose(updates["b"], 0.5)
    p = {"a": jnp.array([[3.0, 0.0], [4.0, 0.0]])}
    g = {"a": jnp.array([[3.0, 1.0], [4.0, 0.0]])}
    updates, _ = adaptive_grad_clip(0.1, eps=1e-2).update(g, EmptyState(), p)
    np.testing.assert_allclose(updates["a"], [[0.3, 1e-3], [0.4, 0.0]], rtol=1e-5)
