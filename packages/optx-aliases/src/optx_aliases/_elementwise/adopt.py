"""ADOPT: Adam whose denominator does not know this step's gradient, so that any b2 converges.

m ← b1·m + (1 − b1)·clip(g / max(√v, eps), −c, c),   c = clip_value_fn(t), t = 0 at the first step
u = m                            (Nesterov: b1·m + (1 − b1)·clip(...) once more)
v ← b2·v + (1 − b2)·g²           (v = g² at the first step, where nothing else happens)

The default c = t^(1/4) is the paper's. Where quotients are clipped, the old v is taken back from the new one,
v = (v′ − (1 − b2)·g²) / b2, so that a compiled step need not keep both: what that loses to rounding lies
beyond the clip.

Reference: Taniguchi, Harada, Minegishi, Oshima, Jeong, Nagahara, Iiyama, Suzuki, Iwasawa, Matsuo,
"ADOPT: Modified Adam Can Converge with Any β2 with the Optimal Rate", 2024, algorithm 2, and
algorithm 1 without clipping.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_aliases._transforms.adam import ScaleByAdamState
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


def _fourth_root(count: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sqrt(count))


def _leaf(
    g: jax.Array,
    mu: jax.Array,
    nu: jax.Array,
    *,
    b1: Decay,
    b2: Decay,
    eps: Scalar,
    bound: jax.Array | None,
    first: jax.Array,
    nesterov: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    # At the first step v is g² itself: no select between arrays, but between numbers.
    kept, added = jnp.where(first, 0, b2.value), jnp.where(first, 1, b2.complement)
    square = tree.abs_squared(g)
    old, nu = nu, kept * nu + added * square
    if bound is not None:
        old = jnp.maximum(nu - added * square, 0) / jnp.where(first, 1, b2.value)
    positive = old > 0
    root = jnp.where(positive, jnp.sqrt(jnp.where(positive, old, 1)), 0)
    scaled = g / jnp.maximum(root, eps)
    if bound is not None:
        scaled = _clipped(scaled, bound)
    scaled = jnp.where(first, 0, scaled)
    mu = b1.value * mu + b1.complement * scaled
    return (b1.value * mu + b1.complement * scaled if nesterov else mu), mu, nu


def _clipped(x: jax.Array, bound: jax.Array) -> jax.Array:
    if not jnp.iscomplexobj(x):
        return jnp.clip(x, -bound, bound)
    size = jnp.abs(x)
    too_long = size > bound
    return x * jnp.where(too_long, bound / jnp.where(too_long, size, 1), 1)


@recorded
@schedulable("b1", "b2", "eps")
def scale_by_adopt(
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.9999,
    eps: ScalarOrSchedule = 1e-6,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Callable[[jax.Array], Any] = _fourth_root,
) -> GradientTransformationExtraArgs:
    """Averages the gradients divided by the root of their mean square as it was a step ago.

    Args:
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule; not 0 with clipping.
      eps: the least value to divide by.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      nu_dtype: dtype of `nu`; by default the parameters', at least float32.
      nesterov: whether to use Nesterov's momentum.
      use_clipping: whether to clip the quotients, entry by entry (the absolute value, where they are
        complex).
      clip_value_fn: the bound as a function of the number of updates so far, given in floating point.

    Returns:
      A transformation with a `ScaleByAdamState`. The first update is zero: it only fills `nu`.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_adopt
      >>> tx, g = scale_by_adopt(b1=0.5), jnp.array([4.0])
      >>> first, state = tx.update(g, tx.init(g))
      >>> second, state = tx.update(g, state)
      >>> float(first[0]), float(second[0])
      (0.0, 0.5)
    """
    check_number("scale_by_adopt", low=0, below=1, b1=b1, b2=b2)
    check_number("scale_by_adopt", low=0, eps=eps)
    if use_clipping:
        check_number("scale_by_adopt (with clipping)", above=0, b2=b2)

    def init(params: Params) -> ScaleByAdamState:
        return ScaleByAdamState(
            zero_count(),
            mu=tree.slots_like(params, mu_dtype),
            nu=tree.slots_like(params, nu_dtype, real=True),
        )

    def step(flow: Flow, state: ScaleByAdamState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        bound = clip_value_fn(state.count.astype(float)) if use_clipping else None
        return LeafStep(
            _leaf,
            slots=(state.mu, state.nu),
            close=lambda mu, nu: ScaleByAdamState(safe_increment(state.count), mu, nu),
            operands={
                "b1": decay_of(b1),
                "b2": decay_of(b2),
                "eps": eps,
                "bound": bound,
                "first": state.count == 0,
                "nesterov": bool(nesterov),
            },
        )

    return leafwise(step, init)


@recorded
def adopt(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.9999,
    eps: ScalarOrSchedule = 1e-6,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule | None = None,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
    nu_dtype: Any = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Callable[[jax.Array], Any] = _fourth_root,
) -> GradientTransformationExtraArgs:
    """ADOPT (Taniguchi et al., 2024).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule; not 0 with clipping.
      eps: the least value to divide by.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      weight_decay: decoupled weight decay, a scalar at least 0, or a schedule; None for none, where
        `update` does not need the parameters.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      nu_dtype: dtype of `nu`; by default the parameters', at least float32.
      nesterov: whether to use Nesterov's momentum.
      use_clipping: whether to clip the quotients, entry by entry.
      clip_value_fn: the bound as a function of the number of updates so far.

    Returns:
      A transformation.

    Example:
      >>> from optx_aliases import adopt
      >>> adopt(1e-3) == adopt(learning_rate=1e-3)
      True
    """
    adapted = scale_by_adopt(
        b1,
        b2,
        eps,
        mu_dtype,
        nu_dtype,
        nesterov=nesterov,
        use_clipping=use_clipping,
        clip_value_fn=clip_value_fn,
    )
    if weight_decay is None:
        return chain(adapted, scale_by_learning_rate(learning_rate))
    return chain(adapted, decayed(weight_decay, mask), scale_by_learning_rate(learning_rate))
