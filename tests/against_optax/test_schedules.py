import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import optx_schedules as S

CYCLES = [
    {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 5, "decay_steps": 25, "end_value": 0.1},
    {"init_value": 0.1, "peak_value": 0.5, "warmup_steps": 0, "decay_steps": 30, "exponent": 2.0},
]
ROWS = [
    ("constant_schedule", (0.3,), {}),
    ("polynomial_schedule", (1.0, 0.1, 2.5, 40, 10), {}),
    ("linear_schedule", (0.0, 1.0, 40, 5), {}),
    ("exponential_decay", (1.0, 20, 0.5, 3), {}),
    ("exponential_decay", (1.0, 20, 0.5, 3), {"staircase": True, "end_value": 0.3}),
    ("exponential_decay", (1.0, 20, 1.5), {"end_value": 2.0}),
    ("cosine_decay_schedule", (1.0, 50, 0.1, 1.5), {}),
    ("cosine_onecycle_schedule", (55, 1.0), {}),
    ("cosine_onecycle_schedule", (55, 1.0, 0.5, 10.0, 100.0), {}),
    ("linear_onecycle_schedule", (55, 1.0), {}),
    ("piecewise_constant_schedule", (1.0, {20: 0.5, 40: 0.1}), {}),
    ("piecewise_constant_schedule", (1.0,), {}),
    ("piecewise_interpolate_schedule", ("linear", 1.0, {20: 0.5, 40: 3.0}), {}),
    ("piecewise_interpolate_schedule", ("cosine", 1.0, {20: 0.5, 40: 3.0}), {}),
    ("warmup_constant_schedule", (0.1, 1.0, 20), {}),
    ("warmup_cosine_decay_schedule", (0.0, 1.0, 10, 55, 0.1, 2.0), {}),
    ("warmup_cosine_decay_schedule", (0.0, 1.0, 0, 55), {}),
    ("warmup_exponential_decay_schedule", (0.0, 1.0, 10, 20, 0.3, 5, True, 0.2), {}),
    ("sgdr_schedule", (CYCLES,), {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "kwargs"), ROWS)
def test_schedules_have_optaxs_values(name, args, kwargs):
    ours, theirs = getattr(S, name)(*args, **kwargs), getattr(optax, name)(*args, **kwargs)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        expected = [float(theirs(jnp.int32(n))) for n in range(70)]
    np.testing.assert_allclose(ours(np.arange(70)), expected, rtol=2e-6, atol=3e-7)


def test_joined_schedules_have_optaxs_values():
    parts = lambda m: [
        m.linear_schedule(0.0, 1.0, 10),
        m.constant_schedule(1.0),
        m.cosine_decay_schedule(1.0, 20),
    ]
    ours, theirs = (m.join_schedules(parts(m), [10, 30]) for m in (S, optax))
    expected = [float(theirs(n)) for n in range(60)]
    np.testing.assert_allclose(ours(np.arange(60)), expected, atol=3e-7)


def test_ours_work_inside_optax():
    tx = optax.sgd(S.linear_schedule(1.0, 0.0, 4))
    state = tx.init(jnp.zeros(1))
    for expected in (-1.0, -0.75, -0.5):
        updates, state = tx.update(jnp.ones(1), state)
        np.testing.assert_allclose(updates, expected)


@pytest.mark.parametrize(
    "kwargs", [{}, {"cooldown": 2}, {"accumulation_size": 3}, {"min_scale": 0.2, "atol": 0.1}]
)
def test_reduce_on_plateau_has_optaxs_states_on_positive_losses(kwargs):
    args = {"factor": 0.5, "patience": 2, "rtol": 1e-3, **kwargs}
    ours, theirs = S.reduce_on_plateau(**args), optax.contrib.reduce_on_plateau(**args)
    losses = np.abs(np.random.default_rng(0).normal(size=40)).astype(np.float32) + 0.1
    params = jnp.zeros(1)
    a, b = ours.init(params), theirs.init(params)
    assert a._fields == b._fields
    for loss in losses:
        with jax.numpy_dtype_promotion("standard"):
            u, b = theirs.update(jnp.ones(1), b, params, value=loss)
        v, a = ours.update(jnp.ones(1), a, params, value=loss)
        np.testing.assert_allclose(v, u, rtol=1e-6)
        for mine, other in zip(a, b, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-5)
