"""Grams and MARS."""

import jax.numpy as jnp
import numpy as np

import optx_aliases


def test_grams_never_steps_up_the_gradient():
    tx, rng = optx_aliases.grams(0.1), np.random.default_rng(0)
    p = jnp.zeros(50)
    state = tx.init(p)
    for _ in range(5):
        g = jnp.asarray(rng.normal(size=50), jnp.float32)
        updates, state = tx.update(g, state, p)
        assert bool(jnp.all(updates * g <= 0))


def test_mars_takes_the_exact_last_gradient_if_given():
    tx = optx_aliases.scale_by_mars(b1=0.5, gamma=1.0, b2=0.0, eps=0.5)
    g = [jnp.asarray([0.3]), jnp.asarray([0.1])]
    _, state = tx.update(g[0], tx.init(g[0]))
    approximate, _ = tx.update(g[1], state)
    exact, _ = tx.update(g[1], state, last_grad=jnp.asarray([0.05]))
    for made, last in ((approximate, 0.3), (exact, 0.05)):
        c = 0.1 + (0.1 - last)
        m = 0.25 * 0.3 + 0.5 * c
        np.testing.assert_allclose(made, m / 0.75 / (abs(c) + 0.5), rtol=1e-5)
