"""NovoGrad: momentum on gradients that are divided by a mean norm of their array.

v ← b2·v + (1 − b2)·‖g‖²        (v = ‖g‖² at the first step; one number for each array)
m ← b1·m + g / (√(v + eps_root) + eps) + weight_decay·p
u = m

Reference: Ginsburg et al., "Stochastic Gradient Methods with Layer-wise Adaptive Moments for Training
of Deep Networks", 2019, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._transforms.weight_decay import decayed
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    chain,
    safe_increment,
    scale_by_learning_rate,
    tree,
)
from optx_core.build import (
    Decay,
    Flow,
    LeafStep,
    check_number,
    decay_of,
    leafwise,
    recorded,
    schedulable,
    zero_count,
)


class ScaleByNovogradState(NamedTuple):
    """State of `scale_by_novograd`.

    Attributes:
      count: int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      nu: v, a tree of the parameters' structure, one real scalar for each array.
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    mu: PyTree
    nu: PyTree


def _normalize(
    g: jax.Array, nu: jax.Array, *, b2: Decay, eps: Scalar, eps_root: Scalar, first: jax.Array
) -> tuple[jax.Array, jax.Array]:
    square = jnp.sum(tree.abs_squared(g))
    nu = jnp.where(first, square, b2.value * nu + b2.complement * square)
    size = jnp.sqrt(nu + eps_root) + eps
    return g * jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0), nu


def _momentum(g: jax.Array, mu: jax.Array, *, b1: Scalar) -> tuple[jax.Array, jax.Array]:
    mu = b1 * mu + g
    return mu, mu


@recorded
@schedulable("b1", "b2", "eps", "eps_root", "weight_decay")
def scale_by_novograd(
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.25,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    mu_dtype: Any = None,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> GradientTransformationExtraArgs:
    """Rescales gradients by NovoGrad.

    Args:
      b1: the factor by which the momentum shrinks at each step, in [0, 1), or a schedule.
      b2: decay of the mean square norm, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      eps_root: added under the root.
      weight_decay: λ, a scalar at least 0, or a schedule; the decay goes through the momentum.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation with a `ScaleByNovogradState`; `update` needs the parameters where they decay.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_novograd
      >>> tx = scale_by_novograd()
      >>> tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)))[0]
      Array([0.6, 0.8], dtype=float32)
    """
    check_number("scale_by_novograd", low=0, below=1, b1=b1, b2=b2)
    check_number("scale_by_novograd", low=0, eps=eps, eps_root=eps_root, weight_decay=weight_decay)

    def init(params: Params) -> ScaleByNovogradState:
        return ScaleByNovogradState(
            zero_count(),
            mu=tree.slots_like(params, mu_dtype),
            nu=jax.tree.map(jnp.sum, tree.slots_like(params, real=True)),
        )

    def step(flow: Flow, state: ScaleByNovogradState, params: Params = None, **_: Any) -> LeafStep:
        normalize = LeafStep(
            _normalize,
            reduced=(state.nu,),
            close=lambda nu: nu,
            operands={
                "b2": decay_of(b2),
                "eps": eps,
                "eps_root": eps_root,
                "first": state.count == 0,
            },
        )
        new_nu = flow.push(normalize)
        decay = decayed(weight_decay, mask)
        flow.through(decay, decay.init(params), params)
        count = safe_increment(state.count)
        return LeafStep(
            _momentum,
            slots=(state.mu,),
            close=lambda mu: ScaleByNovogradState(count, mu, new_nu()),
            operands={"b1": b1},
        )

    return leafwise(step, init)


@recorded
def novograd(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.25,
    eps: ScalarOrSchedule = 1e-6,
    eps_root: ScalarOrSchedule = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> GradientTransformationExtraArgs:
    """NovoGrad (Ginsburg et al., 2019).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: the factor by which the momentum shrinks at each step, in [0, 1), or a schedule.
      b2: decay of the mean square norm, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      eps_root: added under the root.
      weight_decay: λ, a scalar at least 0, or a schedule; the decay goes through the momentum.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation; `update` needs the parameters where they decay.

    Example:
      >>> from optx_aliases import novograd
      >>> tx = novograd(1e-2, weight_decay=1e-3)
    """
    return chain(
        scale_by_novograd(b1, b2, eps, eps_root, weight_decay, mask=mask),
        scale_by_learning_rate(learning_rate),
    )
