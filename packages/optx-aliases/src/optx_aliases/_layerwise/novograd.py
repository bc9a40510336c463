"""NovoGrad: momentum on gradients that are divided by the root mean square norm of their array.

v ← b2·v + (1 − b2)·‖g‖²        (v = ‖g‖² at the first step; one number for each array)
m ← b1·m + g / (√(v + eps_root) + eps) + weight_decay·p
u = m

Reference: Ginsburg et al., "Stochastic Gradient Methods with Layer-wise Adaptive Moments for Training
of Deep Networks", 2019, algorithm 1.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.weight_decay import decayed
from optx_core import (
    PyTree,
    ScalarOrSchedule,
    build,
    chain,
    safe_increment,
    scale_by_learning_rate,
    tree,
)


def _zero(p: Array, **_: Any) -> Array:
    return jnp.sum(jnp.zeros_like(p, tree.slot_dtype(p, real=True)))


class ScaleByNovogradState(NamedTuple):
    """State of `scale_by_novograd`.

    Attributes:
      count: int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      nu: v, a tree of the parameters' structure, one real scalar for each array.
    """

    count: build.Count
    mu: build.Moment
    nu: Annotated[PyTree, build.slot(nonnegative=True, init=_zero)]


def _normalize(
    g: Array, v: Array, *, b2: build.DecayRate, eps: Array, eps_root: Array, first: Array
) -> tuple[Array, Array]:
    square = build.finite_sum(jnp.sum(build.abs_squared(g)))
    v = jnp.where(first, square, b2 * v + (1 - b2) * square)
    size = jnp.sqrt(v + eps_root) + eps
    return g * jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0), v


def _add_momentum(g: Array, m: Array, *, b1: Array) -> tuple[Array, Array]:
    m = b1 * m + g
    return m, m


@build.recorded
@build.schedulable("b1", "b2", "eps", "eps_root", "weight_decay")
def scale_by_novograd(
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.25,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    mu_dtype: build.DType = None,
    mask: build.Mask = None,
) -> build.Transformation:
    """Rescales gradients by NovoGrad.

    Args:
      b1, b2, eps, eps_root, weight_decay, mask: as for `novograd`.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.

    Returns:
      A transformation with a `ScaleByNovogradState`; with weight decay `update` needs the parameters.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_novograd
      >>> tx = scale_by_novograd()
      >>> tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)))[0]
      Array([0.6, 0.8], dtype=float32)
    """
    where = "scale_by_novograd"
    build.check_number(where, low=0, below=1, b1=b1, b2=b2)
    build.check_number(where, low=0, eps=eps, eps_root=eps_root, weight_decay=weight_decay)

    def init(params: Any) -> ScaleByNovogradState:
        mu, nu = tree.slots_like(params, mu_dtype), build.map_slots(_zero, params)
        return ScaleByNovogradState(build.zero_count(), mu, nu)

    def step(
        flow: build.Flow, state: ScaleByNovogradState, params: Any = None, **_: Any
    ) -> build.LeafStep:
        normalize = build.LeafStep(
            _normalize,
            reduced=(state.nu,),
            close=lambda nu: nu,
            operands={
                "b2": build.rate_of(b2),
                "eps": eps,
                "eps_root": eps_root,
                "first": state.count == 0,
            },
        )
        new_nu = flow.push(normalize)
        decay = decayed(weight_decay, mask)
        flow.through(decay, decay.init(params), params)
        count = safe_increment(state.count)
        return build.LeafStep(
            _add_momentum,
            slots=(state.mu,),
            close=lambda mu: ScaleByNovogradState(count, mu, new_nu()),
            operands={"b1": b1},
        )

    return build.leafwise(step, init)


@build.recorded
def novograd(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.25,
    eps: ScalarOrSchedule = 1e-6,
    eps_root: ScalarOrSchedule = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
) -> build.Transformation:
    """NovoGrad (Ginsburg et al., 2019).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay rate of the momentum, in [0, 1), or a schedule.
      b2: decay rate of the mean square norm, in [0, 1), or a schedule.
      eps: added to the root, to avoid division by zero.
      eps_root: added under the root.
      weight_decay: λ, a scalar at least 0, or a schedule; the decay is part of the momentum.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation; with weight decay `update` needs the parameters.

    Example:
      >>> from optx_aliases import novograd
      >>> tx = novograd(1e-2, weight_decay=1e-3)
    """
    return chain(
        scale_by_novograd(b1, b2, eps, eps_root, weight_decay, mask=mask),
        scale_by_learning_rate(learning_rate),
    )
