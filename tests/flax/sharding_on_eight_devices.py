"""Run by test_sharding.py with eight fake devices; each function is one part."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from flax import nnx
from optx_core import (
    TreeMismatchError,
    chain,
    inject_hyperparams,
    scale_by_learning_rate,
    trace,
    with_ema,
    zero1_rule,
)
from optx_core.build import LeafStep, leafwise
from optx_flax import (
    abstract_state,
    compile_step,
    create_sharded,
    hyperparams,
    place_opt_state,
    restore_into,
    set_hyperparam,
    shard_state,
)

COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: COMPILED.append(event) if "backend_compile" in event else None
)
KINDS = (AxisType.Auto, AxisType.Explicit)
TX = chain(trace(0.9), scale_by_learning_rate(0.1))


def mesh_of(kind, shape=(4, 2)):
    return jax.make_mesh(shape, ("data", "model"), (kind, kind))


def factored():
    """A row sum and a stack of memories for each parameter, as optimizers of the siblings keep them."""

    def init(params):
        return (
            jax.tree.map(lambda p: jnp.zeros_like(p.sum(0)), params),
            jax.tree.map(lambda p: jnp.broadcast_to(jnp.zeros_like(p), (3, *p.shape)), params),
        )

    def leaf(g, row, memory):
        return g, row + g.sum(0), memory

    return leafwise(
        lambda flow, state, params, **_: LeafStep(leaf, reduced=state, close=lambda *s: tuple(s)),
        init,
    )


class Model(nnx.Module):
    """A matrix along the model axis, and its bias."""

    def __init__(self, annotated=True):
        note = {"out_sharding": (None, "model")} if annotated else {}
        self.w = nnx.Param(jnp.linspace(-1, 1, 8 * 16).reshape(8, 16), **note)
        self.b = nnx.Param(jnp.ones(16), **({"out_sharding": ("model",)} if annotated else {}))
        self.none = nnx.Variable(jnp.zeros(()))


def spec(x):
    made = tuple(x.sharding.spec)
    return (*made, *(None,) * (x.ndim - len(made)))


def specs(state):
    return {
        jax.tree_util.keystr(path): spec(x)
        for path, x in jax.tree_util.tree_leaves_with_path(nnx.as_pure(state))
    }


def push(model, optimizer):
    optimizer.update(model, jax.tree.map(jnp.sin, nnx.state(model, nnx.Param)))


def jitted_push(model, optimizer):
    run = nnx.jit(push)
    return lambda: run(model, optimizer)


def without_compilations(step, count=3):
    step()
    before = len(COMPILED)
    for _ in range(count):
        step()
    assert len(COMPILED) == before


def shard_state_part():
    """Made eagerly, and inside nnx.jit; each slot lies, and is annotated, as is right for its shape."""
    for kind in KINDS:
        mesh = mesh_of(kind)
        with jax.set_mesh(mesh):
            model = Model()
            with pytest.raises((ValueError, AssertionError)):  # the trap: flax's annotations
                nnx.Optimizer(model, factored(), wrt=nnx.Param)
            tx = shard_state(factored(), model)
            assert shard_state(TX, model) == shard_state(TX, Model())
            assert hash(shard_state(TX, model)) == hash(shard_state(TX, Model()))
            for optimizer in (
                nnx.Optimizer(model, tx, wrt=nnx.Param),
                nnx.jit(lambda m: nnx.Optimizer(m, tx, wrt=nnx.Param))(model),
            ):
                row, memory = optimizer.opt_state
                assert spec(row["w"][...]) == ("model",)
                assert spec(row["b"][...]) == ()
                assert spec(memory["w"][...]) == (None, None, "model")
                assert spec(memory["b"][...]) == (None, "model")
                told = nnx.get_partition_spec(nnx.state(optimizer, nnx.optimizer.OptState))
                assert tuple(told["opt_state"][1]["w"].get_value()) == (None, None, "model")
                step = nnx.jit(push)
                without_compilations(lambda o=optimizer, s=step: s(model, o))
                assert spec(model.w[...]) == (None, "model")
                assert spec(optimizer.opt_state[1]["w"][...]) == (None, None, "model")


def unannotated_part():
    """Parameters that were only placed: the layout is that of their arrays, also inside nnx.jit."""
    for kind in KINDS:
        mesh = mesh_of(kind)
        model = Model(annotated=False)
        place = {"w": P("data", "model"), "b": P(), "none": P()}
        for name, s in place.items():
            v = getattr(model, name)
            v.set_value(jax.device_put(v[...], NamedSharding(mesh, s)))
        with jax.set_mesh(mesh):
            tx = shard_state(TX, model)
            optimizer = nnx.jit(lambda m, tx=tx: nnx.Optimizer(m, tx, wrt=nnx.Param))(model)
            assert spec(optimizer.opt_state[0].trace["w"][...]) == ("data", "model")
            per_device = optimizer.opt_state[0].trace["w"][...].addressable_shards[0].data.nbytes
            assert per_device == 8 * 16 * 4 // 8


def zero1_part():
    """Split state, parameters unmoved; the layouts hold under nnx.jit and compile_step alike."""
    expected = None
    for kind in KINDS:
        mesh = mesh_of(kind)
        for how in ("nnx.jit", "compile_step", "eager"):
            with jax.set_mesh(mesh):
                model = Model()
                rule = zero1_rule("data", 4)
                tx = shard_state(with_ema(TX), model, rule=rule)
                optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
                step = compile_step(push, model, optimizer)
                if how == "compile_step":
                    without_compilations(step)
                    step.sync()
                else:
                    run = nnx.jit(push) if how == "nnx.jit" else push
                    without_compilations(lambda r=run, m=model, o=optimizer: r(m, o))
            for slot in (optimizer.opt_state.ema, optimizer.opt_state.inner_state[0].trace):
                assert spec(slot["w"][...]) == ("data", "model"), (kind, how, slot["w"].sharding)
                assert spec(slot["b"][...]) == ("model",)
            assert spec(model.w[...]) == (None, "model"), (kind, how)
            values = np.asarray(model.w[...])
            expected = values if expected is None else expected
            np.testing.assert_allclose(values, expected, rtol=1e-6)


def off_the_mesh_part():
    """No mesh is set: what was made beside it joins it, and nothing compiles after the first step."""
    for kind in KINDS:
        mesh = mesh_of(kind)
        model = Model(annotated=False)
        place = NamedSharding(mesh, P("data", "model"))
        model.w.set_value(jax.device_put(model.w[...], place))
        model.rngs = nnx.Rngs(0)
        optimizer = nnx.Optimizer(model, shard_state(TX, model), wrt=nnx.Param)
        step = compile_step(push, model, optimizer)
        without_compilations(step)
        step.sync()
        assert (
            spec(model.w[...]) == spec(optimizer.opt_state[0].trace["w"][...]) == ("data", "model")
        )
        assert int(optimizer.step[...]) == 4


def placing_part():
    """An optimizer that was made off the mesh; the cheat sheet's recipe by name."""
    for kind in KINDS:
        mesh = mesh_of(kind)
        with jax.set_mesh(mesh):
            model = Model()
            optimizer = nnx.Optimizer(model, TX, wrt=nnx.Param)
        away = jax.devices()[0]
        state = nnx.state(optimizer)
        nnx.update(optimizer, jax.tree.map(lambda x: jax.device_put(np.asarray(x), away), state))
        for given in (None, model):
            place_opt_state(optimizer, mesh, model=given)
            assert spec(optimizer.opt_state[0].trace["w"][...]) == (None, "model")
            assert optimizer.step[...].sharding.mesh == mesh
        with jax.set_mesh(mesh):
            without_compilations(jitted_push(model, optimizer))
    plain = Model(annotated=False)
    optimizer = nnx.Optimizer(plain, factored(), wrt=nnx.Param)
    mesh = mesh_of(AxisType.Auto)
    for slots in optimizer.opt_state:  # as nnx.Optimizer would have annotated them
        slots["w"].set_metadata(out_sharding=(None, "model"))
    with pytest.raises(ValueError, match=r"does not fit; pass model=, or make .* shard_state"):
        place_opt_state(optimizer, mesh)
    model_on_mesh = jax.device_put(nnx.state(plain), NamedSharding(mesh, P()))
    nnx.update(plain, model_on_mesh)
    plain.w.set_value(jax.device_put(plain.w[...], NamedSharding(mesh, P("data", "model"))))
    place_opt_state(optimizer, mesh, model=plain)
    assert spec(optimizer.opt_state[0]["w"][...]) == ("model",)
    assert spec(optimizer.opt_state[1]["w"][...]) == (None, "data", "model")


def creation_part():
    """`create_sharded`: FSDP of a model without annotations; nothing whole on any device."""
    for kind in KINDS:
        mesh = mesh_of(kind)
        model, optimizer = create_sharded(
            lambda: Model(annotated=False), TX, mesh, param_rule=zero1_rule("data", 4)
        )
        assert spec(model.w[...]) == ("data", None)
        assert spec(model.b[...]) == ("data",)
        assert specs(optimizer.opt_state[0].trace) == {"['b']": ("data",), "['w']": ("data", None)}
        assert spec(model.none[...]) == ()
        np.testing.assert_allclose(
            np.asarray(model.w[...]), np.asarray(Model(annotated=False).w[...]), rtol=1e-5
        )
        with jax.set_mesh(mesh):
            without_compilations(jitted_push(model, optimizer))
        assert spec(model.w[...]) == ("data", None)
        injected = inject_hyperparams(scale_by_learning_rate)(learning_rate=0.5)
        before = len(COMPILED)
        with jax.transfer_guard("disallow"):
            model, optimizer = create_sharded(Model, injected, mesh)
        assert len(COMPILED) == before + 1  # one jitted call, and nothing comes from the host
        assert float(hyperparams(optimizer)["learning_rate"]) == 0.5
        with jax.set_mesh(mesh):
            push_once = jitted_push(model, optimizer)

            def step(o=optimizer, push_once=push_once):
                set_hyperparam(o, "learning_rate", 0.25)
                push_once()

            step()
            without_compilations(step)


def checkpoint_part():
    """Targets on another mesh; a state that was saved on one is restored on the other."""
    for kind in KINDS:
        mesh, other = mesh_of(kind), mesh_of(kind, (2, 4))
        rule = zero1_rule("data", 2)
        model, optimizer = create_sharded(Model, with_ema(TX), mesh)
        with jax.set_mesh(mesh):
            push(model, optimizer)
        saved = jax.tree.map(np.asarray, nnx.as_pure(nnx.state((model, optimizer))))
        new = create_sharded(Model, with_ema(TX), other, rule=rule)
        target = abstract_state(*new, other)
        for (path, t), x in zip(
            jax.tree_util.tree_leaves_with_path(target),
            jax.tree.leaves(nnx.state(new)),
            strict=True,
        ):
            assert t.sharding.is_equivalent_to(x.sharding, x.ndim), (path, t.sharding, x.sharding)
        restore_into(new, saved)
        assert spec(new[1].opt_state.ema["w"][...]) == ("data", "model")
        assert new[0].w[...].sharding.mesh == other
        jax.tree.map(
            np.testing.assert_array_equal,
            jax.tree.map(np.asarray, nnx.as_pure(nnx.state(new))),
            saved,
        )
        with jax.set_mesh(other):
            abstract = nnx.eval_shape(Model)
        target = abstract_state(
            abstract, nnx.eval_shape(lambda: nnx.Optimizer(Model(False), TX, wrt=nnx.Param)), other
        )
        assert tuple(target[0]["w"].get_value().sharding.spec) == (None, "model")
        assert tuple(target[1]["opt_state"][0]["trace"]["w"].get_value().sharding.spec) == (
            None,
            "model",
        )


def mistakes_part():
    mesh = mesh_of(AxisType.Auto)
    with pytest.raises(
        ValueError, match=r"no mesh is known.*pass mesh=, or call it within jax\.set_mesh"
    ):
        shard_state(TX, Model(annotated=False))
    with jax.set_mesh(mesh):
        model = Model()
    model.w.set_metadata(out_sharding=("rows", "model"))
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), nnx.state(model, nnx.Param)
    )
    with pytest.raises(
        ValueError, match=r"w lies along rows, the mesh has the axes.*logical_axis_rules"
    ):
        shard_state(TX, abstract, mesh=mesh)
    with nnx.logical_axis_rules([("rows", "data"), ("model", "model")]):
        shard_state(TX, abstract, mesh=mesh)
    model.w.set_metadata(out_sharding=("data", "model", None))
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), nnx.state(model, nnx.Param)
    )
    with pytest.raises(
        ValueError, match=r"w of shape \(8, 16\) is annotated with .* has 3 entries"
    ):
        shard_state(TX, abstract, mesh=mesh)
    with jax.set_mesh(mesh):
        tx = shard_state(TX, Model())
        with pytest.raises(
            TreeMismatchError, match=r"made for other parameters \(b: \(16,\) before, absent"
        ):
            tx.init({"w": jnp.ones((8, 16))})
        with pytest.raises(ValueError, match=r"shard_state needs the parameters"):
            tx.update({}, tx.init(nnx.as_pure(nnx.state(Model(), nnx.Param))))
    assert "parameters on {'data': 4, 'model': 2}" in repr(tx)


if __name__ == "__main__":
    assert jax.device_count() == 8
    for part in sys.argv[1:]:
        globals()[f"{part}_part"]()
    print("ok")
