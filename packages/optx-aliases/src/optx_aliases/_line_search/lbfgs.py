"""L-BFGS: the gradient times an estimate of the inverse Hessian, built from the last m steps.

s = p − p_previous,   y = g − g_previous,   ρ = 1 / ⟨s, y⟩        (one pair per step, the last m kept)

u ← g;           newest to oldest:  a = ρ·⟨s, u⟩,   u ← u − a·y
u ← γ·u,         γ = ⟨s, y⟩ / ⟨y, y⟩ of the newest pair; at the first step min(1, 1/‖g‖)
                 oldest to newest:  b = ρ·⟨y, u⟩,   u ← u + (a − b)·s

⟨x, y⟩ = Re Σ conj(x)·y. A pair whose curvature ⟨s, y⟩ is not positive beyond rounding, or not finite, is
not used (its weight ρ is 0), so that u always descends; a step that does not move the parameters empties
the memory.

References: Nocedal, "Updating Quasi-Newton Matrices with Limited Storage", 1980; Liu, Nocedal, "On the
limited memory BFGS method for large scale optimization", 1989; Nocedal, Wright, "Numerical
Optimization", 2006, algorithms 7.4 and 7.5.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax

from optx_aliases import scale_by_zoom_linesearch
from optx_aliases._line_search.line import compute, inner, pairs, total
from optx_aliases._transforms.scalars import scalar_dtype
from optx_aliases._transforms.varying import varying_like
from optx_core import (
    Params,
    PyTree,
    ScalarOrSchedule,
    Updates,
    build,
    chain,
    global_norm,
    identity,
    safe_increment,
    scale,
    scale_by_learning_rate,
    tree,
    with_extra_args_support,
)

_ZOOM = scale_by_zoom_linesearch(max_linesearch_steps=20, initial_guess_strategy="one")


_Exact: TypeAlias = Annotated[PyTree, build.slot(exact=True)]


class ScaleByLBFGSState(NamedTuple):
    """State of `scale_by_lbfgs`.

    Attributes:
      count: int32 scalar, the number of updates so far.
      params: the parameters at the last update.
      updates: the incoming updates (gradients) of the last update.
      diff_params_memory: s of the last m steps; arrays (m, *shape), step k in row k mod m.
      diff_updates_memory: y likewise.
      weights_memory: ρ likewise, (m,); 0 for an empty or unused row.
    """

    count: build.Count
    params: _Exact
    updates: _Exact
    diff_params_memory: _Exact
    diff_updates_memory: _Exact
    weights_memory: Array


@build.recorded
def scale_by_lbfgs(memory_size: int = 10, scale_init_precond: bool = True) -> build.Transformation:
    """Multiplies the gradients by L-BFGS's estimate of the inverse Hessian.

    The result is a direction of ascent: subtract it, times a step that a line search finds.

    Args:
      memory_size, scale_init_precond: as for `lbfgs`.

    Returns:
      A transformation with a `ScaleByLBFGSState`; `update` needs the parameters. For complex parameters
      pass the conjugate of the result of `jax.grad`.

    Raises:
      ValueError: if `memory_size` is not a positive int.

    Reference: Nocedal, Wright, "Numerical Optimization", 2006, algorithm 7.4.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_lbfgs
      >>> tx = scale_by_lbfgs()
      >>> state = tx.init(jnp.zeros(2))
      >>> _, state = tx.update(jnp.array([0.0, 4.0]), state, jnp.array([0.0, 2.0]))
      >>> tx.update(jnp.array([0.0, 2.0]), state, jnp.array([0.0, 1.0]))[0]  # the Hessian is 2
      Array([0., 1.], dtype=float32)
    """
    if isinstance(memory_size, bool) or not isinstance(memory_size, int) or memory_size < 1:
        raise ValueError(
            f"scale_by_lbfgs: memory_size must be an int of at least 1, not {memory_size!r}"
        )

    def init(params: Params) -> ScaleByLBFGSState:
        def memory(slot: Array) -> Array:
            return jnp.broadcast_to(slot, (memory_size, *slot.shape))

        slots = [tree.slots_like(params) for _ in range(4)]
        return ScaleByLBFGSState(
            build.zero_count(),
            slots[0],
            slots[1],
            jax.tree.map(memory, slots[2]),
            jax.tree.map(memory, slots[3]),
            jnp.zeros(memory_size, scalar_dtype(params)),
        )

    def update(
        updates: Updates, state: ScaleByLBFGSState, params: Params = None, **_: Any
    ) -> tuple[Updates, ScaleByLBFGSState]:
        where = "scale_by_lbfgs"
        build.need_params(where, params)
        real = state.weights_memory.dtype
        trees = (params, *state[1:5])
        names = ("params", *ScaleByLBFGSState._fields[1:5])
        columns = [
            [x for _, x in pairs(where, name, updates, column)]
            for name, column in zip(names, trees, strict=True)
        ]
        g = [compute(u) for u, _ in pairs(where, "params", updates, params)]
        p = [compute(x) for x in columns[0]]
        s = [a - b for a, b in zip(p, columns[1], strict=True)]
        y = [a - b for a, b in zip(g, columns[2], strict=True)]
        first = state.count == 0
        weight, moved = _weight(s, y, real)
        known = state.weights_memory * jnp.where(first | ~moved, 0, 1).astype(real)
        weight = jnp.where(first, 0, weight)
        row = (state.count - 1) % memory_size
        diff_params = _write(columns[3], s, row, weight > 0)
        diff_updates = _write(columns[4], y, row, weight > 0)
        weights = lax.dynamic_update_index_in_dim(known, weight, row, 0)
        u = _two_loops(
            g, diff_params, diff_updates, weights, row, scale_init_precond=scale_init_precond
        )
        new_state = ScaleByLBFGSState(
            safe_increment(state.count),
            _put(updates, state.params, p),
            _put(updates, state.updates, g),
            _put(updates, state.diff_params_memory, diff_params),
            _put(updates, state.diff_updates_memory, diff_updates),
            weights,
        )
        return _put(updates, updates, u), new_state

    return build.wrapping(init, update)


@build.recorded
def lbfgs(
    learning_rate: ScalarOrSchedule | None = None,
    memory_size: int = 10,
    scale_init_precond: bool = True,
    linesearch: Any = _ZOOM,
) -> build.Transformation:
    """L-BFGS (Liu and Nocedal, 1989) with a line search.

    For losses without noise. `update` needs the value, the gradient and the function of the loss;
    `value_and_grad_from_state` takes the first two from the state of the search, so that a step whose
    first trial is accepted evaluates the loss once. `minimize` runs the whole loop.

    For complex parameters pass the conjugate of the result of `jax.grad` as the updates; as `grad` either
    serves.

    Args:
      learning_rate: a factor on the direction before the line search, a scalar or a schedule; None for 1.
      memory_size: m, the number of steps kept, at least 1. The state holds 2·m + 2 arrays of each
        parameter's shape.
      scale_init_precond: whether the estimate of the inverse Hessian starts from γ times the identity;
        otherwise from the identity.
      linesearch: the transformation that finds the step; by default `scale_by_zoom_linesearch` with at most
        20 trials, the first at 1. None for no search.

    Returns:
      A transformation; its state is that of the chain of `scale_by_lbfgs`, the learning rate and the search.

    Raises:
      ValueError: if `memory_size` is not a positive int, and from `update` if an argument is missing.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import lbfgs, value_and_grad_from_state
      >>> from optx_core import apply_updates
      >>> def loss(p):
      ...     return jnp.sum((p - 3.0) ** 4)
      >>> tx, params = lbfgs(), jnp.zeros(2)
      >>> value_and_grad, state = value_and_grad_from_state(loss), tx.init(params)
      >>> for _ in range(20):
      ...     value, grad = value_and_grad(params, state=state)
      ...     updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=loss)
      ...     params = apply_updates(params, updates)
      >>> bool(loss(params) < 1e-6)
      True
    """
    rate = scale(-1.0) if learning_rate is None else scale_by_learning_rate(learning_rate)
    search = identity() if linesearch is None else with_extra_args_support(linesearch)
    return chain(scale_by_lbfgs(memory_size, scale_init_precond), rate, search)


def _dot(x: list[Array], y: list[Array], real: Any) -> Array:
    """⟨x, y⟩."""
    return total([inner(jnp.conj(a), b, real) for a, b in zip(x, y, strict=True)], real)


def _weight(s: list[Array], y: list[Array], real: Any) -> tuple[Array, Array]:
    """ρ, 0 for an unusable pair; and whether the parameters moved."""
    sy, ss, yy = _dot(s, y, real), _dot(s, s, real), _dot(y, y, real)
    # ⟨s, y⟩ is accurate to about eps·‖s‖·‖y‖.
    floor = jnp.finfo(real).eps * jnp.sqrt(ss) * jnp.sqrt(yy)
    useful = (sy > floor) & (sy > jnp.finfo(real).tiny) & jnp.isfinite(sy) & jnp.isfinite(ss + yy)
    moved = (ss != 0) if s else jnp.ones((), bool)
    return jnp.where(useful, 1 / jnp.where(useful, sy, 1), 0), moved


def _write(memory: list[Array], new: list[Array], row: Array, useful: Array) -> list[Array]:
    return [
        lax.dynamic_update_index_in_dim(
            rows, jnp.where(useful, x, jnp.zeros_like(x)).astype(rows.dtype), row, 0
        )
        for rows, x in zip(memory, new, strict=True)
    ]


def _two_loops(
    g: list[Array],
    diff_params: list[Array],
    diff_updates: list[Array],
    weights: Array,
    last_row: Array,
    *,
    scale_init_precond: bool,
) -> list[Array]:
    """The two-loop recursion; `last_row` is the row of the last pair."""
    m, real = weights.shape[0], weights.dtype
    order = (last_row - jnp.arange(m, dtype=last_row.dtype)) % m

    def pair(row: Array) -> tuple[list[Array], list[Array]]:
        s = [lax.dynamic_index_in_dim(x, row, 0, keepdims=False) for x in diff_params]
        y = [lax.dynamic_index_in_dim(x, row, 0, keepdims=False) for x in diff_updates]
        return s, y

    def down(
        carry: tuple[list[Array], Array], row: Array
    ) -> tuple[tuple[list[Array], Array], Array]:
        u, gamma = carry
        s, y = pair(row)
        rho = weights[row]
        a = rho * _dot(s, u, real)
        # γ belongs to the newest usable pair, the first in this order.
        newest = (gamma == 0) & (rho > 0)
        yy = jnp.where(newest, rho * _dot(y, y, real), 1)
        return (_add(u, -a, y), jnp.where(newest, 1 / yy, gamma)), a

    def up(u: list[Array], step: tuple[Array, Array]) -> tuple[list[Array], None]:
        row, a = step
        s, y = pair(row)
        return _add(u, a - weights[row] * _dot(y, u, real), s), None

    start = varying_like((g, jnp.zeros((), real)), g, weights, diff_params, diff_updates)
    (u, gamma), a = lax.scan(down, start, order)
    if scale_init_precond:
        norm = global_norm(g).astype(real)
        capped = 1 / jnp.maximum(norm, 1)
        factor = jnp.where(gamma > 0, gamma, capped)
        u = [_times(factor, x) for x in u]
    u, _ = lax.scan(up, u, (order, a), reverse=True)
    return u


def _times(factor: Array, x: Array) -> Array:
    return factor.astype(x.real.dtype).astype(x.dtype) * x


def _add(u: list[Array], factor: Array, v: list[Array]) -> list[Array]:
    return [a + _times(factor, b.astype(a.dtype)) for a, b in zip(u, v, strict=True)]


def _put(updates: Updates, old: PyTree, new: list[Array]) -> PyTree:
    """The tree `old` with the arrays of `new` where updates are present, in the dtypes of `old`."""
    us, structure = tree.flatten(updates)
    olds = structure.flatten_up_to(old)
    fresh = iter(new)
    return structure.unflatten(
        [
            x if tree.is_absent(u) else next(fresh).astype(x.dtype)
            for u, x in zip(us, olds, strict=True)
        ]
    )
