"""Mechanic: finds the factor of any optimizer's updates.

u is the update of the optimizer inside, Δ the sum of its updates, both with the sign of a gradient
(p = p₀ − S·Δ with S = Σ s); n = num_betas copies with βᵢ = 1 − 10⁻ⁱ run side by side:

h = ⟨g + weight_decay·S·‖g‖/(‖q‖ + eps)·q, Δ⟩     (q = p where it decays, else 0)
r ← β·r + s·clip(h, −m, m)
m ← max(β·m, |h| + eps)
v ← β²·v + h²
s ← (s_init/n·m + max(r, 0)) / (√v + eps)
Δ ← Δ − u,   p ← p₀ − S·Δ

Δ is not stored: it is (p₀ − p) / (S + eps). h is clipped by the m of the steps before, as in optax; neither
the paper's algorithm 1 nor the authors' PyTorch code does so.

Reference: Cutkosky, Defazio, Mehta, "Mechanic: A Learning Rate Tuner", 2023, algorithm 1.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from optx_aliases._parameter_free.leaf_sums import (
    FirstValue,
    equations,
    inner_product,
    sum_of_squares,
    where_masked,
    whole_tree,
)
from optx_aliases._transforms.scalars import root
from optx_core import (
    Params,
    PyTree,
    build,
    safe_increment,
    with_extra_args_support,
)


class MechanicState(NamedTuple):
    """State of `mechanize`.

    Attributes:
      base_optimizer_state: the inner optimizer's state.
      count: int32 scalar, the number of updates so far.
      r: the reward, an array of shape (num_betas,).
      m: the largest |h| so far, likewise.
      v: the sum of h², likewise.
      s: the factors, likewise; their sum is the factor of the updates.
      x0: p₀, the parameters at the start.
    """

    base_optimizer_state: build.InnerState
    count: build.Count
    r: Array
    m: Array
    v: Array
    s: Annotated[Array, build.Kind("factor")]
    x0: Annotated[PyTree, build.slot(fill="params", constant=True)]


@equations(MechanicState, sums=4)
def _measure(
    g: Array, p: Array, s: MechanicState, decays: Array, *, size: Array
) -> tuple[Any, ...]:
    delta = (s.x0 - p) / size
    of_p = decays * sum_of_squares(p), decays * inner_product(p, delta)
    return g, s, (sum_of_squares(g), inner_product(g, delta), *of_p)


def _step(u: Array, p: Array, x0: Array, *, size: Array, factor: Array) -> Array:
    delta = (x0 - p) / size - u
    return x0 - factor * delta - p


@build.factory
def mechanize(
    base_optimizer: Any,
    weight_decay: build.Nonnegative = 1e-2,
    eps: build.Positive = 1e-8,
    s_init: FirstValue = 1e-6,
    num_betas: build.PositiveInt = 6,
    mask: build.Mask = None,
) -> build.Transformation:
    """Mechanic (Cutkosky, Defazio and Mehta, 2023): tunes the learning rate of any optimizer.

    Args:
      base_optimizer: the optimizer, with learning rate 1 or a schedule whose peak is 1.
      weight_decay: λ, which bounds the growth of the factor; a scalar at least 0, or a schedule.
      eps: against division by zero, greater than 0, or a schedule.
      s_init: the factor at the start, greater than 0.
      num_betas: n, the number of copies, a positive int.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation with a `MechanicState`; `update` needs the parameters, and passes extra
      arguments on. The sum of the state's `s` is the current factor.

    Raises:
      TypeError: if `base_optimizer` is not a transformation.
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import mechanize, sgd
      >>> tx, p = mechanize(sgd(1.0)), jnp.array([3.0])
      >>> state = tx.init(p)
      >>> for _ in range(200):
      ...     updates, state = tx.update(2 * p, state, p)
      ...     p = p + updates
      >>> bool(abs(p[0]) < 0.1)
      True
    """
    build.check_transformation_like("mechanize", base_optimizer)
    inner = with_extra_args_support(base_optimizer)

    def step(
        flow: build.Flow, state: MechanicState, p: Params, **extra_args: Any
    ) -> build.LeafStep:
        dtype = state.s.dtype
        small, start, decay = (jnp.asarray(x).astype(dtype) for x in (eps, s_init, weight_decay))
        beta = jnp.asarray(1 - 0.1 ** np.arange(1, num_betas + 1)).astype(dtype)
        factor = jnp.sum(state.s)
        size = factor + small
        decays = where_masked(mask, p, jnp.ones((), dtype), flow.trail)
        _, (gg, gd, pp, pd) = _measure.over(flow, state, p, decays, size=size)
        h = build.squarable(gd + decay * factor * root(gg) / (root(pp) + small) * pd)
        r = beta * state.r + jnp.clip(h, -state.m, state.m) * state.s
        m = jnp.maximum(beta * state.m, jnp.abs(h) + small)
        v = build.finite_sum(beta * beta * state.v + h * h)
        s = (start / num_betas * m + jnp.maximum(r, 0)) / (root(v) + small)
        finish = flow.through(inner, state.base_optimizer_state, p, **extra_args)
        return build.LeafStep(
            _step,
            reads=(p, state.x0),
            close=lambda: MechanicState(
                finish(), safe_increment(state.count), r, m, v, s, state.x0
            ),
            operands={"size": size, "factor": jnp.sum(s)},
        )

    zeros = np.zeros(num_betas, np.float32)
    return whole_tree(
        MechanicState,
        step,
        base_optimizer_state=inner.init,
        **dict.fromkeys("rmv", zeros),
        s=lambda _: jnp.full(num_betas, s_init),
    )
