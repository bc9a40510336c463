"""Exact diagonals of flax models against jax.hessian: each leaf by its own way, no annotation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from flax import linen as nn
from flax import nnx
from optx_second_order import empirical_fisher_diag, exact_hessian_diag, explain

D = jnp.float64


class Residual(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.Dense(6, param_dtype=D)(x)
        h = h + nn.Dense(6, param_dtype=D)(nn.gelu(nn.Dense(5, param_dtype=D)(h)))
        return nn.Dense(3, param_dtype=D)(nn.LayerNorm(param_dtype=D)(h))


class Tied(nn.Module):
    @nn.compact
    def __call__(self, x):
        shared = nn.Dense(4, param_dtype=D)
        return nn.Dense(3, param_dtype=D)(shared(nn.tanh(shared(x))))


class Convolution(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(3, (3, 3), param_dtype=D)(x.reshape(1, 2, 2, 1)))
        return nn.Dense(3, param_dtype=D)(x.reshape(-1))


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x.reshape(2, 2)
        x = x + nn.MultiHeadDotProductAttention(2, param_dtype=D)(x, x)
        return nn.Dense(3, param_dtype=D)(x.mean(0))


class Evaluated(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(5, param_dtype=D)(x)
        x = nn.BatchNorm(use_running_average=True, param_dtype=D)(x)
        return nn.Dense(3, param_dtype=D)(nn.silu(x))


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.RNN(nn.SimpleCell(3, param_dtype=D))(x.reshape(1, 4, 1))
        return nn.Dense(3, param_dtype=D)(x[0, -1])


MODELS = [Residual, Tied, Convolution, Attention, Evaluated, Recurrent]


def by_definition(loss, params, x, y):
    flat, unravel = ravel_pytree(params)

    @jax.jit
    def run(q):
        total = lambda q: jnp.mean(jax.vmap(lambda x, y: loss(unravel(q), x, y))(x, y))
        squares = jax.vmap(lambda x, y: jax.grad(lambda q: loss(unravel(q), x, y))(q) ** 2)(x, y)
        return jnp.diag(jax.hessian(total)(q)), squares.mean(0)

    return run(flat)


def assert_exact(loss, params, x, y):
    run = lambda p: (exact_hessian_diag(loss, p, x, y), empirical_fisher_diag(loss, p, x, y))
    for found, wanted in zip(jax.jit(run)(params), by_definition(loss, params, x, y), strict=True):
        error = jnp.max(jnp.abs(ravel_pytree(found)[0] - wanted)) / jnp.max(jnp.abs(wanted))
        assert error < 1e-12


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", MODELS)
def test_a_linen_model_has_its_exact_diagonal(kind, x64):
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.normal(size=(5, 4))), jnp.asarray(rng.integers(0, 3, 5))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        variables = kind().init(jax.random.key(0), x[0])
        rest = {k: v for k, v in variables.items() if k != "params"}

        def loss(params, x, y):
            return -jax.nn.log_softmax(kind().apply({"params": params, **rest}, x))[y]

        assert_exact(loss, variables["params"], x, y)
        methods = {
            leaf.path: leaf.method for leaf in explain(loss, variables["params"], x, y).leaves
        }
    chunked = {path for path, method in methods.items() if method == "chunked"}
    if kind is Tied:
        assert chunked == {"['Dense_0']['bias']", "['Dense_0']['kernel']"}
    if kind in {Convolution, Attention, Evaluated}:
        assert not chunked


def test_an_nnx_model_has_its_exact_diagonal(x64):
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.normal(size=(5, 4))), jnp.asarray(rng.integers(0, 3, 5))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model = nnx.Sequential(
            nnx.Linear(4, 6, param_dtype=D, rngs=nnx.Rngs(0)),
            jnp.tanh,
            nnx.Linear(6, 3, param_dtype=D, rngs=nnx.Rngs(1)),
        )
        graph, params = nnx.split(model)
        loss = lambda p, x, y: -jax.nn.log_softmax(nnx.merge(graph, p)(x))[y]
        assert_exact(loss, params, x, y)
        assert {leaf.method for leaf in explain(loss, params, x, y).leaves} == {"chain"}
