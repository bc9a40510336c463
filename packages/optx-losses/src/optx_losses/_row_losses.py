"""The cross entropy of rows of logits x with integer labels y.

L = log Σ_c exp x_c,   loss = (1 − ε)·(L − x_y) + ε·(L − mean_c x_c) + z_loss·L²
dloss/dx_c = exp(x_c − L)·(1 + 2·z_loss·L) − (1 − ε)·[c = y] − ε / K

The derivative is a rule of its own: given L, the backward pass needs no reduction over the classes.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.custom_derivatives import SymbolicZero

from optx_losses._layout import at_label, is_label
from optx_losses._log_softmax import centred, finite_max, times_infinite
from optx_losses._rows import Held, Plan


@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """The cross entropy as a rule; its numbers are ε and z_loss, its rows the labels.

    Attributes:
      smooth: whether labels are smoothed.
    """

    smooth: bool

    def values(self, plan: Plan, x: jax.Array, numbers: Any, rows: Any) -> jax.Array:
        """The losses."""
        del plan
        return row_losses(self.smooth, x, *rows, *numbers)

    def hold(
        self, plan: Plan, x: jax.Array, numbers: Any, rows: Any, exact: bool
    ) -> tuple[jax.Array, Held]:
        """The losses; and e = exp(x − max x) in the place of x, unless the slopes need x."""
        del plan
        (target,) = rows
        x_target = at_label(x, target)
        m = finite_max(x, (1,))[:, 0]
        # Reads x_target first, so that e can overwrite x. (A NaN is the value of its row anyway.)
        m = jnp.where(jnp.isnan(x_target), lax.stop_gradient(x_target), m)
        e = jnp.exp(x - m[:, None])
        total = jnp.sum(e, axis=1)
        total = jnp.where(total == 0, 1, total)
        log_z = jnp.log(total) + m
        loss = losses_of(log_z, x_target, mean(x) if self.smooth else None, *numbers)
        if self.smooth or exact:
            return loss, Held((x,), (log_z, None, class_count(x) if self.smooth else None))
        return loss, Held((e,), (log_z, total, None))

    def slopes(
        self, numbers: Any, rows: Any, held: Held, classes: jax.Array, g: jax.Array | None
    ) -> jax.Array:
        """g·dloss/dx."""
        (target,), (some,), (log_z, total, count) = rows, *held
        share, z = numbers
        p = jnp.exp(some - log_z[:, None]) if total is None else some * (1 / total)[:, None]
        even = None if count is None else even_shares(some, share, count)
        slope = row_slopes(p, log_z, classes[None, :] == target[:, None], share, z, even)
        return slope if g is None else slope * g[:, None]


LOG_NORMALIZER = "optx_losses.log_normalizer"
"""The name of L for `jax.checkpoint_policies.save_only_these_names`."""


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def row_losses(
    smooth: bool, x: jax.Array, target: jax.Array, share: jax.Array, z: jax.Array
) -> jax.Array:
    """The losses of rows of logits."""
    return losses_of(log_normalizer(x), at_label(x, target), mean(x) if smooth else None, share, z)


def losses_of(
    log_z: jax.Array, x_target: jax.Array, x_mean: jax.Array | None, share: jax.Array, z: jax.Array
) -> jax.Array:
    """The losses, given L, x_y and, with smoothing, the mean of the logits."""
    loss = log_z - x_target
    if x_mean is not None:
        loss = times_infinite(1 - share, loss) + share * (log_z - x_mean)
    return loss + z * log_z**2


def _row_losses_jvp(smooth: bool, primals: Any, tangents: Any) -> tuple[jax.Array, Any]:
    x, target, share, z = primals
    dx, _, dshare, dz = tangents
    log_z = checkpoint_name(log_normalizer(x), LOG_NORMALIZER)
    x_target, x_mean = at_label(x, target), mean(x) if smooth else None
    loss = losses_of(log_z, x_target, x_mean, share, z)
    tangent = jnp.zeros_like(loss)
    if x_mean is not None and not isinstance(dshare, SymbolicZero):
        tangent = tangent + (x_target - x_mean) * dshare
    if not isinstance(dz, SymbolicZero):
        tangent = tangent + log_z**2 * dz
    if isinstance(dx, SymbolicZero):
        return loss, tangent
    even = even_shares(x, share, class_count(x)) if smooth else None
    p = jnp.exp(x - log_z[:, None])
    slope = row_slopes(p, log_z, is_label(x, target), share, z, even)
    return loss, tangent + jnp.sum(slope * dx, axis=1)


row_losses.defjvp(_row_losses_jvp, symbolic_zeros=True)


def row_slopes(
    p: jax.Array,
    log_z: jax.Array,
    is_target: jax.Array,
    share: jax.Array,
    z: jax.Array,
    even: jax.Array | None,
) -> jax.Array:
    """dloss/dx for rows of logits, or a block of their classes, given p = exp(x − L), L and [c = y].

    `even` is ε / K, None without smoothing.
    """
    slope = p * (1 + 2 * z * log_z)[:, None]
    if even is None:
        return slope - is_target.astype(p.dtype)
    return slope - jnp.where(is_target, 1 - share, 0) - even


def even_shares(x: jax.Array, share: jax.Array, count: jax.Array) -> jax.Array:
    """ε / K for each logit, 0 for excluded classes."""
    return jnp.where(x > -jnp.inf, (share / count)[:, None], 0)


def class_count(x: jax.Array) -> jax.Array:
    """K, the number of classes that are not excluded, at least 1."""
    return jnp.maximum(jnp.sum(x > -jnp.inf, axis=1), 1).astype(x.dtype)


def log_normalizer(x: jax.Array) -> jax.Array:
    """L of rows of logits."""
    _, log_sum, m = centred(x, (1,), None)
    return (log_sum + m)[:, 0]


def mean(x: jax.Array) -> jax.Array:
    """The mean of the logits that are not excluded."""
    return jnp.sum(jnp.where(x > -jnp.inf, x, 0), axis=1) / class_count(x)
