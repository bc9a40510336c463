"""Projections onto sets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import tree
from optx_projections import (
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


@pytest.mark.parametrize("name", SETS)
def test_numbers_and_integers_are_cast_to_floating_point(name):
    project, _ = SETS[name]
    numbers = {"a": np.asarray([2, -2, 1]), "b": [[1], [0.5]]}
    if name in ("hyperplane", "halfspace", "vector"):
        numbers["b"] = np.asarray(numbers["b"])
    arrays = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), numbers)
    made, expected = project(numbers), project(arrays)
    assert {x.dtype for x in jax.tree.leaves(made)} == {jnp.dtype(jnp.float32)}
    np.testing.assert_array_equal(flat(made), flat(expected))


@pytest.mark.parametrize("name", sorted(SETS.keys() - {"l2_sphere", "l2_ball"}))
def test_a_set_with_an_order_refuses_complex_leaves_by_path(name):
    project, _ = SETS[name]
    with pytest.raises(TypeError, match=r"projection_\w+: leaf\['b'\] is complex"):
        project({**X, "b": X["b"].astype(jnp.complex64)})


@pytest.mark.parametrize(
    "project",
    [
        *(projection_hypercube, projection_l1_ball, projection_l1_sphere, projection_l2_ball),
        *(projection_l2_sphere, projection_linf_ball, projection_simplex),
    ],
    ids=lambda project: project.__name__,
)
def test_a_size_that_is_no_positive_number_is_refused(project):
    for scale in (None, "a", -1.0, 0.0, float("nan"), jnp.ones(2), lambda count: 1.0):
        with pytest.raises((TypeError, ValueError), match=f"^{project.__name__}: scale "):
            project(X, scale)
