"""Parameter groups: two optimizers by labels, decay by a mask, some parameters frozen."""

import jax
import jax.numpy as jnp
import optax
import optax.tree_utils as otu
from optax import (
    masked,  # from the top level
    multi_transform,
)
from optax.transforms import freeze


def main():
    params = {
        "encoder": {"kernel": jnp.linspace(-1.0, 1.0, 12).reshape(4, 3), "bias": jnp.ones(3)},
        "head": {"kernel": jnp.linspace(0.5, -0.5, 6).reshape(3, 2), "bias": jnp.zeros(2)},
    }

    def labels(tree):
        return {name: jax.tree.map(lambda _: name, part) for name, part in tree.items()}

    def decays(tree):
        return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", tree)

    tx = optax.chain(
        masked(optax.add_decayed_weights(0.1), decays),
        multi_transform(
            {
                "encoder": optax.sgd(0.1, momentum=0.9, nesterov=True),
                "head": optax.chain(optax.scale_by_lion(), optax.scale(-0.01)),
            },
            labels,
        ),
        freeze(jax.tree_util.tree_map_with_path(lambda p, _: p[-1].key == "bias", params)),
    )
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        grads = jax.grad(lambda p: 0.5 * otu.tree_norm(p, squared=True))(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, otu.tree_l2_norm(updates)

    norms = []
    for _ in range(4):
        params, state, norm = step(params, state)
        norms.append(norm)
    return {
        "params": params,
        "norms": norms,
        "frozen": otu.tree_sub(params, otu.tree_scale(2, params)),
    }
