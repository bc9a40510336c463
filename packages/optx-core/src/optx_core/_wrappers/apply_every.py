"""The sum of k updates at every k-th step, zero otherwise."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import Params, build, tree


class ApplyEvery(NamedTuple):
    """State of `apply_every`.

    Attributes:
      count: int32 scalar, the number of updates in the current sum.
      grad_acc: the sum, a tree of the parameters' structure and shapes.
    """

    count: build.Count
    grad_acc: build.Moment


def _leaf(
    g: jax.Array, grad_acc: jax.Array, *, first: jax.Array, emit: jax.Array
) -> tuple[jax.Array, jax.Array]:
    grad_acc = jnp.where(first, g, grad_acc + g)
    return jnp.where(emit, grad_acc, jnp.zeros_like(g)), grad_acc


@build.recorded
def apply_every(k: int = 1) -> build.Transformation:
    """Accumulates updates, and emits their sum at every k-th step; the other updates are zero.

    Earlier transformations in a chain run at every step, on the gradients of each micro-batch. To run an
    optimizer once every k steps on the mean of the gradients, use `multi_steps`.

    Args:
      k: a positive int.

    Returns:
      A transformation with an `ApplyEvery` state.

    Raises:
      ValueError: if k is below 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import apply_every
      >>> tx = apply_every(2)
      >>> state = tx.init(jnp.zeros(1))
      >>> for g in (1.0, 3.0):
      ...     updates, state = tx.update(jnp.array([g]), state)
      >>> updates
      Array([4.], dtype=float32)
    """
    if isinstance(k, int) and k < 1:
        raise ValueError(f"apply_every: k must be at least 1, not {k}")

    def init(params: Params) -> ApplyEvery:
        return ApplyEvery(build.zero_count(), tree.slots_like(params))

    def step(
        flow: build.Flow, state: ApplyEvery, params: Params = None, **_: Any
    ) -> build.LeafStep:
        del flow, params
        place = state.count % k
        return build.LeafStep(
            _leaf,
            slots=(state.grad_acc,),
            close=lambda acc: ApplyEvery((state.count + 1) % k, acc),
            operands={"first": place == 0, "emit": place == k - 1},
        )

    return build.leafwise(step, init)
