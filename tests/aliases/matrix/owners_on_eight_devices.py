"""Run by test_owners.py with eight fake devices, for each argument NAME/KIND/LAYOUT/MATRICES or NAME.

For NAME/KIND/LAYOUT/MATRICES the update of an optimizer of matrices is compiled for one device and for eight. Each of the eight must do an eighth
of the work, or that of the largest matrix; exchange updates twice; exchange nothing within an iteration; hold
an eighth of the preconditioners; and compute the numbers of one device. A NAME is one of a situation.
"""

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled_work import CompiledWork
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import optx_aliases
from optx_core import state_sharding

OPTIONS = {
    "muon": {},
    **{f"muon {kind}": {"second_moment": kind} for kind in ("row", "entry", "scalar")},
    "dion2": {"fraction": 0.5},
    "soap": {"precondition_frequency": 2},
    "kl_shampoo": {"precondition_frequency": 2},
    "shampoo": {"precondition_frequency": 1, "matrix_eps": 1e-3},
    "kron": {},
    "galore": {"rank": 2, "update_proj_gap": 2},
}
BOTH = ("data", "model")
LAYOUTS = {
    "replicated": P(),
    "rows": P(BOTH),
    "columns": P(None, BOTH),
    "2-D": P("data", "model"),
    "stacked": P(BOTH),
}
PRECONDITIONERS = {
    "left",
    "right",
    "left_root",
    "right_root",
    "left_basis",
    "right_basis",
    "projector",
}
SIDES = [(8, 8), (8, 16), (16, 8), (16, 16), (16, 24), (24, 16), (24, 24)]


def shapes_of(layout, matrices):
    """The shapes of eight equal matrices, or of seven unequal ones; stacked, of eight of each.

    Those in stacks are square: the null space of a covariance has other eigenvectors for another number of matrices.
    """
    if layout == "stacked":
        return [(8, 16, 16)] if matrices == "equal" else [(8, 8, 8), (8, 16, 16)]
    return [(16, 16)] * 8 if matrices == "equal" else SIDES


def gradient(shape, seed):
    return np.random.default_rng(seed).normal(size=shape)


def on_a_mesh(kind):
    return jax.make_mesh((4, 2), BOTH, (kind, kind))


def programs(tx, kind, spec, shapes):
    """The compiled updates on one device and on a mesh, each with a first state and a function that places gradients."""
    here = {f"w{k}": jnp.asarray(gradient(shape, k)) for k, shape in enumerate(shapes)}
    mesh = on_a_mesh(kind)

    def place(trees):
        return jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, spec)), trees)

    def compiled(params, state):
        return jax.jit(lambda g, s: tx.update(g, s, g)).lower(params, state).compile()

    state = tx.init(here)
    yield compiled(here, state), state, here, lambda x: x
    with jax.set_mesh(mesh):
        params = place(here)
        state = jax.jit(tx.init, out_shardings=state_sharding(tx, params))(params)
        yield compiled(params, state), state, params, place


def check_cell(name, kind, layout, matrices):
    tx = getattr(optx_aliases, f"scale_by_{name.split()[0]}")(**OPTIONS[name])
    shapes = shapes_of(layout, matrices)
    both = list(programs(tx, getattr(AxisType, kind), LAYOUTS[layout], shapes))
    alone, shared = (CompiledWork(program) for program, *_ in both)
    check_work(alone, shared, single=layout != "stacked" and matrices == "unequal")
    check_exchanges(shared, name, sum(map(np.prod, shapes)))
    check_bytes(both[1][1])
    check_numbers(*both)


def check_numbers(on_one, on_eight):
    (one, s1, here, _), (eight, s8, there, place) = on_one, on_eight
    for t in range(3):
        grads = {
            k: jnp.asarray(gradient(x.shape, 10 * t + i)) for i, (k, x) in enumerate(here.items())
        }
        u1, s1 = one(grads, s1)
        u8, s8 = eight(place(grads), s8)
        for k, x in u8.items():
            assert x.sharding.is_equivalent_to(there[k].sharding, x.ndim), (k, x.sharding)
            np.testing.assert_allclose(x, u1[k], rtol=1e-6, atol=1e-9, err_msg=f"{k}, step {t}")


def check_work(alone, shared, single):
    largest = 0
    if single:  # one matrix for each device, and none twice
        by_device = np.sum([costs for costs in shared.branches if len(costs) == 8], axis=0)
        np.testing.assert_allclose(sum(by_device), alone.flops, rtol=0.01)
        assert sum(by_device > 0) == len(SIDES)
        largest = max(by_device)
    assert 0 < shared.flops <= 1.1 * max(alone.flops / 8, largest), (shared.flops, alone.flops)


def check_exchanges(shared, name, entries):
    assert not shared.in_loops
    few = 4 if name == "galore" else 2  # its projections and steps, small ones, are two more
    assert shared.collectives["all-to-all"] <= few, shared.collectives
    for kind, count in shared.collectives.items():
        if (
            kind != "all-to-all"
        ):  # norms of stacks, a number for each matrix, or for each of its rows
            assert count <= 4, shared.collectives
            assert shared.entries[kind] <= entries / 16, shared.entries


def check_bytes(state):
    paths = jax.tree_util.tree_leaves_with_path(state)
    own = [
        x
        for path, x in paths
        if x.ndim > 1 and PRECONDITIONERS & {getattr(key, "name", "") for key in path}
    ]
    here = sum(x.addressable_shards[0].data.nbytes for x in own)
    assert here <= 1.1 / 8 * sum(x.nbytes for x in own)


def odd_sizes():
    """Sizes that do not divide, matrices of one shape that lie differently, and owners along one mesh axis."""
    mesh = on_a_mesh(AxisType.Auto)
    specs = {"columns": P(None, "model"), "whole": P(), "stack": P("data", None, "model")}
    shapes = {"columns": (6, 10), "whole": (6, 10), "stack": (4, 4, 6)}
    tx = optx_aliases.scale_by_soap(owner_axes="model")

    def placed(trees):
        return {n: jax.device_put(x, NamedSharding(mesh, specs[n])) for n, x in trees.items()}

    def arrays(seed):
        return {n: jnp.asarray(gradient(s, seed + k)) for k, (n, s) in enumerate(shapes.items())}

    here, step = arrays(0), jax.jit(tx.update)
    there, s1 = placed(here), tx.init(here)
    s8 = jax.jit(tx.init, out_shardings=state_sharding(tx, there))(there)
    work = CompiledWork(step.lower(there, s8).compile())
    assert work.groups == {2}, work.groups
    assert not work.in_loops
    for t in range(2):
        grads = arrays(10 * t)
        u1, s1 = step(grads, s1)
        u8, s8 = step(placed(grads), s8)
        for n, x in u8.items():
            assert x.sharding.is_equivalent_to(there[n].sharding, x.ndim), (n, x.sharding)
            np.testing.assert_allclose(x, u1[n], rtol=1e-6, atol=1e-9, err_msg=n)


def derivatives():
    """Derivatives and `jax.vmap` are those of one device."""
    tx, g = optx_aliases.scale_by_muon(beta=0.0, nesterov=False), jnp.asarray(gradient((6, 10), 0))

    def total(g):
        return jnp.sum(jnp.sin(tx.update(g, tx.init(g))[0]))

    expected = jax.grad(total)(g)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = on_a_mesh(kind)
        with jax.set_mesh(mesh):
            there = jax.device_put(g, NamedSharding(mesh, P(None, "model")))
            slope = jax.jit(jax.grad(total))(there)
            np.testing.assert_allclose(slope, expected, rtol=1e-8, atol=1e-10)
            if kind is AxisType.Auto:
                two = jax.jit(jax.vmap(total))(jnp.stack([there, 2 * there]))
                np.testing.assert_allclose(two, [total(g), total(2 * g)], rtol=1e-8)


def wrong_axis():
    g = jax.device_put(jnp.ones((8, 8)), NamedSharding(on_a_mesh(AxisType.Auto), P("data")))
    for make in (optx_aliases.scale_by_muon, optx_aliases.scale_by_galore):
        tx = make(owner_axes=("data", "hosts"))
        with pytest.raises(ValueError, match="owner_axes names 'hosts', but the mesh has the axes"):
            tx.update(g, tx.init(g))


def programs_differ():
    """A cache on disk keeps the programs of different functions apart, though the compiler asks for them later."""
    g = jax.device_put(jnp.ones((8, 8)), NamedSharding(on_a_mesh(AxisType.Auto), P("data")))
    texts = set()
    for options in ({}, {"ns_steps": 6}, {"owner_axes": "model"}):
        tx = optx_aliases.scale_by_muon(**options)
        lowered = jax.jit(tx.update).lower(g, tx.init(g)).as_text()
        texts.add("\n".join(line for line in lowered.splitlines() if "custom_call" not in line))
    assert len(texts) == 3


def apollo_leaves_matrices_in_place():
    """Reading a matrix is all the work of a projection: devices exchange those, and norms."""
    tx = optx_aliases.scale_by_apollo(rank=2, per_channel=True)
    for kind, layout in itertools.product((AxisType.Auto, AxisType.Explicit), LAYOUTS):
        shapes = shapes_of(layout, "unequal")
        both = list(programs(tx, kind, LAYOUTS[layout], shapes))
        work = CompiledWork(both[1][0])
        assert set(work.collectives) <= {"all-reduce"}, (kind, layout, work.collectives)
        projected = sum(2 * np.prod(x) // min(x[-2:]) for x in shapes)
        assert work.entries["all-reduce"] <= projected + 10, (kind, layout, work.entries)
        check_numbers(*both)


SITUATIONS = {
    f.__name__: f
    for f in (
        odd_sizes,
        derivatives,
        wrong_axis,
        programs_differ,
        apollo_leaves_matrices_in_place,
    )
}


if __name__ == "__main__":
    assert jax.device_count() == 8
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    failures = []
    for cell in sys.argv[1:]:
        try:
            SITUATIONS[cell]() if cell in SITUATIONS else check_cell(*cell.split("/"))
        except Exception as error:  # noqa: BLE001 (all cells are tried, and told of together)
            failures.append(f"{cell}: {type(error).__name__}: {str(error)[:600]}")
        jax.clear_caches()
    assert not failures, "\n".join(failures)
    print("ok")
