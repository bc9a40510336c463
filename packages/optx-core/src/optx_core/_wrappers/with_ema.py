"""An exponential moving average of the parameters, for evaluation.

ema ← decay·ema + (1 − decay)·(p + u), starting from the parameters

Reference: Polyak, Juditsky, "Acceleration of stochastic approximation by averaging", 1992; in this form
Izmailov et al., 2018, and Tarvainen, Valpola, 2017.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import (
    OptState,
    Params,
    PyTree,
    ScalarOrSchedule,
    Updates,
    build,
    safe_increment,
    tree,
    with_extra_args_support,
)
from optx_core._training.merge_params import rounded_as


class WithEmaState(NamedTuple):
    """State of `with_ema`.

    Attributes:
      count: int32 scalar, the number of updates so far.
      ema: the average of the parameters, in at least float32.
      inner_state: the inner transformation's state.
    """

    count: build.Count
    ema: Annotated[PyTree, build.slot(fill="params", exact=True)]
    inner_state: build.InnerState


@build.recorded
def with_ema(inner: Any, decay: ScalarOrSchedule = 0.999) -> build.Transformation:
    """Averages the parameters along the path of an optimizer; `eval_params` returns the average.

    Args:
      inner: the optimizer; its updates are passed on unchanged.
      decay: the weight of the past, in [0, 1], or a schedule of the number of updates so far;
        `optx_schedules.tail_average_schedule` makes the average that of a run's tail.

    Returns:
      A transformation with a `WithEmaState`; `update` needs the parameters. Place it last in a chain:
      the average is that of the parameters plus its updates. It is float32 for bf16 parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import eval_params, scale, with_ema
      >>> tx, params = with_ema(scale(-1.0), decay=0.5), jnp.array([1.0])
      >>> _, state = tx.update(jnp.array([1.0]), tx.init(params), params)
      >>> eval_params(state)
      Array([0.5], dtype=float32)
    """
    build.check_transformation_like("with_ema", inner)
    build.check_number("with_ema", low=0, high=1, decay=decay)
    inner = with_extra_args_support(inner)

    def init(params: Params) -> WithEmaState:
        return WithEmaState(build.zero_count(), build.copy_of(params), inner.init(params))

    def update(
        updates: Updates, state: WithEmaState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, WithEmaState]:
        build.need_params("with_ema", params)
        updates, inner_state = inner.update(updates, state.inner_state, params, **extra_args)
        rate = build.rate_of(build.evaluate(decay, state.count))

        def average(e: Any, p: Any, u: Any) -> Any:
            if tree.is_placeholder(e):
                return e
            real = build.common_real_dtype(e.dtype)
            p = build.cast_to_compute(jnp.asarray(p), real)
            new = p if tree.is_absent(u) else p + build.cast_to_compute(jnp.asarray(u), real)
            share = jnp.asarray(1 - rate, real).astype(e.dtype)
            return e + share * (new - e)

        ema = jax.tree.map(average, state.ema, params, updates, is_leaf=tree.is_placeholder)
        return updates, WithEmaState(safe_increment(state.count), ema, inner_state)

    return build.wrapping(init, update)


def eval_params(state: OptState, params: Params = None) -> PyTree:
    """Returns the averages in an optimizer's state: those of `with_ema`, or the slow weights of `lookahead`.

    Args:
      state: a state that contains one of either, at any depth.
      params: the parameters, which provide the dtypes and the integer leaves; None for the average as
        stored.

    Returns:
      A tree of the parameters' structure and shapes.

    Raises:
      KeyError: if the state contains none, or several.
      ValueError: if the averages belong to other parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import chain, eval_params, scale, with_ema
      >>> state = chain(with_ema(scale(-1.0))).init(jnp.ones(2, jnp.bfloat16))
      >>> eval_params(state, jnp.ones(2, jnp.bfloat16)).dtype
      dtype(bfloat16)
    """
    from optx_core.tree import get_all_with_path

    found = [
        getattr(part, field)
        for name, field in (("WithEmaState", "ema"), ("SlowWeightsState", "slow"))
        for _, part in get_all_with_path(state, name)
    ]
    if len(found) != 1:
        raise KeyError(
            f"eval_params: the state contains {len(found)} averages of with_ema or lookahead, not one"
        )
    (ema,) = found
    if params is None:
        return ema
    return rounded_as(params, ema, "eval_params")
