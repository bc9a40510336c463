"""Averages of a run's tail, in place of a decay of the learning rate."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_schedules as S
from optx_core import apply_updates, eval_params, scale, with_ema


def run(decay, grads, learning_rates=None):
    """The iterates, from the first parameters on, and the average at the end."""
    tx = with_ema(scale(-1.0), decay)
    params = {"w": jnp.asarray([1.0, -2.0])}
    factors = jnp.ones(len(grads)) if learning_rates is None else jnp.asarray(learning_rates)

    def step(carry, g):
        params, state = carry
        updates, state = tx.update({"w": g}, state, params)
        params = apply_updates(params, updates)
        return (params, state), params

    (_, state), path = jax.lax.scan(step, (params, tx.init(params)), factors[:, None] * grads)
    rest = [{"w": w} for w in path["w"]]
    return [params, *rest], eval_params(state)


@pytest.mark.parametrize("start", [0, 7])
def test_the_tail_is_averaged_with_equal_weights(start):
    grads = jax.random.normal(jax.random.key(0), (20, 2))
    iterates, average = run(S.tail_average_schedule(start), grads)
    tail = np.mean([x["w"] for x in iterates[start:]], axis=0, dtype=np.float64)
    np.testing.assert_allclose(average["w"], tail, rtol=1e-5)
    early, average = run(S.tail_average_schedule(start), grads[:start])
    chex.assert_trees_all_equal(average, early[-1])


DECAYS = {
    "linear": lambda n: S.linear_schedule(1.0, 0.0, n),
    "cosine": lambda n: S.cosine_decay_schedule(1.0, n),
    "1-sqrt": lambda n: S.warmup_stable_decay_schedule(0.0, 1.0, 0, 0, n, decay_type="1-sqrt"),
    "late": lambda n: S.shift_schedule(S.linear_schedule(1.0, 0.0, n - 2), -2),
}


@pytest.mark.parametrize(("name", "start"), [("linear", 0), *((name, 5) for name in DECAYS)])
def test_merging_ends_where_a_run_with_the_decay_ends(name, start):
    n = 12
    decay = DECAYS[name](n)
    grads = jax.random.normal(jax.random.key(1), (start + n + 3, 2))
    iterates, average = run(S.tail_average_schedule(start, decay), grads)
    # The update that leads from iterate start + i − 1 to start + i is multiplied by w(i).
    factors = [float(decay(max(k + 1 - start, 0))) for k in range(len(grads))]
    decayed, _ = run(0.5, grads, factors)
    chex.assert_trees_all_close(average, decayed[-1], rtol=1e-5, atol=1e-5)
    weights = [float(decay(j) - decay(j + 1)) for j in range(n)]
    merged = sum(c * x["w"] for c, x in zip(weights, iterates[start:], strict=False))
    np.testing.assert_allclose(average["w"], merged, rtol=1e-4, atol=1e-5)
