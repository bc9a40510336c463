"""Optimizer state in the host's memory, streamed through the device in chunks.

The program of the inner update is cut into chunks, each of which renews some arrays of the state:

chunk k:  copy its arrays to the device, compute, copy the new ones back

Chunk k is made to wait until chunk k − 1 has been copied back. XLA, which forgets this after scheduling,
starts the copies of the next chunk somewhat earlier: the device holds less than two chunks, where a chunk is
its arrays before and after the update (tests/integration/offload_for_a_tpu.py measures it).

Arrays in host memory are copied and handed on, and nothing else. What JAX and XLA do with more than that:

- arithmetic of two spaces is an error, "memory_space of all inputs passed to `add` must be the same";
- arithmetic of host arrays alone is compiled, and runs on the host or fails, by the platform;
- indexing, scatter and dynamic_update_slice between the spaces fail or copy the whole array, so that a chunk
  consists of whole arrays;
- scalars in host memory are of no use, and `metrics` and schedules calculate with them: they stay.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import OptState, Params, PyTree, Updates, build, with_extra_args_support

_CALLS = ("jit", "pjit")


@build.keeps_inner_state
@build.recorded
def offload(inner: Any, chunk_bytes: int = 2**28) -> build.Transformation:
    """Keeps an optimizer's state in the host's memory; each update streams it through the device.

    At rest the state takes no memory of the device, but for scalars (counts). During an update it takes that
    of two chunks at most, if the inner optimizer treats arrays one by one, or in ways that leave the state
    out (a global norm of the gradients). Each update copies the state to the device and back, 16 bytes for
    each parameter of AdamW.

    Place it around `master_weights` and `quantize_state`, whose arrays then live on the host; inside of
    `zero1`, which lays out its state; and inside of `multi_steps`, so that the state is copied at every k-th
    step only.

    Args:
      inner: the optimizer.
      chunk_bytes: the bytes of a chunk on the device, its arrays of the state before and after the update, a
        positive int. What the update of one array needs is never divided: 1 makes each array a chunk.

    Returns:
      A transformation whose state is that of `inner`, with arrays of one axis or more in the memory kind
      "pinned_host", also under `jax.jit`; `state_sharding` reports it. Updates and state are equal to those
      of `inner`. To calculate with an array of the state, bring it back:
      `jax.device_put(x, jax.memory.Space.Device)`. `init` makes the state on the device, and moves it.

    Raises:
      ValueError: if `chunk_bytes` is not a positive int; from `init` and `update`, if the platform has no
        such memory.

    Reference: Ren et al., "ZeRO-Offload: Democratizing Billion-Scale Model Training", 2021. Here the update
    itself stays on the device.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import offload, trace
      >>> tx = offload(trace(0.9))
      >>> updates, state = tx.update(jnp.ones(2), tx.init(jnp.zeros(2)))
      >>> state.trace.sharding.memory_kind, updates.sharding.memory_kind
      ('pinned_host', 'device')
    """
    build.check_transformation_like("offload", inner)
    if not isinstance(chunk_bytes, int) or chunk_bytes < 1:
        raise ValueError(f"offload: chunk_bytes must be a positive int, not {chunk_bytes!r}")
    inner = with_extra_args_support(inner)

    def init(params: Params) -> OptState:
        _check_platform()
        with _on_mesh_of(params):
            return jax.tree.map(_to_host, inner.init(params))

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        _check_platform()

        def run(state: OptState, updates: Updates, params: Params) -> tuple[OptState, Updates]:
            new, state = inner.update(updates, state, params, **extra_args)
            return state, new

        with _on_mesh_of(updates):
            new_state, new = _streamed(run, state, (updates, params), chunk_bytes)
        return new, new_state

    return build.wrapping(init, update)


def _check_platform() -> None:
    device = jax.local_devices()[0]
    kinds = [memory.kind for memory in device.addressable_memories()]
    if "pinned_host" not in kinds:
        raise ValueError(
            f"offload: {device.platform} devices have no memory of the kind 'pinned_host' (theirs: "
            f"{', '.join(kinds)}); use the optimizer without offload there"
        )


def _on_mesh_of(arrays: PyTree) -> contextlib.AbstractContextManager[Any]:
    """Makes the mesh of arrays the current one, if there is none.

    Arrays of the state that are made from no parameter are then on it too. Otherwise the copy to the host's
    memory would bind them to one device.
    """
    leaves = jax.tree.leaves(arrays)
    traced = any(isinstance(x, jax.core.Tracer) for x in (jnp.zeros(()), *leaves))
    if traced or not jax.sharding.get_abstract_mesh().empty:
        return contextlib.nullcontext()
    shardings = (getattr(x, "sharding", None) for x in leaves)
    meshes: set[Any] = {s.mesh for s in shardings if isinstance(s, jax.sharding.NamedSharding)}
    return jax.set_mesh(meshes.pop()) if len(meshes) == 1 else contextlib.nullcontext()


def _to_host(x: Any) -> Any:
    return jax.device_put(x, jax.memory.Space.Host) if np.ndim(x) else x


def _to_device(x: Any) -> Any:
    return jax.device_put(x, jax.memory.Space.Device) if np.ndim(x) else x


def _streamed(
    function: Callable[..., tuple[PyTree, PyTree]], state: PyTree, rest: Any, chunk_bytes: int
) -> tuple[PyTree, PyTree]:
    """Returns `function(state, *rest)`, a new state on the host and other results, chunk by chunk."""
    inputs, structure = build.tree_flatten((state, *rest))
    count = len(jax.tree.leaves(state))

    def flat(*arrays: Any) -> Any:
        return function(*structure.unflatten(arrays))

    # The copies of the whole state give the types to trace with; they have no other use and are dropped.
    on_device = [_to_device(x) if k < count else x for k, x in enumerate(inputs)]
    program, shapes = _without_nested_calls(flat, on_device)
    renewed = len(jax.tree.leaves(shapes[0]))
    streamed = _Program(program, inputs, count)
    results = streamed.run(streamed.chunks(renewed, chunk_bytes), renewed)
    return build.tree_flatten(shapes)[1].unflatten(results)


def _bytes(x: Any) -> int:
    return int(np.prod(x.shape)) * x.dtype.itemsize if x.ndim else 0


class _Program:
    """A program in chunks of equations.

    Attributes:
      jaxpr: the program.
      on_host: the state's arrays before the update, by variable.
      values: the values on the device, by variable.
    """

    def __init__(self, closed: Any, inputs: list[Any], count: int) -> None:
        self.jaxpr = closed.jaxpr
        pairs = list(zip(self.jaxpr.invars, inputs, strict=True))
        self.on_host = dict(pairs[:count])
        self.values = dict(pairs[count:]) | dict(
            zip(self.jaxpr.constvars, closed.consts, strict=True)
        )

    def chunks(self, renewed: int, limit: int) -> list[list[int]]:
        """Returns the equations of each chunk: what the next arrays of the state need, up to a limit.

        An array counts twice, before and after the update.
        """
        outputs, eqns = self.jaxpr.outvars, self.jaxpr.eqns
        producer = {v: k for k, eqn in enumerate(eqns) for v in eqn.outvars}
        size = {v: 2 * _bytes(v.aval) for v in outputs[:renewed] if _is_var(v)}
        done: set[int] = set()
        chunks: list[list[int]] = []
        total = 0
        for output in outputs:
            needed: set[int] = set()
            waiting = [output]
            while waiting:
                v = waiting.pop()
                k = producer.get(v) if _is_var(v) else None
                if k is not None and k not in done:
                    done.add(k)
                    needed.add(k)
                    waiting += eqns[k].invars
            added = sum(size.get(v, 0) for k in needed for v in eqns[k].outvars)
            if not chunks or (total and total + added > limit):
                chunks.append([])
                total = 0
            chunks[-1] = sorted([*chunks[-1], *needed])
            total += added
        return chunks

    def run(self, chunks: list[list[int]], renewed: int) -> list[Any]:
        """Returns the values of the outputs, the first of them on the host."""
        outputs = self.jaxpr.outvars
        last_reader = {
            v: c
            for c, chunk in enumerate(chunks)
            for k in chunk
            for v in self.jaxpr.eqns[k].invars
            if _is_var(v)
        } | {v: len(chunks) for v in outputs if _is_var(v)}
        to_keep = {v for v in outputs[:renewed] if _is_var(v)}
        back: dict[Any, Any] = {}
        sent: list[list[Any]] = []
        for c, chunk in enumerate(chunks):
            eqns = [self.jaxpr.eqns[k] for k in chunk]
            made = [v for eqn in eqns for v in eqn.outvars]
            reads = _reads(eqns)
            host = [v for v in reads if v in self.on_host]
            arrays = [self.on_host[v] for v in host]
            if c >= 1:
                before = sent[c - 1]
                arrays, waited = _after(arrays, [back[v] for v in before])
                back |= dict(zip(before, waited, strict=True))
            copied = dict(zip(host, map(_to_device, arrays), strict=True))
            kept = [v for v in made if last_reader.get(v, -1) > c]
            results = _evaluate(
                self.jaxpr, eqns, reads, kept, [copied.get(v, self.values.get(v)) for v in reads]
            )
            self.values |= dict(zip(kept, results, strict=True))
            sent.append([v for v in kept if v in to_keep])
            back |= {v: _to_host(self.values[v]) for v in sent[-1]}
        back = self.on_host | back
        return [
            _to_host(self._value(v, back)) if k < renewed else self._value(v, self.values)
            for k, v in enumerate(outputs)
        ]

    def _value(self, v: Any, known: dict[Any, Any]) -> Any:
        if not _is_var(v):
            return v.val
        return known[v] if v in known else self.values.get(v, self.on_host.get(v))


def _after(arrays: list[Any], before: list[Any]) -> tuple[list[Any], list[Any]]:
    """Returns arrays that are not read until others, in the same memory, have been written."""
    if not arrays or not before:
        return arrays, before
    if not any(isinstance(x, jax.core.Tracer) for x in before):
        jax.block_until_ready(before)
        return arrays, before
    return _in_order(arrays, before)


@jax.custom_jvp
def _in_order(arrays: list[Any], before: list[Any]) -> tuple[list[Any], list[Any]]:
    return jax.lax.optimization_barrier((arrays, before))


@_in_order.defjvp
def _in_order_jvp(primals: Any, tangents: Any) -> Any:
    # The barrier's own derivative mixes the spaces in jax 0.10: zero tangents are made on the device.
    moved = jax.tree.map(lambda t: t if t.dtype == jax.dtypes.float0 else _to_host(t), tangents)
    return _in_order(*primals), moved


def _is_var(v: Any) -> bool:
    return not hasattr(v, "val")


def _reads(eqns: Sequence[Any]) -> list[Any]:
    """Returns the variables that equations read and do not make."""
    made = {v for eqn in eqns for v in eqn.outvars}
    read = dict.fromkeys(v for eqn in eqns for v in eqn.invars if _is_var(v))
    return [v for v in read if v not in made]


def _evaluate(
    jaxpr: Any, eqns: Sequence[Any], reads: list[Any], kept: list[Any], values: list[Any]
) -> list[Any]:
    part = jaxpr.replace(constvars=[], invars=reads, outvars=kept, eqns=list(eqns))
    return build.evaluate_jaxpr(part, [], *values)


def _without_nested_calls(function: Callable[..., Any], args: list[Any]) -> tuple[Any, PyTree]:
    """Traces a function; calls that consist of calls, as those of twelve arrays at a time, are inlined."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)

    def run(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))
        read = lambda v: values[v] if _is_var(v) else v.val  # noqa: E731
        for eqn in jaxpr.eqns:
            called = eqn.params["jaxpr"] if eqn.primitive.name in _CALLS else None
            inside = getattr(called, "jaxpr", called)
            if inside is not None and all(e.primitive.name in _CALLS for e in inside.eqns):
                results = run(inside, getattr(called, "consts", ()), list(map(read, eqn.invars)))
            else:
                reads = _reads([eqn])
                results = _evaluate(jaxpr, [eqn], reads, list(eqn.outvars), list(map(read, reads)))
            values |= dict(zip(eqn.outvars, results, strict=True))
        return list(map(read, jaxpr.outvars))

    return jax.make_jaxpr(lambda *args: run(closed.jaxpr, closed.consts, args))(*args), shapes
