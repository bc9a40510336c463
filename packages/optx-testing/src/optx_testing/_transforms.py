"""Promise 8: the same results under every transformation of JAX, on every kind of mesh."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from optx_testing._subject import (
    BrokenPromiseError,
    Subject,
    assert_close,
    assert_finite,
    assert_same_types,
    pairs_of,
    running,
)

PROMISE = 8


def check(subject: Subject, *, differentiable: bool = True, **_: Any) -> None:
    """Checks the promise."""
    with running("two updates"):
        expected = subject.steps(subject.params)
    _check_scan_and_donation(subject, expected)
    _check_vmap_and_shard_map(subject, expected)
    if differentiable:
        _check_grad(subject)
    _check_double(subject)
    # On a single device an Auto mesh has no effect; an Explicit one still affects the types.
    kinds = (AxisType.Auto, AxisType.Explicit) if jax.device_count() > 1 else (AxisType.Explicit,)
    for kind in kinds:
        _check_mesh(subject, kind, expected)


def _check_scan_and_donation(subject: Subject, expected: Any) -> None:
    grads = [subject.gradients(subject.params, step) for step in range(2)]
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *grads)

    def body(carry: Any, g: Any) -> Any:
        params, state = carry
        updates, state = subject.update(g, state, params)
        return (params, state), updates

    def run(params: Any, state: Any) -> Any:
        (params, state), updates = jax.lax.scan(body, (params, state), stacked)
        return params, state, jax.tree.map(lambda x: x[-1], updates)

    params = jax.tree.map(jnp.copy, subject.params)
    with running("under jit and scan, donated"):
        _, state, updates = jax.jit(run, donate_argnums=(0, 1))(params, subject.tx.init(params))
    assert_close(PROMISE, "under jit and scan, donated: ", (updates, state), expected)


def _check_vmap_and_shard_map(subject: Subject, expected: Any) -> None:
    """Checks both in one program; if that fails, checks each separately to name it."""
    batch = jax.tree.map(lambda p: jnp.stack([p, p]), subject.params)
    mesh = jax.make_mesh((1,), ("x",), (AxisType.Auto,), devices=jax.devices()[:1])
    spec = PartitionSpec()

    def split(run: Any) -> Any:
        return jax.shard_map(run, mesh=mesh, in_specs=(spec,), out_specs=spec, check_vma=False)

    def check(name: str, run: Any, params: Any, pick: Any) -> None:
        with running(f"under {name}"):
            result = jax.tree.map(pick, jax.jit(run)(params))
        assert_close(PROMISE, f"under {name}: ", result, expected)

    try:
        check("vmap and shard_map", split(jax.vmap(subject.steps)), batch, lambda x: x[1])
    except Exception:
        check("vmap", jax.vmap(subject.steps), batch, lambda x: x[1])
        check("shard_map", split(subject.steps), subject.params, lambda x: x)
        raise


def _check_grad(subject: Subject) -> None:
    params = subject.params
    grads = subject.gradients(params)

    def total(grads: Any) -> Any:
        updates, _ = subject.update(grads, subject.tx.init(params), params)
        return sum(jnp.sum(jnp.abs(u) ** 2) for u in jax.tree.leaves(updates))

    with running("under grad"):
        derivatives = jax.jit(jax.grad(total))(grads)
    assert_finite(PROMISE, "the gradient through update: ", derivatives)


def _check_double(subject: Subject) -> None:
    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), subject.params)
        grads = subject.gradients(params)
        with running("in double precision"):
            state = jax.eval_shape(subject.tx.init, params)
            updates, after = jax.eval_shape(subject.update, grads, state, params)
        assert_same_types(PROMISE, "in double precision: state", state, after)
        for path, u, _ in pairs_of(PROMISE, "in double precision: the updates", updates, grads):
            if u.dtype != jnp.float64:
                raise BrokenPromiseError(
                    PROMISE, f"in double precision: updates{path} is {u.dtype}"
                )


def _check_mesh(subject: Subject, kind: AxisType, expected: Any) -> None:
    devices = jax.devices()[:8]
    mesh = jax.make_mesh((len(devices),), ("x",), (kind,), devices=devices)

    def place(p: jax.Array) -> jax.Array:
        spec = [
            "x" if axis == 0 and n % len(devices) == 0 else None for axis, n in enumerate(p.shape)
        ]
        return jax.device_put(p, NamedSharding(mesh, PartitionSpec(*spec)))

    def run(params: Any, *grads: Any) -> Any:
        state = subject.tx.init(params)
        for g in grads:
            updates, state = subject.update(g, state, params)
        return updates, state

    params = jax.tree.map(place, subject.params)
    grads = [jax.tree.map(place, subject.gradients(subject.params, step)) for step in range(2)]
    with jax.set_mesh(mesh), running(f"on a mesh with {kind} axes"):
        updates, state = jax.jit(run)(params, *grads)
    assert_close(PROMISE, f"on a mesh with {kind} axes: ", (updates, state), expected)
    if kind is AxisType.Explicit:
        for path, u, p in pairs_of(PROMISE, "on an Explicit mesh: the updates", updates, params):
            if not u.sharding.is_equivalent_to(p.sharding, p.ndim):
                raise BrokenPromiseError(
                    PROMISE, f"updates{path} is laid out as {u.sharding}, not {p.sharding}"
                )
