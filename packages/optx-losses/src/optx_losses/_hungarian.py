"""The assignment of rows to columns of least total cost, by shortest augmenting paths.

Rows are assigned one after another. For a new row, Dijkstra's search over the reduced costs
c_ij − u_i − v_j finds the cheapest path that ends at a free column; the assignments along it are
flipped, and the potentials u, v renewed so that reduced costs stay at least 0. O(rows²·columns).

References: Kuhn, "The Hungarian method for the assignment problem", 1955; Jonker, Volgenant, "A
Shortest Augmenting Path Algorithm for Dense and Sparse Linear Assignment Problems", 1987.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_losses._inputs import as_floats


def hungarian_algorithm(costs: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Finds the assignment of rows to columns of least total cost.

    Works under jit and vmap. The indices have no gradient; that of a matching loss flows through the
    costs taken at them, `costs[rows, columns]`.

    Args:
      costs: shape [n, m], finite; either may be larger.

    Returns:
      `(rows, columns)`, int32 of shape [min(n, m)]: row `rows[k]` goes with column `columns[k]`; the
      smaller side's indices are in order.

    Raises:
      TypeError: if the costs are no real numbers.
      ValueError: if they are no matrix.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import hungarian_algorithm
      >>> hungarian_algorithm(jnp.array([[1.0, 2.0, 9.0], [1.0, 5.0, 9.0]]))
      (Array([0, 1], dtype=int32), Array([1, 0], dtype=int32))
    """
    (c,) = as_floats("hungarian_algorithm", costs=costs)
    if c.ndim != 2:
        raise ValueError(f"hungarian_algorithm: costs is {c.shape}; it must be a matrix")
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
    """The column of each row, of the row of each column (n for none)."""
    columns = jnp.zeros(n + 1, jnp.int32).at[owner].set(jnp.arange(owner.size, dtype=jnp.int32))
    return columns[:n]


def _assign(c: jax.Array) -> jax.Array:
    n, m = c.shape
    far = jnp.asarray(jnp.inf, c.dtype)
    # One column more, number m: where the search for the new row starts.
    padded = jnp.concatenate([c, jnp.zeros((n, 1), c.dtype)], axis=1)

    def add_row(row: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        u, v, owner = carry
        owner = owner.at[m].set(row)

        def unfinished(search: tuple[jax.Array, ...]) -> jax.Array:
            return owner[search[0]] != n

        def grow(search: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            here, done, reach, come_from, u, v = search
            done = done.at[here].set(True)
            i = owner[here]
            reduced = padded[i] - u[i] - v
            shorter = ~done & (reduced < reach)
            reach = jnp.where(shorter, reduced, reach)
            come_from = jnp.where(shorter, here, come_from)
            candidates = jnp.where(done, far, reach)
            there = jnp.argmin(candidates[:m]).astype(jnp.int32)
            step = candidates[there]
            raised = jnp.zeros(n + 1, bool).at[jnp.where(done, owner, n)].set(True)
            u = jnp.where(raised, u + step, u)
            v = jnp.where(done, v - step, v)
            return there, done, jnp.where(done, reach, reach - step), come_from, u, v

        start = jnp.asarray(m, jnp.int32)
        first: tuple[jax.Array, ...] = (
            start,
            jnp.zeros(m + 1, bool),
            jnp.full(m + 1, far),
            jnp.full(m + 1, m, jnp.int32),
            u,
            v,
        )
        free, _, _, come_from, u, v = lax.while_loop(unfinished, grow, first)

        def flip(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            owner, column = state
            before = come_from[column]
            return owner.at[column].set(owner[before]), before

        owner, _ = lax.while_loop(lambda state: state[1] != m, flip, (owner, free))
        return u, v, owner

    u, v = jnp.zeros(n + 1, c.dtype), jnp.zeros(m + 1, c.dtype)
    owner = jnp.full(m + 1, n, jnp.int32)
    return lax.fori_loop(0, n, add_row, (u, v, owner))[2][:m]
