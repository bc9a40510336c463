"""Diagonals against those of BackPACK, curvlinops and torch.func (tools/second_order_reference.py)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_second_order import (
    categorical,
    empirical_fisher_diag,
    exact_hessian_diag,
    gaussian,
    ggn_diag,
)

NETS = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "elu": jax.nn.elu,
    "deep": jnp.tanh,
    "mse": jnp.tanh,
    "logistic": jnp.tanh,
}


@pytest.fixture(scope="module")
def reference():
    with np.load(Path(__file__).parent / "reference.npz") as file:
        return dict(file)


def leaves(reference, name, what):
    count = sum(key.startswith(f"{name}/") and key.endswith("/param") for key in reference)
    return [reference[f"{name}/{i}/{what}"] for i in range(count)]


def network(name):
    activation = NETS[name]

    def model(params, x):
        for i in range(0, len(params), 2):
            x = x @ params[i] + params[i + 1]
            x = activation(x) if i < len(params) - 2 else x
        return x

    squared = lambda f, y: 0.5 * jnp.sum(jnp.square(f - y))
    entropy = lambda f, y: -jax.nn.log_softmax(f)[y]
    return model, squared if name == "mse" else entropy


def problem(reference, name):
    model, loss = network(name)
    params = [jnp.asarray(p) for p in leaves(reference, name, "param")]
    x, y = jnp.asarray(reference[f"{name}/x"]), jnp.asarray(reference[f"{name}/y"])
    return model, loss, params, x, y


def assert_close(found, wanted):
    scale = max(np.abs(w).max() for w in wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * scale)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("method", ["auto", "units", "chunked"])
def test_the_hessian_diagonal_is_theirs(reference, name, method, x64):
    model, loss, params, x, y = problem(reference, name)
    of = lambda p, x, y: loss(model(p, x), y)
    found = jax.jit(lambda p: exact_hessian_diag(of, p, x, y, method=method))(params)
    for oracle in ("backpack", "curvlinops", "torch_func"):
        assert_close(found, leaves(reference, name, oracle))


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", NETS)
def test_gauss_newton_and_empirical_fisher_are_theirs(reference, name, x64):
    model, loss, params, x, y = problem(reference, name)
    likelihood = gaussian() if name == "mse" else categorical()

    @jax.jit
    def diagonals(p):
        squares = empirical_fisher_diag(lambda p, x, y: loss(model(p, x), y), p, x, y)
        return ggn_diag(model, likelihood, p, x), ggn_diag(model, loss, p, x, y), squares

    by_root, by_hessian, squares = diagonals(params)
    assert_close(by_root, leaves(reference, name, "ggn"))
    assert_close(by_hessian, leaves(reference, name, "ggn"))
    assert_close(squares, leaves(reference, name, "squares"))
