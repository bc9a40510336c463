"""Lion: the order of its two means, and the functions that squash them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training import run, waves

import optx_aliases as a
from optx_core import apply_updates


def test_lion_from_the_new_momentum_is_lion_from_the_old_for_200_steps():
    p, grads = jnp.ones((4, 8)), waves((4, 8), 200)
    new, state = run(a.lion(0.01), p, grads)
    # A traced b2 is not known to be other than 0: then the old momentum is read.
    update = jax.jit(lambda b2, g, s, p: a.lion(0.01, b2=b2).update(g, s, p))
    old, held = p, a.lion(0.01).init(p)
    for g in grads:
        updates, held = update(jnp.float32(0.99), g, held, old)
        old = apply_updates(old, updates)
    np.testing.assert_allclose(new, old, rtol=1e-6)
    np.testing.assert_allclose(state[0].mu, held[0].mu, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mode", ["hard", "smooth", "refined"])
def test_the_modes_of_lion_squash_the_mean(mode, x64):
    squash = {
        "hard": np.sign,
        "smooth": lambda c: np.tanh(3.0 * c),
        "refined": lambda c: np.where(np.abs(c) > 1, np.sign(c), c),
    }[mode]
    tx = a.scale_by_lion(0.5, 0.75, mode=mode, smooth_beta=3.0)
    state, m = tx.init(jnp.zeros(4)), np.zeros(4)
    for g in ([3.0, -0.1, 0.0, 0.5], [-1.0, 4.0, 0.2, 0.5]):
        updates, state = tx.update(jnp.asarray(g), state)
        np.testing.assert_allclose(updates, squash(0.5 * m + 0.5 * np.array(g)), rtol=1e-12)
        m = 0.75 * m + 0.25 * np.array(g)
