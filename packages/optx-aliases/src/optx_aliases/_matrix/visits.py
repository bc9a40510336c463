"""Matrices that visit their owners: one exchange there and one back for each dtype."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from optx_aliases._matrix.mesh_layouts import Job, Layout, index_of, is_unused

BETTER = 0.95  # how much shorter the longest day must be to pay for a program for each device


class _Exchange:
    """An all-to-all of many arrays (devices, ...), whose part k goes to device k."""

    def __init__(self) -> None:
        self.parts: dict[tuple[tuple[str, ...], Any], list[Array]] = {}
        self.received: dict[tuple[tuple[str, ...], Any], Sequence[Array]] = {}

    def send(self, x: Array, names: tuple[str, ...]) -> Callable[[], Array]:
        """Queues an array; returns a function that returns what has arrived, (senders, ...)."""
        key = (names, x.dtype)
        parts = self.parts.setdefault(key, [])
        parts.append(x.reshape(len(x), -1))
        place = len(parts) - 1
        return lambda: self.received[key][place].reshape(x.shape)

    def run(self) -> None:
        for (names, dtype), parts in self.parts.items():
            joined = lax.all_to_all(lax.concatenate(parts, 1), names, 0, 0, tiled=True)
            self.received[names, dtype] = lax.split(joined, [x.shape[1] for x in parts], 1)


def visited(
    work: Callable[..., tuple[Array, ...]],
    jobs: Sequence[Job],
    blocks: Sequence[tuple[Array, ...]],
    renewed: int,
) -> list[list[Array]]:
    """Sends all matrices to their owners, applies `work` there, and sends the results back."""
    groups: dict[Hashable, list[int]] = {}
    for k, (job, arrays) in enumerate(zip(jobs, blocks, strict=True)):
        groups.setdefault((job, *(x.dtype for x in arrays)), []).append(k)
    stacks, single = _shared_out([*groups.values()], jobs)
    there, back = _Exchange(), _Exchange()
    parts: list[Any] = [
        *(_Stack(jobs[members[0]], [blocks[k] for k in members], renewed) for members in stacks),
        *([_Singles(single, jobs, blocks, renewed)] if single else []),
    ]
    arrived = [part.send(there) for part in parts]
    there.run()
    returned = [part.work(work, get, back) for part, get in zip(parts, arrived, strict=True)]
    back.run()
    results: list[Any] = [None] * len(jobs)
    order = [*itertools.chain(*stacks, *([[k for own in single for k in own]] if single else []))]
    for k, arrays in zip(order, itertools.chain(*(get() for get in returned)), strict=True):
        results[k] = arrays
    return results


def _shared_out(
    groups: list[list[int]], jobs: Sequence[Job]
) -> tuple[list[list[int]], list[list[int]]]:
    """Returns the groups to be stacked, and the matrices that each device owns beside them."""
    left = {
        members[0]: len(members) % jobs[members[0]].devices
        for members in groups
        if not jobs[members[0]].is_stack
        and all(n in jobs[members[0]].moved for x in jobs[members[0]].layouts for n in x.used)
    }
    single = [k for members in groups if (n := left.get(members[0], 0)) for k in members[-n:]]
    if not single:
        return groups, []
    owned: list[list[int]] = [[] for _ in range(jobs[single[0]].devices)]
    loads = [0] * len(owned)
    for k in sorted(single, key=lambda k: -jobs[k].cost):
        owner = loads.index(min(loads))
        owned[owner].append(k)
        loads[owner] += jobs[k].cost
    if max(loads) >= BETTER * sum(jobs[k].cost for k, n in left.items() if n):
        return groups, []  # A stack of one matrix more for each group is as quick.
    even = [members[: len(members) - left.get(members[0], 0)] for members in groups]
    return [members for members in even if members], owned


class _Stack:
    """Leaves of one kind, whose matrices are shared out evenly: the first of all leaves, then the second."""

    def __init__(self, job: Job, leaves: list[tuple[Array, ...]], renewed: int) -> None:
        self.job, self.leaves, self.renewed = job, leaves, renewed
        self.total = job.size * len(leaves)
        self.share = -(-self.total // job.devices)

    def send(self, exchange: _Exchange) -> list[Callable[[], Array]]:
        return [
            self._send(layout, [row[k] for row in self.leaves], exchange)
            for k, layout in enumerate(self.job.layouts)
        ]

    def _send(
        self, layout: Layout, arrays: list[Array], exchange: _Exchange
    ) -> Callable[[], Array]:
        if layout.is_fresh:
            return lambda: jnp.zeros((self.share, *layout.unit()), arrays[0].dtype)
        x = jnp.stack([layout.blocks(a) for a in arrays], 1)  # (count, leaves, *block)
        if layout.at_owner:
            return lambda: x.reshape(-1, *layout.unit())
        x = jnp.broadcast_to(x, (self.job.size, *x.shape[1:]))
        x = x.reshape(self.total, *layout.block)
        names, devices = self.job.moved, self.job.devices
        if layout.is_sent:
            got = exchange.send(self._dealt(layout.pieces(x)), names)
            return lambda: layout.assembled(got(), names)
        x = self._dealt(x.reshape(self.total, -1))
        own = lax.dynamic_index_in_dim(x, index_of(names), keepdims=True) if devices > 1 else x
        return lambda: layout.assembled(own, ())

    def _dealt(self, x: Array) -> Array:
        """Reshapes (total, ...) to (devices, share, ...), padded with zeros."""
        missing = self.share * self.job.devices - self.total
        x = jnp.pad(x, [(0, missing), *[(0, 0)] * (x.ndim - 1)]) if missing else x
        return x.reshape(self.job.devices, self.share, *x.shape[1:])

    def work(
        self, work: Callable[..., Any], arrived: list[Callable[[], Array]], exchange: _Exchange
    ) -> Callable[[], list[list[Array]]]:
        job = self.job
        results = work(tuple(get() for get in arrived))
        returned = [
            self._return(layout, x, exchange)
            for layout, x in zip(job.layouts[: self.renewed], results, strict=True)
        ]

        def arrays() -> list[list[Array]]:
            columns = [get() for get in returned]
            return [
                [
                    like if is_unused(layout, like) else layout.array(x[:, leaf], like)
                    for layout, like, x in zip(job.layouts, row, columns, strict=False)
                ]
                for leaf, row in enumerate(self.leaves)
            ]

        return arrays

    def _return(self, layout: Layout, x: Array, exchange: _Exchange) -> Callable[[], Array]:
        shape = (len(self.leaves), *layout.block)
        if layout.at_owner or (self.job.devices == 1 and not layout.used):
            return lambda: x.reshape(-1, *shape)
        x = layout.for_devices(x)
        got = exchange.send(x, self.job.moved) if self.job.devices > 1 else lambda: x
        return lambda: got().reshape(-1, *layout.block)[: self.total].reshape(-1, *shape)


class _Singles:
    """Single matrices of any shapes, each with an owner of its own choice."""

    def __init__(
        self,
        owned: list[list[int]],
        jobs: Sequence[Job],
        blocks: Sequence[tuple[Array, ...]],
        renewed: int,
    ) -> None:
        self.owned, self.jobs, self.blocks, self.renewed = owned, jobs, blocks, renewed
        self.names = jobs[owned[0][0]].moved

    def send(self, exchange: _Exchange) -> Callable[[int], list[list[Array]]]:
        pieces = {
            k: [
                (x.pieces(x.blocks(a)) if x.is_sent else x.blocks(a).reshape(1, -1))[None]
                for x, a in zip(self.jobs[k].layouts, self.blocks[k], strict=True)
            ]
            for own in self.owned
            for k in own
        }
        sent = [[x for k in own for x in self._sent(k, pieces[k])] for own in self.owned]
        packed = _Packed(sent, 1)
        everyone = [packed.joined(own) for own in sent]
        tickets = [
            exchange.send(lax.concatenate(buffers, 0), self.names)
            for buffers in zip(*everyone, strict=True)
        ]

        def arrived(owner: int) -> list[list[Array]]:
            parts = iter(packed.split(owner, [get() for get in tickets]))
            return [
                [
                    self._received(x, next(parts) if x.is_sent else piece)
                    for x, piece in zip(self.jobs[k].layouts, pieces[k], strict=True)
                ]
                for k in self.owned[owner]
            ]

        return arrived

    def _received(self, layout: Layout, pieces: Array) -> Array:
        if layout.is_fresh:
            return jnp.zeros((1, *layout.unit()), pieces.dtype)
        return layout.assembled(pieces, self.names if layout.is_sent else ())

    def _sent(self, k: int, pieces: list[Array]) -> list[Array]:
        return [p for x, p in zip(self.jobs[k].layouts, pieces, strict=True) if x.is_sent]

    def work(
        self,
        work: Callable[..., Any],
        arrived: Callable[[int], list[list[Array]]],
        exchange: _Exchange,
    ) -> Callable[[], list[list[Array]]]:
        layouts = {k: self.jobs[k].layouts[: self.renewed] for own in self.owned for k in own}
        kept = {
            k: [not is_unused(x, a) for x, a in zip(layouts[k], self.blocks[k], strict=False)]
            for k in layouts
        }
        shapes = [
            [
                jax.ShapeDtypeStruct((len(self.owned), 1, math.prod(x.block)), a.dtype)
                for k in own
                for x, a, used in zip(layouts[k], self.blocks[k], kept[k], strict=False)
                if used
            ]
            for own in self.owned
        ]
        packed = _Packed(shapes, len(self.owned))

        def of_owner(owner: int) -> list[Array]:
            results = []
            for k, arrays in zip(self.owned[owner], arrived(owner), strict=True):
                for x, y, used in zip(layouts[k], work(tuple(arrays)), kept[k], strict=True):
                    results += [x.for_devices(y)] if used else []
            return packed.joined(results)

        branches = [functools.partial(of_owner, owner) for owner in range(len(self.owned))]
        joined = lax.switch(index_of(self.names), branches)
        tickets = [exchange.send(x, self.names) for x in joined]

        def arrays() -> list[list[Array]]:
            buffers, rows = [get() for get in tickets], []
            for owner, own in enumerate(self.owned):
                parts = iter(packed.split(owner, [x[owner] for x in buffers]))
                for k in own:
                    pairs = zip(layouts[k], self.blocks[k], kept[k], strict=False)
                    rows.append(
                        [
                            x.array(next(parts).reshape(1, *x.block), like) if used else like
                            for x, like, used in pairs
                        ]
                    )
            return rows

        return arrays


class _Packed:
    """Lists of arrays (lead, ...), one for each owner; joined, an array (lead, length) for each dtype."""

    def __init__(self, arrays: list[list[Any]], lead: int) -> None:
        self.arrays, self.lead = arrays, lead
        self.dtypes = list(dict.fromkeys(x.dtype for own in arrays for x in own))

        def total(own: list[Any], dtype: Any) -> int:
            return sum(math.prod(x.shape[1:]) for x in own if x.dtype == dtype)

        self.lengths = [max(total(own, dtype) for own in arrays) for dtype in self.dtypes]

    def joined(self, arrays: list[Array]) -> list[Array]:
        """Joins an owner's arrays, padded with zeros to the length of the longest list."""
        buffers = []
        for dtype, length in zip(self.dtypes, self.lengths, strict=True):
            parts = [x.reshape(self.lead, -1) for x in arrays if x.dtype == dtype]
            missing = length - sum(x.shape[1] for x in parts)
            padding = [jnp.zeros((self.lead, missing), dtype)] if missing else []
            buffers.append(lax.concatenate([*parts, *padding], 1))
        return buffers

    def split(self, owner: int, buffers: list[Array]) -> list[Array]:
        """Inverts `joined`, for buffers with any leading axes."""
        places, parts = dict.fromkeys(self.dtypes, 0), []
        for x in self.arrays[owner]:
            start, size = places[x.dtype], math.prod(x.shape[1:])
            places[x.dtype] += size
            buffer = buffers[self.dtypes.index(x.dtype)]
            part = lax.slice_in_dim(buffer, start, start + size, axis=buffer.ndim - 1)
            parts.append(part.reshape(*buffer.shape[:-1], *x.shape[1:]))
        return parts
