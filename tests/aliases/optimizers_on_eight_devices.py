"""Run by test_optimizers.py with eight fake devices: the layout of every optimizer's state, and a step.

The argument is the kind of the mesh's axes; each kind has another share of the rows.

The state's layout is what JAX infers (`state_sharding`); what has a parameter's shape must lie as the
parameter does. A step of the optimizers themselves (not of their options) must leave the parameters
where they are: with Explicit axes their types say so, with Auto axes it is run, and gives the numbers
of one device.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from optimizer_rows import ROWS

from optx_core import apply_updates, state_sharding
from sampling import share

SHAPES = {"w": ((16, 8), P("data", "model")), "b": ((8,), P())}


def value_of(name):
    shape, _ = SHAPES[name]
    return jnp.linspace(-1.0, 1.0, int(np.prod(shape)), dtype=jnp.float32).reshape(shape) + 0.05


def params_on(mesh):
    return {
        name: jax.device_put(value_of(name), NamedSharding(mesh, spec))
        for name, (_, spec) in SHAPES.items()
    }


def padded(spec, ndim):
    return (*spec, *(None,) * (ndim - len(spec)))


def owner(path):
    """The parameter a leaf of the state belongs to."""
    keys = [str(getattr(key, "key", "")) for key in path]
    return next((key for key in keys if key in SHAPES), None)


def check_layout(name, tx, params):
    made = state_sharding(tx, params)
    shapes = jax.eval_shape(tx.init, params)
    for (path, x), sharding in zip(
        jax.tree_util.tree_leaves_with_path(shapes), jax.tree.leaves(made), strict=True
    ):
        which = owner(path)
        if which and x.shape == SHAPES[which][0]:
            expected = padded(SHAPES[which][1], x.ndim)
            assert padded(sharding.spec, x.ndim) == expected, (name, path, sharding)
    return made


def step_of(row):
    tx = row.make()

    def loss(p):
        return sum(jnp.sum(0.05 * x * x - jnp.cos(3 * x) / 3) for x in jax.tree.leaves(p))

    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        given = {"value": value, "grad": grads, "value_fn": loss}
        given |= {"grad_fn": lambda p, *_: jax.grad(loss)(p)}
        given |= {} if row.extra_args is None else row.extra_args(params, grads)
        updates, state = tx.update(grads, state, params, **given)
        return apply_updates(params, updates), state

    return tx, step


def check_types(row, params, layout):
    """Traces a step on Explicit axes: the new parameters' types hold their layout."""
    tx, step = step_of(row)
    state = jax.eval_shape(jax.jit(tx.init, out_shardings=layout), params)
    moved, _ = jax.eval_shape(jax.jit(step), params, state)
    for which, p in moved.items():
        expected = padded(SHAPES[which][1], p.ndim)
        assert padded(p.sharding.spec, p.ndim) == expected, (which, p.sharding)


def check_run(row, params, layout):
    """Runs two steps on Auto axes, and on one device."""
    ends = []
    for start, kwargs in (
        (params, {"out_shardings": layout}),
        ({name: value_of(name) for name in SHAPES}, {}),
    ):
        tx, step = step_of(row)
        run, p, state = jax.jit(step), start, jax.jit(tx.init, **kwargs)(start)
        for _ in range(2):
            p, state = run(p, state)
        ends.append(p)
    for which, p in ends[0].items():
        assert p.sharding.is_equivalent_to(params[which].sharding, p.ndim), (which, p.sharding)
        if row.same_on_devices:
            np.testing.assert_allclose(p, ends[1][which], rtol=1e-4, atol=1e-5)


def main(kind):
    mesh = jax.make_mesh((4, 2), ("data", "model"), (kind, kind))
    failures = []
    for name in share(ROWS, 4, kind.name):
        row = ROWS[name]
        try:
            with jax.set_mesh(mesh):
                params = params_on(mesh)
                layout = check_layout(name, row.make(), params)
                if "," not in name and kind is AxisType.Explicit:
                    check_types(row, params, layout)
            if "," not in name and kind is AxisType.Auto:
                check_run(row, params, layout)
        except Exception as error:  # noqa: BLE001 (all rows are tried, and told of together)
            failures.append(f"{name}: {type(error).__name__}: {str(error)[:400]}")
    assert not failures, "\n".join(failures)


if __name__ == "__main__":
    assert jax.device_count() == 8
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_disable_most_optimizations", True)  # it compiles much, and runs little
    jax.config.update("jax_numpy_rank_promotion", "raise")
    main(getattr(AxisType, sys.argv[1]))
    print("ok")
