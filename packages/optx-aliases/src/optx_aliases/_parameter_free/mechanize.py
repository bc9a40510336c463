"""Mechanic: finds the factor of any optimizer's updates.

u is the update of the optimizer inside, Δ the sum of its updates, both with the sign of a gradient
(p = p₀ − S·Δ with S = Σ s); n = num_betas copies with βᵢ = 1 − 10⁻ⁱ run side by side:

h = ⟨g + weight_decay·S·‖g‖/(‖q‖ + eps)·q, Δ⟩     (q: p where it decays, else 0)
r ← β·r + s·clip(h, −m, m)
m ← max(β·m, |h| + eps)
v ← β²·v + h²
s ← (s_init/n·m + max(r, 0)) / (√v + eps)
Δ ← Δ − u,   p ← p₀ − S·Δ

Δ is not stored: it is (p₀ − p) / (S + eps). The authors' code clips h by the m of the steps before, as
here; the paper's algorithm 1 does not.

Reference: Cutkosky, Defazio, Mehta, "Mechanic: A Learning Rate Tuner", 2023, algorithm 1.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from optx_aliases._parameter_free.leaf_sums import (
    inner_product,
    measured,
    sum_of_squares,
    where_masked,
)
from optx_aliases._transforms.overflow import squarable
from optx_aliases._transforms.scalars import root, scalar_dtype
from optx_core import (
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
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
    s: Array
    x0: Annotated[PyTree, build.slot(fill="params", constant=True)]


def _measure(
    g: Array, sums: Array, p: Array, x0: Array, decays: Array, *, size: Array
) -> tuple[Array, Array]:
    delta = (x0 - p) / size
    of_p = decays * sum_of_squares(p), decays * inner_product(p, delta)
    return g, sums + jnp.stack([sum_of_squares(g), inner_product(g, delta), *of_p])


def _step(u: Array, p: Array, x0: Array, *, size: Array, factor: Array) -> Array:
    delta = (x0 - p) / size - u
    return x0 - factor * delta - p


@build.recorded
@build.schedulable("weight_decay", "eps")
def mechanize(
    base_optimizer: Any,
    weight_decay: ScalarOrSchedule = 1e-2,
    eps: ScalarOrSchedule = 1e-8,
    s_init: Scalar = 1e-6,
    num_betas: int = 6,
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
    build.check_number("mechanize", low=0, weight_decay=weight_decay)
    build.check_number("mechanize", above=0, eps=eps, s_init=s_init)
    if isinstance(num_betas, bool) or not isinstance(num_betas, int) or num_betas < 1:
        raise ValueError(f"mechanize: num_betas must be an int of at least 1, not {num_betas!r}")
    inner = with_extra_args_support(base_optimizer)

    def init(params: Params) -> MechanicState:
        zeros = jnp.zeros(num_betas, scalar_dtype(params))
        return MechanicState(
            inner.init(params),
            build.zero_count(),
            zeros,
            jnp.copy(zeros),
            jnp.copy(zeros),
            zeros + jnp.asarray(s_init).astype(zeros.dtype),
            build.copy_of(params),
        )

    def step(
        flow: build.Flow, state: MechanicState, params: Params = None, **extra_args: Any
    ) -> build.LeafStep:
        build.need_params(flow.trail, params)
        dtype = state.s.dtype
        numbers: tuple[Any, ...] = (eps, s_init, weight_decay)
        small, start, decay = (jnp.asarray(x).astype(dtype) for x in numbers)
        beta = jnp.asarray(1 - 0.1 ** np.arange(1, num_betas + 1)).astype(dtype)
        factor = jnp.sum(state.s)
        size = factor + small
        decays = where_masked(mask, params, jnp.ones((), dtype), flow.trail)
        trees = (params, state.x0, decays)
        sums, *_ = measured(flow, _measure, 4, dtype, reads=trees, operands={"size": size})
        gg, gd, pp, pd = sums
        h = gd + decay * factor * root(gg) / (root(pp) + small) * pd
        # Sums that overflow say nothing of the direction.
        h = jnp.where(jnp.isfinite(h), squarable(h), 0)
        r = beta * state.r + jnp.clip(h, -state.m, state.m) * state.s
        m = jnp.maximum(beta * state.m, jnp.abs(h) + small)
        v = beta * beta * state.v + h * h
        s = (start / num_betas * m + jnp.maximum(r, 0)) / (root(v) + small)
        finish = flow.through(inner, state.base_optimizer_state, params, **extra_args)
        return build.LeafStep(
            _step,
            reads=(params, state.x0),
            close=lambda: MechanicState(
                finish(), safe_increment(state.count), r, m, v, s, state.x0
            ),
            operands={"size": size, "factor": jnp.sum(s)},
        )

    return build.leafwise(step, init)
