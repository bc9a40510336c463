"""Reduction of the updates when the loss stops falling.

v = mean of `accumulation_size` losses
improved:  v is finite and v < best − rtol·|best| − atol;   best ← v, plateau_count ← 0
otherwise: plateau_count ← plateau_count + 1; at `patience`: scale ← max(factor·scale, min_scale),
           plateau_count ← 0, and the next `cooldown` means are not counted
u = scale·g

where g are the updates before and u those after. The margin is relative to |best|, so that negative losses
can reach a plateau too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import GradientTransformationExtraArgs, Params, Scalar, safe_increment
from optx_core.build import Factor, Flow, LeafStep, check_number, leafwise, recorded, zero_count
from optx_schedules._checks import whole


class ReduceLROnPlateauState(NamedTuple):
    """State of `reduce_on_plateau`.

    Attributes:
      scale: float32 scalar, the factor on the updates.
      best_value: float32 scalar, the best mean loss so far.
      plateau_count: int32 scalar, the number of means without improvement.
      cooldown_count: int32 scalar, the number of means that remain of the cooldown.
      count: int32 scalar, the number of losses in the running mean.
      avg_value: float32 scalar, the running mean.
    """

    scale: Factor
    best_value: jax.Array
    plateau_count: jax.Array
    cooldown_count: jax.Array
    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    avg_value: jax.Array


def _leaf(g: jax.Array, *, scale: Scalar) -> jax.Array:
    return g * scale


@recorded
def reduce_on_plateau(
    factor: Scalar = 0.1,
    patience: int = 10,
    rtol: Scalar = 1e-4,
    atol: Scalar = 0.0,
    cooldown: int = 0,
    accumulation_size: int = 1,
    min_scale: Scalar = 0.0,
) -> GradientTransformationExtraArgs:
    """Scales the updates down when the loss stops falling.

    `update` takes the loss: `update(grads, state, params, value=loss)`. A mean that contains a
    non-finite loss, -inf included, is no improvement.

    Args:
      factor: the factor of a reduction, in (0, 1).
      patience: the number of means without improvement after which the scale is reduced, at least 1.
      rtol: the smallest improvement, relative to the magnitude of the best value, at least 0.
      atol: the smallest improvement, in units of the loss, at least 0.
      cooldown: the number of means that are not counted after a reduction.
      accumulation_size: the number of losses averaged into one mean, at least 1.
      min_scale: the lower bound on the scale, at least 0.

    Returns:
      A transformation with a `ReduceLROnPlateauState`.

    Raises:
      TypeError: if an argument is not a number.
      ValueError: if a number is out of range; in `update`, if the loss is missing.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_schedules import reduce_on_plateau
      >>> tx = reduce_on_plateau(factor=0.5, patience=2)
      >>> state = tx.init(jnp.zeros(1))
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.ones(1), state, value=-1.0)
      >>> updates
      Array([0.5], dtype=float32)
    """
    where = "reduce_on_plateau"
    check_number(where, above=0, below=1, factor=factor)
    check_number(where, low=0, rtol=rtol, atol=atol, min_scale=min_scale)
    if all(isinstance(x, int | float) and x == 0 for x in (rtol, atol)):
        raise ValueError(f"{where}: rtol and atol must not both be 0")
    patience = whole(where, "patience", patience, least=1)
    cooldown = whole(where, "cooldown", cooldown)
    accumulation_size = whole(where, "accumulation_size", accumulation_size, least=1)

    def init(params: Params) -> ReduceLROnPlateauState:
        del params
        return ReduceLROnPlateauState(
            scale=jnp.ones((), jnp.float32),
            best_value=jnp.full((), jnp.inf, jnp.float32),
            plateau_count=zero_count(),
            cooldown_count=zero_count(),
            count=zero_count(),
            avg_value=jnp.zeros((), jnp.float32),
        )

    def judge(state: ReduceLROnPlateauState, avg: jax.Array) -> ReduceLROnPlateauState:
        best = state.best_value
        finite = jnp.isfinite(best)
        margin = _single(rtol) * jnp.abs(jnp.where(finite, best, 0)) + _single(atol)
        improved = jnp.isfinite(avg) & (avg < best - margin)
        cooling = state.cooldown_count > 0
        plateau = jnp.where(improved | cooling, 0, state.plateau_count + 1)
        fire = plateau >= patience
        # A lower bound above the current scale must not raise it.
        reduced = jnp.maximum(
            state.scale * _single(factor), jnp.minimum(_single(min_scale), state.scale)
        )
        cooled = jnp.maximum(state.cooldown_count - 1, 0)
        return ReduceLROnPlateauState(
            scale=jnp.where(fire, reduced, state.scale),
            best_value=jnp.where(improved, avg, best),
            plateau_count=jnp.where(fire, 0, plateau),
            cooldown_count=jnp.where(fire, cooldown, cooled).astype(jnp.int32),
            count=zero_count(),
            avg_value=jnp.zeros((), jnp.float32),
        )

    def step(
        flow: Flow,
        state: ReduceLROnPlateauState,
        params: Params = None,
        *,
        value: Any = None,
        **_: Any,
    ) -> LeafStep:
        del flow, params
        if value is None:
            raise ValueError(
                "reduce_on_plateau needs the loss: call update(grads, state, params, value=loss)"
            )
        loss = jnp.asarray(value)
        if loss.shape or jnp.issubdtype(loss.dtype, jnp.complexfloating):
            raise ValueError(
                "reduce_on_plateau: value must be a real scalar, not "
                f"{loss.dtype}{list(loss.shape)}"
            )
        count = safe_increment(state.count)
        avg = state.avg_value + (_single(loss) - state.avg_value) / count.astype(jnp.float32)
        waiting = state._replace(count=count, avg_value=avg)
        judged = judge(state, avg)
        full = count >= accumulation_size
        new = ReduceLROnPlateauState(
            *(jnp.where(full, a, b) for a, b in zip(judged, waiting, strict=True))
        )
        return LeafStep(_leaf, close=lambda: new, operands={"scale": new.scale})

    return leafwise(step, init)


def _single(x: Any) -> jax.Array:
    return jnp.asarray(x, jnp.float32)
