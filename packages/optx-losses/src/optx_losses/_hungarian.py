"""The assignment of rows to columns with the least total cost, by shortest augmenting paths.

rows, columns = argmin Σ c_ij,   each row i with a column j of its own

where c_ij is the cost of the pair of i and j. Rows are assigned one after another. For a new row,
Dijkstra's search over the reduced costs c_ij − u_i − v_j finds the cheapest path to a free column. The
assignments along the path are flipped, and the potentials u, v are updated such that reduced costs stay
non-negative. O(rows²·columns).

References: Kuhn, "The Hungarian method for the assignment problem", 1955; Jonker, Volgenant, "A
Shortest Augmenting Path Algorithm for Dense and Sparse Linear Assignment Problems", 1987.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_losses._inputs import as_floats


def hungarian_algorithm(cost_matrix: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """The assignment of rows to columns with the least total cost.

    Supports jit and vmap. The indices have no gradient; the gradient of a matching loss flows through
    the selected costs, `cost_matrix[rows, columns]`.

    Args:
      cost_matrix: shape [n, m], finite; either may be larger.

    Returns:
      `(rows, columns)`, int32, shape [min(n, m)]: row `rows[k]` is assigned to column `columns[k]`. The
      indices of the smaller side are in ascending order.

    Raises:
      TypeError: if the costs are not real numbers.
      ValueError: if the costs are not a matrix.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import hungarian_algorithm
      >>> hungarian_algorithm(jnp.array([[1.0, 2.0, 9.0], [1.0, 5.0, 9.0]]))
      (Array([0, 1], dtype=int32), Array([1, 0], dtype=int32))
    """
    (c,) = as_floats("hungarian_algorithm", cost_matrix=cost_matrix)
    if c.ndim != 2:
        raise ValueError(f"hungarian_algorithm: cost_matrix is {c.shape}; it must be a matrix")
    c = lax.stop_gradient(c)
    n, m = c.shape
    if n == 0 or m == 0:
        empty = jnp.zeros(0, jnp.int32)
        return empty, empty
    if n > m:
        columns, rows = hungarian_algorithm(c.T)
        return rows, columns
    owner = _assign(c)
    return jnp.arange(n, dtype=jnp.int32), _columns(owner, n)


def _columns(owner: jax.Array, n: int) -> jax.Array:
    """The column of each row, given the row of each column (n for a free column)."""
    columns = jnp.zeros(n + 1, jnp.int32).at[owner].set(jnp.arange(owner.size, dtype=jnp.int32))
    return columns[:n]


def _assign(c: jax.Array) -> jax.Array:
    n, m = c.shape
    far = jnp.asarray(jnp.inf, c.dtype)
    # An additional column, m, where the search for the new row starts.
    padded = jnp.concatenate([c, jnp.zeros((n, 1), c.dtype)], axis=1)

    def add_row(row: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        u, v, owner = carry
        owner = owner.at[m].set(row)

        def unfinished(search: tuple[jax.Array, ...]) -> jax.Array:
            return owner[search[0]] != n

        def grow(search: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            current, done, reach, previous, u, v = search
            done = done.at[current].set(True)
            i = owner[current]
            reduced = padded[i] - u[i] - v
            shorter = ~done & (reduced < reach)
            reach = jnp.where(shorter, reduced, reach)
            previous = jnp.where(shorter, current, previous)
            candidates = jnp.where(done, far, reach)
            nearest = jnp.argmin(candidates[:m]).astype(jnp.int32)
            step = candidates[nearest]
            raised = jnp.zeros(n + 1, bool).at[jnp.where(done, owner, n)].set(True)
            u = jnp.where(raised, u + step, u)
            v = jnp.where(done, v - step, v)
            return nearest, done, jnp.where(done, reach, reach - step), previous, u, v

        start = jnp.asarray(m, jnp.int32)
        first: tuple[jax.Array, ...] = (
            start,
            jnp.zeros(m + 1, bool),
            jnp.full(m + 1, far),
            jnp.full(m + 1, m, jnp.int32),
            u,
            v,
        )
        free, _, _, previous, u, v = lax.while_loop(unfinished, grow, first)

        def flip(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            owner, column = state
            before = previous[column]
            return owner.at[column].set(owner[before]), before

        owner, _ = lax.while_loop(lambda state: state[1] != m, flip, (owner, free))
        return u, v, owner

    u, v = jnp.zeros(n + 1, c.dtype), jnp.zeros(m + 1, c.dtype)
    owner = jnp.full(m + 1, n, jnp.int32)
    return lax.fori_loop(0, n, add_row, (u, v, owner))[2][:m]
