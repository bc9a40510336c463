import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_schedules as S
from optx_core import chain, scale


def scales(tx, losses):
    state = tx.init({"w": jnp.zeros(2)})
    made = []
    update = jax.jit(lambda state, value: tx.update({"w": jnp.ones(2)}, state, value=value))
    for loss in losses:
        updates, state = update(state, loss)
        made.append(float(updates["w"][0]))
    return made, state


def test_it_fires_after_patience_means_without_improvement():
    made, state = scales(S.reduce_on_plateau(0.5, patience=2), [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5])
    assert made == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert float(state.best_value) == 0.5


def test_it_fires_on_a_flat_negative_value():
    made, _ = scales(S.reduce_on_plateau(0.5, patience=3, rtol=1e-4), [-2.0] * 4)
    assert made[-1] == 0.5
    made, _ = scales(S.reduce_on_plateau(0.5, patience=1, rtol=0.1), [-1.0, -1.05, -1.2])
    assert made == [1, 0.5, 0.5]


def test_cooldown_accumulation_and_the_least_scale():
    made, _ = scales(S.reduce_on_plateau(0.5, patience=1, cooldown=2), [1.0] * 6)
    assert made == [1, 0.5, 0.5, 0.5, 0.25, 0.25]
    made, state = scales(
        S.reduce_on_plateau(0.5, patience=1, accumulation_size=2), [1.0, 3.0, 2.0, 2.0]
    )
    assert made == [1, 1, 1, 0.5]
    assert float(state.best_value) == 2.0
    made, _ = scales(S.reduce_on_plateau(0.1, patience=1, min_scale=0.5), [1.0] * 4)
    assert made[-1] == 0.5
    made, _ = scales(S.reduce_on_plateau(0.1, patience=1, min_scale=2.0), [1.0] * 4)
    assert made[-1] == 1.0  # a floor above 1 does not raise the scale


def test_a_loss_that_is_not_finite_is_no_improvement_and_leaves_no_trace():
    made, state = scales(
        S.reduce_on_plateau(0.5, patience=5), [1.0, float("nan"), float("inf"), 0.5]
    )
    assert made == [1.0] * 4
    assert float(state.best_value) == 0.5
    assert int(state.plateau_count) == 0


def test_a_loss_of_minus_infinity_does_not_lock_the_best_value():
    made, state = scales(S.reduce_on_plateau(0.5, patience=2), [1.0, float("-inf"), 0.5, 0.25, 0.1])
    assert made == [1.0] * 5
    assert float(state.best_value) == np.float32(0.1)
    mean_of_two = S.reduce_on_plateau(0.5, patience=1, accumulation_size=2)
    made, state = scales(mean_of_two, [1.0, 1.0, float("-inf"), 0.0, 0.5, 0.5])
    assert made == [1, 1, 1, 0.5, 0.5, 0.5]
    assert float(state.best_value) == 0.5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"factor": 0.5, "patience": 1, "rtol": 0.0, "atol": 0.5}, [1, 0.5, 0.5]),
        ({"factor": 0.5, "patience": 1, "rtol": 1.0, "atol": 0.0}, [1, 0.5, 0.25]),
        ({"factor": 0.5, "patience": 1, "rtol": 1e-4, "min_scale": 1.0}, [1, 1, 1]),
        ({"factor": 0.5, "patience": 1, "cooldown": 0, "accumulation_size": 1}, [1, 0.5, 0.5]),
    ],
)
def test_arguments_at_the_edges_of_their_ranges(arguments, expected):
    made, state = scales(S.reduce_on_plateau(**arguments), [1.0, 0.9999, 0.4])
    assert made == expected
    assert all(np.isfinite(x) for x in state)


def test_the_loss_is_asked_for_by_name():
    tx = S.reduce_on_plateau()
    with pytest.raises(ValueError, match="needs the loss"):
        tx.update({"w": jnp.ones(2)}, tx.init(None))
    with pytest.raises(ValueError, match="must be a real scalar"):
        tx.update({"w": jnp.ones(2)}, tx.init(None), value=jnp.ones(2))


def test_the_state_keeps_its_structure_and_works_in_a_chain_and_a_scan():
    tx = chain(scale(-1.0), S.reduce_on_plateau(0.5, patience=1))
    params = {"w": jnp.ones(2, jnp.bfloat16), "none": None}

    def step(state, value):
        updates, new = tx.update(params, state, params, value=value)
        return new, updates["w"]

    state = tx.init(params)
    new, made = jax.lax.scan(step, state, jnp.ones(4, jnp.float32))
    assert made.dtype == jnp.bfloat16
    np.testing.assert_allclose(made[:, 0].astype(jnp.float32), [-1, -0.5, -0.25, -0.125])
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert tx == chain(scale(-1.0), S.reduce_on_plateau(0.5, patience=1))
