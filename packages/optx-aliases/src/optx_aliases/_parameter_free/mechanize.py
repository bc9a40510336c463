"""Mechanic: finds the factor of any optimizer's updates.

u is the update of the optimizer inside, Δ the sum of its updates, both with the sign of a gradient
(p = p₀ − S·Δ with S = Σ s); n = num_betas copies with βᵢ = 1 − 10⁻ⁱ run side by side:

h = ⟨g + weight_decay·S·‖g‖/(‖q‖ + eps)·q, Δ⟩     (q: p where it decays, else 0)
r ← β·r + s·clip(h, −m, m)
m ← max(β·m, |h| + eps)
v ← β²·v + h²
s ← (s_init/n·m + max(r, 0)) / (√v + eps)
Δ ← Δ − u,   p ← p₀ − S·Δ

Δ is not stored: it is (p₀ − p) / (S + eps). The clip of h by the m of the steps before is the authors'
code's; the paper's algorithm 1 has none.

Reference: Cutkosky, Defazio, Mehta, "Mechanic: A Learning Rate Tuner", 2023, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optx_aliases._transforms.whole_tree import (
    copy_of,
    inner_product,
    real_dtype_of,
    root,
    sum_of_squares,
    total,
    value_at,
    where_masked,
)
from optx_core import (
    GradientTransformationExtraArgs,
    OptState,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    safe_increment,
    with_extra_args_support,
)
from optx_core.build import (
    Flow,
    LeafStep,
    check_number,
    check_transformation_like,
    leafwise,
    need_params,
    recorded,
    schedulable,
    zero_count,
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

    base_optimizer_state: OptState
    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    r: jax.Array
    m: jax.Array
    v: jax.Array
    s: jax.Array
    x0: PyTree


def _products(
    g: jax.Array,
    sums: jax.Array,
    p: jax.Array,
    x0: jax.Array,
    decays: jax.Array,
    *,
    size: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    delta = (x0 - p) / size
    of_p = decays * sum_of_squares(p), decays * inner_product(p, delta)
    return g, sums + jnp.stack([sum_of_squares(g), inner_product(g, delta), *of_p])


def _leaf(
    u: jax.Array, p: jax.Array, x0: jax.Array, *, size: jax.Array, factor: jax.Array
) -> jax.Array:
    delta = (x0 - p) / size - u
    return x0 - factor * delta - p


@recorded
@schedulable("weight_decay", "eps")
def mechanize(
    base_optimizer: Any,
    weight_decay: ScalarOrSchedule = 1e-2,
    eps: ScalarOrSchedule = 1e-8,
    s_init: Scalar = 1e-6,
    num_betas: int = 6,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> GradientTransformationExtraArgs:
    """Mechanic (Cutkosky, Defazio and Mehta, 2023): tunes the learning rate of any optimizer.

    Args:
      base_optimizer: the optimizer, its learning rate at 1 or a schedule with its peak at 1.
      weight_decay: λ, which keeps the factor from growing without bound; a scalar at least 0, or a
        schedule.
      eps: against division by zero, greater than 0, or a schedule.
      s_init: the factor at the start, greater than 0.
      num_betas: n, the number of copies, a positive int.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation with a `MechanicState`; `update` needs the parameters, and hands extra arguments
      on. The sum of the state's `s` is the factor found so far.

    Raises:
      TypeError: if `base_optimizer` is no transformation.
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
    check_transformation_like("mechanize", base_optimizer)
    check_number("mechanize", low=0, weight_decay=weight_decay)
    check_number("mechanize", above=0, eps=eps, s_init=s_init)
    check_number("mechanize", low=1, num_betas=num_betas)
    inner = with_extra_args_support(base_optimizer)

    def init(params: Params) -> MechanicState:
        real = real_dtype_of(params)

        def zeros() -> jax.Array:
            return jnp.zeros(num_betas, real)

        s = zeros() + value_at(s_init, zeros(), real)
        inner_state = inner.init(params)
        return MechanicState(
            inner_state, zero_count(), zeros(), zeros(), zeros(), s, copy_of(params)
        )

    def step(
        flow: Flow, state: MechanicState, params: Params = None, **extra_args: Any
    ) -> LeafStep:
        need_params(flow.trail, params)
        real = state.s.dtype
        small, start, decay = (value_at(x, state.s, real) for x in (eps, s_init, weight_decay))
        beta = jnp.asarray(1 - 0.1 ** np.arange(1, num_betas + 1)).astype(real)
        factor = jnp.sum(state.s)
        size = factor + small
        decays = where_masked(mask, params, jnp.ones((), real), flow.trail)
        gg, gd, pp, pd = total(
            flow, _products, params, state.x0, decays, size=4, real=real, operands={"size": size}
        )
        h = gd + decay * factor * root(gg) / (root(pp) + small) * pd
        r = beta * state.r + jnp.clip(h, -state.m, state.m) * state.s
        m = jnp.maximum(beta * state.m, jnp.abs(h) + small)
        v = beta * beta * state.v + h * h
        s = (start / num_betas * m + jnp.maximum(r, 0)) / (root(v) + small)
        finish = flow.through(inner, state.base_optimizer_state, params, **extra_args)
        return LeafStep(
            _leaf,
            reads=(params, state.x0),
            close=lambda: MechanicState(
                finish(), safe_increment(state.count), r, m, v, s, state.x0
            ),
            operands={"size": size, "factor": jnp.sum(s)},
        )

    return leafwise(step, init)
