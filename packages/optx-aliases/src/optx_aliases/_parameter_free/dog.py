"""DoG and DoWG: SGD whose learning rate is the distance covered over the gradients met.

DoG:   r ← max(r, ‖p − p₀‖),   G ← G + ‖g‖²,         u = r / √(G + eps) · g
DoWG:  r² ← max(r², ‖p − p₀‖²),   v ← v + r²·‖g‖²,   u = r² / (√v + eps) · g

Norms are those of the whole tree. r starts at a small number: `init_step` says which (DoG), or
r² = init_estim_sq_dist (DoWG).

References: Ivgi, Hinder, Carmon, "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size Schedule",
2023, section 2; Khaled, Mishchenko, Jin, "DoWG Unleashed: An Efficient Universal Parameter-Free Gradient
Descent Method", 2023, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._transforms.weight_decay import decayed
from optx_aliases._transforms.whole_tree import (
    copy_of,
    real_dtype_of,
    root,
    sum_of_squares,
    total,
    value_at,
)
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    chain,
    global_norm,
    identity,
    scale_by_learning_rate,
)
from optx_core.build import (
    Flow,
    LeafStep,
    check_number,
    leafwise,
    need_params,
    recorded,
    schedulable,
)

InitStep = tuple[Literal["distance", "learning_rate", "heuristic"], Scalar]


class DoGState(NamedTuple):
    """State of `scale_by_dog`.

    Attributes:
      is_init_step: boolean scalar, whether no update was made yet.
      init_params: p₀, the parameters at the start.
      max_dist: r, a scalar of at least float32.
      sum_sq_norm_grads: G, likewise.
    """

    is_init_step: jax.Array
    init_params: PyTree
    max_dist: jax.Array
    sum_sq_norm_grads: jax.Array


class DoWGState(NamedTuple):
    """State of `scale_by_dowg`.

    Attributes:
      init_params: p₀, the parameters at the start.
      weighted_sq_norm_grads: v, a scalar of at least float32.
      estim_sq_dist: r², likewise.
    """

    init_params: PyTree
    weighted_sq_norm_grads: jax.Array
    estim_sq_dist: jax.Array


def _squares(
    g: jax.Array, sums: jax.Array, p: jax.Array, p0: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return g, sums + jnp.stack([sum_of_squares(g), sum_of_squares(p - p0)])


def _scaled(g: jax.Array, *, rate: jax.Array) -> jax.Array:
    return rate * g


@recorded
@schedulable("eps")
def scale_by_dog(
    init_step: InitStep = ("heuristic", 1e-6), eps: ScalarOrSchedule = 1e-8
) -> GradientTransformationExtraArgs:
    """Multiplies gradients by the distance covered over the root of the sum of their squared norms.

    Args:
      init_step: how the first step is chosen, a pair: ("distance", r) gives r itself;
        ("heuristic", a) gives r = a·(1 + ‖p₀‖), the paper's, with a = 1e-6 (1e-4 with batch
        normalization); ("learning_rate", lr) gives the learning rate of the first step.
      eps: added under the root, greater than 0, or a schedule.

    Returns:
      A transformation with a `DoGState`; `update` needs the parameters.

    Raises:
      ValueError: if `init_step` is none of these, or a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_dog
      >>> tx, p = scale_by_dog(("distance", 0.5)), jnp.array([1.0])
      >>> round(float(tx.update(jnp.array([4.0]), tx.init(p), p)[0][0]), 5)
      0.5
    """
    kind, first = init_step
    if kind not in ("distance", "learning_rate", "heuristic"):
        raise ValueError(
            "scale_by_dog: init_step must be ('distance', r), ('learning_rate', lr) or "
            f"('heuristic', a), not {init_step!r}"
        )
    check_number("scale_by_dog: init_step", above=0, value=first)
    check_number("scale_by_dog", above=0, eps=eps)

    def init(params: Params) -> DoGState:
        real, start = real_dtype_of(params), copy_of(params)
        r = jnp.zeros((), real)
        if kind != "learning_rate":
            r = r + value_at(first, r, real)
        if kind == "heuristic":
            r = r * (1 + global_norm(start).astype(real))
        return DoGState(jnp.ones((), jnp.bool_), start, r, jnp.zeros((), real))

    def step(flow: Flow, state: DoGState, params: Params = None, **_: Any) -> LeafStep:
        need_params(flow.trail, params)
        real = state.max_dist.dtype
        squares, moved = total(flow, _squares, params, state.init_params, size=2, real=real)
        r = jnp.maximum(state.max_dist, jnp.sqrt(moved))
        G = state.sum_sq_norm_grads + squares
        rate = r / jnp.sqrt(G + value_at(eps, G, real))
        if kind == "learning_rate":
            rate = jnp.where(state.is_init_step, value_at(first, G, real), rate)
        done = jnp.zeros((), jnp.bool_)
        return LeafStep(
            _scaled,
            close=lambda: DoGState(done, state.init_params, r, G),
            operands={"rate": rate},
        )

    return leafwise(step, init)


@recorded
def dog(
    learning_rate: ScalarOrSchedule = 1.0,
    init_step: InitStep = ("heuristic", 1e-6),
    eps: ScalarOrSchedule = 1e-8,
    weight_decay: ScalarOrSchedule | None = None,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> GradientTransformationExtraArgs:
    """DoG (Ivgi, Hinder and Carmon, 2023): SGD without a learning rate.

    The authors evaluate at an average of the parameters (`optx_core.with_ema`).

    Args:
      learning_rate: a factor of the step, a scalar or a schedule: leave its peak at 1.
      init_step: how the first step is chosen, as for `scale_by_dog`.
      eps: added under the root, greater than 0, or a schedule.
      weight_decay: λ in g + λ·p, a scalar at least 0, or a schedule; None for none.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation; `update` needs the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import dog
      >>> tx, p = dog(), jnp.array([3.0])
      >>> state = tx.init(p)
      >>> for _ in range(300):
      ...     updates, state = tx.update(2 * p, state, p)
      ...     p = p + updates
      >>> bool(abs(p[0]) < 0.1)
      True
    """
    return chain(
        identity() if weight_decay is None else decayed(weight_decay, mask),
        scale_by_dog(init_step, eps),
        scale_by_learning_rate(learning_rate),
    )


@recorded
@schedulable("eps")
def scale_by_dowg(
    init_estim_sq_dist: Scalar | None = None, eps: ScalarOrSchedule = 1e-4
) -> GradientTransformationExtraArgs:
    """Multiplies gradients by the squared distance over the root of their weighted squared norms.

    Args:
      init_estim_sq_dist: r² at the start, greater than 0; `eps` by default.
      eps: added to the root, greater than 0, or a schedule.

    Returns:
      A transformation with a `DoWGState`; `update` needs the parameters.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_dowg
      >>> tx, p = scale_by_dowg(0.25, eps=1e-8), jnp.array([1.0])
      >>> round(float(tx.update(jnp.array([4.0]), tx.init(p), p)[0][0]), 5)
      0.5
    """
    start = eps if init_estim_sq_dist is None else init_estim_sq_dist
    check_number("scale_by_dowg", above=0, eps=eps, init_estim_sq_dist=start)

    def init(params: Params) -> DoWGState:
        real = real_dtype_of(params)
        zero = jnp.zeros((), real)
        return DoWGState(copy_of(params), zero, zero + value_at(start, zero, real))

    def step(flow: Flow, state: DoWGState, params: Params = None, **_: Any) -> LeafStep:
        need_params(flow.trail, params)
        real = state.estim_sq_dist.dtype
        squares, moved = total(flow, _squares, params, state.init_params, size=2, real=real)
        r2 = jnp.maximum(state.estim_sq_dist, moved)
        v = state.weighted_sq_norm_grads + r2 * squares
        return LeafStep(
            _scaled,
            close=lambda: DoWGState(state.init_params, v, r2),
            operands={"rate": r2 / (root(v) + value_at(eps, v, real))},
        )

    return leafwise(step, init)


@recorded
def dowg(
    learning_rate: ScalarOrSchedule = 1.0,
    init_estim_sq_dist: Scalar | None = None,
    eps: ScalarOrSchedule = 1e-4,
    weight_decay: ScalarOrSchedule | None = None,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> GradientTransformationExtraArgs:
    """DoWG (Khaled, Mishchenko and Jin, 2023): SGD without a learning rate.

    Args:
      learning_rate: a factor of the step, a scalar or a schedule: leave its peak at 1.
      init_estim_sq_dist: r² at the start, greater than 0; `eps` by default.
      eps: added to the root, greater than 0, or a schedule.
      weight_decay: λ in g + λ·p, a scalar at least 0, or a schedule; None for none.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation; `update` needs the parameters.

    Example:
      >>> from optx_aliases import dowg
      >>> dowg() == dowg(learning_rate=1.0)
      True
    """
    return chain(
        identity() if weight_decay is None else decayed(weight_decay, mask),
        scale_by_dowg(init_estim_sq_dist, eps),
        scale_by_learning_rate(learning_rate),
    )
