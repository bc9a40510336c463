"""Parameters in tuples and lists move as those in a dict."""

import chex
import jax
import jax.numpy as jnp
import pytest

from optx_core import (
    adaptive_grad_clip,
    add_noise,
    apply_every,
    apply_if_finite,
    apply_updates,
    centralize,
    chain,
    clip_by_global_norm,
    conditionally_mask,
    conditionally_transform,
    diloco,
    dynamic_loss_scale,
    ema,
    flatten,
    freeze,
    lookahead,
    masked,
    master_weights,
    multi_steps,
    offload,
    partition,
    per_slice,
    scale,
    selective_transform,
    skip_if,
    stochastic_rounding,
    trace,
    with_ema,
    zero_nans,
)

inner = chain(trace(0.9), scale(-0.1))


def always(step, *_, **__):
    return step >= 0


WRAPPERS = {
    "adaptive_grad_clip": chain(adaptive_grad_clip(0.1), inner),
    "add_noise": chain(add_noise(0.1, 0.5, 0), inner),
    "apply_every": chain(apply_every(2), inner),
    "apply_if_finite": apply_if_finite(inner, 2),
    "centralize": chain(centralize(), inner),
    "clip_by_global_norm": chain(clip_by_global_norm(0.1), inner),
    "conditionally_mask": conditionally_mask(inner, always),
    "conditionally_transform": conditionally_transform(inner, always),
    "diloco": diloco(inner, scale(-0.5), 2),
    "dynamic_loss_scale": dynamic_loss_scale(inner),
    "ema": chain(ema(0.9), inner),
    "flatten": flatten(inner),
    "freeze": chain(inner, freeze(False)),
    "lookahead": lookahead(inner, 2, 0.5),
    "masked": masked(inner, True),
    "master_weights": master_weights(inner),
    "multi_steps": multi_steps(inner, 2),
    "offload": offload(inner),
    "partition": partition({"a": inner}, lambda params: jax.tree.map(lambda p: "a", params)),
    "per_slice": per_slice(chain(trace(0.9), adaptive_grad_clip(0.1)), 1),
    "selective_transform": selective_transform(inner, freeze_mask=False),
    "skip_if": skip_if(inner),
    "stochastic_rounding": stochastic_rounding(inner),
    "with_ema": with_ema(inner),
    "zero_nans": chain(zero_nans(), inner),
}
A, B = (
    jnp.array([[1.0, -2.0]]),
    jnp.array([[0.5, 3.0]]),
)  # of one shape: a tuple might be taken for a pair


@pytest.mark.parametrize("name", WRAPPERS)
def test_pairs_and_lists_of_parameters_are_trees_like_any_other(name):
    tx = WRAPPERS[name]

    def after_three(params):
        state = tx.init(params)
        for _ in range(3):
            updates, state = tx.update(jax.tree.map(jnp.sin, params), state, params)
            params = apply_updates(params, updates)
        return params

    expected = after_three({"a": A, "b": B})
    a, b = expected["a"], expected["b"]
    chex.assert_trees_all_close(after_three((A, B)), (a, b))
    chex.assert_trees_all_close(after_three([(A, [B])]), [(a, [b])])
