"""L-BFGS: its memory, pairs of no use, restarts, complex parameters, layouts on a mesh."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from optx_aliases import lbfgs, minimize, scale_by_lbfgs, value_and_grad_from_state
from optx_core import apply_updates, state_sharding


def run(tx, points, gradients):
    state, made = tx.init(points[0]), []
    for p, g in zip(points, gradients, strict=True):
        u, state = tx.update(g, state, p)
        made.append(u)
    return made, state


def dense_inverse(pairs, n):
    """The same estimate as a matrix: BFGS from gamma times the identity (Nocedal and Wright, 7.16)."""
    s, y = pairs[-1]
    h = s @ y / (y @ y) * np.eye(n)
    for s, y in pairs:
        v = np.eye(n) - np.outer(y, s) / (s @ y)
        h = v.T @ h @ v + np.outer(s, s) / (s @ y)
    return h


def test_the_direction_is_that_of_bfgs_on_the_last_pairs(x64):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(6, 6))
    hessian = a @ a.T + np.eye(6)
    points = [jnp.asarray(x) for x in rng.normal(size=(7, 6))]
    gradients = [jnp.asarray(hessian @ np.asarray(x)) for x in points]
    made, state = run(scale_by_lbfgs(4), points, gradients)
    pairs = [
        (np.asarray(points[k + 1] - points[k]), np.asarray(gradients[k + 1] - gradients[k]))
        for k in range(2, 6)
    ]
    np.testing.assert_allclose(made[-1], dense_inverse(pairs, 6) @ gradients[-1], rtol=1e-9)
    assert state._fields == (
        "count", "params", "updates", "diff_params_memory", "diff_updates_memory", "weights_memory",
    )  # fmt: skip
    assert state.diff_params_memory.shape == (4, 6)
    np.testing.assert_allclose(state.weights_memory[1], 1 / (pairs[-1][0] @ pairs[-1][1]))


def test_the_first_direction_is_no_longer_than_one():
    for size, length in ((10.0, 1.0), (0.1, 0.1)):
        g = jnp.array([0.6 * size, 0.8 * size])
        (u,), _ = run(scale_by_lbfgs(), [jnp.ones(2)], [g])
        np.testing.assert_allclose(jnp.sqrt(jnp.sum(u * u)), length, rtol=1e-6)
        (u,), _ = run(scale_by_lbfgs(scale_init_precond=False), [jnp.ones(2)], [g])
        np.testing.assert_array_equal(u, g)


@pytest.mark.parametrize("bad", [-3.0, 0.0, np.nan, np.inf])
def test_a_pair_without_positive_curvature_is_left_out(bad):
    points = [jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.array([1.0, 1.0]), jnp.array([2.0, 1.0])]
    gradients = [jnp.zeros(2), jnp.array([2.0, 0.0]), jnp.array([2.0, bad]), jnp.array([4.0, bad])]
    gradients[3] = jnp.where(jnp.isfinite(gradients[3]), gradients[3], 1.0)
    made, state = run(scale_by_lbfgs(5), points, gradients)
    assert state.weights_memory[1] == 0
    assert bool(jnp.all(jnp.isfinite(state.diff_updates_memory)))
    assert bool(jnp.all(jnp.isfinite(made[3])))
    assert float(jnp.sum(made[3] * gradients[3])) > 0  # still a direction of ascent
    np.testing.assert_allclose(made[3][0], gradients[3][0] / 2)  # what the good pair taught


def test_after_a_step_that_did_not_move_all_is_forgotten():
    points = [jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.array([1.0, 0.0])]
    gradients = [jnp.ones(2), jnp.array([3.0, 1.0]), jnp.array([3.0, 4.0])]
    made, state = run(scale_by_lbfgs(5), points, gradients)
    np.testing.assert_array_equal(state.weights_memory, 0)
    np.testing.assert_allclose(made[2], [0.6, 0.8], rtol=1e-6)


def test_complex_parameters_take_the_steps_of_their_real_and_imaginary_parts(x64):
    rng = np.random.default_rng(1)
    a = rng.normal(size=(3, 3)) + 1j * rng.normal(size=(3, 3))
    b = rng.normal(size=3) + 1j * rng.normal(size=3)

    def loss(z):
        return jnp.sum(jnp.abs(a @ z - b) ** 2) + 0.1 * jnp.sum(jnp.abs(z) ** 4)

    def of_parts(p):
        return loss(jax.lax.complex(p[0], p[1]))

    def steps(fun, p, count=8):
        tx = lbfgs()
        state, value_and_grad = tx.init(p), value_and_grad_from_state(fun)

        @jax.jit
        def step(p, state):
            value, grad = value_and_grad(p, state=state)
            u, state = tx.update(jnp.conj(grad), state, p, value=value, grad=grad, value_fn=fun)
            return apply_updates(p, u), state

        for _ in range(count):
            p, state = step(p, state)
        return np.asarray(p)

    z = steps(loss, jnp.asarray([0.3 - 1j, 2.0, 1j]))
    parts = steps(of_parts, jnp.asarray([[0.3, 2.0, 0.0], [-1.0, 0.0, 1.0]]))
    np.testing.assert_allclose(z, parts[0] + 1j * parts[1], rtol=1e-6)


def test_memory_size_must_be_a_positive_int():
    for size in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match=r"memory_size must be (an int of )?at least 1"):
            lbfgs(memory_size=size)
    with pytest.raises(ValueError, match="scale_by_lbfgs needs the parameters"):
        scale_by_lbfgs().update(jnp.ones(2), scale_by_lbfgs().init(jnp.ones(2)))


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_on_eight_devices_the_memory_lies_as_the_parameters_do(kind, on_devices):
    assert on_devices(__file__, kind).strip().endswith("ok")


def on_eight_devices(kind):
    """Ten steps on a mesh: the layout of every leaf, the numbers of one device, one compilation."""
    mesh = jax.make_mesh((4, 2), ("data", "model"), (kind, kind))
    shapes = {"w": ((8, 4), P("data", "model")), "v": ((6, 4), P(None, "model")), "b": ((), P())}
    start = {
        name: jnp.linspace(-1.0, 1.0, int(np.prod(shape)), dtype=jnp.float32).reshape(shape)
        for name, (shape, _) in shapes.items()
    }

    def loss(p):
        return jnp.sum((p["w"] - 0.3) ** 4) + jnp.sum(jnp.cosh(p["v"])) + (p["b"] - 1.0) ** 2

    tx = lbfgs(memory_size=3)
    value_and_grad = value_and_grad_from_state(loss)

    def step(p, state):
        value, grad = value_and_grad(p, state=state)
        updates, state = tx.update(grad, state, p, value=value, grad=grad, value_fn=loss)
        return apply_updates(p, updates), state

    def steps(p, state, step):
        for _ in range(10):
            p, state = step(p, state)
        return p, state

    expected, _ = steps(start, tx.init(start), jax.jit(step))
    placed = {
        name: jax.device_put(start[name], NamedSharding(mesh, spec))
        for name, (_, spec) in shapes.items()
    }
    with jax.set_mesh(mesh):
        layout = state_sharding(tx, placed)
        assert layout[0].diff_params_memory["w"].spec == P(None, "data", "model")
        assert layout[0].diff_updates_memory["v"].spec == P(None, None, "model")
        assert layout[2].grad["w"].spec == P("data", "model")
        assert layout[0].weights_memory.spec == P()
        state = jax.jit(tx.init, out_shardings=layout)(placed)
        own = jax.tree.map(lambda p: p.sharding, placed)
        compiled = jax.jit(step, out_shardings=(own, layout), donate_argnums=(0, 1))
        p, state = steps(placed, state, compiled)
        assert compiled._cache_size() == 1
        for x, sharding in zip(jax.tree.leaves(state), jax.tree.leaves(layout), strict=True):
            assert x.sharding.is_equivalent_to(sharding, x.ndim)
        if kind is AxisType.Explicit:  # there the types alone lead to the same layout
            free = jax.eval_shape(step, p, state)[1]
            for x, sharding in zip(jax.tree.leaves(free), jax.tree.leaves(layout), strict=True):
                assert x.sharding.spec == P(
                    *sharding.spec, *(None,) * (x.ndim - len(sharding.spec))
                )
        found = minimize(loss, p)
    for name, x in p.items():
        np.testing.assert_allclose(x, expected[name], rtol=2e-4, atol=2e-5)
        assert found.x[name].sharding.is_equivalent_to(NamedSharding(mesh, shapes[name][1]), x.ndim)
    np.testing.assert_allclose(found.x["v"], 0.0, atol=1e-3)


if __name__ == "__main__":
    on_eight_devices(getattr(AxisType, sys.argv[1]))
    print("ok")
