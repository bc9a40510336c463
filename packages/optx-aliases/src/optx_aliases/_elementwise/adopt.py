"""ADOPT: Adam with the mean square of the step before, which converges for any b2.

m ← b1·m + (1 − b1)·clip(g / max(√v, eps), −c, c),   c = clip_value_fn(t), t = 0 at the first step
u = m                            (Nesterov: b1·m + (1 − b1)·clip(...) once more)
v ← b2·v + (1 − b2)·g²           (v = g² at the first step, which changes nothing else)

The default c = t^(1/4) is the paper's. With clipping, the old v is recovered from the new one,
v = (v′ − (1 − b2)·g²) / b2, so that a compiled step need not keep both: whatever precision this loses is
beyond the clip.

Reference: Taniguchi, Harada, Minegishi, Oshima, Jeong, Nagahara, Iiyama, Suzuki, Iwasawa, Matsuo,
"ADOPT: Modified Adam Can Converge with Any β2 with the Optimal Rate", 2024, algorithm 2, and
algorithm 1 without clipping.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.adam import ScaleByAdamState
from optx_aliases._transforms.weight_decay import decayed
from optx_core import ScalarOrSchedule, build, chain, scale_by_learning_rate


def _fourth_root(count: Array) -> Array:
    return jnp.sqrt(jnp.sqrt(count))


def _clipped(x: Array, bound: Array) -> Array:
    """The entries, with absolute values of at most a bound."""
    if not jnp.iscomplexobj(x):
        return jnp.clip(x, -bound, bound)
    size = jnp.abs(x)
    too_long = size > bound
    return x * jnp.where(too_long, bound / jnp.where(too_long, size, 1), 1)


def _check(b2: Any, *, use_clipping: bool, **_: Any) -> None:
    if use_clipping:
        build.check_number("scale_by_adopt (with clipping)", above=0, b2=b2)


@build.rule(ScaleByAdamState, check=_check)
def scale_by_adopt(
    g: Array,
    s: ScaleByAdamState,
    /,
    b1: build.Rate = 0.9,
    b2: build.Rate = 0.9999,
    eps: build.Nonnegative = 1e-6,
    mu_dtype: build.DType = None,
    nu_dtype: build.DType = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Callable[[Array], Any] = _fourth_root,
) -> tuple[Array, ScaleByAdamState]:
    """Averages the gradients divided by the root mean square of the step before.

    Args:
      b1, b2, eps, mu_dtype, nu_dtype, nesterov, use_clipping, clip_value_fn: as for `adopt`.

    Returns:
      A transformation with a `ScaleByAdamState`. The first update is zero; it only initializes `nu`.

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
    g = build.squarable(g)
    first = s.count == 1
    # v = g² at the first step: a choice between numbers, not between arrays.
    old, added = s.nu, jnp.where(first, 1, 1 - b2) * build.abs_squared(g)
    v = jnp.where(first, 0, jnp.asarray(b2)) * old + added
    if use_clipping:
        old = jnp.maximum(v - added, 0) / jnp.where(first, 1, jnp.asarray(b2))
    positive = old > 0
    root = jnp.where(positive, jnp.sqrt(jnp.where(positive, old, 1)), 0)
    scaled = g / jnp.maximum(root, eps)
    if use_clipping:
        bound = clip_value_fn((s.count - 1).astype(v.dtype))
        scaled = _clipped(scaled, jnp.asarray(bound, v.dtype))
    scaled = jnp.where(first, 0, scaled)
    m = b1 * s.mu + (1 - b1) * scaled
    u = b1 * m + (1 - b1) * scaled if nesterov else m
    return u, s._replace(mu=m, nu=v)


@build.recorded
def adopt(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.9999,
    eps: ScalarOrSchedule = 1e-6,
    mu_dtype: build.DType = None,
    weight_decay: ScalarOrSchedule | None = None,
    mask: build.Mask = None,
    nu_dtype: build.DType = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Callable[[Array], Any] = _fourth_root,
) -> build.Transformation:
    """ADOPT (Taniguchi et al., 2024).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay rate of the mean, in [0, 1), or a schedule.
      b2: decay rate of the mean square, in [0, 1), or a schedule; not 0 with clipping.
      eps: the smallest divisor.
      mu_dtype: dtype of the mean; by default the parameters', at least float32.
      weight_decay: decoupled weight decay, a scalar at least 0, or a schedule; None for none: `update` then
        does not need the parameters.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      nu_dtype: dtype of the mean square; by default the parameters', at least float32.
      nesterov: whether to use Nesterov's momentum.
      use_clipping: whether to clip the quotients, entry by entry (complex ones by absolute value).
      clip_value_fn: a function that returns the bound, given the number of updates so far as a
        floating-point scalar.

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
