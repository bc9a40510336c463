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

import functools
from typing import Annotated, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax

from optx_aliases._line_search.line import compute, inner, inverse_curvature, partners, times
from optx_aliases._transforms.scalars import scalar_dtype
from optx_core import Params, PyTree, build, global_norm, safe_increment, tree

Arrays: TypeAlias = list[Array]
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


@build.factory
def scale_by_lbfgs(
    memory_size: build.PositiveInt = 10, scale_init_precond: bool = True
) -> build.Transformation:
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
    where = "scale_by_lbfgs"

    def init(params: Params) -> ScaleByLBFGSState:
        def memory() -> PyTree:
            return jax.tree.map(
                lambda x: jnp.broadcast_to(x, (memory_size, *x.shape)), tree.slots_like(params)
            )

        return ScaleByLBFGSState(
            build.zero_count(),
            tree.slots_like(params),
            tree.slots_like(params),
            memory(),
            memory(),
            jnp.zeros(memory_size, scalar_dtype(params)),
        )

    def update(
        updates: PyTree, state: ScaleByLBFGSState, params: Params = None, **_: Any
    ) -> tuple[PyTree, ScaleByLBFGSState]:
        build.need_params(where, params)
        names = ("updates", "params", *ScaleByLBFGSState._fields[1:5])
        columns = (updates, params, *state[1:5])
        g, p, p_old, g_old, memory_s, memory_y = (
            [compute(x) for x in partners(where, name, updates, column)]
            for name, column in zip(names, columns, strict=True)
        )
        s = [a - b for a, b in zip(p, p_old, strict=True)]
        y = [a - b for a, b in zip(g, g_old, strict=True)]
        real = state.weights_memory.dtype
        sy, ss, yy = _dot(s, y, real), _dot(s, s, real), _dot(y, y, real)
        first = state.count == 0
        weight = jnp.where(first, 0, inverse_curvature(sy, ss, yy))
        empties = first | ((ss == 0) if s else False)
        row = (state.count - 1) % memory_size
        memory_s = _write(memory_s, s, row, weight > 0)
        memory_y = _write(memory_y, y, row, weight > 0)
        known = state.weights_memory * jnp.where(empties, 0, 1).astype(real)
        weights = lax.dynamic_update_index_in_dim(known, weight, row, 0)
        u = _two_loops(g, memory_s, memory_y, weights, row, scale_init_precond=scale_init_precond)
        put = functools.partial(_put, updates)
        return put(updates, u), ScaleByLBFGSState(
            safe_increment(state.count),
            put(state.params, p),
            put(state.updates, g),
            put(state.diff_params_memory, memory_s),
            put(state.diff_updates_memory, memory_y),
            weights,
        )

    return build.wrapping(init, update)


def _dot(x: Arrays, y: Arrays, real: Any) -> Array:
    """⟨x, y⟩."""
    return inner(list(map(jnp.conj, x)), y, real)


def _write(memory: Arrays, new: Arrays, row: Array, useful: Array) -> Arrays:
    def leaf(rows: Array, x: Array) -> Array:
        kept = jnp.where(useful, x, 0).astype(rows.dtype)
        return lax.dynamic_update_index_in_dim(rows, kept, row, 0)

    return list(map(leaf, memory, new))


def _two_loops(
    g: Arrays,
    memory_s: Arrays,
    memory_y: Arrays,
    weights: Array,
    last_row: Array,
    *,
    scale_init_precond: bool,
) -> Arrays:
    """The two-loop recursion; `last_row` is the row of the last pair."""
    m, real = weights.shape[0], weights.dtype
    order = (last_row - jnp.arange(m, dtype=last_row.dtype)) % m

    def pair(row: Array) -> tuple[Arrays, Arrays]:
        s = [lax.dynamic_index_in_dim(x, row, 0, keepdims=False) for x in memory_s]
        y = [lax.dynamic_index_in_dim(x, row, 0, keepdims=False) for x in memory_y]
        return s, y

    def down(u: Arrays, row: Array) -> tuple[Arrays, Array]:
        s, y = pair(row)
        a = weights[row] * _dot(s, u, real)
        return _add(u, -a, y), a

    def up(u: Arrays, step: tuple[Array, Array]) -> tuple[Arrays, None]:
        row, a = step
        s, y = pair(row)
        return _add(u, a - weights[row] * _dot(y, u, real), s), None

    first = build.loop_carry(lambda u: down(u, order[0])[0], g)
    u, a = lax.scan(down, first, order)
    if scale_init_precond:
        usable = weights[order] > 0
        newest = order[jnp.argmax(usable)]
        y = pair(newest)[1]
        one_over_gamma = jnp.where(jnp.any(usable), weights[newest] * _dot(y, y, real), 1)
        at_first = 1 / jnp.maximum(global_norm(g).astype(real), 1)
        gamma = jnp.where(jnp.any(usable), 1 / one_over_gamma, at_first)
        u = [times(gamma, x) for x in u]
    return lax.scan(up, u, (order, a), reverse=True)[0]


def _add(u: Arrays, factor: Array, v: Arrays) -> Arrays:
    return [a + times(factor, b.astype(a.dtype)) for a, b in zip(u, v, strict=True)]


def _put(updates: PyTree, old: PyTree, new: Arrays) -> PyTree:
    """The tree `old` with the arrays of `new` where updates are present, in the dtypes of `old`."""
    fresh = iter(new)
    return jax.tree.map(
        lambda u, x: x if tree.is_absent(u) else next(fresh).astype(x.dtype),
        updates,
        old,
        is_leaf=tree.is_placeholder,
    )
