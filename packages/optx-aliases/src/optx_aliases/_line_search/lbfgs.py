"""L-BFGS: the gradient times an estimate of the inverse Hessian, made of the last m steps.

s = p − p_previous,   y = g − g_previous,   ρ = 1 / ⟨s, y⟩        (one pair a step, the last m kept)

u ← g;           newest to oldest:  a = ρ·⟨s, u⟩,   u ← u − a·y
u ← γ·u,         γ = ⟨s, y⟩ / ⟨y, y⟩ of the newest pair; at the first step min(1, 1/‖g‖)
                 oldest to newest:  b = ρ·⟨y, u⟩,   u ← u + (a − b)·s

⟨x, y⟩ = Re Σ conj(x)·y. A pair whose curvature ⟨s, y⟩ is not positive beyond rounding, or not finite, is
left out (its weight ρ is 0), so that u always descends; after a step that did not move the parameters,
all pairs are forgotten.

References: Nocedal, "Updating Quasi-Newton Matrices with Limited Storage", 1980; Liu, Nocedal, "On the
limited memory BFGS method for large scale optimization", 1989; Nocedal, Wright, "Numerical
Optimization", 2006, algorithms 7.4 and 7.5.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optx_aliases._line_search.line import compute, inner, pairs, total
from optx_aliases._line_search.zoom_linesearch import scale_by_zoom_linesearch
from optx_aliases._transforms.whole_tree import real_dtype_of
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    ScalarOrSchedule,
    Updates,
    chain,
    global_norm,
    identity,
    safe_increment,
    scale,
    scale_by_learning_rate,
    tree,
    with_extra_args_support,
)
from optx_core.build import need_params, recorded, wrapping, zero_count

_ZOOM = scale_by_zoom_linesearch(max_linesearch_steps=20, initial_guess_strategy="one")


class ScaleByLBFGSState(NamedTuple):
    """State of `scale_by_lbfgs`.

    Attributes:
      count: int32 scalar, the number of updates so far.
      params: the parameters at the last update.
      updates: the updates (gradients) that came in then.
      diff_params_memory: s of the last m steps; arrays (m, *shape), step k in row k mod m.
      diff_updates_memory: y likewise.
      weights_memory: ρ likewise, (m,); 0 for a pair that is not there, or not used.
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    params: PyTree
    updates: PyTree
    diff_params_memory: PyTree
    diff_updates_memory: PyTree
    weights_memory: jax.Array


@recorded
def scale_by_lbfgs(
    memory_size: int = 10, scale_init_precond: bool = True
) -> GradientTransformationExtraArgs:
    """Multiplies the gradients by L-BFGS's estimate of the inverse Hessian.

    The result is a direction of ascent: subtract it, by a step that a line search finds.

    Args:
      memory_size: m, how many steps are remembered, at least 1. The state holds 2·m + 2 arrays of each
        parameter's shape.
      scale_init_precond: whether the estimate starts from γ times the identity; otherwise from the
        identity.

    Returns:
      A transformation with a `ScaleByLBFGSState`; `update` needs the parameters. For complex parameters
      the updates are the conjugates of what `jax.grad` returns.

    Raises:
      ValueError: if `memory_size` is no positive int.

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
        def memory(slot: jax.Array) -> jax.Array:
            return jnp.broadcast_to(slot, (memory_size, *slot.shape))

        slots = [tree.slots_like(params) for _ in range(4)]
        return ScaleByLBFGSState(
            zero_count(),
            slots[0],
            slots[1],
            jax.tree.map(memory, slots[2]),
            jax.tree.map(memory, slots[3]),
            jnp.zeros(memory_size, real_dtype_of(params)),
        )

    def update(
        updates: Updates, state: ScaleByLBFGSState, params: Params = None, **_: Any
    ) -> tuple[Updates, ScaleByLBFGSState]:
        where = "scale_by_lbfgs"
        need_params(where, params)
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

    return wrapping(init, update)


@recorded
def lbfgs(
    learning_rate: ScalarOrSchedule | None = None,
    memory_size: int = 10,
    scale_init_precond: bool = True,
    linesearch: Any = _ZOOM,
) -> GradientTransformationExtraArgs:
    """L-BFGS (Liu and Nocedal, 1989), its step found by a line search.

    For losses without noise. `update` needs the value, the gradient and the function of the loss;
    `value_and_grad_from_state` takes the first two from where the search left them, so that a step whose
    first trial is accepted evaluates the loss once. `minimize` does the whole loop.

    Args:
      learning_rate: a factor on the direction before the line search, a scalar or a schedule; None for 1.
      memory_size: m, how many steps are remembered.
      scale_init_precond: whether the estimate of the inverse Hessian starts from a scaled identity.
      linesearch: what finds the step; by default `scale_by_zoom_linesearch` with at most 20 trials, the
        first at 1. None for no search.

    Returns:
      A transformation; its state is that of the chain of `scale_by_lbfgs`, the learning rate and the search.

    Raises:
      ValueError: if `memory_size` is no positive int, and from `update` if an argument is missing.

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


def _dot(x: list[jax.Array], y: list[jax.Array], real: Any) -> jax.Array:
    """⟨x, y⟩."""
    return total([inner(jnp.conj(a), b, real) for a, b in zip(x, y, strict=True)], real)


def _weight(s: list[jax.Array], y: list[jax.Array], real: Any) -> tuple[jax.Array, jax.Array]:
    """ρ, or 0 where the pair is of no use; and whether the parameters moved."""
    sy, ss, yy = _dot(s, y, real), _dot(s, s, real), _dot(y, y, real)
    # ⟨s, y⟩ itself is known to about this much of ‖s‖·‖y‖.
    floor = jnp.finfo(real).eps * jnp.sqrt(ss) * jnp.sqrt(yy)
    useful = (sy > floor) & (sy > jnp.finfo(real).tiny) & jnp.isfinite(sy) & jnp.isfinite(ss + yy)
    moved = (ss != 0) if s else jnp.ones((), bool)
    return jnp.where(useful, 1 / jnp.where(useful, sy, 1), 0), moved


def _write(
    memory: list[jax.Array], new: list[jax.Array], row: jax.Array, useful: jax.Array
) -> list[jax.Array]:
    return [
        lax.dynamic_update_index_in_dim(
            rows, jnp.where(useful, x, jnp.zeros_like(x)).astype(rows.dtype), row, 0
        )
        for rows, x in zip(memory, new, strict=True)
    ]


def _two_loops(
    g: list[jax.Array],
    diff_params: list[jax.Array],
    diff_updates: list[jax.Array],
    weights: jax.Array,
    newest: jax.Array,
    *,
    scale_init_precond: bool,
) -> list[jax.Array]:
    """The two-loop recursion; `newest` is the row of the last pair."""
    m, real = weights.shape[0], weights.dtype
    order = (newest - jnp.arange(m, dtype=newest.dtype)) % m

    def pair(row: jax.Array) -> tuple[list[jax.Array], list[jax.Array]]:
        s = [lax.dynamic_index_in_dim(x, row, 0, keepdims=False) for x in diff_params]
        y = [lax.dynamic_index_in_dim(x, row, 0, keepdims=False) for x in diff_updates]
        return s, y

    def down(
        carry: tuple[list[jax.Array], jax.Array], row: jax.Array
    ) -> tuple[tuple[list[jax.Array], jax.Array], jax.Array]:
        u, gamma = carry
        s, y = pair(row)
        rho = weights[row]
        a = rho * _dot(s, u, real)
        # γ is that of the first pair met, the newest one of use.
        found = (gamma == 0) & (rho > 0)
        yy = jnp.where(found, rho * _dot(y, y, real), 1)
        return (_add(u, -a, y), jnp.where(found, 1 / yy, gamma)), a

    def up(u: list[jax.Array], step: tuple[jax.Array, jax.Array]) -> tuple[list[jax.Array], None]:
        row, a = step
        s, y = pair(row)
        return _add(u, a - weights[row] * _dot(y, u, real), s), None

    (u, gamma), a = lax.scan(down, (g, jnp.zeros((), real)), order)
    if scale_init_precond:
        norm = global_norm(g).astype(real)
        capped = 1 / jnp.maximum(norm, 1)
        factor = jnp.where(gamma > 0, gamma, capped)
        u = [_times(factor, x) for x in u]
    u, _ = lax.scan(up, u, (order, a), reverse=True)
    return u


def _times(factor: jax.Array, x: jax.Array) -> jax.Array:
    return factor.astype(x.real.dtype).astype(x.dtype) * x


def _add(u: list[jax.Array], factor: jax.Array, v: list[jax.Array]) -> list[jax.Array]:
    return [a + _times(factor, b.astype(a.dtype)) for a, b in zip(u, v, strict=True)]


def _put(updates: Updates, old: PyTree, new: list[jax.Array]) -> PyTree:
    """The tree `old` with the arrays of `new` where updates are present, in old's dtypes."""
    us, structure = tree.flatten(updates)
    olds = structure.flatten_up_to(old)
    fresh = iter(new)
    return structure.unflatten(
        [
            x if tree.is_absent(u) else next(fresh).astype(x.dtype)
            for u, x in zip(us, olds, strict=True)
        ]
    )
