"""Optimizers of optax.contrib: Muon, and AdamW without a schedule."""

import jax
import jax.numpy as jnp
import optax as ox
from optax import contrib

X = jnp.linspace(-1.0, 1.0, 24).reshape(8, 3)


def fit(tx, steps=5):
    params = {"kernel": jnp.eye(3, 4) * 0.5, "bias": jnp.zeros(4)}
    state = tx.init(params)

    def loss(params):
        return jnp.mean(ox.l2_loss(jnp.tanh(X @ params["kernel"] + params["bias"][None]) - 0.3))

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params)
        return ox.apply_updates(params, updates), state, value

    values = []
    for _ in range(steps):
        params, state, value = step(params, state)
        values.append(value)
    return params, state, values


def main():
    muon, _, values = fit(contrib.muon(learning_rate=0.02, weight_decay=0.1))
    free, state, others = fit(ox.contrib.schedule_free_adamw(0.05))
    return {
        "muon": muon,
        "values": values,
        "free": free,
        "eval": ox.contrib.schedule_free_eval_params(state, free),
        "others": others,
    }
