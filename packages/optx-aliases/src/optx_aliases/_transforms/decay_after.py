"""Weight decay by a rate that an optimizer computes, on the leaves of a mask."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from optx_core import Params, PyTree, Scalar, add_decayed_weights
from optx_core.build import Flow, LeafStep


def then_decay(
    flow: Flow,
    step: LeafStep,
    weight_decay: Scalar,
    mask: PyTree | Callable[[Params], PyTree] | None,
    params: Params,
) -> LeafStep:
    """The step, and after it u − weight_decay·p on the leaves of a mask; in the same pass."""
    finish = flow.push(step)
    decay = add_decayed_weights(-jnp.asarray(weight_decay), mask)
    flow.through(decay, decay.init(params), params)
    return LeafStep(_unchanged, close=finish)


def _unchanged(g: jax.Array) -> jax.Array:
    return g
