"""D-Adaptation: SGD's learning rate from a growing lower bound on the distance to the solution.

With d the bound, g₀ the first gradient that is not zero, and λ = d·lr / ‖g₀‖:

r ← r + λ·⟨g, s⟩ (s of the steps before),   s ← s + λ·g,   z = p₀ − s
d ← max(d, min(2·r / ‖s‖, growth_rate·d))
p ← momentum·p + (1 − momentum)·z

`growth_rate` comes from the authors' code: the paper's algorithm does not bound the growth (infinity).

Reference: Defazio, Mishchenko, "Learning-Rate-Free Learning by D-Adaptation", 2023, algorithm 4.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from optx_aliases._parameter_free.leaf_sums import add_up, inner_product, sum_of_squares, zero_sums
from optx_aliases._transforms.scalars import quotient, scalar_dtype
from optx_aliases._transforms.varying import varying_like
from optx_aliases._transforms.weight_decay import decayed
from optx_core import (
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    build,
    chain,
    global_norm,
    safe_increment,
    tree,
)


class DAdaptSGDState(NamedTuple):
    """State of `dadapt_sgd`'s steps.

    Attributes:
      grad_sum: s, a tree of the parameters' structure and shapes.
      params0: p₀, the parameters at the start.
      estim_lr: d, a scalar of at least float32.
      numerator_weighted: r, likewise.
      first_norm: ‖g₀‖, likewise; 0 until the first nonzero gradient.
      count: int32 scalar, the number of updates so far.
    """

    grad_sum: build.Moment
    params0: Annotated[PyTree, build.slot(fill="params", constant=True)]
    estim_lr: Array
    numerator_weighted: Array
    first_norm: Array
    count: build.Count


def _leaf(
    g: Array,
    s: Array,
    sums: Array,
    p: Array,
    p0: Array,
    *,
    momentum: build.DecayRate,
    rate: Array,
) -> tuple[Array, Array, Array]:
    product = inner_product(g, s)
    s = s + rate * g
    sums = sums + jnp.stack([product, sum_of_squares(s)])
    return (1 - momentum) * (p0 - p - s), s, sums


@build.schedulable("momentum", "growth_rate")
def _sgd_steps(
    learning_rate: ScalarOrSchedule,
    momentum: ScalarOrSchedule,
    estim_lr0: Scalar,
    growth_rate: ScalarOrSchedule,
) -> build.Transformation:
    def init(params: Params) -> DAdaptSGDState:
        dtype = scalar_dtype(params)
        return DAdaptSGDState(
            tree.slots_like(params),
            build.copy_of(params),
            jnp.asarray(estim_lr0).astype(dtype),
            jnp.zeros((), dtype),
            jnp.zeros((), dtype),
            build.zero_count(),
        )

    def step(
        flow: build.Flow, state: DAdaptSGDState, params: Params = None, **_: Any
    ) -> build.LeafStep:
        build.need_params(flow.trail, params)
        d, dtype = state.estim_lr, state.estim_lr.dtype
        first_norm = lax.cond(
            state.first_norm > 0,
            lambda g: varying_like(state.first_norm, g),
            lambda g: global_norm(g).astype(dtype),
            flow.present,
        )
        rate = quotient(d * build.evaluate(learning_rate, state.count, dtype), first_norm)

        def close(s: PyTree, sums: PyTree) -> DAdaptSGDState:
            product, squares = add_up(sums, 2, dtype)
            r = state.numerator_weighted + rate * product
            bound = quotient(2 * r, jnp.sqrt(jnp.where(squares > 0, squares, 1)))
            bound = jnp.minimum(bound, d * jnp.asarray(growth_rate).astype(dtype))
            return DAdaptSGDState(
                s, state.params0, jnp.maximum(d, bound), r, first_norm, safe_increment(state.count)
            )

        return build.LeafStep(
            _leaf,
            slots=(state.grad_sum,),
            reduced=(zero_sums(flow, 2, dtype),),
            reads=(params, state.params0),
            close=close,
            operands={"momentum": build.rate_of(momentum), "rate": rate},
        )

    return build.leafwise(step, init)


@build.recorded
def dadapt_sgd(
    learning_rate: ScalarOrSchedule = 1.0,
    momentum: ScalarOrSchedule = 0.0,
    estim_lr0: Scalar = 1e-6,
    growth_rate: ScalarOrSchedule = float("inf"),
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
) -> build.Transformation:
    """SGD with D-Adaptation (Defazio and Mishchenko, 2023).

    Args:
      learning_rate: a factor of the estimated learning rate, a scalar or a schedule; its peak should
        be 1.
      momentum: in [0, 1), or a schedule; the parameters are an average of the iterates.
      estim_lr0: d at the start, greater than 0.
      growth_rate: the largest factor by which d grows in a step, at least 1, or a schedule; 1.02
        acts as a warmup.
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
    build.check_number("dadapt_sgd", low=0, below=1, momentum=momentum)
    build.check_number("dadapt_sgd", above=0, estim_lr0=estim_lr0)
    build.check_number("dadapt_sgd", low=1, growth_rate=growth_rate)
    return chain(
        decayed(weight_decay, mask),
        _sgd_steps(learning_rate, momentum, estim_lr0, growth_rate),
    )
