"""Perturbed functions beside optax's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optx_estimators as oe


def argmax(x):
    return jax.nn.one_hot(jnp.argmax(x), 4)


@pytest.mark.parametrize("noise", ["Gumbel", "Normal"])
def test_perturbed_functions_and_their_gradients_agree_with_optax(noise):
    x = jnp.array([0.1, 0.8, -0.4, 0.5])
    target = jnp.array([1.0, 2.0, 3.0, 4.0])
    kwargs = {"num_samples": 40_000, "sigma": 0.7}
    ours = oe.make_perturbed_fun(argmax, noise=getattr(oe, noise)(), **kwargs)
    theirs = optax.perturbations.make_perturbed_fun(
        argmax, noise=getattr(optax.perturbations, noise)(), **kwargs
    )
    out = {}
    for name, f in (("ours", ours), ("theirs", theirs)):
        run = jax.jit(jax.value_and_grad(lambda x, f=f: jnp.sum(f(jax.random.key(0), x) * target)))
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            out[name] = run(x)
    np.testing.assert_allclose(out["ours"][0], out["theirs"][0], atol=0.05)
    np.testing.assert_allclose(out["ours"][1], out["theirs"][1], atol=0.08)
