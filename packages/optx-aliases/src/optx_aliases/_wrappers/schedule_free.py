"""Schedule-free learning: gradients are taken between the last iterate and an average of all.

With u the update of the optimizer inside, at y, and c = wₜ / Σ w, w = max(lr so far)^weight_lr_power:

z ← z + u                          (the iterates)
x ← (1 − c)·x + c·z                (their average, to evaluate at)
y ← b1·x + (1 − b1)·z              (where gradients are taken: the parameters)

x is not stored: x = (y − (1 − b1)·z) / b1, with the b1 that y was made with. Put together, with the new z
and m = b1 / (the last b1) − 1, which is 0 as long as b1 stays the same, y moves by

(c − m·(1 − c))·(z − y) + (1 − c)·(1 − b1 + m)·u

There is one count: at the update that follows t others the schedules, of the weights and of the optimizer
inside, are evaluated at t. (optax weighs by the learning rate of the step to come.)

Reference: Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky, "The Road Less Scheduled", 2024, equations 2
to 4 and algorithm 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._transforms.whole_tree import copy_of, decay_as, quotient, real_dtype_of, value_at
from optx_core import (
    GradientTransformationExtraArgs,
    OptState,
    Params,
    PyTree,
    ScalarOrSchedule,
    safe_increment,
    tree,
    with_extra_args_support,
)
from optx_core.build import (
    Flow,
    LeafStep,
    check_number,
    check_transformation_like,
    leafwise,
    need_params,
    recorded,
    zero_count,
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

    b1: jax.Array
    weight_sum: jax.Array
    step_count: jax.Array
    max_lr: jax.Array
    base_optimizer_state: OptState
    z: PyTree


def _leaf(
    u: jax.Array, z: jax.Array, p: jax.Array, *, pull: jax.Array, push: jax.Array
) -> tuple[jax.Array, jax.Array]:
    z = z + u
    return pull * (z - p) + push * u, z


@recorded
def schedule_free(
    base_optimizer: Any,
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    weight_lr_power: ScalarOrSchedule = 2.0,
    state_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Schedule-free learning (Defazio et al., 2024) around any optimizer.

    The parameters are y. Evaluate, and save for use, at `schedule_free_eval_params(state, params)`.

    Args:
      base_optimizer: the optimizer of z, without momentum of its own, its learning rate included.
      learning_rate: the same learning rate, a scalar or a schedule (of a warmup; no decay), for the
        weights of the average.
      b1: the weight of the average in y, in (0, 1], or a schedule; it stands for momentum.
      weight_lr_power: the power of the learning rate that iterates are weighed by, or a schedule.
      state_dtype: dtype of `z`; by default the parameters', at least float32.

    Returns:
      A transformation with a `ScheduleFreeState`; `update` needs the parameters, and hands extra
      arguments on.

    Raises:
      TypeError: if `base_optimizer` is no transformation.
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
    check_transformation_like("schedule_free", base_optimizer)
    check_number("schedule_free", above=0, high=1, b1=b1)
    check_number("schedule_free", low=0, weight_lr_power=weight_lr_power)
    check_number("schedule_free", low=0, learning_rate=learning_rate)
    inner = with_extra_args_support(base_optimizer)

    def init(params: Params) -> ScheduleFreeState:
        real = real_dtype_of(params)
        zero = jnp.zeros((), real)
        return ScheduleFreeState(
            zero + value_at(b1, zero_count(), real),
            jnp.zeros((), real),
            jnp.ones((), jnp.int32),
            jnp.zeros((), real),
            inner.init(params),
            copy_of(params, state_dtype),
        )

    def step(
        flow: Flow, state: ScheduleFreeState, params: Params = None, **extra_args: Any
    ) -> LeafStep:
        need_params(flow.trail, params)
        real = state.max_lr.dtype
        count = state.step_count - 1
        max_lr = jnp.maximum(state.max_lr, value_at(learning_rate, count, real))
        weight = max_lr ** value_at(weight_lr_power, count, real)
        weight_sum = state.weight_sum + weight
        finish = flow.through(inner, state.base_optimizer_state, params, **extra_args)
        now = decay_as(value_at(b1, count), real)
        c, moved = quotient(weight, weight_sum), now.value / state.b1 - 1
        return LeafStep(
            _leaf,
            slots=(state.z,),
            reads=(params,),
            close=lambda z: ScheduleFreeState(
                jnp.asarray(now.value),
                weight_sum,
                safe_increment(state.step_count),
                max_lr,
                finish(),
                z,
            ),
            operands={
                "pull": c - moved * (1 - c),
                "push": (1 - c) * (now.complement + moved),
            },
        )

    return leafwise(step, init)


def schedule_free_eval_params(state: OptState, params: Params) -> Params:
    """The average x, to evaluate the model at.

    Args:
      state: the optimizer's state: a `ScheduleFreeState`, or one that holds one at any depth.
      params: the parameters y.

    Returns:
      A tree like the parameters. Leaves that `schedule_free` does not move (None, integers, masked
      out) come back as they are.

    Raises:
      ValueError: if the state holds no `ScheduleFreeState`, or several, or one of other parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import schedule_free_eval_params, schedule_free_sgd
      >>> params = {"w": jnp.ones(2)}
      >>> schedule_free_eval_params(schedule_free_sgd().init(params), params)["w"]
      Array([1., 1.], dtype=float32)
    """
    found = tree.get_all_with_path(state, "ScheduleFreeState")
    if len(found) != 1:
        raise ValueError(
            f"schedule_free_eval_params: the state holds {len(found)} states of schedule_free, not one"
        )
    b1, z = jax.tree.leaves(found[0][1].b1)[0], found[0][1].z
    leaves, structure = tree.flatten(params)
    try:
        iterates = structure.flatten_up_to(z)
    except (ValueError, TypeError):
        # Flax keeps parameters and state in containers of different kinds.
        iterates, _ = tree.flatten(z)
    if len(iterates) != len(leaves):
        raise ValueError(
            "schedule_free_eval_params: the parameters are not those that the state was made for"
        )
    return structure.unflatten(
        [
            y
            if tree.is_placeholder(y) or tree.is_placeholder(z)
            else _average(jnp.asarray(y), z, b1)
            for y, z in zip(leaves, iterates, strict=True)
        ]
    )


def _average(y: jax.Array, z: jax.Array, b1: jax.Array) -> jax.Array:
    wide = jnp.asarray(y).astype(tree.slot_dtype(y))
    b1 = b1.astype(wide.real.dtype)
    with jax.numpy_dtype_promotion("standard"):  # from real to complex
        x = (wide - (1 - b1) * z.astype(wide.dtype)) / b1
    return x.astype(y.dtype)
