"""Run by test_reductions.py with eight fake devices; each function is one part."""

import re
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from optx_core import (
    Accumulator,
    apply_updates,
    chain,
    diloco,
    ema,
    micro_grad,
    micro_vmap,
    microbatch,
    multi_steps,
    scale,
    trace,
    zero1,
)
from optx_core.build import loop_carry
from sampling import share

KINDS = (AxisType.Auto, AxisType.Explicit)
SLICES = 16
rng = np.random.default_rng(0)
PARAMS = {"w": rng.normal(size=(16, 8)), "b": rng.normal(size=8), "c": np.float64(0.5)}
X = rng.normal(size=(128, 16))
LAYOUTS = {
    "data parallel": {"w": P(), "b": P(), "c": P()},
    "FSDP": {"w": P(None, "data"), "b": P("data"), "c": P()},
}


def loss(params, x):
    hidden = jnp.tanh(jnp.dot(x, params["w"]) + params["b"][None])
    return jnp.mean(jnp.square(hidden - params["c"]))


with jax.enable_x64(True):
    EXPECTED = jax.tree.map(np.asarray, jax.grad(loss)(PARAMS, X))


def mesh_of(kind, shape=(8,)):
    names = ("data", "model")[: len(shape)]
    return jax.make_mesh(shape, names, (kind,) * len(shape))


def placed(mesh, specs=LAYOUTS["data parallel"]):
    params = {k: jax.device_put(p, NamedSharding(mesh, specs[k])) for k, p in PARAMS.items()}
    return params, jax.device_put(X, NamedSharding(mesh, P("data")))


def collectives(function, *args):
    """The collectives of the compiled program, in its loops and outside of them, and its results."""
    compiled = jax.jit(function).lower(*args).compile()
    kinds = r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
    loops, outside = compiled.as_text().split("\nENTRY ")
    return re.findall(kinds, loops), re.findall(kinds, outside), compiled(*args)


def assert_equal(grads, expected=EXPECTED, rtol=1e-12):
    chex.assert_trees_all_close(grads, expected, rtol=rtol, atol=1e-14)


def gradients_part():
    run = micro_grad(loss, len(X) // SLICES, mesh_axes="data")
    at_each = micro_grad(loss, len(X) // SLICES)
    for kind in share(KINDS, 2, "gradients"):
        mesh = mesh_of(kind)
        for layout, specs in LAYOUTS.items():
            params, x = placed(mesh, specs)
            with jax.set_mesh(mesh):
                in_loop, outside, grads = collectives(run, params, x)
                assert in_loop == [], (kind, layout, in_loop)
                gathered = sum(map(bool, specs.values()))
                assert outside.count("all-gather") <= gathered, (kind, layout, outside)
                rest = [c for c in outside if c != "all-gather"]
                assert 1 <= len(rest) <= len(PARAMS), (kind, layout, outside)
                assert set(rest) <= {"all-reduce", "reduce-scatter"}, (kind, layout, outside)
            assert_equal(grads)
            if kind == AxisType.Explicit:
                for k, g in grads.items():
                    assert jax.typeof(g).sharding.spec == jax.typeof(params[k]).sharding.spec
        with jax.set_mesh(mesh):
            assert "all-reduce" in collectives(at_each, *placed(mesh))[0]  # what is left out
            of_dict = micro_grad(lambda p, batch: loss(p, batch["x"]), 8, mesh_axes="data")
            assert_equal(of_dict(PARAMS, {"a": None, "x": X}))  # "c" is a number


def zero1_part():
    """A whole step: the optimizer's state is split, the parameters are gathered after the update."""
    tx = zero1(chain(trace(0.9), ema(0.9), scale(-0.1)), "data", min_size=8)
    run = micro_grad(loss, len(X) // SLICES, mesh_axes="data")

    def step(params, state, x):
        updates, state = tx.update(run(params, x), state, params)
        return apply_updates(params, updates), state

    plain = chain(trace(0.9), ema(0.9), scale(-0.1))
    updates, _ = plain.update(EXPECTED, plain.init(PARAMS), PARAMS)
    for kind in share(KINDS, 2, "zero1"):
        mesh = mesh_of(kind)
        params, x = placed(mesh)
        with jax.set_mesh(mesh):
            state = jax.jit(tx.init)(params)
            in_loop, outside, (moved, _) = collectives(step, params, state, x)
            assert in_loop == [], (kind, in_loop)
            assert 1 <= len([c for c in outside if c != "all-gather"]) <= len(PARAMS), outside
        assert_equal(moved, apply_updates(PARAMS, updates))


def other_axes_part():
    """The model axis of tensor parallelism stays as it is, and a batch may be split over two axes."""
    tensor = {"w": P(None, "model"), "b": P("model"), "c": P()}
    for kind in share(KINDS, 2, "other_axes"):
        mesh = mesh_of(kind, (4, 2))
        params, x = placed(mesh, tensor)
        with jax.set_mesh(mesh):
            assert_equal(jax.jit(micro_grad(loss, 8, mesh_axes="data"))(params, x))
            params, x = placed(mesh)
            x = jax.device_put(x, NamedSharding(mesh, P(("data", "model"))))
            run = micro_grad(loss, 16, mesh_axes=("data", "model"), return_value=True)
            value, grads = run(params, x)  # without jit
        assert_equal(grads)
        np.testing.assert_allclose(value, loss(PARAMS, X), rtol=1e-12)


def reductions_part():
    """Sums, rows in the batch's order, gradients of examples, early ends, a carried count, a user's maximum."""
    mesh = mesh_of(AxisType.Explicit)
    params, x = placed(mesh)
    total = lambda p, x: loss(p, x) * x.shape[0]
    largest = Accumulator(
        init=lambda s: jnp.full(s.shape, -jnp.inf, s.dtype),
        update=lambda carry, x, index: jnp.maximum(carry, x),
        finalize=lambda carry: carry,
        combine=jax.lax.pmax,
    )
    with jax.set_mesh(mesh):
        grads = micro_grad(total, 32, reduction="sum", mesh_axes="data")(params, x)
        assert_equal(grads, jax.tree.map(lambda g: g * len(X), EXPECTED))
        rows, top = microbatch(
            lambda x: (2 * x, jnp.max(x)), 16, reduction=("concat", largest), mesh_axes="data"
        )(x)
        assert_equal((rows, top), (2 * X, X.max()))
        assert rows.sharding.spec[0] in ("data", ("data",))
        norms = micro_vmap(lambda x, p: loss(p, x[None]), 16, mesh_axes="data")(x, params)
        assert_equal(norms, jax.vmap(lambda x: loss(PARAMS, x[None]))(X))
        clip = lambda g: jax.tree.map(jnp.sign, g)
        signs, _ = micro_grad(loss, 16, transform_fn=clip, mesh_axes="data")(params, x)
        one = jax.vmap(lambda x: clip(jax.grad(loss)(PARAMS, x[None])))(X)
        assert_equal(signs, jax.tree.map(lambda g: g.mean(0), one))
        early = jax.jit(
            lambda p, x, n: micro_grad(loss, 16, num_real_microbatches=n, mesh_axes="data")(p, x)
        )
        kept = X.reshape(16, 8, 16)[:, :3].reshape(-1, 16)  # slices hold every eighth example
        assert_equal(early(params, x, 3), jax.grad(loss)(PARAMS, kept))
        counted = lambda p, count, x: (loss(p, x), count + 1)
        run = micro_grad(counted, 16, batch_argnums=2, carry_argnum=1, mesh_axes="data")
        count, grads = run(params, jnp.array(0), x)
        assert count == 8
        assert_equal(grads)


def multi_steps_part():
    """Micro-steps in one program: the one reduction stands under the condition of the k-th step."""
    inner = chain(trace(0.9), scale(-0.1))
    tx, plain = multi_steps(inner, 4, axis_name="data"), multi_steps(inner, 4)
    batches = X.reshape(8, 16, 16)  # two windows

    def train(tx, params, state, batches):
        def step(carry, x):
            params, state = carry
            own = jax.tree.map(varying, params)
            updates, state = tx.update(jax.grad(loss)(own, x), state, params)
            return (apply_updates(params, updates), state), None

        first = params, state._replace(acc_grads=jax.tree.map(varying, state.acc_grads))
        params, last = jax.lax.scan(step, first, batches)[0]
        return params, last._replace(acc_grads=state.acc_grads)  # zeros, as at each window's end

    varying = lambda p: p
    expected = jax.jit(train, static_argnums=0)(plain, PARAMS, plain.init(PARAMS), batches)
    varying = lambda p: jax.lax.pcast(p, "data", to="varying")
    for kind in share(KINDS, 2, "multi_steps"):
        mesh = mesh_of(kind)
        params, _ = placed(mesh)
        run = jax.shard_map(
            lambda *args: train(tx, *args),
            mesh=mesh,
            in_specs=(P(), P(), P(None, "data")),
            out_specs=P(),
        )
        with jax.set_mesh(mesh):
            state = jax.jit(tx.init)(params)
            x = jax.device_put(batches, NamedSharding(mesh, P(None, "data")))
            in_loop, outside, results = collectives(run, params, state, x)
            assert outside == [], (kind, outside)
            assert 1 <= in_loop.count("all-reduce") <= len(PARAMS), (kind, in_loop)
            assert_equal(results, expected)
    # In jax.vmap the accumulators alone have the axis.
    state = tx.init(PARAMS)
    lanes = state._replace(acc_grads=jax.tree.map(lambda a: jnp.stack([a] * 8), state.acc_grads))
    axes = type(state)(None, None, None, 0, None)
    micro = jax.vmap(
        lambda p, s, x: tx.update(jax.grad(loss)(p, x), s, p),
        in_axes=(None, axes, 0),
        out_axes=(None, axes),
        axis_name="data",
    )
    params = PARAMS
    for x in batches:
        updates, lanes = jax.jit(micro)(params, lanes, x.reshape(8, 2, 16))
        params = apply_updates(params, updates)
    assert_equal(params, expected[0])


def diloco_part():
    """The workers are the devices: parameters of their own, an anchor that JAX knows to be common."""
    sgd = chain(trace(0.9), scale(-0.1))
    tx = diloco(sgd, sgd, 2, axis_name="data", fragments=2)
    batches = X.reshape(8, 4, 4, 16)  # workers, steps

    def train(batches):
        def step(carry, x):
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params, x), state, params)
            return (apply_updates(params, updates), state), None

        own = lambda p: jnp.zeros_like(batches, shape=np.shape(p)) + p  # varies as the batches do
        first = jax.tree.map(own, PARAMS), tx.init(PARAMS)
        first = loop_carry(lambda carry: step(carry, batches[0])[0], first)
        params, state = jax.lax.scan(step, first, batches)[0]
        return params, state.anchor

    expected = jax.jit(jax.vmap(train, axis_name="data"))(batches)
    for kind in share(KINDS, 2, "diloco"):
        mesh = mesh_of(kind)

        def on_device(x):
            params, anchor = train(x[0])
            return jax.tree.map(lambda p: p[None], params), anchor

        run = jax.shard_map(on_device, mesh=mesh, in_specs=P("data"), out_specs=(P("data"), P()))
        params, anchor = jax.jit(run)(jax.device_put(batches, NamedSharding(mesh, P("data"))))
        assert_equal(params, expected[0])
        assert_equal(anchor, jax.tree.map(lambda a: a[0], expected[1]))
        workers = np.asarray(params["w"])
        assert not np.array_equal(workers[0], workers[1])  # this fragment agrees at other steps


def refusals_part():
    mesh = mesh_of(AxisType.Auto)
    params, x = placed(mesh)
    run = micro_grad(loss, 16, mesh_axes="data")
    with pytest.raises(ValueError, match=r"call within jax\.set_mesh"):
        run(PARAMS, jnp.asarray(X))
    assert_equal(jax.jit(run)(params, x))  # the batch names its mesh
    for reduction in ("stack", "statistics"):
        with pytest.raises(ValueError, match=f"not '{reduction}', which needs the result of a"):
            microbatch(jnp.mean, 16, reduction=reduction, mesh_axes="data")
    with jax.set_mesh(mesh):
        with pytest.raises(ValueError, match=r"has the axes \('data',\), not 'rows'"):
            micro_grad(loss, 16, mesh_axes="rows")(params, x)
        with pytest.raises(ValueError, match="microbatch_size=4 is not divisible by the 8 parts"):
            micro_grad(loss, 4, mesh_axes="data")(params, x)
        own = jax.shard_map(run, in_specs=(P(), P("data")), out_specs=P())
        with pytest.raises(ValueError, match=r"has its own examples already.*jax\.lax\.pmean"):
            jax.jit(own)(params, x)
        # Its derivative would be a sum over the devices at each slice, where a mean is expected.
        closing = microbatch(lambda x: jax.grad(loss)(params, x), 16, mesh_axes="data")
        with pytest.raises(ValueError, match="takes the gradient of an array it closes over"):
            closing(x)
        reducing = lambda p, x: jax.lax.psum(loss(p, x), "data")
        with pytest.raises(ValueError, match="reduces over them itself"):
            micro_grad(reducing, 16, mesh_axes="data", return_value=True)(params, x)
        for tx in (
            multi_steps(trace(0.9), 2, axis_name="data"),
            diloco(trace(0.9), trace(0.9), 2, axis_name="data"),
        ):
            summed = jax.shard_map(
                lambda p, x, tx=tx: tx.update(jax.grad(loss)(p, x), tx.init(p), p)[0],
                in_specs=(P(), P("data")),
                out_specs=P(),
            )
            with pytest.raises(ValueError, match=r"gradient at 'b' is the same on all devices of"):
                jax.jit(summed)(params, x)
        average = lambda p, mean, x: (loss(p, x), {"mean": x.mean(0)})
        batch_norm = micro_grad(average, 16, batch_argnums=2, carry_argnum=1, mesh_axes="data")
        with pytest.raises(ValueError, match="mean of the carried value depends on each device's"):
            batch_norm(params, {"mean": jnp.zeros(16, X.dtype)}, x)


if __name__ == "__main__":
    assert jax.device_count() == 8
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    for part in sys.argv[1:]:
        globals()[f"{part}_part"]()
    print("ok")
