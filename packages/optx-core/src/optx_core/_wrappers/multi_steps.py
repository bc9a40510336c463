"""Accumulation of gradients over k micro-steps; the last one runs the inner optimizer.

acc ← acc + (g − acc) / (i + 1)     the mean of the window so far, i = 0, 1, ..., k − 1
u = inner(acc) at i = k − 1, or where the window is ended early, else 0

The inner optimizer runs only once every k steps. A skipped micro-batch (such as one with non-finite
gradients) is never added. The accumulator is reset, not multiplied by zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import (
    OptState,
    Params,
    PyTree,
    Scalar,
    Updates,
    all_finite,
    build,
    safe_increment,
    tree,
    with_extra_args_support,
)
from optx_core._training.per_device import check_own

ShouldSkip = Callable[[Updates, jax.Array, Params], tuple[jax.Array, PyTree]]


class MultiStepsState(NamedTuple):
    """State of `MultiSteps`.

    Attributes:
      mini_step: int32 scalar, the number of micro-steps counted in this window.
      gradient_step: int32 scalar, the number of updates of the inner optimizer.
      inner_opt_state: the inner optimizer's state.
      acc_grads: the mean (or sum) of the window so far; None where k is 1.
      skip_state: the information that `should_skip_update_fn` returned at the last micro-step; () without it.
    """

    mini_step: build.Measured
    gradient_step: build.MeasuredCount
    inner_opt_state: build.InnerState
    acc_grads: build.Moment
    skip_state: PyTree = ()


# The zeros are computed from the accumulator by a condition that XLA cannot fold: a constant would be one
# buffer for all arrays of a shape, copied for each; zeros from the gradients would keep those alive.


def _leaf(
    g: jax.Array, acc: jax.Array, *, share: Scalar, skip: jax.Array, emit: jax.Array, mean: bool
) -> tuple[jax.Array, jax.Array]:
    acc = jnp.where(skip, acc, acc + (g - acc) * share if mean else acc + g)
    return jnp.where(emit, acc, jnp.zeros_like(acc)), acc


def skip_not_finite(
    updates: Updates, gradient_step: jax.Array, params: Params
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Skips a micro-batch whose gradients are not finite, for `MultiSteps`.

    Args:
      updates: the gradients of the micro-batch.
      gradient_step: the number of updates so far; unused.
      params: the parameters; unused.

    Returns:
      Whether to skip, a boolean scalar, and a dict of it and the number of non-finite entries.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import skip_not_finite
      >>> skip, info = skip_not_finite(jnp.array([jnp.nan, 1.0]), jnp.array(0), None)
      >>> bool(skip), int(info["num_not_finite"])
      (True, 1)
    """
    del gradient_step, params
    counts = [jnp.sum(~jnp.isfinite(g), dtype=jnp.int32) for g in jax.tree.leaves(updates)]
    total = jnp.sum(jnp.stack(counts)) if counts else build.zero_count()
    skip = ~all_finite(updates)
    return skip, {"should_skip": skip, "num_not_finite": total}


def skip_large_updates(
    updates: Updates, gradient_step: jax.Array, params: Params, max_squared_norm: Scalar
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Skips a micro-batch whose gradients are too large, for `MultiSteps`.

    Args:
      updates: the gradients of the micro-batch.
      gradient_step: the number of updates so far; unused.
      params: the parameters; unused.
      max_squared_norm: the square of the least global norm to skip; bind it with
        `functools.partial`.

    Returns:
      Whether to skip, a boolean scalar (True for NaN too), and a dict of it and the squared norm.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import skip_large_updates
      >>> bool(skip_large_updates(jnp.array([3.0]), jnp.array(0), None, 4.0)[0])
      True
    """
    from optx_core.tree import norm

    del gradient_step, params
    squared = norm(updates, squared=True)
    skip = ~(squared < max_squared_norm)
    return skip, {"should_skip": skip, "norm_squared": squared}


@build.recorded
def multi_steps(
    inner: Any,
    every_k: int | Callable[[jax.Array], jax.Array],
    *,
    use_grad_mean: bool = True,
    should_skip_update_fn: ShouldSkip | None = None,
    accumulator_dtype: build.DType = None,
    axis_name: build.Names = None,
) -> build.Transformation:
    """Runs a transformation once every k updates, on the mean of their gradients.

    Args:
      inner: the transformation.
      every_k: k, a positive int, or a schedule that takes the number of inner updates so far and returns k.
        With the int 1 every update runs the inner transformation.
      use_grad_mean: whether to average the gradients; otherwise they are summed.
      should_skip_update_fn: `f(updates, gradient_step, params)` returns whether to skip the
        micro-batch, and a tree of arrays to store as `skip_state`; such as `skip_not_finite`.
      accumulator_dtype: dtype of the mean; by default the parameters', at least float32.
      axis_name: a mapped axis, or several, of `jax.shard_map` or `jax.vmap`, along which the gradients
        differ. Each device then accumulates its own, and their mean over the axis (the sum without
        `use_grad_mean`) is taken at every k-th step only, before the inner transformation. `acc_grads` is
        the device's own, the rest of the state is equal on all devices. By default the gradients
        are taken to be equal on all devices: XLA reduces them at each step.

    Returns:
      A transformation with a `MultiStepsState`; its updates are nonzero only at every k-th step.
      `update(..., emit=True)`, a boolean scalar, ends the window at this micro-step: the inner transformation
      runs on the mean (or sum) of the micro-batches so far, this one included. A window without any (all of
      them skipped) is not ended. Use it at the last micro-batch of an epoch.

    Raises:
      TypeError: from `update`, if `emit` is not a boolean scalar.
      ValueError: if k is an int below 1, or `axis_name` is combined with `should_skip_update_fn`: devices
        that skip different micro-batches would disagree on the k-th; from `update`, if `axis_name` is given
        and gradients are summed over it already (by `jax.grad` at parameters that do not vary).

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import multi_steps, scale
      >>> tx = multi_steps(scale(-1.0), 2)
      >>> state = tx.init(jnp.zeros(1))
      >>> for g in (1.0, 3.0):
      ...     updates, state = tx.update(jnp.array([g]), state)
      ...     print(float(updates[0]))
      0.0
      -2.0
      >>> updates, state = tx.update(jnp.array([5.0]), state, emit=True)
      >>> float(updates[0]), int(state.mini_step)
      (-5.0, 0)
    """
    build.check_transformation_like("multi_steps", inner)
    if not callable(every_k) and (not isinstance(every_k, int) or every_k < 1):
        raise ValueError(
            f"multi_steps: every_k must be a positive int or a schedule, not {every_k!r}"
        )
    if axis_name is not None and should_skip_update_fn is not None:
        raise ValueError(
            "multi_steps: axis_name cannot be combined with should_skip_update_fn, whose answer differs "
            "between devices; wrap the inner transformation in apply_if_finite or skip_if"
        )
    inner = with_extra_args_support(inner)
    reduce = jax.lax.pmean if use_grad_mean else jax.lax.psum
    single = every_k == 1 and should_skip_update_fn is None

    def init(params: Params) -> MultiStepsState:
        skip_state: PyTree = ()
        if should_skip_update_fn is not None:
            zeros = tree.slots_like(params)
            info = jax.eval_shape(
                lambda: should_skip_update_fn(zeros, build.zero_count(), params)[1]
            )
            skip_state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), info)
        acc = None if single else tree.slots_like(params, accumulator_dtype)
        return MultiStepsState(
            build.zero_count(), build.zero_count(), inner.init(params), acc, skip_state
        )

    def update(
        updates: Updates, state: MultiStepsState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, MultiStepsState]:
        flush = _boolean(extra_args.get("emit", False))
        if axis_name is not None:
            check_own("multi_steps", updates, axis_name)
        if single:
            updates = updates if axis_name is None else reduce(updates, axis_name)
            updates, inner_state = inner.update(
                updates, state.inner_opt_state, params, **extra_args
            )
            count = safe_increment(state.gradient_step)
            return updates, state._replace(gradient_step=count, inner_opt_state=inner_state)
        k = jnp.asarray(every_k(state.gradient_step) if callable(every_k) else every_k, jnp.int32)
        skip, skip_state = jnp.asarray(False), state.skip_state
        if should_skip_update_fn is not None:
            skip, skip_state = should_skip_update_fn(updates, state.gradient_step, params)
        counted = jnp.where(skip, state.mini_step, safe_increment(state.mini_step))
        emit = (~skip & (counted >= k)) | (flush & (counted > 0))
        zeros, acc = tree.map_leaves(
            _leaf,
            updates,
            state.acc_grads,
            name="multi_steps",
            share=1 / (1 + state.mini_step).astype(jnp.float32),
            skip=skip,
            emit=emit,
            mean=use_grad_mean,
        )
        if axis_name is not None:
            zeros = _zeros_of_all_devices(zeros, params)

        def run(carry: tuple[Updates, OptState, PyTree]) -> tuple[Updates, OptState, PyTree]:
            zeros, inner_state, acc = carry
            mean = acc if axis_name is None else reduce(acc, axis_name)
            wide = _with_gaps_of(zeros, mean)
            new, inner_state = inner.update(wide, inner_state, params, **extra_args)
            new = jax.tree.map(lambda u, z: u.astype(z.dtype), new, zeros)
            reset = jax.tree.map(lambda a: jnp.where(emit, jnp.zeros_like(a), a), acc)
            return new, inner_state, reset

        new, inner_state, acc = build.run_if(emit, run, (zeros, state.inner_opt_state, acc))
        return new, MultiStepsState(
            mini_step=jnp.where(emit, build.zero_count(), counted),
            gradient_step=jnp.where(emit, safe_increment(state.gradient_step), state.gradient_step),
            inner_opt_state=inner_state,
            acc_grads=acc,
            skip_state=skip_state,
        )

    return build.wrapping(init, update)


def _boolean(emit: Any) -> jax.Array:
    is_array = getattr(emit, "dtype", None) == jnp.bool_ and getattr(emit, "shape", None) == ()
    if not isinstance(emit, bool) and not is_array:
        raise TypeError(f"multi_steps: emit must be a boolean scalar, not {build.short_repr(emit)}")
    return jnp.asarray(emit)


def _zeros_of_all_devices(zeros: Updates, params: Params) -> Updates:
    """Returns zeros that are equal on all devices by their type, as the updates of the k-th step are."""

    def leaf(z: Any, p: Any) -> Any:
        return z if tree.is_placeholder(z) else jnp.zeros_like(jnp.asarray(p), z.dtype)

    build.need_params("multi_steps with axis_name", params)
    return jax.tree.map(leaf, zeros, params, is_leaf=tree.is_placeholder)


def _with_gaps_of(updates: Updates, acc: PyTree) -> Updates:
    """Returns the accumulator with None where this micro-step's updates have None."""
    return jax.tree.map(
        lambda u, a: None if u is None else a, updates, acc, is_leaf=lambda x: x is None
    )


class MultiSteps:
    """`multi_steps` with the name and the methods of optax.

    Args:
      opt: the inner transformation.
      every_k_schedule: k, an int or a schedule of the number of inner updates so far.
      use_grad_mean: whether to average the gradients; otherwise they are summed.
      should_skip_update_fn: selects the micro-batches to skip, such as `skip_not_finite`.
      accumulator_dtype: dtype of the mean; by default the parameters', at least float32.
      axis_name: the axis over which the gradients are reduced at every k-th step only; see `multi_steps`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import MultiSteps, scale
      >>> tx = MultiSteps(scale(-1.0), every_k_schedule=2)
      >>> updates, state = tx.update(jnp.ones(1), tx.init(jnp.zeros(1)))
      >>> bool(tx.has_updated(state))
      False
    """

    def __init__(
        self,
        opt: Any,
        every_k_schedule: int | Callable[[jax.Array], jax.Array],
        use_grad_mean: bool = True,
        should_skip_update_fn: ShouldSkip | None = None,
        accumulator_dtype: build.DType = None,
        axis_name: build.Names = None,
    ) -> None:
        self._inner = with_extra_args_support(opt)
        self._tx = multi_steps(
            opt,
            every_k_schedule,
            use_grad_mean=use_grad_mean,
            should_skip_update_fn=should_skip_update_fn,
            accumulator_dtype=accumulator_dtype,
            axis_name=axis_name,
        )

    @property
    def inner_opt(self) -> build.Transformation:
        """The inner transformation."""
        return self._inner

    def init(self, params: Params) -> MultiStepsState:
        """Creates the state."""
        return self._tx.init(params)

    def update(
        self, updates: Updates, state: MultiStepsState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, MultiStepsState]:
        """Processes the gradients of a micro-batch; the updates are nonzero only at every k-th step."""
        return self._tx.update(updates, state, params, **extra_args)

    def has_updated(self, state: MultiStepsState) -> jax.Array:
        """Returns whether the last update ran the inner transformation."""
        return (state.mini_step == 0) & (state.gradient_step > 0)

    def gradient_transformation(self) -> build.Transformation:
        """Returns the transformation."""
        return self._tx

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MultiSteps) and self._tx == other._tx

    def __hash__(self) -> int:
        return hash(self._tx)

    def __repr__(self) -> str:
        return f"MultiSteps({self._tx!r})"
