"""D-Adaptation: SGD's learning rate from a growing lower bound on the distance to the solution.

With d the bound, g₀ the first gradient that is not zero, and λ = d·lr / ‖g₀‖:

r ← r + λ·⟨g, s⟩ (s of the steps before),   s ← s + λ·g,   z = p₀ − s
d ← max(d, min(2·r / ‖s‖, growth_rate·d))
p ← momentum·p + (1 − momentum)·z

`growth_rate` is the authors' code's: the paper's algorithm has none (infinity).

Reference: Defazio, Mishchenko, "Learning-Rate-Free Learning by D-Adaptation", 2023, algorithm 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optx_aliases._transforms.weight_decay import decayed
from optx_aliases._transforms.whole_tree import (
    add_up,
    copy_of,
    inner_product,
    quotient,
    real_dtype_of,
    sum_of_squares,
    value_at,
    zero_sums,
)
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    chain,
    global_norm,
    safe_increment,
    tree,
)
from optx_core.build import (
    Decay,
    Flow,
    LeafStep,
    check_number,
    decay_of,
    leafwise,
    need_params,
    recorded,
    schedulable,
    zero_count,
)


class DAdaptSGDState(NamedTuple):
    """State of `dadapt_sgd`'s steps.

    Attributes:
      grad_sum: s, a tree of the parameters' structure and shapes.
      params0: p₀, the parameters at the start.
      estim_lr: d, a scalar of at least float32.
      numerator_weighted: r, likewise.
      first_norm: ‖g₀‖, likewise; 0 until a gradient was not zero.
      count: int32 scalar, the number of updates so far.
    """

    grad_sum: PyTree
    params0: PyTree
    estim_lr: jax.Array
    numerator_weighted: jax.Array
    first_norm: jax.Array
    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()


def _sgd_leaf(
    g: jax.Array,
    s: jax.Array,
    sums: jax.Array,
    p: jax.Array,
    p0: jax.Array,
    *,
    momentum: Decay,
    rate: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    product = inner_product(g, s)
    s = s + rate * g
    sums = sums + jnp.stack([product, sum_of_squares(s)])
    return momentum.complement * (p0 - p - s), s, sums


@schedulable("momentum", "growth_rate")
def _sgd_steps(
    learning_rate: ScalarOrSchedule,
    momentum: ScalarOrSchedule,
    estim_lr0: Scalar,
    growth_rate: ScalarOrSchedule,
) -> GradientTransformationExtraArgs:
    def init(params: Params) -> DAdaptSGDState:
        real = real_dtype_of(params)
        return DAdaptSGDState(
            tree.slots_like(params),
            copy_of(params),
            jnp.asarray(estim_lr0).astype(real),
            jnp.zeros((), real),
            jnp.zeros((), real),
            zero_count(),
        )

    def step(flow: Flow, state: DAdaptSGDState, params: Params = None, **_: Any) -> LeafStep:
        need_params(flow.trail, params)
        d, real = state.estim_lr, state.estim_lr.dtype
        first_norm = lax.cond(
            state.first_norm > 0,
            lambda _: state.first_norm,
            lambda g: global_norm(g).astype(real),
            flow.present,
        )
        rate = quotient(d * value_at(learning_rate, state.count, real), first_norm)

        def close(s: PyTree, sums: PyTree) -> DAdaptSGDState:
            product, squares = add_up(sums, real, 2)
            r = state.numerator_weighted + rate * product
            bound = quotient(2 * r, jnp.sqrt(jnp.where(squares > 0, squares, 1)))
            bound = jnp.minimum(bound, d * jnp.asarray(growth_rate).astype(real))
            return DAdaptSGDState(
                s, state.params0, jnp.maximum(d, bound), r, first_norm, safe_increment(state.count)
            )

        return LeafStep(
            _sgd_leaf,
            slots=(state.grad_sum,),
            reduced=(zero_sums(flow, real, 2),),
            reads=(params, state.params0),
            close=close,
            operands={"momentum": decay_of(momentum), "rate": rate},
        )

    return leafwise(step, init)


@recorded
def dadapt_sgd(
    learning_rate: ScalarOrSchedule = 1.0,
    momentum: ScalarOrSchedule = 0.0,
    estim_lr0: Scalar = 1e-6,
    growth_rate: ScalarOrSchedule = float("inf"),
    weight_decay: ScalarOrSchedule = 0.0,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> GradientTransformationExtraArgs:
    """SGD with D-Adaptation (Defazio and Mishchenko, 2023).

    Args:
      learning_rate: a factor of the estimated learning rate, a scalar or a schedule: leave its peak
        at 1.
      momentum: in [0, 1), or a schedule; the parameters are an average of the iterates.
      estim_lr0: d at the start, greater than 0.
      growth_rate: the largest factor by which d grows in a step, at least 1, or a schedule; 1.02 is a
        kind of warmup.
      weight_decay: λ in g + λ·p, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation whose state is that of `chain(add_decayed_weights(...), ...)`, its second part
      a `DAdaptSGDState`; `update` needs the parameters.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import dadapt_sgd
      >>> tx, p = dadapt_sgd(), jnp.array([3.0])
      >>> state = tx.init(p)
      >>> for _ in range(100):
      ...     updates, state = tx.update(2 * p, state, p)
      ...     p = p + updates
      >>> bool(abs(p[0]) < 0.1)
      True
    """
    check_number("dadapt_sgd", low=0, below=1, momentum=momentum)
    check_number("dadapt_sgd", above=0, estim_lr0=estim_lr0)
    check_number("dadapt_sgd", low=1, growth_rate=growth_rate)
    return chain(
        decayed(weight_decay, mask),
        _sgd_steps(learning_rate, momentum, estim_lr0, growth_rate),
    )
