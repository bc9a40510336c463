"""Line searches, L-BFGS and Polyak's steps: optax's numbers, step by step, and its checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optx_aliases
import optx_core


def rosenbrock(p):
    x = p["x"]
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2) + p["y"] ** 2


OPTIMIZERS = {
    "lbfgs": lambda m, chain: m.lbfgs(),
    "lbfgs, memory 3": lambda m, chain: m.lbfgs(memory_size=3),
    "lbfgs, unscaled": lambda m, chain: m.lbfgs(scale_init_precond=False),
    "zoom": lambda m, chain: chain(m.sgd(1.0), m.scale_by_zoom_linesearch(15)),
    "zoom, sharp": lambda m, chain: chain(
        m.sgd(1.0), m.scale_by_zoom_linesearch(25, curv_rtol=0.1)
    ),
    "backtracking": lambda m, chain: chain(
        m.sgd(1.0), m.scale_by_backtracking_linesearch(30, store_grad=True)
    ),
}


def steps(module, apply, tx, p, count=20):
    value_and_grad = module.value_and_grad_from_state(rosenbrock)

    @jax.jit
    def step(p, state):
        value, grad = value_and_grad(p, state=state)
        updates, state = tx.update(grad, state, p, value=value, grad=grad, value_fn=rosenbrock)
        return apply(p, updates), state

    state, path = tx.init(p), []
    for _ in range(count):
        p, state = step(p, state)
        path.append(np.append(np.asarray(p["x"]), np.asarray(p["y"])))
    return np.stack(path), state


@pytest.mark.sampled(3)
@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_20_steps_are_those_of_optax(name, wide):
    with jax.enable_x64(wide), jax.numpy_dtype_promotion("standard"):
        dtype = jnp.float64 if wide else jnp.float32
        p = {"x": jnp.asarray(np.tile([-1.2, 1.0], 3), dtype), "y": jnp.asarray(0.5, dtype)}
        theirs, last = steps(optax, optax.apply_updates, OPTIMIZERS[name](optax, optax.chain), p)
        ours, state = steps(
            optx_aliases,
            optx_core.apply_updates,
            OPTIMIZERS[name](optx_aliases, optx_core.chain),
            p,
        )
        # Searches along lines amplify rounding from step to step.
        np.testing.assert_allclose(
            ours, theirs, rtol=1e-7 if wide else 3e-2, atol=1e-9 if wide else 3e-2
        )
        np.testing.assert_allclose(
            ours[:6], theirs[:6], rtol=1e-10 if wide else 1e-3, atol=1e-10 if wide else 1e-3
        )
        assert jax.tree.leaves(jax.tree.map(jnp.shape, state)) == jax.tree.leaves(
            jax.tree.map(jnp.shape, last)
        )
        for mine, other in zip(state, last, strict=True):
            assert getattr(mine, "_fields", ()) == getattr(other, "_fields", ())


CROOKED = {
    "quartic": lambda x: (x - 3.0) ** 4,
    "hilly": lambda x: (x - 2.0) ** 2 + jnp.sin(8 * x),
    "steep": lambda x: jnp.exp(4 * x) - 20 * x,
    "flat tails": lambda x: jnp.log1p((x - 9.0) ** 2),
    "stiff": lambda x: 1e6 * (x - 0.01) ** 2 + x**4,
    "cosine": lambda x: jnp.cos(x) + 0.1 * x,
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", CROOKED)
def test_a_zoom_search_takes_optaxs_step_after_as_many_trials(name, x64):
    f = CROOKED[name]

    def searches(module, **options):
        tx = module.scale_by_zoom_linesearch(20, **options)

        @jax.jit
        @jax.vmap
        def run(p):
            value, grad = jax.value_and_grad(f)(p)
            updates, state = tx.update(-grad, tx.init(p), p, value=value, grad=grad, value_fn=f)
            return updates, state.info.num_linesearch_steps

        with jax.numpy_dtype_promotion("standard"):
            return run(jnp.array([0.0, -1.0, 5.0]))

    for options in ({}, {"curv_rtol": 0.1}, {"approx_dec_rtol": None, "curv_rtol": 0.05}):
        (u, n), (v, k) = searches(optx_aliases, **options), searches(optax, **options)
        np.testing.assert_array_equal(n, k)
        np.testing.assert_allclose(u, v, rtol=1e-7)


def test_our_state_is_understood_by_optaxs_value_and_grad_and_the_other_way_round():
    f, p = lambda x: jnp.sum((x - 1.0) ** 2), jnp.zeros(3)
    given = {"value": f(p), "grad": jax.grad(f)(p), "value_fn": f}
    for tx in (optx_aliases.lbfgs(), optax.lbfgs()):
        updates, state = tx.update(given["grad"], tx.init(p), p, **given)
        there = p + updates
        for module in (optx_aliases, optax):
            value, grad = module.value_and_grad_from_state(f)(there, state=state)
            np.testing.assert_allclose(value, f(there), rtol=1e-6)
            np.testing.assert_allclose(grad, jax.grad(f)(there), rtol=1e-6)
