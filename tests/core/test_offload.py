"""State in the host's memory: where it is, what it is equal to, and how many chunks are on the device."""

import types

import chex
import jax
import jax.numpy as jnp
import pytest

from optx_core import (
    apply_updates,
    chain,
    clip_by_global_norm,
    ema,
    master_weights,
    multi_steps,
    offload,
    scale,
    state_sharding,
    trace,
    zero1,
)

# Fourteen matrices, more than the twelve that the engine passes to one call.
PARAMS = {
    **{f"w{k:02}": jnp.linspace(-1.0, 1.0, 24).reshape(4, 6) + k for k in range(14)},
    "b": jnp.ones(4),
    "scalar": jnp.float32(2.0),
    "none": None,
}


def optimizer():
    return chain(clip_by_global_norm(1.0), trace(0.9), ema(0.9), scale(-0.1))


def trained(tx, jit, steps=3):
    update = jax.jit(tx.update) if jit else tx.update
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(steps):
        updates, state = update(jax.tree.map(jnp.sin, params), state, params)
        params = apply_updates(params, updates)
    return params, state


def kinds(state):
    return {(x.sharding.memory_kind, x.ndim > 0) for x in jax.tree.leaves(state)}


ROWS = {
    "offload": (lambda: offload(optimizer(), 1), optimizer),
    "around master_weights": (
        lambda: offload(master_weights(optimizer()), 1000),
        lambda: master_weights(optimizer()),
    ),
    "inside of multi_steps": (
        lambda: multi_steps(offload(optimizer(), 1000), 2),
        lambda: multi_steps(optimizer(), 2),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_updates_are_those_of_the_optimizer_to_the_last_bit(name):
    ours, plain = (make() for make in ROWS[name])
    jit = name != "offload"
    moved, state = trained(ours, jit)
    chex.assert_trees_all_equal((moved, state), trained(plain, jit))
    slots = state.inner_opt_state if name == "inside of multi_steps" else state
    assert kinds(slots) == {("pinned_host", True), ("device", False)}
    assert kinds(moved) == {("device", True), ("device", False)}


def test_a_chunk_waits_until_the_one_before_is_back_on_the_host():
    tx = offload(optimizer(), 1)
    state = jax.eval_shape(tx.init, PARAMS)

    def run(state):
        state = jax.tree.map(
            lambda x: jax.device_put(x, jax.memory.Space.Host) if x.ndim else x, state
        )
        return tx.update(PARAMS, state, PARAMS)

    eqns = jax.make_jaxpr(run)(state).eqns
    before = {}  # by variable: the copies to the host that it waits for
    waits = []  # by copy to the device
    for place, eqn in enumerate(eqns):
        reads = [before.get(v, set()) for v in eqn.invars if not hasattr(v, "val")]
        past = set().union(*reads)
        if eqn.primitive.name == "device_put":
            source, target = eqn.invars[0].aval, eqn.outvars[0].aval
            if target.memory_space == source.memory_space:
                pass
            elif target.memory_space == jax.memory.Space.Host:
                past = past | ({place} if past or waits else set())
            else:
                waits.append((eqn.outvars[0], past))
        before |= dict.fromkeys(eqn.outvars, past)
    used = {v for eqn in eqns for v in eqn.invars if not hasattr(v, "val")}
    waits = [len(past) for v, past in waits if v in used]
    # Two arrays for each of fifteen parameters; each later chunk waits for those of all before it.
    assert waits[:2] == [0, 0]
    assert len(waits) == 30
    assert all(n >= 2 for n in waits[2:])


def test_state_sharding_reports_the_memory_kind_and_zero1_keeps_it():
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    params = {"w": jax.device_put(jnp.ones((4, 2)), rows)}
    told = state_sharding(offload(trace(0.9)), params).trace["w"]
    assert told.memory_kind == "pinned_host"
    with jax.set_mesh(mesh):
        made = jax.jit(
            offload(trace(0.9)).init, out_shardings=state_sharding(offload(trace(0.9)), params)
        )
        assert made(params).trace["w"].sharding == told
        tx = zero1(offload(trace(0.9)), "data", min_size=1)
        updates, state = jax.jit(tx.update)(params, jax.jit(tx.init)(params), params)
    assert state.trace["w"].sharding.memory_kind == "pinned_host"
    assert updates["w"].sharding.memory_kind == "device"


def test_a_platform_without_host_memory_is_an_error(monkeypatch):
    device = types.SimpleNamespace(
        platform="abacus", addressable_memories=lambda: [types.SimpleNamespace(kind="beads")]
    )
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    with pytest.raises(ValueError, match=r"abacus devices have no memory.*\(theirs: beads\)"):
        offload(trace(0.9)).init(PARAMS)
    with pytest.raises(ValueError, match="chunk_bytes must be a positive int, not 0"):
        offload(trace(0.9), 0)
