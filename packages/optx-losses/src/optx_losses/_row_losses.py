"""The cross entropy of rows of logits x with the numbers y of their classes.

L = log Σ_c exp x_c,   loss = (1 − ε)·(L − x_y) + ε·(L − mean_c x_c) + z_loss·L²
dloss/dx_c = exp(x_c − L)·(1 + 2·z_loss·L) − (1 − ε)·[c = y] − ε / K

The derivative is given, from L, so that going back no sum over the classes is taken.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.custom_derivatives import SymbolicZero

from optx_losses._log_softmax import centred

LOG_NORMALIZER = "optx_losses.log_normalizer"
"""The name of L for `jax.checkpoint_policies.save_only_these_names`."""


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def row_losses(
    smooth: bool, x: jax.Array, right: jax.Array, share: jax.Array, z: jax.Array
) -> jax.Array:
    """The losses of rows of logits."""
    log_z = log_normalizer(x)
    loss = log_z - _at(x, right)
    if smooth:
        loss = (1 - share) * loss + share * (log_z - _mean(x))
    return loss + z * log_z**2


def _row_losses_jvp(smooth: bool, primals: Any, tangents: Any) -> tuple[jax.Array, Any]:
    x, right, share, z = primals
    dx, _, dshare, dz = tangents
    log_z = checkpoint_name(log_normalizer(x), LOG_NORMALIZER)
    loss = log_z - _at(x, right)
    tangent = jnp.zeros_like(loss)
    if smooth:
        even = log_z - _mean(x)
        if not isinstance(dshare, SymbolicZero):
            tangent = tangent + (even - loss) * dshare
        loss = (1 - share) * loss + share * even
    if not isinstance(dz, SymbolicZero):
        tangent = tangent + log_z**2 * dz
    loss = loss + z * log_z**2
    if isinstance(dx, SymbolicZero):
        return loss, tangent
    slope = row_slopes(smooth, x, log_z, right, share, z)
    return loss, tangent + jnp.sum(slope * dx, axis=1)


row_losses.defjvp(_row_losses_jvp, symbolic_zeros=True)


def row_slopes(
    smooth: bool,
    x: jax.Array,
    log_z: jax.Array,
    right: jax.Array,
    share: jax.Array,
    z: jax.Array,
) -> jax.Array:
    """dloss/dx of rows of logits, given L."""
    slope = jnp.exp(x - log_z[:, None]) * (1 + 2 * z * log_z)[:, None]
    is_right = jnp.arange(x.shape[1], dtype=jnp.int32)[None, :] == right[:, None]
    if smooth:
        there = x > -jnp.inf
        count = jnp.maximum(jnp.sum(there, axis=1), 1).astype(x.dtype)
        slope = slope - jnp.where(is_right, 1 - share, 0)
        slope = slope - jnp.where(there, (share / count)[:, None], 0)
    else:
        slope = slope - jnp.where(is_right, 1, 0).astype(x.dtype)
    return slope


def log_normalizer(x: jax.Array) -> jax.Array:
    """L of rows of logits."""
    _, log_sum, m = centred(x, (1,), None)
    return (log_sum + m)[:, 0]


def _at(x: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.take_along_axis(x, right[:, None], axis=1, mode="promise_in_bounds")[:, 0]


def _mean(x: jax.Array) -> jax.Array:
    there = x > -jnp.inf
    count = jnp.maximum(jnp.sum(there, axis=1), 1).astype(x.dtype)
    return jnp.sum(jnp.where(there, x, 0), axis=1) / count
