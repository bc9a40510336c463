"""MoMo and MoMo-Adam: the paper's steps, the loss they need, and the lower bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases
from optx_core import apply_updates

CURVATURE = np.array([1.0, 0.3, 2.0])


def loss(p):
    return 0.5 * jnp.sum(jnp.asarray(CURVATURE, p.dtype) * p * p) + 2.0


def momo(p, steps, lr=1.0, beta=0.9, bound=0.0, wd=0.0):
    d = f = gamma = 0.0
    for k in range(steps):
        g, b = CURVATURE * p, beta if k else 0.0
        value = 0.5 * np.sum(CURVATURE * p * p) + 2.0
        d = b * d + (1 - b) * g
        f = b * f + (1 - b) * value
        gamma = b * gamma + (1 - b) * g @ p
        room = (1 + lr * wd) * (f - bound - gamma) + d @ p
        tau = min(lr, max(room, 0.0) / (d @ d))
        p = (p - tau * d) / (1 + lr * wd)
    return p


def momo_adam(p, steps, lr=0.1, b1=0.9, b2=0.999, eps=1e-8, bound=0.0, wd=0.0):
    d = v = f = gamma = 0.0
    for k in range(1, steps + 1):
        g = CURVATURE * p
        value = 0.5 * np.sum(CURVATURE * p * p) + 2.0
        d, v = b1 * d + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        f, gamma = b1 * f + (1 - b1) * value, b1 * gamma + (1 - b1) * g @ p
        metric, c = eps + np.sqrt(v / (1 - b2**k)), 1 - b1**k
        room = (1 + lr * wd) * (f - c * bound - gamma) + d @ p
        tau = min(lr / c, max(room, 0.0) / (d @ (d / metric)))
        p = (p - tau * d / metric) / (1 + lr * wd)
    return p


P0 = np.array([1.0, -0.5, 0.25])


def train(tx, steps, p=P0):
    p = jnp.asarray(p)

    def step(carry, _):
        p, state = carry
        value, grads = jax.value_and_grad(loss)(p)
        updates, state = tx.update(grads, state, p, value=value)
        return (apply_updates(p, updates), state), value

    return jax.lax.scan(step, (p, tx.init(p)), length=steps)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("bound", [0.0, 2.0])
def test_25_steps_are_those_of_the_paper(x64, bound, decay):
    made = train(optx_aliases.momo(1.0, lower_bound=bound, weight_decay=decay), 25)[0][0]
    np.testing.assert_allclose(made, momo(P0, 25, bound=bound, wd=decay), rtol=1e-10, atol=1e-12)
    made = train(optx_aliases.momo_adam(0.1, lower_bound=bound, weight_decay=decay), 25)[0][0]
    expected = momo_adam(P0, 25, bound=bound, wd=decay)
    np.testing.assert_allclose(made, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", [optx_aliases.momo, optx_aliases.momo_adam])
@pytest.mark.parametrize("rate", [0.1, 10.0])
def test_with_the_true_bound_it_converges_at_a_learning_rate_far_too_large(make, rate):
    (p, _), _ = train(make(rate, lower_bound=2.0), 400)
    assert loss(p) - 2.0 < 1e-3


def test_the_bound_is_found_where_it_is_not_known():
    tx = optx_aliases.momo(5.0, adapt_lower_bound=True)
    (p, state), _ = train(tx, 400)
    assert loss(p) - 2.0 < 0.05
    assert 1.5 < state.lb <= 2.01
    fixed = train(optx_aliases.momo(5.0), 400)[0][0]
    assert loss(fixed) > loss(p) - 1e-6


def test_the_bound_never_falls_below_the_one_given():
    tx = optx_aliases.momo_adam(10.0, lower_bound=-1.0, adapt_lower_bound=True)
    (_, state), _ = train(tx, 50)
    assert state.lb >= -1.0


@pytest.mark.parametrize("make", [optx_aliases.momo, optx_aliases.momo_adam])
def test_a_missing_loss_is_named(make):
    tx, p = make(), jnp.ones(2)
    with pytest.raises(ValueError, match=f"{make.__name__} needs the loss: call update"):
        tx.update(p, tx.init(p), p)


def test_a_learning_rate_may_be_a_schedule():
    rates = lambda count: jnp.where(count < 5, 0.01, 0.0)
    (p, state), _ = train(optx_aliases.momo(rates), 6)
    assert not bool(jnp.any(jnp.isnan(p)))
    assert type(state).__name__ == "MomoState"
