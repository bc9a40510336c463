"""Schedule-free learning: gradients are taken between the last iterate and an average of all.

With u the update of the optimizer inside, at y, and c = wₜ / Σ w, w = max(lr so far)^weight_lr_power:

z ← z + u                          (the iterates)
x ← (1 − c)·x + c·z                (their average, to evaluate at)
y ← b1·x + (1 − b1)·z              (where gradients are taken: the parameters)

x is not stored: x = (y − (1 − b1)·z) / b1, with the b1 of this y. With the new z and
m = b1 / (the last b1) − 1, which is 0 for a constant b1, y moves by

(c − m·(1 − c))·(z − y) + (1 − c)·(1 − b1 + m)·u

There is one count: after t updates, all schedules are evaluated at t, those of the weights and of the
optimizer inside. (optax weighs by the learning rate of the next step.)

Reference: Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky, "The Road Less Scheduled", 2024, equations 2
to 4 and algorithm 1.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.scalars import quotient, scalar_dtype
from optx_core import (
    OptState,
    Params,
    PyTree,
    ScalarOrSchedule,
    build,
    safe_increment,
    tree,
    with_extra_args_support,
)


class ScheduleFreeState(NamedTuple):
    """State of `schedule_free`.

    Attributes:
      b1: the weight of the average in y, a scalar of at least float32.
      weight_sum: Σ w, likewise.
      step_count: t + 1, int32 scalar, the number of the update to come; 1 at first, as in optax.
      max_lr: the largest learning rate so far, a scalar of at least float32.
      base_optimizer_state: the inner optimizer's state.
      z: the iterates, a tree of the parameters' structure and shapes.
    """

    b1: Array
    weight_sum: Array
    step_count: build.Count
    max_lr: Array
    base_optimizer_state: build.InnerState
    z: Annotated[PyTree, build.slot(dtype="state_dtype", fill="params")]


def _leaf(u: Array, z: Array, p: Array, *, pull: Array, push: Array) -> tuple[Array, Array]:
    z = z + u
    return pull * (z - p) + push * u, z


@build.recorded
def schedule_free(
    base_optimizer: Any,
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    weight_lr_power: ScalarOrSchedule = 2.0,
    state_dtype: build.DType = None,
) -> build.Transformation:
    """Schedule-free learning (Defazio et al., 2024) around any optimizer.

    The parameters are y. Evaluate, and save for use, at `schedule_free_eval_params(state, params)`.

    Args:
      base_optimizer: the optimizer of z, without momentum of its own, its learning rate included.
      learning_rate: the same learning rate, a scalar or a schedule (of a warmup; no decay), for the
        weights of the average.
      b1: the weight of the average in y, in (0, 1], or a schedule; it takes the place of momentum.
      weight_lr_power: the power of the learning rate that weighs the iterates, at least 0, or a schedule.
      state_dtype: dtype of `z`; by default the parameters', at least float32.

    Returns:
      A transformation with a `ScheduleFreeState`; `update` needs the parameters, and passes extra
      arguments on.

    Raises:
      TypeError: if `base_optimizer` is not a transformation.
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import schedule_free, schedule_free_eval_params, sgd
      >>> tx, y = schedule_free(sgd(0.5), 0.5), jnp.array([3.0])
      >>> state = tx.init(y)
      >>> for _ in range(200):
      ...     updates, state = tx.update(y, state, y)
      ...     y = y + updates
      >>> bool(abs(schedule_free_eval_params(state, y)[0]) < 0.01)
      True
    """
    build.check_transformation_like("schedule_free", base_optimizer)
    build.check_number("schedule_free", above=0, high=1, b1=b1)
    build.check_number("schedule_free", low=0, weight_lr_power=weight_lr_power)
    build.check_number("schedule_free", low=0, learning_rate=learning_rate)
    inner = with_extra_args_support(base_optimizer)

    def init(params: Params) -> ScheduleFreeState:
        zero = jnp.zeros((), scalar_dtype(params))
        return ScheduleFreeState(
            zero + build.evaluate(b1, build.zero_count(), zero.dtype),
            zero,
            jnp.ones((), jnp.int32),
            jnp.copy(zero),
            inner.init(params),
            build.copy_of(params, state_dtype),
        )

    def step(
        flow: build.Flow, state: ScheduleFreeState, params: Params = None, **extra_args: Any
    ) -> build.LeafStep:
        build.need_params(flow.trail, params)
        real = state.max_lr.dtype
        count = state.step_count - 1
        max_lr = jnp.maximum(state.max_lr, build.evaluate(learning_rate, count, real))
        weight = max_lr ** build.evaluate(weight_lr_power, count, real)
        weight_sum = state.weight_sum + weight
        finish = flow.through(inner, state.base_optimizer_state, params, **extra_args)
        now = build.rate_of(build.evaluate(b1, count)).astype(real)
        c, moved = quotient(weight, weight_sum), now.value / state.b1 - 1
        return build.LeafStep(
            _leaf,
            slots=(state.z,),
            reads=(params,),
            close=lambda z: ScheduleFreeState(
                now.value, weight_sum, safe_increment(state.step_count), max_lr, finish(), z
            ),
            operands={"pull": c - moved * (1 - c), "push": (1 - c) * (1 - now + moved)},
        )

    return build.leafwise(step, init)


def schedule_free_eval_params(state: OptState, params: Params) -> Params:
    """The average x, to evaluate the model at.

    Args:
      state: the optimizer's state: a `ScheduleFreeState`, or one that holds one at any depth.
      params: the parameters y.

    Returns:
      A tree like the parameters. Leaves that `schedule_free` does not move (None, integers, masked
      out) stay as they are.

    Raises:
      ValueError: if the state does not hold exactly one `ScheduleFreeState`, or if it belongs to other
        parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import schedule_free_eval_params, schedule_free_sgd
      >>> params = {"w": jnp.ones(2)}
      >>> schedule_free_eval_params(schedule_free_sgd().init(params), params)["w"]
      Array([1., 1.], dtype=float32)
    """
    states = tree.get_all_with_path(state, "ScheduleFreeState")
    if len(states) != 1:
        raise ValueError(
            f"schedule_free_eval_params: the state holds {len(states)} states of schedule_free, not one"
        )
    b1, z = jax.tree.leaves(states[0][1].b1)[0], states[0][1].z
    leaves, structure = tree.flatten(params)
    try:
        iterates = structure.flatten_up_to(z)
    except (ValueError, TypeError):
        # Flax keeps parameters and state in containers of different kinds.
        iterates, _ = tree.flatten(z)
    if len(iterates) != len(leaves):
        raise ValueError("schedule_free_eval_params: the state belongs to other parameters")
    return structure.unflatten(
        [
            y
            if tree.is_placeholder(y) or tree.is_placeholder(z)
            else _average(jnp.asarray(y), z, b1)
            for y, z in zip(leaves, iterates, strict=True)
        ]
    )


def _average(y: Array, z: Array, b1: Array) -> Array:
    wide = jnp.asarray(y).astype(tree.slot_dtype(y))
    b1 = b1.astype(wide.real.dtype)
    with jax.numpy_dtype_promotion("standard"):  # from real to complex
        x = (wide - (1 - b1) * z.astype(wide.dtype)) / b1
    return x.astype(y.dtype)
