import pickle
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_schedules as S

CYCLES = [
    {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 5, "decay_steps": 25},
    {"init_value": 0.0, "peak_value": 0.5, "warmup_steps": 5, "decay_steps": 30},
]
TABLE = {
    "constant": lambda: S.constant_schedule(0.3),
    "polynomial": lambda: S.polynomial_schedule(1.0, 0.1, 2.5, 40, 10),
    "linear": lambda: S.linear_schedule(0.0, 1.0, 40, 5),
    "exponential": lambda: S.exponential_decay(1.0, 20, 0.5, 3, end_value=0.1),
    "staircase": lambda: S.exponential_decay(1.0, 20, 0.5, staircase=True),
    "cosine": lambda: S.cosine_decay_schedule(1.0, 50, 0.1, 1.5),
    "cosine_onecycle": lambda: S.cosine_onecycle_schedule(55, 1.0),
    "linear_onecycle": lambda: S.linear_onecycle_schedule(55, 1.0),
    "piecewise_constant": lambda: S.piecewise_constant_schedule(1.0, {20: 0.5, 40: 0.1}),
    "piecewise_interpolate": lambda: S.piecewise_interpolate_schedule(
        "cosine", 1.0, {20: 0.5, 40: 3.0}
    ),
    "sgdr": lambda: S.sgdr_schedule(CYCLES),
    "warmup_constant": lambda: S.warmup_constant_schedule(0.0, 1.0, 20),
    "warmup_cosine": lambda: S.warmup_cosine_decay_schedule(0.0, 1.0, 10, 55, 0.1),
    "warmup_exponential": lambda: S.warmup_exponential_decay_schedule(0.0, 1.0, 10, 20, 0.3),
    "warmup_polynomial": lambda: S.warmup_polynomial_decay_schedule(0.0, 1.0, 10, 55, 0.1, 2.0),
    "wsd_linear": lambda: S.warmup_stable_decay_schedule(0.0, 1.0, 10, 20, 20, 0.1),
    "wsd_cosine": lambda: S.warmup_stable_decay_schedule(0.0, 1.0, 0, 20, 20, 0.1, "cosine"),
    "wsd_sqrt": lambda: S.warmup_stable_decay_schedule(0.0, 1.0, 10, 0, 20, 0.1, "1-sqrt"),
    "inverse_sqrt": lambda: S.warmup_inverse_sqrt_schedule(0.0, 1.0, 10),
    "tail_average": lambda: S.tail_average_schedule(20),
    "tail_average_decay": lambda: S.tail_average_schedule(20, S.linear_schedule(1.0, 0.0, 30)),
    "restarts": lambda: S.cosine_restarts_schedule(1.0, 9, 2, 0.8, 0.1),
    "restarts_even": lambda: S.cosine_restarts_schedule(1.0, 9),
    "restarts_fractional": lambda: S.cosine_restarts_schedule(1.0, 9, 1.5),
    "cyclic": lambda: S.cyclic_schedule(0.1, 1.0, 10, 5, "triangular2"),
    "cyclic_exp": lambda: S.cyclic_schedule(0.1, 1.0, 10, None, "exp_range", 0.99),
    "join": lambda: S.join_schedules(
        [S.constant_schedule(1.0), S.linear_schedule(1.0, 0.0, 9)], [30]
    ),
    "scaled": lambda: S.scale_schedule(S.cosine_decay_schedule(1.0, 50), 0.5),
    "shifted": lambda: S.shift_schedule(S.cosine_decay_schedule(1.0, 50), 20),
    "delayed": lambda: S.shift_schedule(S.cosine_decay_schedule(1.0, 50), -20),
    "clamped": lambda: S.clamp(S.exponential_decay(1.0, 20, 0.3), 0.2, 0.9),
    "arithmetic": lambda: (
        0.5 * S.linear_schedule(1.0, 0.0, 50) ** 2 + S.constant_schedule(1.0) / 3 - 0.1
    ),
}
every = pytest.mark.parametrize("make", TABLE.values(), ids=TABLE.keys())


def test_every_public_schedule_is_in_the_table():
    public = {
        name
        for name in S.__all__
        if name.endswith("_schedule") or name in ("clamp", "exponential_decay")
    }
    assert public <= public_names(TABLE)


@pytest.mark.sampled(3)
@every
def test_whole_arrays_jit_vmap_and_python_numbers_agree(make):
    schedule, steps = make(), np.arange(70)
    one_by_one = np.array([schedule(int(n)) for n in steps[::7]])
    whole = schedule(jnp.asarray(steps, jnp.int32))
    assert whole.shape == (70,)
    np.testing.assert_allclose(whole[::7], one_by_one, rtol=1e-6, atol=1e-9)
    for other in (schedule(steps), jax.jit(schedule)(steps), jax.jit(jax.vmap(schedule))(steps)):
        np.testing.assert_allclose(other, whole, rtol=3e-6, atol=1e-7)
    for dtype in (jnp.uint8, jnp.int16, jnp.uint32, jnp.float32, jnp.bfloat16):
        np.testing.assert_allclose(schedule(jnp.asarray(steps, dtype)), whole, rtol=3e-6, atol=1e-7)
    assert schedule(steps.reshape(7, 10)).shape == (7, 10)
    assert schedule(np.zeros((0,), np.int32)).shape == (0,)


@every
def test_values_are_float32_and_in_double_precision_float64(make, x64):
    assert make()(3).dtype == jnp.float64
    with jax.enable_x64(False):
        assert make()(3).dtype == jnp.float32
        np.testing.assert_allclose(make()(np.arange(70)), make()(np.arange(70)))


@every
def test_values_in_single_and_double_precision_agree(make):
    single = np.asarray(make()(np.arange(70)))
    with jax.enable_x64(True):
        double = np.asarray(make()(np.arange(70)))
    np.testing.assert_allclose(single, double, rtol=1e-5, atol=2e-7)


@every
def test_schedules_print_compare_hash_and_pickle_by_value(make):
    a, b = make(), make()
    assert a == b
    assert hash(a) == hash(b)
    assert a != S.constant_schedule(17.0)
    again = pickle.loads(pickle.dumps(a))
    assert again == a
    assert again(13) == a(13)
    assert eval(repr(a), vars(S)) == a


@pytest.mark.sampled(3)
@every
def test_the_derivative_by_a_float_step_is_finite(make):
    for step in (0.0, 5.0, 10.0, 30.0, 55.0, 1e4):
        assert np.isfinite(jax.grad(make())(step))


@every
def test_huge_negative_and_late_steps_are_finite(make):
    for step in (-5, 2**31 - 1, 10**12, np.int64(10**12), np.array([2**40])):
        assert np.isfinite(make()(step)).all()
    assert np.isfinite(make()(jnp.int32(2**31 - 1)))


@pytest.mark.parametrize("offset", [0, 1, 2, 12_345, 2**24 + 1])
def test_a_linear_schedule_over_1e8_steps_tells_its_last_steps_apart(offset):
    schedule, n = S.linear_schedule(1.0, 0.0, 10**8), 10**8 - offset
    exact = float(Fraction(offset, 10**8))
    assert abs(float(schedule(n)) - exact) <= 2e-7 * exact
    assert schedule(n - 1) >= schedule(n) >= schedule(n + 1)
    if 0 < offset < 2**20:  # beyond, float32 itself has no number between two steps' values
        assert schedule(n - 1) > schedule(n) > schedule(n + 1)
    assert jax.jit(schedule)(n) == schedule(n)


@pytest.mark.parametrize("total", [10**8, 2 * 10**9, 5 * 10**9])
def test_progress_is_exact_to_a_rounding_at_any_length(total):
    rng = np.random.default_rng(0)
    for n in rng.integers(0, min(total, 2**31 - 1), 50):
        up, down = (
            S.linear_schedule(0.0, 1.0, total)(int(n)),
            S.linear_schedule(1.0, 0.0, total)(int(n)),
        )
        for got, share in ((up, Fraction(int(n), total)), (down, Fraction(total - int(n), total))):
            assert abs(float(got) - float(share)) <= 2.5e-7 * float(share)


LATE_CYCLES = [
    {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 1000, "decay_steps": 3 * 10**6},
    {"init_value": 0.0, "peak_value": 0.5, "warmup_steps": 1000, "decay_steps": 2 * 10**8},
]
N = 2 * 10**8
LATE = {
    "constant": lambda: S.constant_schedule(0.3),
    "polynomial": lambda: S.polynomial_schedule(1.0, 0.1, 2.5, N, 10),
    "linear": lambda: S.linear_schedule(0.0, 1.0, N, 5),
    "exponential": lambda: S.exponential_decay(1.0, 1, 0.9999999),
    "exponential_slower": lambda: S.exponential_decay(1.0, 1, 1 - 1e-9, end_value=0.95),
    "exponential_growth": lambda: S.exponential_decay(1.0, 3, 1.0000001, end_value=20.0),
    "exponential_faster": lambda: S.exponential_decay(1.0, 10, 0.99999),
    "staircase": lambda: S.exponential_decay(1.0, 1000, 0.9999, staircase=True),
    "cosine": lambda: S.cosine_decay_schedule(1.0, N, 0.1, 1.5),
    "cosine_onecycle": lambda: S.cosine_onecycle_schedule(N, 1.0),
    "linear_onecycle": lambda: S.linear_onecycle_schedule(N, 1.0),
    "piecewise_constant": lambda: S.piecewise_constant_schedule(
        1.0, {10**k: 0.3 for k in range(9)}
    ),
    "piecewise_interpolate": lambda: S.piecewise_interpolate_schedule(
        "cosine", 1.0, {10**k: 0.3 for k in range(9)}
    ),
    "sgdr": lambda: S.sgdr_schedule(LATE_CYCLES),
    "warmup_constant": lambda: S.warmup_constant_schedule(0.0, 1.0, N),
    "warmup_cosine": lambda: S.warmup_cosine_decay_schedule(0.0, 1.0, 10, N, 0.1),
    "warmup_exponential": lambda: S.warmup_exponential_decay_schedule(0.0, 1.0, 10, 7, 0.999999),
    "warmup_polynomial": lambda: S.warmup_polynomial_decay_schedule(0.0, 1.0, 10, N, 0.1, 2.0),
    "wsd": lambda: S.warmup_stable_decay_schedule(0.0, 1.0, 10, 10**6, N, 0.1),
    "wsd_sqrt": lambda: S.warmup_stable_decay_schedule(0.0, 1.0, 10, 0, N, 0.1, "1-sqrt"),
    "inverse_sqrt": lambda: S.warmup_inverse_sqrt_schedule(0.0, 1.0, 10),
    "tail_average": lambda: S.tail_average_schedule(10),
    "restarts": lambda: S.cosine_restarts_schedule(1.0, 9, 2, 0.8, 0.1),
    "restarts_even": lambda: S.cosine_restarts_schedule(1.0, 9, 1.0, 0.9999999),
    "restarts_fractional": lambda: S.cosine_restarts_schedule(1.0, 9, 1.001, 0.9999),
    "cyclic": lambda: S.cyclic_schedule(0.1, 1.0, 10, 5, "triangular2"),
    "cyclic_exp": lambda: S.cyclic_schedule(0.1, 1.0, 10, None, "exp_range", 0.9999999),
    "join": lambda: S.join_schedules(
        [S.constant_schedule(1.0), S.linear_schedule(1.0, 0.0, N)], [3 * 10**6]
    ),
    "scaled": lambda: S.scale_schedule(S.cosine_decay_schedule(1.0, N), 0.5),
    "shifted": lambda: S.shift_schedule(S.cosine_decay_schedule(1.0, N), 20),
    "clamped": lambda: S.clamp(S.exponential_decay(1.0, 1, 0.9999999), 0.2, 0.9),
    "arithmetic": lambda: 0.5 * S.exponential_decay(1.0, 1, 0.9999999) ** 2 + 0.1,
}


def public_names(table):
    return {repr(make()).split("(")[0] for make in table.values()} & set(S.__all__)


def test_every_schedule_is_in_the_table_of_late_steps():
    assert public_names(LATE) >= public_names(TABLE)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("make", LATE.values(), ids=LATE.keys())
def test_single_precision_agrees_with_double_at_steps_of_1e6_to_1e8(make):
    steps = np.array([10**6 - 1, 10**6, 3_333_333, 10**7 + 1, 33_333_333, 10**8 - 1, 10**8])
    single = np.asarray(make()(steps))
    with jax.enable_x64(True):
        double = np.asarray(make()(steps))
    np.testing.assert_allclose(single, double, rtol=3e-6, atol=1e-37)


def test_a_rate_is_not_rounded_before_it_is_raised_to_a_power():
    for rate, n in ((0.99999, 10**6), (0.9999999, 10**7), (1 - 1e-9, 10**9), (1.0000001, 10**7)):
        for schedule in (
            S.exponential_decay(1.0, 1, rate),
            S.warmup_exponential_decay_schedule(1.0, 1.0, 0, 1, rate),
            S.cosine_restarts_schedule(1.0, 1, 1.0, rate),
            S.cyclic_schedule(0.0, 1.0, 1, 1, "exp_range", rate),
        ):
            at = n + 1 if "cyclic" in repr(schedule) else n  # a peak
            exact = np.exp(at * np.log(rate))
            np.testing.assert_allclose(schedule(at), exact, rtol=2e-6)
            np.testing.assert_allclose(jax.jit(schedule)(at), exact, rtol=2e-6)
    assert S.exponential_decay(1.0, 1, 1 - 1e-9, end_value=0.1)(0) == 1.0  # falls, if slowly


def test_restarts_go_on_after_the_last_cycle_in_the_table():
    slow = S.cosine_restarts_schedule(1.0, 2, 1 + 1e-9)
    np.testing.assert_allclose(slow(10**6 + np.arange(4)), [1, 0.5, 1, 0.5], atol=1e-6)


PEAK = {"transition_steps": 10, "peak_value": 2.0, "div_factor": 4.0, "final_div_factor": 10.0}
RAMP = {"init_value": 0.5, "peak_value": 2.0, "warmup_steps": 0}
EDGES = {  # arguments at the edges of their ranges: (schedule, arguments, values at steps)
    "constant-0": ("constant_schedule", {"value": 0.0}, {0: 0, 9: 0}),
    "polynomial-power-0": (
        "polynomial_schedule",
        {"init_value": 1.0, "end_value": 0.5, "power": 0.0, "transition_steps": 4},
        {0: 1, 2: 1, 4: 1, 9: 1},
    ),
    "polynomial-root": (
        "polynomial_schedule",
        {"init_value": 1.0, "end_value": 0.0, "power": 0.5, "transition_steps": 4},
        {0: 1, 3: 0.5, 4: 0, 9: 0},
    ),
    "polynomial-one-step": (
        "polynomial_schedule",
        {"init_value": 1.0, "end_value": 0.5, "power": 2.0, "transition_steps": 1},
        {0: 1, 1: 0.5},
    ),
    "linear-equal": (
        "linear_schedule",
        {"init_value": 0.3, "end_value": 0.3, "transition_steps": 1},
        {0: 0.3, 1: 0.3},
    ),
    "exponential-rate-1": (
        "exponential_decay",
        {"init_value": 1.0, "transition_steps": 1, "decay_rate": 1.0, "end_value": 1.0},
        {0: 1, 1: 1, 5: 1},
    ),
    "exponential-end-is-start": (
        "exponential_decay",
        {"init_value": 1.0, "transition_steps": 1, "decay_rate": 0.5, "end_value": 1.0},
        {0: 1, 1: 1},
    ),
    "cosine-exponent-0": (
        "cosine_decay_schedule",
        {"init_value": 1.0, "decay_steps": 4, "alpha": 0.1, "exponent": 0.0},
        {0: 1, 2: 1, 4: 1},
    ),
    "cosine-root": (
        "cosine_decay_schedule",
        {"init_value": 1.0, "decay_steps": 2, "alpha": 0.0, "exponent": 0.5},
        {0: 1, 1: 0.5**0.5, 2: 0, 3: 0},
    ),
    "cosine-alpha-1": (
        "cosine_decay_schedule",
        {"init_value": 1.0, "decay_steps": 1, "alpha": 1.0},
        {0: 1, 1: 1},
    ),
    "cosine-onecycle-start-0": (
        "cosine_onecycle_schedule",
        {**PEAK, "pct_start": 0.0},
        {0: 2, 5: 1.025, 10: 0.05},
    ),
    "cosine-onecycle-start-1": (
        "cosine_onecycle_schedule",
        {**PEAK, "pct_start": 1.0},
        {0: 0.5, 5: 1.25, 10: 2, 11: 0.05, 20: 0.05},
    ),
    "cosine-onecycle-one-step": (
        "cosine_onecycle_schedule",
        {**PEAK, "transition_steps": 1},
        {0: 2, 1: 0.05},
    ),
    "linear-onecycle-start-0": (
        "linear_onecycle_schedule",
        {**PEAK, "pct_start": 0.0, "pct_final": 0.5},
        {0: 2, 5: 0.5, 10: 0.05},
    ),
    "linear-onecycle-start-is-final": (
        "linear_onecycle_schedule",
        {**PEAK, "pct_start": 0.5, "pct_final": 0.5},
        {0: 0.5, 5: 2, 6: 0.41, 10: 0.05},
    ),
    "linear-onecycle-final-1": (
        "linear_onecycle_schedule",
        {**PEAK, "pct_start": 0.5, "pct_final": 1.0},
        {0: 0.5, 5: 2, 10: 0.5, 11: 0.05},
    ),
    "linear-onecycle-all-0": (
        "linear_onecycle_schedule",
        {**PEAK, "pct_start": 0.0, "pct_final": 0.0},
        {0: 2, 5: 0.275, 10: 0.05},
    ),
    "linear-onecycle-all-1": (
        "linear_onecycle_schedule",
        {**PEAK, "pct_start": 1.0, "pct_final": 1.0},
        {0: 0.5, 5: 1.25, 10: 2, 11: 0.05},
    ),
    "linear-onecycle-div-1": (
        "linear_onecycle_schedule",
        {**PEAK, "div_factor": 1.0, "final_div_factor": 1.0},
        {0: 2, 3: 2, 10: 2},
    ),
    "piecewise-constant-0": (
        "piecewise_constant_schedule",
        {"init_value": 1.0, "boundaries_and_scales": {0: 0.5, 1: 0.0}},
        {0: 0.5, 1: 0, 2: 0},
    ),
    "piecewise-interpolate-0": (
        "piecewise_interpolate_schedule",
        {
            "interpolate_type": "linear",
            "init_value": 1.0,
            "boundaries_and_scales": {0: 0.5, 1: 0.0},
        },
        {0: 0.5, 1: 0, 2: 0},
    ),
    "warmup-constant-0": ("warmup_constant_schedule", RAMP, {0: 2, 5: 2}),
    "warmup-cosine-0": (
        "warmup_cosine_decay_schedule",
        {**RAMP, "decay_steps": 1, "end_value": 0.0, "exponent": 0.5},
        {0: 2, 1: 0, 2: 0},
    ),
    "warmup-exponential-0": (
        "warmup_exponential_decay_schedule",
        {**RAMP, "transition_steps": 1, "decay_rate": 0.5},
        {0: 2, 1: 1},
    ),
    "warmup-polynomial-0": (
        "warmup_polynomial_decay_schedule",
        {**RAMP, "decay_steps": 1, "end_value": 0.0, "power": 0.5},
        {0: 2, 1: 0},
    ),
    "wsd-0-0-1": (
        "warmup_stable_decay_schedule",
        {**RAMP, "stable_steps": 0, "decay_steps": 1, "end_value": 0.0, "decay_type": "1-sqrt"},
        {0: 2, 1: 0, 2: 0},
    ),
    "tail-average-0": ("tail_average_schedule", {"start": 0}, {0: 0.5, 1: 2 / 3}),
    "inverse-sqrt-0": ("warmup_inverse_sqrt_schedule", RAMP, {0: 2, 3: 1}),
    "restarts-1-1-0": (
        "cosine_restarts_schedule",
        {"init_value": 1.0, "first_steps": 1, "multiplier": 1.0, "decay": 0.0, "alpha": 1.0},
        {0: 1, 1: 0, 2: 0},
    ),
    "cyclic-1-1-0": (
        "cyclic_schedule",
        {
            "low_value": 0.5,
            "high_value": 1.0,
            "up_steps": 1,
            "down_steps": 1,
            "mode": "exp_range",
            "gamma": 0.0,
        },
        {0: 0.5, 1: 0.5, 2: 0.5},
    ),
    "cyclic-equal": (
        "cyclic_schedule",
        {"low_value": 1.0, "high_value": 1.0, "up_steps": 1},
        {0: 1, 1: 1},
    ),
}
NOT_TRACED = {"pct_start", "pct_final", "multiplier"}


def test_every_schedule_with_arguments_is_in_the_table_of_edges():
    composed = {"join_schedules", "clamp", "scale_schedule", "shift_schedule", "sgdr_schedule"}
    names = {name for name in S.__all__ if name.endswith(("_schedule", "_decay"))}
    assert {name for name, *_ in EDGES.values()} == names - composed


@pytest.mark.sampled(2)
@pytest.mark.parametrize("edge", EDGES)
def test_values_and_derivatives_at_the_edges_of_the_ranges(edge):
    name, arguments, values = EDGES[edge]
    make = getattr(S, name)
    steps, expected = np.array(list(values)), np.array(list(values.values()), float)
    np.testing.assert_allclose(make(**arguments)(steps), expected, rtol=1e-6, atol=1e-7)
    traced = {
        key: value
        for key, value in arguments.items()
        if isinstance(value, float) and key not in NOT_TRACED
    }

    def at(floats, n):
        return make(**{**arguments, **floats})(n)

    both = jax.jit(jax.vmap(jax.value_and_grad(at, argnums=(0, 1)), in_axes=(None, 0)))
    found, slopes = both(traced, jnp.asarray(steps, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    for slope in jax.tree.leaves(slopes):
        assert np.isfinite(slope).all()


def test_cycles_and_turns_are_exact_at_step_1e8_and_beyond():
    period, n = 1000, 10**8
    for schedule in (
        S.cosine_restarts_schedule(1.0, period),
        S.cyclic_schedule(0.0, 1.0, period // 2),
    ):
        np.testing.assert_array_equal(schedule(n + np.arange(period)), schedule(np.arange(period)))
    late = S.join_schedules([S.constant_schedule(1.0), S.linear_schedule(1.0, 0.0, 4)], [10**8])
    np.testing.assert_allclose(late(10**8 + np.arange(5)), [1, 0.75, 0.5, 0.25, 0])
    resumed = S.shift_schedule(S.linear_schedule(1.0, 0.0, 4), -(10**8))
    np.testing.assert_allclose(resumed(10**8 + np.arange(5)), [1, 0.75, 0.5, 0.25, 0])
    stairs = S.exponential_decay(1.0, 10**8 + 1, 0.5, staircase=True)
    assert (stairs(10**8), stairs(10**8 + 1)) == (1.0, 0.5)
    assert S.piecewise_constant_schedule(1.0, {10**8 + 1: 0.5})(
        np.array([10**8, 10**8 + 1])
    ).tolist() == [1, 0.5]


def test_the_beginning_of_a_power_is_not_lost_to_rounding():
    rise = S.polynomial_schedule(0.0, 1.0, 2.0, 10**8)
    np.testing.assert_allclose(rise(1), 2e-8, rtol=1e-5)
    np.testing.assert_allclose(
        S.cosine_decay_schedule(1.0, 10**8)(10**8 - 10), (np.pi / 2 * 1e-7) ** 2, rtol=1e-5
    )


def test_hyper_parameters_may_be_arrays_or_traced():
    shown = []
    rates = jnp.array([0.1, 0.2])
    made = jax.vmap(lambda r: S.warmup_cosine_decay_schedule(0.0, r, 10, 50)(10))(rates)
    np.testing.assert_allclose(made, rates)
    slope = jax.grad(lambda r: S.linear_schedule(r, 0.0, 10)(5))(1.0)
    np.testing.assert_allclose(slope, 0.5)
    lengths = jax.vmap(lambda n: S.linear_schedule(1.0, 0.0, n)(5))(jnp.array([10, 20]))
    np.testing.assert_allclose(lengths, [0.5, 0.75])
    with_bf16 = S.linear_schedule(jnp.bfloat16(1.0), 0.0, 1000)
    assert with_bf16(1).dtype == jnp.float32
    np.testing.assert_allclose(with_bf16(1), 0.999)
    jax.jit(lambda r: shown.append(repr(S.constant_schedule(r))))(1.0)
    assert shown == ["constant_schedule(value=<traced float32[]>)"]
    joined = jax.vmap(lambda b: S.join_schedules([lambda n: 1.0, lambda n: 0.0], [b])(5))(
        jnp.array([3, 9])
    )
    np.testing.assert_allclose(joined, [0, 1])


ERRORS = {
    "counts from step 0 and must exceed warmup_steps=150": lambda: S.warmup_cosine_decay_schedule(
        0.0, 1.0, 150, 100
    ),
    "warmup_cosine_decay_schedule: decay_steps=100": lambda: S.warmup_cosine_decay_schedule(
        0.0, 1.0, 100, 100
    ),
    "warmup_polynomial_decay_schedule: decay_steps=5 ": lambda: S.warmup_polynomial_decay_schedule(
        0.0, 1.0, 10, 5
    ),
    "join_schedules: boundaries must be in increasing order": lambda: S.join_schedules(
        [S.constant_schedule(1.0)] * 3, [20, 10]
    ),
    "join_schedules: 2 schedules need 1 boundaries": lambda: S.join_schedules(
        [S.constant_schedule(1.0)] * 2, []
    ),
    r"join_schedules: boundaries\[0\] must be at least 0": lambda: S.join_schedules(
        [S.constant_schedule(1.0)] * 2, [-1]
    ),
    r"join_schedules: schedules\[1\] must be a schedule.*constant_schedule\(0.1\)": lambda: (
        S.join_schedules([S.constant_schedule(1.0), 0.1], [5])
    ),
    "linear_schedule: transition_steps must be at least 1": lambda: S.linear_schedule(1.0, 0.0, 0),
    "linear_schedule: transition_begin must be at least 0": lambda: S.linear_schedule(
        1.0, 0.0, 5, -1
    ),
    "linear_schedule: transition_steps must be a whole number of steps, not 10.5": lambda: (
        S.linear_schedule(1.0, 0.0, 10.5)
    ),
    "linear_schedule: init_value must be a number, not the function": lambda: S.linear_schedule(
        S.constant_schedule(1.0), 0.0, 5
    ),
    "linear_schedule: init_value must be a number, not a number": None,
    "polynomial_schedule: power must be at least 0": lambda: S.polynomial_schedule(
        1.0, 0.0, -1.0, 5
    ),
    "constant_schedule: value must be finite, not inf": lambda: S.constant_schedule(float("inf")),
    "cosine_decay_schedule: exponent must be at least 0": lambda: S.cosine_decay_schedule(
        1.0, 5, 0.0, -1.0
    ),
    r"returned \(0.1,\); remove the comma": lambda: S.scale_schedule(lambda n: (0.1,), 2.0)(0),
    "returned None": lambda: S.join_schedules([lambda n: None], [])(0),
    "cosine_decay_schedule: decay_steps must be at least 1": lambda: S.cosine_decay_schedule(
        1.0, 0
    ),
    "cosine_decay_schedule: alpha must be a number": lambda: S.cosine_decay_schedule(
        1.0, 5, float("nan")
    ),
    "exponential_decay: decay_rate must be greater than 0": lambda: S.exponential_decay(
        1.0, 5, 0.0
    ),
    "warmup_exponential_decay_schedule: decay_rate": lambda: S.warmup_exponential_decay_schedule(
        0.0, 1.0, 5, 5, -1.0
    ),
    "warmup_constant_schedule: warmup_steps": lambda: S.warmup_constant_schedule(0.0, 1.0, -1),
    "piecewise_interpolate_schedule: interpolate_type": lambda: S.piecewise_interpolate_schedule(
        "cubic", 1.0, {}
    ),
    "piecewise_constant_schedule: the boundary -5": lambda: S.piecewise_constant_schedule(
        1.0, {-5: 0.1}
    ),
    "piecewise_constant_schedule: the factor at step 5 must be at least 0": lambda: (
        S.piecewise_constant_schedule(1.0, {5: -0.1})
    ),
    "piecewise_constant_schedule: boundaries_and_scales must be a dict": lambda: (
        S.piecewise_constant_schedule(1.0, [5])
    ),
    "linear_onecycle_schedule: pct_final=0.2": lambda: S.linear_onecycle_schedule(
        10, 1.0, 0.3, 0.2
    ),
    "cosine_onecycle_schedule: pct_start must be at most 1": lambda: S.cosine_onecycle_schedule(
        10, 1.0, 1.3
    ),
    r"sgdr_schedule: cosine_kwargs\[1\]: .*must exceed": lambda: S.sgdr_schedule(
        [CYCLES[0], {**CYCLES[1], "decay_steps": 3}]
    ),
    "sgdr_schedule: cosine_kwargs is empty": lambda: S.sgdr_schedule([]),
    "sgdr_schedule: cosine_kwargs must be a list": lambda: S.sgdr_schedule(iter(CYCLES)),
    "cosine_restarts_schedule: multiplier must be at least 1": lambda: S.cosine_restarts_schedule(
        1.0, 5, 0.5
    ),
    "cyclic_schedule: mode must be": lambda: S.cyclic_schedule(0.0, 1.0, 5, mode="round"),
    "warmup_stable_decay_schedule: decay_type": lambda: S.warmup_stable_decay_schedule(
        0.0, 1.0, 1, 1, 1, decay_type="x"
    ),
    "warmup_inverse_sqrt_schedule: timescale": lambda: S.warmup_inverse_sqrt_schedule(
        0.0, 1.0, 1, 0.0
    ),
    "tail_average_schedule: start must be at least 0": lambda: S.tail_average_schedule(-1),
    "tail_average_schedule: decay must be 1 at 0, not 0.001": lambda: S.tail_average_schedule(
        0, S.linear_schedule(1e-3, 0.0, 9)
    ),
    "clamp: low=2 must not exceed high=1": lambda: S.clamp(S.constant_schedule(1.0), 2, 1),
    "clamp: give low, high or both": lambda: S.clamp(S.constant_schedule(1.0)),
    "shift_schedule: schedule must be a schedule": lambda: S.shift_schedule(0.1, 5),
    "scale_schedule: factor must be a number": lambda: S.scale_schedule(
        S.constant_schedule(1.0), None
    ),
    "cosine_onecycle_schedule: pct_start must be a number": lambda: S.cosine_onecycle_schedule(
        10, 1.0, pct_start=S.constant_schedule(0.3)
    ),
    "linear_onecycle_schedule: pct_final must be a number": lambda: S.linear_onecycle_schedule(
        10, 1.0, pct_final=None
    ),
    "a count of steps": lambda: S.constant_schedule(1.0)(1j),
    "reduce_on_plateau: factor must be less than 1": lambda: S.reduce_on_plateau(1.5),
    "reduce_on_plateau: rtol and atol must not both be 0": lambda: S.reduce_on_plateau(
        rtol=0.0, atol=0.0
    ),
    "reduce_on_plateau: patience must be at least 1": lambda: S.reduce_on_plateau(patience=0),
    "sketch: steps must be at least 1": lambda: S.sketch(S.constant_schedule(1.0), 0),
    "table: there are no schedules": lambda: S.table([], 3),
    "WrappedSchedule: schedule_fn must be a schedule": lambda: S.WrappedSchedule(0.1),
}
ERRORS = {message: call for message, call in ERRORS.items() if call}


@pytest.mark.parametrize(("message", "call"), ERRORS.items(), ids=ERRORS.keys())
def test_bad_arguments_are_refused_in_the_users_words(message, call):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_arithmetic_is_that_of_the_values_and_prints_as_it_was_written():
    s, t = S.linear_schedule(1.0, 0.0, 10), S.constant_schedule(2.0)
    steps = np.arange(12)
    a, b = np.asarray(s(steps)), 2.0
    for made, expected in (
        (s + t, a + b), (s - t, a - b), (s * t, a * b), (s / t, a / b), (s**t, a**b),
        (1 + s, 1 + a), (1 - s, 1 - a), (3 * s, 3 * a), (1 / (s + 1), 1 / (a + 1)), (2**s, 2**a),
        (-s, -a), (+s, a), (s - (t - 1), a - (b - 1)), (-(s**2), -(a**2)), ((-s) ** 2, a**2),
        (s * (lambda n: 2.0), 2 * a), (np.float32(2) * s, 2 * a), (jnp.float32(2) * s, 2 * a),
    ):  # fmt: skip
        np.testing.assert_allclose(made(steps), expected, rtol=1e-6, atol=1e-7)
        if "lambda" not in repr(made) and "rray" not in repr(made) and "float32" not in repr(made):
            np.testing.assert_allclose(
                eval(repr(made), vars(S))(steps), expected, rtol=1e-6, atol=1e-7
            )
    assert repr(0.1 * (t + 1)) == "0.1 * (constant_schedule(value=2.0) + 1)"
    assert repr(t - (t - t)).endswith(
        "- (constant_schedule(value=2.0) - constant_schedule(value=2.0))"
    )
    assert (s + t).boundaries == (10,)
    with pytest.raises(TypeError):
        s + "1"


def test_arithmetic_refuses_nan():
    with pytest.raises(ValueError, match="arithmetic on schedules"):
        S.constant_schedule(1.0) * float("nan")


def test_a_joined_schedule_does_not_see_counts_past_its_stretch():
    seen = S.join_schedules(
        [lambda n: 1 / (3 - n.astype(float)), lambda n: 1 / (1 + n.astype(float))], [2]
    )
    assert np.isfinite(seen(np.arange(5))).all()
    assert np.isfinite(jax.grad(seen)(0.5))


def test_the_hand_computed_shapes():
    wsd = S.warmup_stable_decay_schedule(0.0, 1.0, 2, 3, 4, 0.0)
    np.testing.assert_allclose(wsd(np.arange(11)), [0, 0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0])
    root = S.warmup_stable_decay_schedule(0.0, 1.0, 0, 0, 4, 0.0, "1-sqrt")
    np.testing.assert_allclose(root(np.arange(5)), 1 - np.sqrt(np.arange(5) / 4), atol=1e-7)
    inverse = S.warmup_inverse_sqrt_schedule(0.0, 2.0, 4)
    np.testing.assert_allclose(inverse(np.array([0, 2, 4, 16, 64])), [0, 1, 2, 1, 0.5])
    zhai = S.warmup_inverse_sqrt_schedule(0.0, 1.0, 4, 100)
    np.testing.assert_allclose(zhai(304), 0.5)
    restarts = S.cosine_restarts_schedule(1.0, 2, 2, 0.5)
    np.testing.assert_allclose(
        restarts(np.array([0, 1, 2, 4, 6, 10])), [1, 0.5, 0.5, 0.25, 0.25, 0.125], rtol=1e-6
    )
    cyclic = S.cyclic_schedule(0.0, 1.0, 2, 4)
    np.testing.assert_allclose(cyclic(np.arange(7)), [0, 0.5, 1, 0.75, 0.5, 0.25, 0])
    halves = S.cyclic_schedule(0.0, 1.0, 2, mode="triangular2")
    np.testing.assert_allclose(halves(np.array([2, 6, 10])), [1, 0.5, 0.25])
    fading = S.cyclic_schedule(0.0, 1.0, 2, mode="exp_range", gamma=0.5)
    np.testing.assert_allclose(fading(np.array([2, 6])), [0.5**2, 0.5**6])


def test_a_wrapped_schedule_counts_its_own_steps():
    wrapped = S.WrappedSchedule(S.linear_schedule(1.0, 0.0, 4))
    assert isinstance(wrapped, S.StatefulSchedule)
    state = wrapped.init()
    values = []
    for _ in range(3):
        values.append(float(wrapped(state, value=1.0)))
        state = wrapped.update(state, value=1.0)
    assert values == [1.0, 0.75, 0.5]
    assert wrapped == S.WrappedSchedule(S.linear_schedule(1.0, 0.0, 4))
    assert hash(wrapped) == hash(S.WrappedSchedule(S.linear_schedule(1.0, 0.0, 4)))


def test_a_table_marks_boundaries_and_sets_schedules_side_by_side():
    text = S.table({"a": S.linear_schedule(1.0, 0.0, 30), "b": lambda n: 2.0}, 41, rows=3)
    lines = text.splitlines()
    assert lines[0].split() == ["step", "a", "b"]
    assert [line.split()[0] for line in lines[1:]] == ["0", "20", "30*", "40"]
    assert S.table(S.constant_schedule(1.0), [5, 7]).splitlines()[1].split() == ["5", "1"]


def test_a_plot_draws_every_schedule_and_marks_boundaries():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    made = S.plot(
        [S.linear_schedule(1.0, 0.0, 30), S.warmup_constant_schedule(0.0, 1.0, 10)], 50, ax=ax
    )
    assert made is ax
    assert len(ax.lines) == 2 + 2
    assert len(ax.get_legend().get_texts()) == 2
    S.plot(S.linear_schedule(1.0, 0.0, 30), [0, 10, 20], ax=ax)
    plt.close("all")


def test_importing_the_package_does_not_import_matplotlib():
    import subprocess
    import sys

    code = "import sys, optx_schedules; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


LAST = 2**31 - 1  # the largest count: counts of updates stay there
LIMITS = {
    "tail from 0": (
        lambda: S.tail_average_schedule(0, S.linear_schedule(1.0, 0.0, 30)),
        [0, 1, LAST - 1, LAST],
    ),
    "tail from 1": (
        lambda: S.tail_average_schedule(1, S.linear_schedule(1.0, 0.0, 30)),
        [0, 1, 2, LAST - 1, LAST],
    ),
    "linear, late": (
        lambda: S.linear_schedule(1.0, 0.0, 20, LAST - 10),
        [-(2**31), 0, LAST - 11, LAST - 5, LAST],
    ),
    "linear, beyond": (lambda: S.linear_schedule(1.0, 0.0, 2**32, 2**30), [0, 2**30, LAST]),
    "cosine, beyond": (lambda: S.cosine_decay_schedule(1.0, 2**33), [0, 2**30, LAST]),
    "cyclic, beyond": (lambda: S.cyclic_schedule(0.0, 1.0, 2**31, 2**31), [0, 2**30, LAST - 1]),
    "restarts, beyond": (lambda: S.cosine_restarts_schedule(1.0, 2**33), [0, 2**30, LAST - 1]),
    "restarts": (lambda: S.cosine_restarts_schedule(1.0, 7), [-(2**31), 6, 7, LAST - 3, LAST]),
}


@pytest.mark.parametrize("name", LIMITS)
def test_values_at_the_limits_of_int32_are_those_of_int64(name):
    make, counts = LIMITS[name]
    with jax.enable_x64(True):
        expected = [float(make()(count)) for count in counts]
    one_by_one = [float(make()(count)) for count in counts]
    traced = jax.jit(make())(jnp.asarray(counts, jnp.int32))
    for values in (one_by_one, make()(np.array(counts)), traced):
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_a_float_count_before_a_late_start_has_the_first_value(dtype):
    schedule = S.linear_schedule(1.0, 0.0, 20, 10**9)  # float32 has steps of 64 there
    assert float(schedule(jnp.asarray(3, dtype))) == 1.0
    assert float(schedule(jnp.asarray(2e9, jnp.float32))) == 0.0
