"""DoG and DoWG: SGD whose learning rate is the distance moved over the root of the squared gradients.

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
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import jax.numpy as jnp
from jax import Array

from optx_aliases._parameter_free.leaf_sums import (
    Equations,
    FirstValue,
    equations,
    sum_of_squares,
    whole_tree,
)
from optx_aliases._transforms.scalars import root
from optx_aliases._transforms.weight_decay import decayed
from optx_core import (
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    build,
    chain,
    global_norm,
    identity,
    scale_by_learning_rate,
)

InitStep: TypeAlias = tuple[Literal["distance", "learning_rate", "heuristic"], Scalar]


class DoGState(NamedTuple):
    """State of `scale_by_dog`.

    Attributes:
      is_init_step: boolean scalar, True until the first update.
      init_params: p₀, the parameters at the start.
      max_dist: r, a scalar of at least float32.
      sum_sq_norm_grads: G, likewise.
    """

    is_init_step: Array
    init_params: Annotated[PyTree, build.slot(fill="params", constant=True)]
    max_dist: Array
    sum_sq_norm_grads: Array


class DoWGState(NamedTuple):
    """State of `scale_by_dowg`.

    Attributes:
      init_params: p₀, the parameters at the start.
      weighted_sq_norm_grads: v, a scalar of at least float32.
      estim_sq_dist: r², likewise.
    """

    init_params: Annotated[PyTree, build.slot(fill="params", constant=True)]
    weighted_sq_norm_grads: Array
    estim_sq_dist: Array


def _squares(g: Array, p: Array, s: Any) -> tuple[Any, ...]:
    return g, s, (sum_of_squares(g), sum_of_squares(p - s.init_params))


def _scaled(g: Array, *, rate: Array) -> Array:
    return rate * build.squarable(g, g.size)


def _limited(rate: Array, close: Callable[[], Any]) -> build.LeafStep:
    return build.LeafStep(_scaled, close=close, operands={"rate": rate})


_DOG: Equations = equations(DoGState, sums=2)(_squares)
_DOWG: Equations = equations(DoWGState, sums=2)(_squares)


@build.factory
def scale_by_dog(
    init_step: InitStep = ("heuristic", 1e-6), eps: build.Positive = 1e-8
) -> build.Transformation:
    """Multiplies gradients by the distance moved over the root of the sum of their squared norms.

    Args:
      init_step, eps: as for `dog`.

    Returns:
      A transformation with a `DoGState`; `update` needs the parameters.

    Raises:
      ValueError: if `init_step` is not one of the pairs above, or a number is out of its range.

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
    build.check_number("scale_by_dog: init_step", above=0, value=first)

    def first_distance(params: Params) -> Any:
        if kind != "heuristic":
            return first if kind == "distance" else 0
        norm = global_norm(build.widened(params))
        return jnp.asarray(first).astype(norm.dtype) * (1 + norm)

    def step(flow: build.Flow, s: DoGState, p: Params, **_: Any) -> build.LeafStep:
        _, (squares, moved) = _DOG.over(flow, s, p)
        r = jnp.maximum(s.max_dist, jnp.sqrt(moved))
        G = build.finite_sum(s.sum_sq_norm_grads + squares)
        rate = r / jnp.sqrt(G + jnp.asarray(eps).astype(r.dtype))
        if kind == "learning_rate":
            rate = jnp.where(s.is_init_step, jnp.asarray(first).astype(r.dtype), rate)
        new = DoGState(jnp.zeros((), jnp.bool_), s.init_params, r, G)
        return _limited(rate, lambda: new)

    return whole_tree(DoGState, step, is_init_step=True, max_dist=first_distance)


@build.recorded
def dog(
    learning_rate: ScalarOrSchedule = 1.0,
    init_step: InitStep = ("heuristic", 1e-6),
    eps: ScalarOrSchedule = 1e-8,
    weight_decay: ScalarOrSchedule | None = None,
    mask: build.Mask = None,
) -> build.Transformation:
    """DoG (Ivgi, Hinder and Carmon, 2023): SGD without a learning rate.

    The authors evaluate at an average of the parameters (`optx_core.with_ema`).

    Args:
      learning_rate: a factor of the step, a scalar or a schedule; its peak should be 1.
      init_step: a pair that determines the first step: ("distance", r) sets r itself;
        ("heuristic", a) sets r = a·(1 + ‖p₀‖) as in the paper, with a = 1e-6 (1e-4 with batch
        normalization); ("learning_rate", lr) sets the learning rate of the first step.
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


@build.factory
def scale_by_dowg(
    init_estim_sq_dist: FirstValue = None,
    eps: build.Positive = 1e-4,
) -> build.Transformation:
    """Multiplies gradients by the squared distance over the root of their weighted squared norms.

    Args:
      init_estim_sq_dist, eps: as for `dowg`.

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

    def step(flow: build.Flow, s: DoWGState, p: Params, **_: Any) -> build.LeafStep:
        _, (squares, moved) = _DOWG.over(flow, s, p)
        r2 = jnp.maximum(s.estim_sq_dist, moved)
        v = build.finite_sum(s.weighted_sq_norm_grads + r2 * squares)
        rate = r2 / (root(v) + jnp.asarray(eps).astype(v.dtype))
        return _limited(rate, lambda: DoWGState(s.init_params, v, r2))

    return whole_tree(DoWGState, step, estim_sq_dist=start)


@build.recorded
def dowg(
    learning_rate: ScalarOrSchedule = 1.0,
    init_estim_sq_dist: Scalar | None = None,
    eps: ScalarOrSchedule = 1e-4,
    weight_decay: ScalarOrSchedule | None = None,
    mask: build.Mask = None,
) -> build.Transformation:
    """DoWG (Khaled, Mishchenko and Jin, 2023): SGD without a learning rate.

    Args:
      learning_rate: a factor of the step, a scalar or a schedule; its peak should be 1.
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
