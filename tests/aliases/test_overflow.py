"""One finite gradient, or parameters, whose square is infinite leave every optimizer finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimizer_rows import ROWS, SAMPLED_OPTIONS

from optx_core import apply_updates
from optx_core.build import squarable

# Steps of ordinary gradients, in some of which the last entry of each array is enormous.
LAST_ENTRY = np.float32([1, 1e25, 1, 1, 1, -1e25, 1, 1, 1, 1e38, 1, 1, 1, 1])
RESTART = np.arange(LAST_ENTRY.size) % 4 == 0  # the parameters, not the state
PARAMETERS = np.where(np.arange(LAST_ENTRY.size) == 12, np.float32(1e20), np.float32(1))
# Slots that start at infinity.
INFINITE = {
    "scale_by_zoom_linesearch, alone",
    "scale_by_backtracking_linesearch, alone",
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", SAMPLED_OPTIONS)
def test_gradients_and_parameters_whose_squares_overflow_leave_updates_and_state_finite(name):
    row = ROWS[name]
    tx = row.make()
    params = {"kernel": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)}
    if "," not in name:  # an option compiles less
        params["bias"] = jnp.array([0.5, -0.2])
        if row.options.get("complex_params", True):
            params["complex"] = jnp.array([1.0 + 0.5j, -0.3j])
    slopes = jax.tree.map(lambda p: 0.5 + jnp.cos(p), params)

    def step(carry, inputs):
        (moved, state), (size, restart, weight) = carry, inputs
        p = jax.tree.map(
            lambda x, y: jnp.where(restart, x * weight.astype(x.dtype), y), params, moved
        )
        grads = jax.tree.map(lambda g: g.at[(-1,) * g.ndim].set(size.astype(g.dtype)), slopes)
        value = jnp.asarray(1.0)
        given = {"value": value, "grad": grads, "value_fn": lambda p: value}
        given |= {"grad_fn": lambda p, *_: grads}
        given |= {} if row.extra_args is None else row.extra_args(p, grads)
        updates, state = tx.update(grads, state, p, **given)
        return (apply_updates(p, updates), state), (updates, state)

    def run(params):
        return jax.lax.scan(step, (params, tx.init(params)), (LAST_ENTRY, RESTART, PARAMETERS))[1]

    for path, x in jax.tree_util.tree_leaves_with_path(jax.jit(run)(params)):
        if jnp.issubdtype(x.dtype, jnp.inexact):
            steps = np.asarray(x).reshape(LAST_ENTRY.size, -1)
            bad = ~np.isfinite(steps) if name not in INFINITE else np.isnan(steps)
            assert not bad.any(), (jax.tree_util.keystr(path), LAST_ENTRY[bad.any(1)])


def test_squarable_limits_enormous_entries_and_leaves_others_and_nan():
    x = np.float32([-0.0, 1e-30, -1.1e18, np.nan, 1e25, -3e38, np.inf, -np.inf])
    result = np.asarray(squarable(jnp.asarray(x)))
    assert result[:4].tobytes() == x[:4].tobytes()
    np.testing.assert_array_equal(result[4:] / result[4], [1, -1, 1, -1])
    assert 1.1e18 < result[4] < 1.2e18
    many = np.asarray(squarable(jnp.full(1000, 1e30), 1000))
    assert np.isfinite(np.float32(4) * np.sum(many * many))
    z = squarable(jnp.array([1.0 - 2.0j, 1e38 - 1e38j]))
    assert z[0] == 1.0 - 2.0j
    assert bool(jnp.isfinite(jnp.abs(z[1]) ** 2))
    with jax.enable_x64(True):
        assert squarable(jnp.array(1e152)) == 1e152
