"""SAM: the gradient is taken at the worst loss nearby.

Every sync_period steps:  p′ = p,  then sync_period − 1 times  p′ ← p′ − adv(∇L(p′)),
then  p ← p + opt(∇L(p′)),  the optimizer seeing p

where L is the loss and adv and opt are the two optimizers. With `adv_optimizer = chain(normalize(),
sgd(rho))` and sync_period = 2 this is the paper's p′ = p + rho·g/‖g‖: the adversarial optimizer descends,
and its updates are negated.

Transparent: each call of update is one step, and the parameters are p′ in between. Opaque: one call takes
all steps, and evaluates the gradients with `grad_fn`.

Reference: Foret, Kleiner, Mobahi, Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving
Generalization", 2021, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from optx_core import (
    EmptyState,
    OptState,
    Params,
    PyTree,
    Updates,
    apply_updates,
    build,
    normalize_by_update_norm,
    tree,
    with_extra_args_support,
)

NormalizeState = EmptyState


class SAMState(NamedTuple):
    """State of `sam`.

    Attributes:
      steps_since_sync: int32 scalar, the calls since the parameters were last moved by the optimizer.
      opt_state: the optimizer's state.
      adv_state: the adversarial optimizer's state.
      cache: the parameters p that the ascent started from; None in opaque mode.
    """

    steps_since_sync: Array
    opt_state: build.InnerState
    adv_state: build.InnerState
    cache: Annotated[PyTree, build.slot(fill="params")]


@build.recorded
def normalize() -> build.Transformation:
    """Divides all updates by their global norm; zero updates stay zero.

    Returns:
      A transformation with an `EmptyState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import normalize
      >>> normalize().update(jnp.array([3.0, 4.0]), normalize().init(None))[0]
      Array([0.6, 0.8], dtype=float32)
    """
    return normalize_by_update_norm(1.0, 0.0)


@build.recorded
def sam(
    optimizer: Any,
    adv_optimizer: Any,
    sync_period: int = 2,
    reset_state: bool = True,
    opaque_mode: bool = False,
    batch_axis_name: str | None = None,
) -> build.Transformation:
    """Sharpness-aware minimization (Foret et al., 2021) around an optimizer.

    Args:
      optimizer: the optimizer of the parameters.
      adv_optimizer: the optimizer whose negated steps climb to p′; `chain(normalize(),
        sgd(0.05))` is the paper's.
      sync_period: the number of gradients for each step of `optimizer`, a positive int; 2 is the
        paper's, 1 is `optimizer` alone.
      reset_state: whether the adversarial optimizer starts afresh each time.
      opaque_mode: whether one call of update evaluates all gradients: `update` then needs
        `grad_fn(params, i)`, the gradients at other parameters, i = 0, ..., sync_period − 2.
      batch_axis_name: the axis of `pmap` or `shard_map` over which to average those gradients; None for
        none.

    Returns:
      A transformation with a `SAMState`; `update` needs the parameters, and passes extra arguments on to
      both optimizers. Each of them runs only in its own calls.

    Raises:
      TypeError: if an optimizer is not a transformation.
      ValueError: if `sync_period` is below 1, or, from `update`, if `grad_fn` is missing.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_aliases import normalize, sam, sgd
      >>> from optx_core import chain
      >>> tx = sam(sgd(0.5), chain(normalize(), sgd(0.1)), opaque_mode=True)
      >>> grad_fn, p = jax.grad(lambda p, _: jnp.sum(p**2)), jnp.array([1.0])
      >>> tx.update(grad_fn(p, 0), tx.init(p), p, grad_fn=grad_fn)[0]
      Array([-1.1], dtype=float32)
    """
    build.check_transformation_like("sam", optimizer)
    build.check_transformation_like("sam", adv_optimizer)
    if isinstance(sync_period, bool) or not isinstance(sync_period, int) or sync_period < 1:
        raise ValueError(f"sam: sync_period must be a positive int, not {sync_period!r}")
    opt, adv = with_extra_args_support(optimizer), with_extra_args_support(adv_optimizer)

    def init(params: Params) -> SAMState:
        cache = None if opaque_mode else build.copy_of(params)
        return SAMState(build.zero_count(), opt.init(params), adv.init(params), cache)

    def transparent(
        updates: Updates, state: SAMState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, SAMState]:
        build.need_params("sam", params)
        first = state.steps_since_sync == 0
        last = state.steps_since_sync == sync_period - 1
        cache = build.run_if(first, lambda _: build.copy_of(params), state.cache)

        def climb(carry: tuple[Updates, OptState]) -> tuple[Updates, OptState]:
            steps, adv_state = adv.update(carry[0], carry[1], params, **extra_args)
            return jax.tree.map(lambda u, g: -u.astype(g.dtype), steps, carry[0]), adv_state

        def descend(carry: tuple[Updates, OptState]) -> tuple[Updates, OptState]:
            steps, opt_state = opt.update(carry[0], carry[1], cache, **extra_args)
            steps = tree.map_leaves(_from, steps, reads=(params, cache), name="sam")
            return jax.tree.map(lambda u, g: u.astype(g.dtype), steps, carry[0]), opt_state

        adv_state = state.adv_state
        if sync_period > 1:
            updates, adv_state = build.run_if(~last, climb, (updates, adv_state))
        updates, opt_state = build.run_if(last, descend, (updates, state.opt_state))
        if reset_state:
            adv_state = build.run_if(last, lambda _: adv.init(params), adv_state)
        since = jnp.where(last, build.zero_count(), state.steps_since_sync + 1)
        return updates, SAMState(since, opt_state, adv_state, cache)

    def opaque(
        updates: Updates,
        state: SAMState,
        params: Params = None,
        *,
        grad_fn: Callable[[Params, int], Updates] | None = None,
        **extra_args: Any,
    ) -> tuple[Updates, SAMState]:
        build.need_params("sam", params)
        if grad_fn is None:
            raise ValueError(
                "sam with opaque_mode needs gradients at other parameters: call "
                "update(grads, state, params, grad_fn=grad_fn) with grad_fn(params, i)"
            )
        point, adv_state = params, state.adv_state
        for i in range(sync_period - 1):
            steps, adv_state = adv.update(updates, adv_state, point, **extra_args)
            point = apply_updates(point, jax.tree.map(jnp.negative, steps))
            updates = grad_fn(point, i)
            if batch_axis_name is not None:
                updates = lax.pmean(updates, axis_name=batch_axis_name)
        if reset_state:
            adv_state = adv.init(params)
        updates, opt_state = opt.update(updates, state.opt_state, params, **extra_args)
        return updates, SAMState(build.zero_count(), opt_state, adv_state, None)

    return build.wrapping(init, opaque if opaque_mode else transparent)


def _from(u: Array, p: Array, cache: Array) -> Array:
    """The step to p + u from elsewhere."""
    return cache - p + u
