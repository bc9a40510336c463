"""Micro-batches in steps of their own, and a learning rate that the loop changes."""

import jax
import jax.numpy as jnp
import optax
from optax.microbatching import AccumulationType, micro_grad

BATCHES = jnp.linspace(-1.0, 1.0, 36).reshape(6, 2, 3)


def loss(w, x):
    return jnp.mean((x @ w - 1.0) ** 2)


def main():
    inner = optax.inject_hyperparams(optax.adam)(learning_rate=0.1, b1=0.8)
    tx = optax.MultiSteps(inner, every_k_schedule=2)
    w = jnp.ones(3)
    state = tx.init(w)
    update = jax.jit(lambda g, s, w: tx.update(g, s, w))
    path = []
    for k, x in enumerate(BATCHES):
        if k == 4:  # decay by hand
            state.inner_opt_state.hyperparams["learning_rate"] = jnp.float32(0.01)
        updates, state = update(jax.grad(loss)(w, x), state, w)
        w = optax.apply_updates(w, updates)
        path.append((w, tx.has_updated(state)))

    whole = BATCHES.reshape(12, 3)
    sliced = optax.microbatch(jax.grad(loss), argnums=1, microbatch_size=4)(w, whole)
    mean, aux = micro_grad(
        loss, microbatch_size=3, accumulator=AccumulationType.MEAN, metrics_fn=optax.global_norm
    )(w, whole)
    return {
        "path": path,
        "sliced": sliced,
        "mean": mean,
        "norms": aux.metrics,
        "losses": aux.values,
    }
