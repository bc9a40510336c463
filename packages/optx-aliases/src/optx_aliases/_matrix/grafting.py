"""Grafting: the direction of one method at the length of a simpler one's step.

u ← u·‖a‖ / ‖u‖,   a the simple step:
    "adam" m̂ / (√v̂ + eps),  "rmsprop" m̂ / (√v + eps), "adagrad" the same with v the sum of G²,
    "sgd" m̂;   v ← b2·v + (1 − b2)·G²

Reference: Agarwal, Anil, Hazan, Koren, Zhang, "Disentangling Adaptive Gradient Methods from Learning
Rates", 2020.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_core import Scalar, global_norm, tree
from optx_core.build import Decay, bias_correction

GRAFTS = ("adam", "rmsprop", "adagrad", "sgd", None)


def check_graft(where: str, graft: Any) -> None:
    """Refuses what is none of `GRAFTS`."""
    if graft not in GRAFTS:
        raise ValueError(
            f"{where}: graft must be one of {', '.join(map(repr, GRAFTS))}, not {graft!r}"
        )


def simple_step(
    graft: str | None,
    g: jax.Array,
    m: jax.Array,
    nu: jax.Array,
    b2: Decay,
    new: Scalar,
    eps: Scalar,
    count: jax.Array,
    *,
    rooted: bool,
) -> tuple[jax.Array, jax.Array]:
    """The simpler method's step, and its new v.

    Args:
      graft: one of `GRAFTS`; None for Adagrad's, where there are no roots.
      g: the gradient.
      m: m̂.
      nu: v; untouched where the method has none.
      b2: decay of v.
      new: the share of G² in v.
      eps: added to the root.
      count: t, the number of this step, counted from 1.
      rooted: whether the leaf has roots of its own.

    Returns:
      The step, and v.
    """
    if graft == "sgd" or (graft is None and rooted):
        return m, nu
    share = 1.0 if graft in ("adagrad", None) else new
    kept = 1.0 if graft in ("adagrad", None) else b2.value
    nu = kept * nu + share * tree.abs_squared(g)
    # Where b2 is 1 the squares are summed, and a sum needs no correction.
    corrected = jnp.where(b2.complement > 0, bias_correction(b2, count), 1)
    return m / (jnp.sqrt(nu / corrected if graft == "adam" else nu) + eps), nu


def of_length(u: jax.Array, like: jax.Array) -> jax.Array:
    """The direction u at the length of another array; 0 where u is."""
    wanted, size = global_norm(like), global_norm(u)
    return u * jnp.where(size > 0, wanted / jnp.where(size > 0, size, 1), 0)
