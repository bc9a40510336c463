"""Sums of products of pullbacks from a function's outputs to the leaves, example by example.

For J_b = ∂y_b/∂w and pairs of cotangents (a_i, c_i), the sums are Σ_i Σ_b (J_bᵀ a_bi) · (J_bᵀ c_bi),
elementwise. If w has an entry z with one position, J_bᵀ a = x_b ⊗ (∂y_b/∂z)ᵀ a: the products are summed
over i in z's shape, followed by a single matrix product with x². For shared weights, the pullback of each
example is computed, multiplied and added. Leaves without an entry are differentiated for one example at a
time. A batch of leaf-sized arrays is never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from optx_core import PyTree
from optx_second_order._entry_kinds import Entry
from optx_second_order._leaves import as_wide, wide
from optx_second_order._network import Network, outputs_of, pulled_product, squared_inputs

Pair: TypeAlias = Callable[[jax.Array, PyTree, jax.Array], tuple[jax.Array, jax.Array | None]]
"""(y, extra, i) ↦ (a, c) for one example; c is None for c = a."""


class Pullback:
    """The outputs y of a network on a batch, and their pullback to leaves.

    Attributes:
      outputs: y[b, c], flat per example.
    """

    def __init__(
        self,
        network: Network,
        chosen: Sequence[int],
        data: PyTree,
        wanted: Sequence[Any] | None = None,
    ) -> None:
        self._network, self._data = network, data
        self._size = int(jax.tree.leaves(data)[0].shape[0])
        self._wanted = network.graph.outputs if wanted is None else wanted
        entries = {i: network.entries[i] for i in chosen}
        self._chosen = list(chosen)
        self._entries = {i: e for i, e in entries.items() if isinstance(e, Entry)}
        self._boxed = [i for i, e in entries.items() if not isinstance(e, Entry)]
        self._nodes = network.order([e.node for e in self._entries.values()])

        def outputs(changes: Sequence[jax.Array]) -> jax.Array:
            return jax.vmap(_flat)(network.run(data, self._nodes, changes, self._wanted))

        zeros = network.zeros(self._nodes, self._size)
        self.outputs, self._pull = jax.vjp(outputs, zeros)

    def sum_of_products(self, pair: Pair, extra: PyTree, count: int) -> list[jax.Array]:
        """Returns Σ_i Σ_b (J_bᵀ a_bi) · (J_bᵀ c_bi) for i = 0, ..., count − 1.

        Args:
          pair: the cotangents (a, c) of one example, both shaped like its y.
          extra: further arguments of `pair`, examples along the leading axis.
          count: the number of pairs.

        Returns:
          One array for each chosen leaf, in its shape.
        """
        sums = self._by_entries(pair, extra, count) if self._entries else {}
        if self._boxed:
            sums.update(self._by_examples(pair, extra, count))
        return [sums[i] for i in self._chosen]

    def _by_entries(self, pair: Pair, extra: PyTree, count: int) -> dict[int, jax.Array]:
        entries = self._entries
        shared = {i: e for i, e in entries.items() if e.positions > 1}
        inputs = dict(
            zip(entries, self._network.inputs(list(entries.values()), self._data), strict=True)
        )

        def add(total: Any, i: jax.Array) -> tuple[Any, None]:
            a, c = jax.vmap(lambda y, e: pair(y, e, i))(self.outputs, extra)
            left = self._pull(a.astype(self.outputs.dtype))[0]
            right = left if c is None else self._pull(c.astype(self.outputs.dtype))[0]
            at = {v: (x, y) for v, x, y in zip(self._nodes, left, right, strict=True)}
            products = [
                p + as_wide(x) * as_wide(y) for p, x, y in zip(total[0], left, right, strict=True)
            ]
            pulled = {
                i: p + _product(shared[i], inputs[i], *at[shared[i].node])
                for i, p in total[1].items()
            }
            return (products, pulled), None

        arrays = self._network.leaves.arrays
        zero = (
            [jnp.zeros((self._size, *v.shape), wide(v.dtype)) for v in self._nodes],
            {i: jnp.zeros(arrays[i].shape, inputs[i].dtype) for i in shared},
        )
        (products, pulled), _ = jax.lax.scan(add, zero, jnp.arange(count))
        at = dict(zip(self._nodes, products, strict=True))
        return {
            i: pulled[i] if i in pulled else squared_inputs(e, inputs[i], outputs_of(e, at[e.node]))
            for i, e in entries.items()
        }

    def _by_examples(self, pair: Pair, extra: PyTree, count: int) -> dict[int, jax.Array]:
        arrays, graph = self._network.leaves.arrays, self._network.graph
        own = [arrays[i] for i in self._boxed]

        def one(total: list[jax.Array], row: Any) -> tuple[list[jax.Array], None]:
            example, more = row

            def outputs(part: Sequence[jax.Array]) -> jax.Array:
                full = list(arrays)
                for i, array in zip(self._boxed, part, strict=True):
                    full[i] = array
                return _flat(graph.run([*full, *jax.tree.leaves(example)], wanted=self._wanted))

            y, pull = jax.vjp(outputs, own)

            def add(total: list[jax.Array], i: jax.Array) -> tuple[list[jax.Array], None]:
                a, c = pair(y, more, i)
                left = pull(a.astype(y.dtype))[0]
                right = left if c is None else pull(c.astype(y.dtype))[0]
                return [
                    t + as_wide(l) * as_wide(r) for t, l, r in zip(total, left, right, strict=True)
                ], None

            return jax.lax.scan(add, total, jnp.arange(count))

        zero = [jnp.zeros(array.shape, wide(array.dtype)) for array in own]
        total, _ = jax.lax.scan(one, zero, (self._data, extra))
        return dict(zip(self._boxed, total, strict=True))


def _flat(parts: Sequence[Any]) -> jax.Array:
    flat = [jnp.asarray(part).reshape(-1) for part in parts]
    if not flat:
        return jnp.zeros((0,), jnp.float32)
    dtypes = {part.dtype for part in flat}
    dtype = dtypes.pop() if len(dtypes) == 1 else wide(*dtypes)
    return jnp.concatenate([part.astype(dtype) for part in flat])


def _product(entry: Entry, x: jax.Array, a: jax.Array, c: jax.Array) -> jax.Array:
    left = outputs_of(entry, a)
    return pulled_product(entry, x, left, left if a is c else outputs_of(entry, c))


def one_hot(i: jax.Array, like: jax.Array) -> jax.Array:
    """Returns the unit vector e_i in the shape of `like`."""
    return (jnp.arange(like.size) == i).astype(like.dtype).reshape(like.shape)
