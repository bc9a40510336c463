"""A training script: warm-up and cosine decay, clipping, AdamW with decay on the matrices only, an average."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

STEPS = 8


def init(seed: int) -> optax.Params:
    rng = np.random.default_rng(seed)
    sizes = [5, 6, 3]
    return [
        {"w": jnp.asarray(rng.normal(size=(m, n)) / np.sqrt(m), jnp.float32), "b": jnp.zeros(n)}
        for m, n in itertools.pairwise(sizes)
    ]


def loss_fn(params, x, labels):
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"][None])
    logits = x @ params[-1]["w"] + params[-1]["b"][None]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def main():
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0, peak_value=0.05, warmup_steps=3, decay_steps=STEPS, end_value=1e-3
    )
    tx = optax.chain(
        optax.clip_by_global_norm(0.5),  # gradients first
        optax.adamw(
            learning_rate=schedule,
            weight_decay=1e-2,
            mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
        ),
    )
    params = init(0)
    average = params
    opt_state = tx.init(params)
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(16, 5)), jnp.float32)
    labels = jnp.asarray(rng.integers(3, size=16))

    @jax.jit
    def train_step(params, average, opt_state: optax.OptState):
        loss, grads = jax.value_and_grad(loss_fn)(params, x, labels)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        average = optax.incremental_update(params, average, 0.1)
        return params, average, opt_state, loss, optax.global_norm(grads)

    history = []
    for _ in range(STEPS):
        params, average, opt_state, loss, norm = train_step(params, average, opt_state)
        history.append((loss, norm))
    counts = [count for _, count in optax.tree_utils.tree_get_all_with_path(opt_state, "count")]
    return {"params": params, "average": average, "history": history, "counts": counts}
