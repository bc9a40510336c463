"""Weight decay at a rate that the optimizer computes, on the leaves of a mask."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from optx_core import Params, Scalar, add_decayed_weights, build


def then_decay(
    flow: build.Flow,
    step: build.LeafStep,
    weight_decay: Scalar,
    mask: build.Mask,
    params: Params,
) -> build.LeafStep:
    """The step followed by u − weight_decay·p on the leaves of a mask, in one pass."""
    finish = flow.push(step)
    decay = add_decayed_weights(-jnp.asarray(weight_decay), mask)
    flow.through(decay, decay.init(params), params)
    return build.LeafStep(_unchanged, close=finish)


def _unchanged(g: Array) -> Array:
    return g
