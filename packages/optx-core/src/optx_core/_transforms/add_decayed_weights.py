"""Decoupled weight decay: u = g + λ·p. `weight_decays` has other kinds.

Reference: Loshchilov, Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optx_core import ScalarOrSchedule, build
from optx_core._combinators.masked import masked
from optx_core._transforms.weight_decays import CautiousDecay


class WeightDecaySchedule(NamedTuple):
    """State of `add_decayed_weights` with a schedule.

    Attributes:
      count: int32 scalar, the number of updates so far.
    """

    count: build.Count


def _sum(g: jax.Array, p: jax.Array, weight_decay: jax.Array, cautious: bool) -> jax.Array:
    if not cautious:
        return g + weight_decay * p
    agreement = jnp.real(g * jnp.conj(jnp.sign(p)))  # not g·p, which underflows
    return g + jnp.where(agreement >= 0, weight_decay * p, 0)


@build.rule(params=True)
def _decayed(
    g: jax.Array, p: jax.Array, /, weight_decay: build.Nonnegative, cautious: bool = False
) -> jax.Array:
    return _sum(g, p, weight_decay, cautious)


@build.rule(WeightDecaySchedule, params=True)
def _scheduled(
    g: jax.Array,
    p: jax.Array,
    _s: WeightDecaySchedule,
    /,
    weight_decay: build.LearningRate,
    cautious: bool = False,
) -> jax.Array:
    return _sum(g, p, weight_decay, cautious)


@build.recorded
def add_decayed_weights(
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
) -> build.Transformation:
    """Adds the parameters, multiplied by the weight decay.

    Args:
      weight_decay: λ, a scalar at least 0, or a schedule; or a `cautious_decay`, `corrected_decay` or
        `independent_decay`.
      mask: which leaves decay, as for `masked`; all by default. Biases and the scales of
        normalization layers are usually excluded.

    Returns:
      A transformation with an `EmptyState` (a `WeightDecaySchedule` for a schedule; both in a
      `MaskedState` with a mask). `update` needs the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import add_decayed_weights
      >>> tx = add_decayed_weights(0.1)
      >>> tx.update(jnp.array([1.0]), tx.init(None), jnp.array([5.0]))[0]
      Array([1.5], dtype=float32)
    """
    build.check_number("add_decayed_weights", low=0, weight_decay=weight_decay)
    is_cautious = isinstance(weight_decay, CautiousDecay)
    if isinstance(weight_decay, CautiousDecay):
        weight_decay = weight_decay.weight_decay
    tx = (_scheduled if callable(weight_decay) else _decayed)(weight_decay, is_cautious)
    return tx if mask is None else masked(tx, mask)
