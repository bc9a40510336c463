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
from jax import Array

from optx_aliases._parameter_free.leaf_sums import (
    FirstValue,
    OwnRate,
    equations,
    inner_product,
    sum_of_squares,
    whole_tree,
)
from optx_aliases._transforms.scalars import quotient
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
    estim_lr: build.Factor
    numerator_weighted: Array
    first_norm: Array
    count: build.Count


@equations(DAdaptSGDState, sums=2)
def _sgd(
    g: Array, p: Array, s: DAdaptSGDState, *, momentum: build.DecayRate, rate: Array
) -> tuple[Any, ...]:
    product = inner_product(g, s.grad_sum)
    total = s.grad_sum + rate * build.squarable(g, g.size)
    sums = product, sum_of_squares(total)
    return (1 - momentum) * (s.params0 - p - total), s._replace(grad_sum=total), sums


@build.factory
def _dadapt_sgd(
    learning_rate: OwnRate,
    momentum: build.Rate,
    estim_lr0: FirstValue,
    growth_rate: Annotated[Any, build.Number(low=1, finite=False)],
) -> build.Transformation:
    def step(flow: build.Flow, s: DAdaptSGDState, p: Params, **_: Any) -> build.LeafStep:
        d, dtype = s.estim_lr, s.estim_lr.dtype
        grads = flow.present
        first_norm = build.run_if(
            ~(s.first_norm > 0),
            lambda _: build.squarable(global_norm(grads).astype(dtype)),
            s.first_norm,
        )
        rate = quotient(d * build.evaluate(learning_rate, s.count, dtype), first_norm)

        def close(new: DAdaptSGDState, sums: Array) -> DAdaptSGDState:
            product, squares = sums
            r = build.squarable(s.numerator_weighted + rate * product)
            bound = quotient(2 * r, jnp.sqrt(jnp.where(squares > 0, squares, 1)))
            bound = jnp.minimum(bound, d * build.evaluate(growth_rate, s.count, dtype))
            return new._replace(
                estim_lr=jnp.maximum(d, bound),
                numerator_weighted=r,
                first_norm=first_norm,
                count=safe_increment(s.count),
            )

        return _sgd.step(close, flow, s, p, momentum=build.rate_of(momentum), rate=rate)

    return whole_tree(DAdaptSGDState, step, estim_lr=estim_lr0)


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
    return chain(
        decayed(weight_decay, mask),
        _dadapt_sgd(learning_rate, momentum, estim_lr0, growth_rate),
    )
