"""Losses and their gradients, from optax.losses and from the top level."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import losses
from optax.losses import ntxent
from optax.losses import safe_softmax_cross_entropy as safe_ce

RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)
LABELS = jnp.asarray([0, 2, 1, 2])


def objective(logits):
    one_hot = optax.smooth_labels(jax.nn.one_hot(LABELS, 3), 0.1)
    return {
        "ce": losses.softmax_cross_entropy(logits, one_hot).mean(),
        "safe": safe_ce(logits, one_hot).sum(),
        "focal": losses.sigmoid_focal_loss(logits, one_hot, alpha=0.25).mean(),
        "bce": optax.sigmoid_binary_cross_entropy(logits, one_hot).mean(),
        "huber": optax.losses.huber_loss(logits, one_hot, delta=0.5).sum(),
        "cosine": optax.cosine_distance(logits, one_hot).mean(),
        "kl": optax.losses.kl_divergence(jax.nn.log_softmax(logits), one_hot).mean(),
        "ntxent": ntxent(logits, LABELS, temperature=0.5),
        "dice": losses.dice_loss(logits[None], one_hot[None]).mean(),
        "ranking": losses.ranking_softmax_loss(logits, one_hot),
        "lists": losses.ranking_softmax_loss(logits, one_hot, reduce_fn=None).sum(),
    }


def main():
    def total(logits):
        parts = objective(logits)
        return sum(parts.values()), parts

    (value, parts), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(LOGITS)
    return {"value": value, "parts": parts, "gradient": gradient}
