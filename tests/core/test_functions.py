"""Projections, micro-batches, matrix iterations, per-example clipping, safe norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import (
    all_finite,
    matrix_inverse_pth_root,
    micro_grad,
    micro_vmap,
    microbatch,
    per_example_global_norm_clip,
    per_example_layer_norm_clip,
    power_iteration,
    projection_box,
    projection_halfspace,
    projection_hypercube,
    projection_hyperplane,
    projection_l1_ball,
    projection_l1_sphere,
    projection_l2_ball,
    projection_l2_sphere,
    projection_linf_ball,
    projection_non_negative,
    projection_simplex,
    projection_vector,
    reshape_batch_axis,
    safe_increment,
    safe_norm,
    safe_root_mean_squares,
    scale_gradient,
    tree,
)

X = {"a": jnp.asarray([1.5, -2.0, 0.3]), "b": jnp.asarray([[0.7], [-0.1]])}
NORMAL = {"a": jnp.asarray([1.0, 2.0, -1.0]), "b": jnp.asarray([[0.5], [0.0]])}


def absolute(x):
    return float(tree.norm(x, 1))


SETS = {
    "non_negative": (projection_non_negative, lambda x: min(map(float, flat(x))) >= 0),
    "box": (
        lambda x: projection_box(x, -0.5, 1.0),
        lambda x: -0.5 <= min(flat(x)) <= max(flat(x)) <= 1,
    ),
    "hypercube": (
        lambda x: projection_hypercube(x, 0.5),
        lambda x: 0 <= min(flat(x)) <= max(flat(x)) <= 0.5,
    ),
    "simplex": (
        lambda x: projection_simplex(x, 2.0),
        lambda x: min(flat(x)) >= 0 and near(sum(flat(x)), 2),
    ),
    "l1_sphere": (lambda x: projection_l1_sphere(x, 2.0), lambda x: near(absolute(x), 2)),
    "l1_ball": (lambda x: projection_l1_ball(x, 2.0), lambda x: absolute(x) <= 2 + 1e-5),
    "l2_sphere": (lambda x: projection_l2_sphere(x, 2.0), lambda x: near(float(tree.norm(x)), 2)),
    "l2_ball": (lambda x: projection_l2_ball(x, 2.0), lambda x: float(tree.norm(x)) <= 2 + 1e-5),
    "linf_ball": (lambda x: projection_linf_ball(x, 1.0), lambda x: max(map(abs, flat(x))) <= 1),
    "hyperplane": (
        lambda x: projection_hyperplane(x, NORMAL, 0.5),
        lambda x: near(float(tree.vdot(NORMAL, x)), 0.5),
    ),
    "halfspace": (
        lambda x: projection_halfspace(x, NORMAL, -4.0),
        lambda x: float(tree.vdot(NORMAL, x)) <= -4 + 1e-5,
    ),
    "vector": (
        lambda x: projection_vector(x, NORMAL),
        lambda x: near(
            float(tree.vdot(NORMAL, x)) ** 2, float(tree.vdot(NORMAL, NORMAL) * tree.vdot(x, x))
        ),
    ),
}


def flat(x):
    return np.concatenate([np.ravel(v) for v in jax.tree.leaves(x)])


def near(x, y):
    return abs(x - y) < 1e-5 * (1 + abs(y))


@pytest.mark.parametrize("name", SETS)
def test_a_projection_is_in_the_set_and_no_other_point_of_it_is_nearer(name):
    project, inside = SETS[name]
    made = project(X)
    assert inside(made)
    assert jax.tree.map(lambda v: (v.shape, v.dtype), made) == jax.tree.map(
        lambda v: (v.shape, v.dtype), X
    )
    np.testing.assert_allclose(flat(project(made)), flat(made), atol=2e-6)
    distance = np.linalg.norm(flat(made) - flat(X))
    for seed in range(50):
        other = project(
            tree.random_like(jax.random.key(seed), X, lambda *a: 3 * jax.random.normal(*a))
        )
        assert distance <= np.linalg.norm(flat(other) - flat(X)) + 1e-5


def test_a_point_of_the_set_stays_and_nothing_divides_by_zero():
    inside = jnp.asarray([0.25, 0.5])
    for project in (
        projection_l1_ball,
        projection_l2_ball,
        projection_linf_ball,
        projection_hypercube,
    ):
        np.testing.assert_array_equal(project(inside), inside)
    zeros = jnp.zeros(3)
    for project in (
        projection_l1_ball,
        projection_l2_ball,
        projection_l2_sphere,
        projection_simplex,
    ):
        assert bool(jnp.all(jnp.isfinite(project(zeros))))
    with pytest.raises(ValueError, match="projection_simplex: scale must be greater than 0"):
        projection_simplex(zeros, 0.0)


def loss(w, x, y):
    return jnp.mean((x @ w - y) ** 2)


W = jnp.asarray([0.5, -1.0, 2.0])
BATCH = jnp.asarray(np.random.default_rng(0).normal(size=(12, 3)), jnp.float32)
TARGETS = jnp.sum(BATCH, axis=1)


@pytest.mark.parametrize("size", [1, 3, 4, 12])
def test_the_gradient_of_slices_is_that_of_the_batch(size):
    expected = jax.grad(loss)(W, BATCH, TARGETS)
    made = jax.jit(micro_grad(loss, size, batch_argnums=(1, 2)))(W, BATCH, TARGETS)
    np.testing.assert_allclose(made, expected, rtol=1e-5)
    value, made = micro_grad(loss, size, batch_argnums=(1, 2), return_value=True)(W, BATCH, TARGETS)
    np.testing.assert_allclose(value, loss(W, BATCH, TARGETS), rtol=1e-5)
    np.testing.assert_allclose(made, expected, rtol=1e-5)


def test_sums_statistics_and_auxiliary_output_are_reduced_too():
    total = lambda w, x, y: jnp.sum((x @ w - y) ** 2)
    made = micro_grad(total, 4, batch_argnums=(1, 2), reduction="sum")(W, BATCH, TARGETS)
    np.testing.assert_allclose(made, jax.grad(total)(W, BATCH, TARGETS), rtol=1e-5)
    each = jnp.stack([jax.grad(loss)(W, BATCH[k : k + 4], TARGETS[k : k + 4]) for k in (0, 4, 8)])
    told = micro_grad(loss, 4, batch_argnums=(1, 2), reduction="statistics")(W, BATCH, TARGETS)
    np.testing.assert_allclose(told.mean, each.mean(0), rtol=1e-5)
    np.testing.assert_allclose(told.variance, each.var(0), rtol=1e-4)
    assert told.count == 3
    with_aux = lambda w, x, y: (loss(w, x, y), {"mean": jnp.mean(x)})
    grads, aux = micro_grad(with_aux, 4, batch_argnums=(1, 2), has_aux=True)(W, BATCH, TARGETS)
    np.testing.assert_allclose(grads, jax.grad(loss)(W, BATCH, TARGETS), rtol=1e-5)
    np.testing.assert_allclose(aux["mean"], jnp.mean(BATCH), atol=1e-6)


def test_bf16_gradients_are_summed_in_float32():
    ones = jnp.ones((4096, 1), jnp.bfloat16)
    made = micro_grad(lambda w, x: jnp.sum(w * x), 1, reduction="sum")(
        jnp.ones((), jnp.bfloat16), ones
    )
    assert (made.dtype, float(made)) == (jnp.bfloat16, 4096.0)


def test_a_batch_is_mapped_in_slices():
    f = lambda x, w: jnp.tanh(x @ w)
    np.testing.assert_allclose(
        micro_vmap(f, 4)(BATCH, W), jax.vmap(f, in_axes=(0, None))(BATCH, W), rtol=1e-6
    )
    made = microbatch(lambda x: x.sum(1), 3, in_axes=1, reduction="stack")(BATCH.T)
    assert made.shape == (4, 3)


@pytest.mark.parametrize(
    ("batch", "size", "message"),
    [
        (
            {"x": jnp.ones((6, 2))},
            4,
            r"microbatch_size=4 does not divide the 6 examples of batch\['x'\]",
        ),
        ({"x": jnp.ones(6), "y": jnp.ones(5)}, 1, "axis 0 must have the same size everywhere"),
        ({"x": jnp.ones(())}, 1, r"axis 0 must have the same size everywhere: batch\['x'\]: None"),
    ],
)
def test_a_batch_that_cannot_be_sliced_is_refused_by_path(batch, size, message):
    with pytest.raises(ValueError, match=message):
        reshape_batch_axis(batch, size)


@pytest.mark.parametrize("eigenvalues", [[1.0, 2.0, 5.0], [-4.0, 1.0, 2.0], [0.0, 0.0, 0.0], [3.0]])
def test_power_iteration_finds_the_eigenvalue_of_largest_size(eigenvalues):
    n = len(eigenvalues)
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(n, n)))
    a = jnp.asarray(q @ np.diag(eigenvalues) @ q.T, jnp.float32)
    value, vector = power_iteration(a, num_iters=500)
    expected = max(eigenvalues, key=abs)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(a @ vector, expected * vector, atol=5e-3)
    by_function, _ = power_iteration(lambda v: {"v": a @ v["v"]}, v0={"v": jnp.ones(n)}, num_iters=500,
                                     key=jax.random.key(2))  # fmt: skip
    np.testing.assert_allclose(by_function, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="needs v0"):
        power_iteration(lambda v: v)


@pytest.mark.parametrize("p", [1, 2, 4, 8])
def test_the_inverse_root_is_that_of_the_eigenvalues(p):
    eigenvalues = np.array([0.05, 1.0, 7.0, 30.0])
    q, _ = np.linalg.qr(np.random.default_rng(p).normal(size=(4, 4)))
    a = jnp.asarray(q @ np.diag(eigenvalues) @ q.T, jnp.float32)
    root, error = matrix_inverse_pth_root(a, p, ridge_epsilon=0.0)
    np.testing.assert_allclose(root, q @ np.diag(eigenvalues ** (-1 / p)) @ q.T, atol=2e-2 / p)
    assert error < 1e-3
    for shape in ((2, 3), (4,)):
        with pytest.raises(ValueError, match="not square"):
            matrix_inverse_pth_root(jnp.ones(shape), 2)
    with pytest.raises(TypeError, match="must be real, not complex64"):
        matrix_inverse_pth_root(jnp.eye(2, dtype=jnp.complex64), 2)


@pytest.mark.parametrize("n", [1, 3])
def test_the_inverse_root_of_zeros_is_finite(n):
    root, error = matrix_inverse_pth_root(jnp.zeros((n, n)), 4)
    np.testing.assert_allclose(root, 1e3 * np.eye(n), rtol=1e-3)
    assert error < 1e-3


def test_per_example_gradients_are_clipped_one_by_one():
    grads = {"a": jnp.asarray([[3.0, 4.0], [0.3, 0.4]]), "b": jnp.asarray([0.0, 0.0])}
    total, clipped = per_example_global_norm_clip(grads, 1.0)
    np.testing.assert_allclose(total["a"], [0.9, 1.2], rtol=1e-6)
    assert clipped == 1
    total, counts = per_example_layer_norm_clip(grads, np.sqrt(2.0))
    np.testing.assert_allclose(total["a"], [0.9, 1.2], rtol=1e-6)
    assert (counts["a"], counts["b"]) == (1, 0)
    with pytest.raises(ValueError, match="needs the same leading axis"):
        per_example_global_norm_clip({"a": jnp.ones((2, 1)), "b": jnp.ones((3, 1))}, 1.0)


def test_norms_have_a_floor_and_a_gradient_that_is_never_nan():
    assert safe_norm(jnp.zeros(3), 1e-3) == pytest.approx(1e-3)
    assert safe_norm(jnp.asarray([3.0, 4.0]), 1.0, ord=1) == 7.0
    np.testing.assert_allclose(
        safe_norm(jnp.ones((2, 4)), 0.0, axis=1, keepdims=True), [[2.0], [2.0]]
    )
    for f in (safe_norm, safe_root_mean_squares):
        np.testing.assert_array_equal(jax.grad(lambda x, f=f: f(x, 0.0))(jnp.zeros(2)), [0.0, 0.0])
    np.testing.assert_allclose(
        jax.grad(lambda x: safe_norm(x, 0.0, ord=1))(jnp.zeros(2)), [0.0, 0.0]
    )


def test_small_helpers():
    assert not all_finite({"a": jnp.ones(1), "b": jnp.asarray(jnp.nan), "n": jnp.int32(1)})
    assert all_finite({})
    assert safe_increment(jnp.int32(2**31 - 1)) == 2**31 - 1
    f = lambda x: scale_gradient({"x": x}, -2.0)["x"] ** 2
    assert (float(f(3.0)), float(jax.grad(f)(3.0))) == (9.0, -12.0)
    assert jax.jvp(f, (3.0,), (1.0,))[1] == -12.0
