"""Run by test_sharding.py with eight fake devices; each function is one part."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from optx_core import (
    Slices,
    adaptive_grad_clip,
    apply_if_finite,
    apply_updates,
    chain,
    clip_by_block_rms,
    clip_by_global_norm,
    ema,
    flatten,
    global_norm,
    inject_hyperparams,
    masked,
    master_weights,
    monitor,
    multi_steps,
    offload,
    partition,
    per_slice,
    scale,
    skip_if,
    state_sharding,
    stochastic_rounding,
    trace,
    tree,
    with_ema,
    zero1,
    zero_nans,
)
from optx_core.build import LeafStep, leafwise, wrapping
from optx_testing import check_transformation
from sampling import share

COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: COMPILED.append(event) if "backend_compile" in event else None
)
SHAPES = {"w": ((16, 8), P("data", "model")), "v": ((8, 24), P(None, "model")), "b": ((8,), P())}


def mesh_of(kind):
    return jax.make_mesh((4, 2), ("data", "model"), (kind, kind))


def params_on(mesh, specs=None, dtype=jnp.float32):
    def leaf(name):
        shape, spec = SHAPES[name]
        value = np.linspace(-1, 1, int(np.prod(shape))).reshape(shape)
        spec = spec if specs is None else specs
        return jax.device_put(jnp.asarray(value, dtype), NamedSharding(mesh, spec))

    return {name: leaf(name) for name in SHAPES}


def matrices(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


def by_rank(params):
    return jax.tree.map(lambda p: "matrix" if p.ndim > 1 else "rest", params)


def factored():
    """Row and column statistics, and a stack of memories, as optimizers of the siblings keep them."""

    def init(params):
        return (
            jax.tree.map(lambda p: jnp.zeros_like(p.sum(0)), params),
            jax.tree.map(lambda p: jnp.zeros_like(p.sum(-1, keepdims=True)), params),
            jax.tree.map(lambda p: jnp.broadcast_to(jnp.zeros_like(p), (3, *p.shape)), params),
        )

    def leaf(g, row, column, memory):
        return g, row + g.sum(0), column + g.sum(-1, keepdims=True), memory

    return leafwise(
        lambda flow, state, params, **_: LeafStep(
            leaf, reduced=state, close=lambda *slots: tuple(slots)
        ),
        init,
    )


def optimizer():
    return chain(clip_by_global_norm(1.0), trace(0.9), ema(0.99), scale(-0.1))


ROWS = {
    "optimizer": optimizer(),
    "factored": factored(),
    "multi_steps": multi_steps(optimizer(), 2),
    "master_weights": master_weights(optimizer()),
    "stochastic_rounding": stochastic_rounding(optimizer()),
    "with_ema": with_ema(optimizer()),
    "apply_if_finite": apply_if_finite(optimizer(), 2),
    "skip_if": skip_if(optimizer()),
    "masked": masked(optimizer(), matrices),
    "partition": partition({"matrix": optimizer(), "rest": trace(0.5)}, by_rank),
    "inject_hyperparams": inject_hyperparams(trace)(0.9),
    "monitor": chain(monitor({"norm": global_norm}), zero_nans()),
}


def spec(x):
    made = x.sharding.spec if isinstance(x, jax.Array) else x.spec
    return tuple(made) + (None,) * (x.ndim - len(made) if isinstance(x, jax.Array) else 0)


def padded(s, n):
    return (*s, *(None,) * (n - len(s)))


def state_sharding_part():
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = mesh_of(kind)
        params = params_on(mesh)
        expected = {name: padded(s, len(shape)) for name, (shape, s) in SHAPES.items()}
        for name in share(ROWS, 3, kind.name):
            tx = ROWS[name]
            made = state_sharding(tx, params)
            state = jax.jit(tx.init, out_shardings=made)(params)
            assert jax.tree.structure(state) == jax.tree.structure(made), name
            for (path, x), s in zip(
                jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(made), strict=True
            ):
                keys = [str(getattr(k, "key", "")) for k in path]
                owner = next((k for k in keys if k in SHAPES), None)
                if owner and x.shape == SHAPES[owner][0]:
                    assert padded(s.spec, x.ndim) == expected[owner], (name, path, s)
                assert x.sharding.is_equivalent_to(s, x.ndim), (name, path)
        row, column, memory = state_sharding(factored(), params)
        assert padded(row["w"].spec, 1) == ("model",)
        assert padded(column["w"].spec, 2) == ("data", None)
        assert padded(memory["w"].spec, 3) == (None, "data", "model")
        assert padded(memory["v"].spec, 3) == (None, None, "model")
        narrow = params_on(mesh, dtype=jnp.bfloat16)
        masters = master_weights(optimizer(), bits=24)
        made = state_sharding(masters, narrow)
        error = made.error
        assert {k: padded(s.spec, len(expected[k])) for k, s in error.items()} == expected
        moved, state, compilations = steps(masters, narrow, mesh, shardings=made)
        assert compilations == 0, compilations
        assert moved["w"].sharding == narrow["w"].sharding
        assert state.error["w"].sharding.is_equivalent_to(error["w"], 2)
    with pytest.raises(ValueError, match="no parameter is on a mesh"):
        state_sharding(optimizer(), {"w": jnp.ones(3)})


def steps(tx, params, mesh, count=5, shardings=None):
    """A jitted training loop; returns parameters, state, and the compilations after the first step."""

    @jax.jit
    def step(params, state):
        grads = jax.tree.map(lambda p: jnp.sin(3 * p) + 0.1 * p, params)
        updates, state = tx.update(grads, state, params)
        return apply_updates(params, updates), state

    with jax.set_mesh(mesh):
        state = jax.jit(tx.init, **({} if shardings is None else {"out_shardings": shardings}))(
            params
        )
        params, state = step(params, state)
        before = len(COMPILED)
        for _ in range(count - 1):
            params, state = step(params, state)
    return params, state, len(COMPILED) - before


def on_one_device(tx, count=5):
    plain = {
        name: jnp.asarray(np.asarray(p)) for name, p in params_on(mesh_of(AxisType.Auto)).items()
    }
    state = tx.init(plain)
    for _ in range(count):
        grads = jax.tree.map(lambda p: jnp.sin(3 * p) + 0.1 * p, plain)
        updates, state = tx.update(grads, state, plain)
        plain = apply_updates(plain, updates)
    return plain


def bytes_on_first_device(state):
    return sum(
        shard.data.nbytes
        for x in jax.tree.leaves(state)
        for shard in x.addressable_shards
        if shard.device == jax.devices()[0]
    )


def zero1_part():
    expected = on_one_device(optimizer())
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = mesh_of(kind)
        # Replicated (data parallel), and with tensor parallelism.
        for layout in share((P(), None), 2, kind.name):
            specs = None if layout is None else layout
            params = params_on(mesh, specs)
            if layout is None:
                model_only = {"w": P(None, "model"), "v": P(None, "model"), "b": P()}
                params = {
                    k: jax.device_put(np.asarray(p), NamedSharding(mesh, model_only[k]))
                    for k, p in params.items()
                }
            own = jax.tree.map(lambda p: p.sharding, params)
            tx = zero1(optimizer(), "data", mesh=mesh, param_shardings=own, min_size=64)
            moved, state, compilations = steps(tx, params, mesh)
            assert compilations == 0, (kind, layout, compilations)
            for name, p in moved.items():
                assert p.sharding.is_equivalent_to(own[name], p.ndim), (kind, name, p.sharding)
                np.testing.assert_allclose(np.asarray(p), expected[name], rtol=1e-5, atol=1e-6)
            slots = tree.get_all_with_path(state, "trace")
            for name in ("w", "v"):
                assert "data" in spec(slots[0][1][name]), (
                    kind,
                    layout,
                    name,
                    slots[0][1][name].sharding,
                )
            layout_of_state = state_sharding(optimizer(), params)
            plain = jax.jit(optimizer().init, out_shardings=layout_of_state)(params)
            small = 2 * 8 * 4 + 16  # b's two slots, below the threshold, and the counts
            split, whole = bytes_on_first_device(state), bytes_on_first_device(plain)
            assert split <= 1.05 * whole / 4 + small, (kind, layout, split, whole)


def no_drift_part():
    """Without ZeRO too: parameters keep their layout, and nothing compiles after the first step."""
    expected = on_one_device(optimizer())
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = mesh_of(kind)
        params = params_on(mesh)
        moved, _, compilations = steps(
            optimizer(), params, mesh, shardings=state_sharding(optimizer(), params)
        )
        assert compilations == 0
        for name, p in moved.items():
            assert p.sharding.is_equivalent_to(params[name].sharding, p.ndim)
            np.testing.assert_allclose(np.asarray(p), expected[name], rtol=1e-5, atol=1e-6)


def conformance_part():
    """The kit on eight devices: the kernel of the default parameters has rows for each."""
    for name in share(("optimizer", "multi_steps", "stochastic_rounding", "partition"), 2):
        check_transformation(ROWS[name], promises=(8,))


def with_table():
    """A state with an array that belongs to no parameter, such as the coefficients of Muon."""

    def init(params):
        return jnp.arange(3.0)

    def update(updates, state, params=None, **_):
        total = sum(jnp.sum(g) for g in jax.tree.leaves(updates))
        return jax.tree.map(lambda g: g * state[1], updates), state + 0.0 * total

    return wrapping(init, update)


tabled = chain(optimizer(), with_table())
OUTSIDE = {
    "multi_steps": ROWS["multi_steps"],
    "master_weights": ROWS["master_weights"],
    "flatten": flatten(trace(0.9)),
    "adaptive_grad_clip": adaptive_grad_clip(0.1),
    "per_slice": per_slice(chain(trace(0.9), clip_by_block_rms(0.1)), {"w": 1, "v": 1, "b": 0}),
    "per_slice of another axis": per_slice(
        clip_by_block_rms(0.1), {"w": Slices((1,)), "v": Slices((0,)), "b": 0}
    ),
    "per_slice of blocks": per_slice(
        adaptive_grad_clip(0.1), {"w": Slices((0,), sizes=(4, 4)), "v": 0, "b": 0}
    ),
    "offload": offload(tabled, 1),
    "offload, zero1": offload(zero1(tabled, "data", min_size=64)),
    "zero1, offload": zero1(offload(tabled), "data", min_size=64),
}
if jax.__version_info__ < (0, 12):
    del OUTSIDE["per_slice"]  # there JAX asks for `jax.set_mesh`, in an error of its own


def outside_part():
    """Arrays on a mesh are enough: un-jitted calls need no `jax.set_mesh`, where a spec alone has no mesh."""

    def after_three(tx, params):
        state = tx.init(params)
        for k in range(3):
            updates, state = tx.update(
                jax.tree.map(lambda p: jnp.sin(k + 3 * p), params), state, params
            )
        return updates

    plain = jax.tree.map(lambda p: jnp.asarray(np.asarray(p)), params_on(mesh_of(AxisType.Auto)))
    failures = []
    for name in share(OUTSIDE, 2):
        tx = OUTSIDE[name]
        is_on_host = "offload" in name
        expected = after_three(tabled if is_on_host else tx, plain)
        # On Auto axes layouts are no types, and only offload names devices.
        for kind in (AxisType.Explicit, AxisType.Auto)[: 1 + is_on_host]:
            params = params_on(mesh_of(kind))
            try:
                updates = after_three(tx, params)
                for key, p in params.items():
                    kept = updates[key].sharding.is_equivalent_to(p.sharding, p.ndim)
                    assert kept or kind is AxisType.Auto, key
                    np.testing.assert_allclose(updates[key], expected[key], rtol=1e-4, atol=1e-6)
            except Exception as error:  # noqa: BLE001 (all rows are tried, and told of together)
                failures.append(f"{name}, {kind}: {type(error).__name__}: {str(error)[:200]}")
    assert not failures, "\n".join(failures)


def norms_part():
    """Arrays of one shape in different layouts, at sizes whose squares overflow, or underflow."""
    layouts = {"a": P("data", "model"), "b": P("model", "data"), "c": P(None, "data"), "d": P()}
    x = np.linspace(-1, 1, 128).reshape(16, 8)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = mesh_of(kind)
        for size in (1e30, 1.0, 1e-30):
            value = jnp.asarray(size * x, jnp.float32)
            arrays = {k: jax.device_put(value, NamedSharding(mesh, s)) for k, s in layouts.items()}
            expected = size * np.sqrt(len(layouts) * np.sum(x * x))
            np.testing.assert_allclose(global_norm(arrays), expected, rtol=1e-6)
            with jax.set_mesh(mesh):
                program = jax.jit(jax.value_and_grad(lambda arrays: global_norm(arrays)))
                norm, slopes = program(arrays)
                shared = jax.shard_map(global_norm, in_specs=P(), out_specs=P())
                held = {"a": jnp.asarray(x, jnp.float32), "b": jnp.ones((16, 8))}
                np.testing.assert_allclose(jax.jit(shared)(held), global_norm(held), rtol=1e-6)
            np.testing.assert_allclose(norm, expected, rtol=1e-6)
            for slope in slopes.values():
                np.testing.assert_allclose(slope, size * x / expected, rtol=1e-5)


if __name__ == "__main__":
    assert jax.device_count() == 8
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    globals()[f"{sys.argv[1]}_part"]()
    print("ok")
