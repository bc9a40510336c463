"""L-BFGS-B: one step of the limited-memory quasi-Newton method within a box, on a vector.

The model of the Hessian is B = θ·I − Wᵀ·M·W, with the last m steps s and gradient differences y in the rows
of S and Y, and

W = (Y; θ·S),   M⁻¹ = (−D, Lᵀ; L, θ·S·Sᵀ),   D = diag(s·y),   L = s·y of a later s with an earlier y

1. The generalized Cauchy point: the first local minimizer of the model g·z + ½·zᵀBz along the path
   x(t) = P(x − t·g), which bends where a variable meets its bound.
2. The variables that are off their bounds there minimize the model (a system of 2m equations); the result is
   projected onto the box, or cut back to it if the projection does not descend.
3. A strong Wolfe search along x̄ − x, within the box.

All breakpoints of the path are treated together: sums over the variables that still move are cumulative
sums in the order of the breakpoints, so that a step is O(m·n) and a sort, without a loop over variables.

References: Byrd, Lu, Nocedal, Zhu, "A Limited Memory Algorithm for Bound Constrained Optimization", 1995,
equation 3.2, algorithm CP, section 5.1 (direct primal method); Morales, Nocedal, "Remark on Algorithm
778", 2011 (projection of the subspace minimizer).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from optx_aliases._line_search.line import inverse_curvature
from optx_aliases._minimize.step import Step, nonzero, ratio_to_bounds, searched


class Pairs(NamedTuple):
    """The memory, oldest pair first.

    Attributes:
      s: steps, (m, n); empty rows are zero.
      y: differences of gradients, likewise.
    """

    s: Array
    y: Array


class _Model(NamedTuple):
    w: Array  # (2m, n)
    m: Array  # (2m, 2m)
    theta: Array


def no_pairs(memory_size: int, x: Array) -> Pairs:
    """An empty memory."""
    rows = jnp.broadcast_to(jnp.zeros_like(x), (memory_size, *x.shape))
    return Pairs(rows, jnp.copy(rows))


def box_step(
    evaluate: Callable[[Array], tuple[Array, Array]], old: Step, lower: Array, upper: Array
) -> Step:
    """One step of L-BFGS-B.

    Args:
      evaluate: returns value and gradient at a point.
      old: the last step; x and the gradient are vectors (n,), x within the box, the state is the memory,
        which a failed search empties.
      lower: the lower bounds, (n,), −inf for none.
      upper: the upper bounds, (n,), inf for none.

    Returns:
      The next one.
    """
    x, grad, pairs = old.x, old.grad, old.state
    model = _model(pairs)
    cauchy = _cauchy_point(model, x, grad, lower, upper)
    target = _subspace_minimum(model, x, grad, cauchy, lower, upper)
    # Up to rounding, step 2 descends; otherwise the Cauchy point does.
    good = jnp.all(jnp.isfinite(target - x)) & (jnp.sum((target - x) * grad) < 0)
    target = jnp.where(good, target, cauchy)
    direction = target - x
    longest = jnp.maximum(ratio_to_bounds(x, direction, lower, upper), 1)
    norm = jnp.sqrt(jnp.sum(direction * direction))
    trusted = jnp.any(pairs.s != 0) | jnp.all(jnp.isfinite(lower) & jnp.isfinite(upper))
    guess = jnp.where(trusted, 1, jnp.minimum(1 / nonzero(norm), longest)).astype(x.dtype)

    def point(step: Array) -> Array:
        inside = jnp.clip(x + step * direction, lower, upper)
        return jnp.where(step == 1, target, inside)

    def renew(s: Array, y: Array, failed: Array) -> Pairs:
        return _remember(pairs, s, y, failed)

    return searched(
        evaluate, old, point, direction, guess, renew, max_step=longest, slope_rtol=1e-3
    )


def _remember(pairs: Pairs, s: Array, y: Array, failed: Array) -> Pairs:
    """The memory with one more pair, if its curvature is usable; empty after a failure."""
    useful = inverse_curvature(jnp.sum(s * y), jnp.sum(s * s), jnp.sum(y * y)) > 0

    def renew(rows: Array, new: Array) -> Array:
        longer = jnp.concatenate([rows[1:], new[None]])
        return jnp.where(failed, 0, jnp.where(useful, longer, rows))

    return Pairs(renew(pairs.s, s), renew(pairs.y, y))


def _model(pairs: Pairs) -> _Model:
    s, y = pairs
    real = s.dtype
    sy, ss = _product(s, y.T), _product(s, s.T)
    used = jnp.diag(ss) > 0
    last_sy, last_yy = sy[-1, -1], jnp.sum(y[-1] * y[-1])
    theta = jnp.where(used[-1], last_yy / nonzero(last_sy), 1)
    blank = jnp.where(used, 0, 1).astype(real)  # keeps the matrix regular; its rows of W are zero
    d, lower = jnp.diag(jnp.diag(sy) + blank), jnp.tril(sy, -1)
    block = jnp.block([[-d, lower.T], [lower, theta * ss + jnp.diag(blank)]])
    return _Model(jnp.concatenate([y, theta * s]), jnp.linalg.inv(block), theta)


def _cauchy_point(model: _Model, x: Array, g: Array, lower: Array, upper: Array) -> Array:
    """The first local minimizer of the model along the projected gradient path."""
    w, m, theta = model
    bound = jnp.where(g < 0, upper, lower)
    times = jnp.where(g == 0, jnp.inf, (x - bound) / nonzero(g))  # when each meets its bound
    d = jnp.where(times > 0, -g, 0)
    order = jnp.argsort(times)
    ends, d_sorted, w_sorted = times[order], d[order], w[:, order]
    starts = jnp.concatenate([jnp.zeros(1, x.dtype), ends[:-1]])
    lengths = jnp.where(jnp.isfinite(ends), ends - starts, 0)
    # For each piece of the path: sums over the variables that still move ...
    squares = _sums_from(d_sorted * d_sorted)
    p = _sums_from(w_sorted * d_sorted[None])
    # ... and W·(x(t) − x) at its start.
    steps = p * lengths[None]
    c = jnp.cumsum(steps, axis=1) - steps
    finite = jnp.isfinite(starts)
    begin = jnp.where(finite, starts, 0)
    mp = _product(m, p)
    slope = -squares + theta * begin * squares - jnp.sum(mp * c, axis=0)
    bend = theta * squares - jnp.sum(mp * p, axis=0)
    bend = jnp.maximum(bend, jnp.finfo(x.dtype).eps * theta * squares)
    turn = begin + jnp.maximum(-slope / nonzero(bend), 0)
    turn = jnp.where(slope >= 0, begin, turn)
    stops = finite & ((slope >= 0) | (turn <= ends))
    piece = jnp.argmax(stops)
    latest = jnp.max(jnp.where(jnp.isfinite(ends), ends, 0), initial=0)
    time = jnp.where(jnp.any(stops), turn[piece], latest)
    moved = jnp.clip(x + jnp.where(jnp.isfinite(time), time, 0) * d, lower, upper)
    return jnp.where(d == 0, x, jnp.where(times <= time, bound, moved))


def _subspace_minimum(
    model: _Model,
    x: Array,
    g: Array,
    cauchy: Array,
    lower: Array,
    upper: Array,
) -> Array:
    """The model's minimizer over the variables that are off their bounds at the Cauchy point."""
    w, m, theta = model
    z = cauchy - x
    free = (cauchy > lower) & (cauchy < upper)
    r = g + theta * z - _product(_product(m, _product(w, z)), w)
    r, w = jnp.where(free, r, 0), jnp.where(free[None], w, 0)
    system = jnp.eye(m.shape[0], dtype=x.dtype) - _product(m, _product(w, w.T)) / theta
    inner = jnp.linalg.solve(system, _product(m, _product(w, r)))
    v = -(r + _product(inner, w) / theta) / theta
    projected = jnp.clip(cauchy + v, lower, upper)
    share = jnp.minimum(ratio_to_bounds(cauchy, v, lower, upper), 1)
    cut = jnp.clip(cauchy + share * v, lower, upper)
    descends = jnp.sum((projected - x) * g) < 0
    return jnp.where(descends, projected, cut)


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _sums_from(x: Array) -> Array:
    """Sums of each entry and all later ones, along the last axis."""
    return jnp.flip(jnp.cumsum(jnp.flip(x, -1), axis=-1), -1)
