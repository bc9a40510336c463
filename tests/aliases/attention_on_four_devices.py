"""Run by test_attention.py with four fake devices: where the state of attention's kernels lies, and a step."""

import itertools

import chex
import jax
from attention_kernels import attention
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from optimizer_rows import ROWS

from optx_core import state_sharding
from sampling import share

LAYOUTS = {  # of queries, of their bias, and of out
    "heads": (P(None, "model"), P("model"), P("model")),
    "head_dim": (P(None, None, "model"), P(None, "model"), P(None, "model")),
    "features": (P("data"), P(), P(None, None, "data")),
    "all": (P("data", "model"), P("model"), P("model", None, "data")),
}
NAMES = ("soap", "shampoo", "kl_shampoo", "kron", "apollo_mini", "adam_mini", "scion")


def mesh_of(kind):
    return jax.make_mesh((2, 2), ("data", "model"), (kind,) * 2)


def laid_out(mesh, layout):
    query, bias, out = (NamedSharding(mesh, spec) for spec in LAYOUTS[layout])
    own = {"query": {"kernel": query, "bias": bias}, "out": {"kernel": out}}
    return jax.device_put(attention()["block"]["attention"], own)


def spec_of(sharding, ndim):
    return (*sharding.spec, *(None,) * ndim)[:ndim]


def check_types(name, layout):
    """On Explicit axes: what has a parameter's shape lies as it does, in the state and in the updates."""
    mesh = mesh_of(AxisType.Explicit)
    with jax.set_mesh(mesh):
        tx, params = ROWS[name].make(), laid_out(mesh, layout)
        named = {(role, n): x for role, leaves in params.items() for n, x in leaves.items()}
        shardings = state_sharding(tx, params)
        state = jax.eval_shape(tx.init, params)
        pairs = zip(
            jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(shardings), strict=True
        )
        for (path, x), sharding in pairs:
            p = named.get(tuple(key.key for key in path if hasattr(key, "key"))[-2:])
            if p is not None and p.shape == x.shape:
                assert spec_of(sharding, 3) == spec_of(p.sharding, 3), (path, sharding)
        placed = jax.jit(tx.init, out_shardings=shardings)
        updates, _ = jax.eval_shape(
            jax.jit(tx.update), params, jax.eval_shape(placed, params), params
        )
        for (role, leaf), p in named.items():
            u = updates[role][leaf]
            assert spec_of(u.sharding, 3) == spec_of(p.sharding, 3), (role, u.sharding)


def check_run(name, layout, kind):
    """Three steps on a mesh and on one device."""
    mesh = mesh_of(kind)
    tx = ROWS[name].make()

    def run(params):
        state = tx.init(params)
        for _ in range(3):
            updates, state = tx.update(params, state, params)
        return updates

    with jax.set_mesh(mesh):
        updates = jax.jit(run)(laid_out(mesh, layout))
    kernels = jax.jit(run)(attention()["block"]["attention"])
    chex.assert_trees_all_close(updates, kernels, rtol=1e-4, atol=1e-5)


def check_without_context(name):
    """A step on Explicit axes outside of `jax.set_mesh`, where a spec alone has no mesh."""
    tx, params = ROWS[name].make(), laid_out(mesh_of(AxisType.Explicit), "all")
    updates, _ = tx.update(params, tx.init(params), params)
    kernels = attention()["block"]["attention"]
    expected, _ = tx.update(kernels, tx.init(kernels), kernels)
    chex.assert_trees_all_close(updates, expected, rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    for name in NAMES:
        for layout in share(LAYOUTS, 4, name):
            check_types(name, layout)
    runs = itertools.product(("soap", "kron"), ("all", "heads"), (AxisType.Auto, AxisType.Explicit))
    for case in share(runs, 5):
        check_run(*case)
    check_without_context("apollo_mini")
    print("ok")
