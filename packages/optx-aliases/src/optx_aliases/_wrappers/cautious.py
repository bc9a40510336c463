"""Cautious optimizers: only entries whose step descends along the gradient move.

φ = 1 where u·g < 0 (u is to be added), else 0
u ← u·φ / max(mean(φ), 10⁻³)          the mean over one array

The division keeps the size of the step, as in the authors' code. The paper's algorithm 1 has d / (Σφ + 1)
with d the number of entries, which halves the step of a single number.

Reference: Liang, Chen, Liu, Liu, "Cautious Optimizers: Improving Training with One Line of Code", 2024,
algorithm 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_core import Params, build, with_extra_args_support


class CautiousState(NamedTuple):
    """State of `cautious`.

    Attributes:
      inner_state: the inner optimizer's state.
    """

    inner_state: build.InnerState


def _leaf(u: Array, g: Array, *, descends: bool) -> Array:
    product = u.real * g.real + u.imag * g.imag if jnp.iscomplexobj(u) else u * g
    agree = ((product < 0) if descends else (product > 0)).astype(product.dtype)
    part = jnp.sum(agree) / max(agree.size, 1)
    return u * (agree / jnp.maximum(part, 1e-3))


@build.recorded
def cautious(inner: Any, *, descends: bool = True) -> build.Transformation:
    """Makes an optimizer cautious (Liang et al., 2024): `cautious(lion(1e-4))`, `cautious(adam(1e-3))`.

    Args:
      inner: the optimizer. The mask looks at its whole update, weight decay included; to leave the decay
        out, add it behind: `chain(cautious(adam(lr)), ...)`.
      descends: whether its updates are to be added to the parameters, as those of optimizers; False for
        a `scale_by_*` whose sign a learning rate behind it flips.

    Returns:
      A transformation with a `CautiousState`, which passes extra arguments on.

    Raises:
      TypeError: if `inner` is not a transformation.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import cautious, sgd
      >>> tx = cautious(sgd(1.0, momentum=0.9))
      >>> _, state = tx.update(jnp.array([4.0, 4.0]), tx.init(jnp.zeros(2)))
      >>> updates, _ = tx.update(jnp.array([1.0, -1.0]), state)
      >>> [round(float(u), 4) for u in updates]
      [-9.2, -0.0]
    """
    build.check_transformation_like("cautious", inner)
    inner = with_extra_args_support(inner)

    def init(params: Params) -> CautiousState:
        return CautiousState(inner.init(params))

    def step(
        flow: build.Flow, state: CautiousState, params: Params = None, **extra_args: Any
    ) -> build.LeafStep:
        build.check_state(flow.trail, CautiousState, state)
        grads = flow.updates
        finish = flow.through(inner, state.inner_state, params, **extra_args)
        return build.LeafStep(
            _leaf,
            reads=(grads,),
            close=lambda: CautiousState(finish()),
            operands={"descends": bool(descends)},
        )

    return build.leafwise(step, init)
