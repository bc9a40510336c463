"""Muon: what is special to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from optx_aliases import MuonDimensionNumbers, muon, newton_schulz, scale_by_muon, scale_by_shape
from optx_core import apply_updates, state_sharding
from optx_testing import check_transformation

REGULAR = {
    "kernel": jnp.linspace(-1.0, 1.0, 16, dtype=jnp.float32).reshape(8, 2),
    "bias": jnp.linspace(0.5, 1.0, 8, dtype=jnp.float32),
}


def matrices(count, shape, seed=0):
    return [jax.random.normal(jax.random.key(seed + k), shape) for k in range(count)]


def singular_values(x):
    return np.linalg.svd(np.asarray(x, np.float64), compute_uv=False)


@pytest.mark.parametrize("options", [{}, {"consistent_rms": 0.2, "weight_decay": 0.1}])
def test_it_keeps_the_promises_that_compare_numbers_on_regular_matrices(options):
    # Jordan's polynomial enlarges rounding; this one converges. The small learning rate makes the steps
    # as large as what the kit lets small entries differ by.
    tx = muon(0.002, (1.875, -1.25, 0.375), 12, **options)
    check_transformation(tx, REGULAR, promises=(7, 8))


@pytest.mark.parametrize("preconditioning", ["frobenius", "spectral", "aol", "schatten"])
@pytest.mark.parametrize("shape", [(8, 8), (8, 40), (40, 8), (1, 7)])
def test_singular_values_come_near_1_and_singular_vectors_stay(shape, preconditioning):
    x = matrices(1, shape)[0]
    made = newton_schulz(x, preconditioning=preconditioning)
    values = singular_values(made)
    assert values.min() > 0.4
    assert values.max() < 1.4
    if preconditioning != "aol":  # which scales rows, each by its own
        u, _, vt = np.linalg.svd(np.asarray(x), full_matrices=False)
        core = u.T @ np.asarray(made) @ vt.T
        np.testing.assert_allclose(core, np.diag(np.diag(core)), atol=2e-3)


def test_with_the_coefficients_of_a_convergent_iteration_it_is_the_polar_factor(x64):
    x = jax.random.normal(jax.random.key(1), (5, 12), jnp.float64)
    u, _, vt = np.linalg.svd(x, full_matrices=False)
    made = newton_schulz(x, (1.875, -1.25, 0.375), 30)
    np.testing.assert_allclose(made, u @ vt, atol=1e-12)


def test_dion_coefficients_are_a_table_with_a_row_for_each_step():
    x = matrices(1, (6, 9))[0]
    assert singular_values(newton_schulz(x, "dion")).min() > 0.6
    assert np.array_equal(newton_schulz(x, "dion"), newton_schulz(x, "dion", ns_steps=2))


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (4, 8), (9, 4), (16, 4)])
def test_a_stack_is_what_its_matrices_are_one_by_one(shape, x64):
    xs = [x.astype(jnp.float64) for x in matrices(3, shape)]
    made = newton_schulz(jnp.stack(xs))
    for x, o in zip(xs, made, strict=True):
        np.testing.assert_allclose(newton_schulz(x), o, atol=1e-9)


@pytest.mark.parametrize("shape", [(4, 8), (16, 4)])
def test_long_matrices_agree_with_the_iteration_written_out(shape, x64):
    # Where one side is twice the other, products are of the shorter side only.
    x = jax.random.normal(jax.random.key(3), shape, jnp.float64)
    y = x / (jnp.linalg.norm(x) + 1e-8)
    for _ in range(5):
        a = y @ y.T
        y = 3.4445 * y + (-4.7750 * a + 2.0315 * a @ a) @ y
    np.testing.assert_allclose(newton_schulz(x), y, rtol=1e-8, atol=1e-9)


def test_complex_matrices_become_unitary():
    x = jax.lax.complex(matrices(1, (4, 4))[0], matrices(1, (4, 4), seed=7)[0])
    made = np.asarray(newton_schulz(x, (1.875, -1.25, 0.375), 30))
    np.testing.assert_allclose(made @ made.conj().T, np.eye(4), atol=1e-4)


@pytest.mark.parametrize("preconditioning", ["frobenius", "spectral", "aol", "schatten"])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e30])
def test_zero_and_enormous_matrices_stay_finite(size, preconditioning):
    x = size * matrices(1, (3, 5))[0]

    def total(x):
        return jnp.sum(newton_schulz(x, preconditioning=preconditioning) ** 2)

    assert bool(jnp.all(jnp.isfinite(newton_schulz(x, preconditioning=preconditioning))))
    if preconditioning != "spectral":  # equal eigenvalues have no derivative
        assert bool(jnp.all(jnp.isfinite(jax.grad(total)(x))))


def products(tx, params):
    """The number of dot_generals in the traced update, loops' bodies counted once."""
    state = jax.eval_shape(tx.init, params)
    text = str(jax.make_jaxpr(tx.update)(params, state, params))
    return text.count("dot_general[")


def test_equal_shapes_share_one_iteration():
    def layers(count):
        shape = jax.ShapeDtypeStruct
        return {
            f"layer_{k}": {
                "query": shape((16, 16), jnp.float32),
                "up": shape((16, 24), jnp.float32),
            }
            for k in range(count)
        }

    assert products(muon(0.02), layers(1)) == products(muon(0.02), layers(24)) == 6


def test_leaves_of_one_shape_get_what_each_gets_alone():
    params = {f"w{k}": x for k, x in enumerate(matrices(3, (4, 6)))}
    params["stack"] = jnp.stack(matrices(2, (4, 6), seed=9))
    tx = scale_by_muon()
    together, _ = tx.update(params, tx.init(params))
    for name in ("w0", "w1", "w2"):
        alone, _ = tx.update(params[name], tx.init(params[name]))
        np.testing.assert_allclose(together[name], alone, atol=2e-5)
    for k in range(2):
        alone, _ = tx.update(params["stack"][k], tx.init(params["stack"][k]))
        np.testing.assert_allclose(together["stack"][k], alone, atol=2e-5)


def test_many_leaves_of_one_shape_are_differentiated_and_mapped_as_a_few_are(x64):
    leaves = [x.astype(jnp.float64) for x in matrices(29, (4, 3))]
    tx = scale_by_muon(ns_steps=3)

    def update(leaves):
        return tx.update(leaves, tx.init(leaves))[0]

    def alone(x):
        return tx.update(x, tx.init(x))[0]

    for made, x in zip(update(leaves), leaves, strict=True):
        np.testing.assert_allclose(made, alone(x), rtol=1e-9)
    total = jax.jit(jax.grad(lambda leaves: sum(jnp.sum(jnp.sin(x)) for x in update(leaves))))
    expected = jax.grad(lambda x: jnp.sum(jnp.sin(alone(x))))
    for made, x in zip(total(leaves), leaves, strict=True):
        np.testing.assert_allclose(made, expected(x), rtol=1e-7, atol=1e-12)
    _, tangents = jax.jvp(update, (leaves,), (leaves,))
    assert (
        max(float(jnp.max(jnp.abs(x))) for x in tangents) < 1e-6
    )  # of their size they know nothing
    mapped = jax.vmap(update)([jnp.stack([x, 2 * x + 1]) for x in leaves])
    for made, x in zip(mapped, leaves, strict=True):
        np.testing.assert_allclose(made[1], alone(2 * x + 1), rtol=1e-7)


def test_slices_of_a_stack_are_equal_kernels_on_the_cpu():
    """A slice at a known offset is compiled by itself; those at unknown ones once for all."""
    shape = jax.ShapeDtypeStruct((16, 16), jnp.float32)
    tx = scale_by_muon()
    params = {f"layer_{k}": shape for k in range(24)}
    program = jax.jit(tx.update).lower(params, jax.eval_shape(tx.init, params)).compile()
    text = program.as_text()
    assert text.count(" slice(") < 12
    assert text.count(" dynamic-slice(") >= 24


def test_a_convolution_is_a_matrix_from_all_its_inputs_to_its_outputs():
    g = matrices(1, (3, 3, 2, 5))[0]
    tx = scale_by_muon()
    flat, _ = tx.update(g.reshape(18, 5), tx.init(g.reshape(18, 5)))
    made, _ = tx.update(g, tx.init(g))
    np.testing.assert_allclose(made.reshape(18, 5), flat, atol=1e-5)


def test_dimension_numbers_say_which_axes_are_rows_and_columns():
    g = matrices(1, (4, 2, 3))[0]  # heads and their width are the outputs
    tx = scale_by_muon(weight_dimension_numbers=MuonDimensionNumbers(0, (1, 2)))
    flat = scale_by_muon()
    expected, _ = flat.update(g.reshape(4, 6), flat.init(g.reshape(4, 6)))
    made, _ = tx.update(g, tx.init(g))
    np.testing.assert_allclose(made.reshape(4, 6), expected, atol=1e-5)
    shaped, _ = scale_by_shape(MuonDimensionNumbers(0, (1, 2))).update(jnp.ones((4, 2, 3)), ())
    np.testing.assert_allclose(shaped, np.sqrt(6 / 4), rtol=1e-6)


def test_embeddings_heads_and_vectors_are_adams_by_their_names():
    matrix = jnp.ones((4, 4))
    params = {
        "Embed_0": {"embedding": matrix},
        "pos_embed": matrix,
        "lm_head": {"kernel": matrix},
        "head": {"kernel": matrix},
        "MultiHeadAttention_0": {"kernel": matrix},
        "multi_head_attention": {"kernel": matrix},
        "bias": jnp.ones(4),
    }
    mu = muon(0.02).init(params).inner_states["adam"].inner_state[0].mu
    adams = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(mu)}
    assert adams == {
        "['Embed_0']['embedding']",
        "['pos_embed']",
        "['lm_head']['kernel']",
        "['head']['kernel']",
        "['bias']",
    }
    mu = muon(0.02, adam_paths=()).init(params).inner_states["adam"].inner_state[0].mu
    assert len(jax.tree.leaves(mu)) == 1


def test_labels_decide_where_dimension_numbers_are_given():
    params = {"a": jnp.ones((3, 3)), "b": {"c": jnp.ones((3, 3)), "head": jnp.ones((3, 3))}}
    dims = {"a": None, "b": MuonDimensionNumbers()}
    for given in (dims, lambda params: dims):
        state = muon(0.02, muon_weight_dimension_numbers=given).init(params)
        mu = state.inner_states["muon"].inner_state[0].mu
        assert len(jax.tree.leaves(mu["b"])) == 2
        assert not jax.tree.leaves(mu["a"])


@pytest.mark.parametrize("params", [{"w": jnp.ones((3, 3))}, {"b": jnp.ones(3)}, {}])
def test_all_leaves_may_be_muons_or_none(params):
    tx = muon(0.02)
    updates, _ = tx.update(params, tx.init(params), params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)


def test_your_own_function_orthogonalizes_stacks():
    seen = []

    def polar(stack):
        seen.append(stack.shape)
        u, _, vt = jnp.linalg.svd(stack, full_matrices=False)
        return u @ vt

    params = {"a": matrices(1, (3, 5))[0], "b": matrices(1, (3, 5), seed=4)[0]}
    tx = scale_by_muon(orthogonalize=polar)
    updates, _ = tx.update(params, tx.init(params))
    assert seen == [(2, 3, 5)]
    np.testing.assert_allclose(singular_values(updates["a"]), 1.0, atol=1e-5)


def test_the_iteration_can_run_in_bfloat16_as_jordans_does():
    g = matrices(1, (8, 8))[0]
    tx = scale_by_muon(ns_dtype=jnp.bfloat16)
    updates, state = tx.update(g, tx.init(g))
    assert updates.dtype == state.mu.dtype == jnp.float32
    assert 0.4 < singular_values(updates).min() < singular_values(updates).max() < 1.5


def test_moonshots_factor_gives_every_shape_the_same_root_mean_square():
    tx = muon(1.0, consistent_rms=0.2)
    for shape in ((8, 8), (4, 32), (32, 4)):
        p = matrices(1, shape)[0]
        updates, _ = tx.update(p, tx.init(p), p)
        assert 0.15 < float(jnp.sqrt(jnp.mean(updates**2))) < 0.25


def test_adaptive_multiplies_by_the_dual_norm():
    g = matrices(1, (3, 4))[0]
    plain, adaptive = scale_by_muon(beta=0.0), scale_by_muon(beta=0.0, adaptive=True)
    u, _ = plain.update(g, plain.init(g))
    v, _ = adaptive.update(g, adaptive.init(g))
    np.testing.assert_allclose(v, jnp.sum(g * u) * u, rtol=1e-5)


def test_weight_decay_may_follow_a_schedule_and_a_mask():
    params = {"a": jnp.ones((2, 2)), "b": jnp.ones((2, 2))}
    tx = muon(
        1.0,
        weight_decay=lambda count: 0.1 * (count.astype(jnp.float32) + 1),
        weight_decay_mask={"a": True, "b": False},
    )
    zeros, state = jax.tree.map(jnp.zeros_like, params), tx.init(params)
    for decay in (0.1, 0.2):
        updates, state = tx.update(zeros, state, params)
        np.testing.assert_allclose(updates["a"], -decay, rtol=1e-6)
        assert not updates["b"].any()


def test_what_is_no_matrix_is_refused_by_name():
    with pytest.raises(ValueError, match=r"scale_by_muon: the leaf\['bias'\] of shape \(3,\)"):
        scale_by_muon().init({"bias": jnp.ones(3)})
    with pytest.raises(ValueError, match="has no dimension numbers"):
        scale_by_muon(weight_dimension_numbers={"a": None}).init({"a": jnp.ones((2, 2))})
    with pytest.raises(ValueError, match="names an axis of an array of 2 axes twice"):
        scale_by_muon(weight_dimension_numbers=MuonDimensionNumbers(0, -2)).init(jnp.ones((2, 2)))
    with pytest.raises(TypeError, match=r"muon: dimension numbers must be .* or None, not True"):
        muon(0.1, muon_weight_dimension_numbers=True).init(jnp.ones((2, 2)))
    with pytest.raises(TypeError, match="axes must be ints"):
        scale_by_muon(weight_dimension_numbers=MuonDimensionNumbers(0.5)).init(jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="preconditioning must be one of"):
        muon(0.1, preconditioning="none")
    with pytest.raises(ValueError, match=r"shape \(3,\) or \(n, 3\), not \(2,\)"):
        muon(0.1, ns_coeffs=(1.0, 2.0))
    with pytest.raises(ValueError, match="ns_coeffs must be one of 'standard', 'dion'"):
        muon(0.1, ns_coeffs="best")


def test_matrices_on_eight_devices_are_shared_out_and_give_the_same_numbers(on_devices):
    on_devices(__file__)


def on_eight_devices(kind):
    mesh = jax.make_mesh((4, 2), ("data", "model"), (kind, kind))
    shapes = {
        "a": ((8, 16), PartitionSpec("data", "model")),
        "b": ((8, 16), PartitionSpec("data", "model")),
        "c": ((8, 16), PartitionSpec(None, "model")),
        "conv": ((3, 3, 4, 8), PartitionSpec(None, None, "data", "model")),
        "stack": ((4, 8, 8), PartitionSpec(None, "data", None)),
        "bias": ((16,), PartitionSpec("model")),
        **{f"layer_{k}": ((8, 4), PartitionSpec("data", "model")) for k in range(14)},
    }
    here = {
        name: jax.random.normal(jax.random.key(k), shape)
        for k, (name, (shape, _)) in enumerate(shapes.items())
    }
    params = {
        name: jax.device_put(here[name], NamedSharding(mesh, spec))
        for name, (_, spec) in shapes.items()
    }
    tx = muon(0.02, weight_decay=0.1)
    expected, _ = tx.update(here, tx.init(here), here)
    with jax.set_mesh(mesh):
        layout = state_sharding(tx, params)
        state = jax.jit(tx.init, out_shardings=layout)(params)
        mu = state.inner_states["muon"].inner_state[0].mu
        assert all(mu[n].sharding.is_equivalent_to(params[n].sharding, mu[n].ndim) for n in "abc")

        @jax.jit
        def step(params, state):
            updates, state = tx.update(params, state, params)
            return updates, apply_updates(params, updates), state

        updates, moved, after = step(params, state)
        for name in shapes:
            np.testing.assert_allclose(updates[name], expected[name], atol=1e-5, err_msg=name)
            if kind is AxisType.Explicit:
                assert moved[name].sharding == params[name].sharding, name
        eager, _ = tx.update(params, state, params)
        np.testing.assert_allclose(eager["a"], expected["a"], atol=1e-5)
    assert jax.tree.structure(after) == jax.tree.structure(state)


if __name__ == "__main__":
    for one in (AxisType.Auto, AxisType.Explicit):
        on_eight_devices(one)


@pytest.mark.parametrize(
    ("path", "shape", "is_kernel"),
    [
        ("Conv_0", (3, 5, 4, 8), True),
        ("down", (3, 3, 4, 8), True),
        ("patch", (16, 16, 3, 8), True),
        ("mlp", (2, 4, 4, 8), False),
        ("experts", (2, 2, 4, 8), False),
        ("mlp", (32, 32, 4, 8), False),
    ],
)
def test_four_axes_are_a_kernel_only_where_they_can_be_nothing_else(path, shape, is_kernel):
    params = {path: {"kernel": jnp.ones(shape)}}
    tx = muon(0.1)
    if is_kernel:
        jax.eval_shape(tx.update, params, tx.init(params), params)
        return
    with pytest.raises(
        ValueError, match=rf"'{path}'\]\['kernel'\] of shape .* a stack of matrices"
    ):
        jax.eval_shape(tx.update, params, tx.init(params), params)
    given = muon(0.1, muon_weight_dimension_numbers=MuonDimensionNumbers(-2, -1))
    jax.eval_shape(given.update, params, given.init(params), params)


def attention():
    """The parameters of Flax's attention: 6 features, 2 heads of 3."""
    shapes = {"query": (6, 2, 3), "key": (6, 2, 3), "value": (6, 2, 3), "out": (2, 3, 6)}
    params = {
        name: {"kernel": jnp.cos(jnp.arange(36.0) + k).reshape(shape), "bias": jnp.ones(shape[1:])}
        for k, (name, shape) in enumerate(shapes.items())
    }
    params["out"]["bias"] = jnp.ones(6)
    return {"attention": params}


def test_the_kernels_of_attention_are_matrices_and_biases_of_two_axes_are_adams():
    params = attention()
    tx = muon(0.1)
    updates, state = tx.update(params, tx.init(params), params)
    plain = {name: kernel["kernel"].reshape((6, 6)) for name, kernel in params["attention"].items()}
    expected, _ = tx.update(plain, tx.init(plain), plain)
    for name, update in updates["attention"].items():
        np.testing.assert_allclose(update["kernel"].reshape((6, 6)), expected[name], atol=1e-6)
        own = state.inner_states["adam"].inner_state[0].mu["attention"][name]["bias"]
        assert own.shape == params["attention"][name]["bias"].shape


def test_stacked_layers_with_the_names_of_attention_are_stacks():
    params = {
        name: {"kernel": jnp.cos(jnp.arange(48.0)).reshape(3, 4, 4)} for name in ("query", "out")
    }
    tx = muon(0.1)
    updates, _ = tx.update(params, tx.init(params), params)
    alone = {"w": params["query"]["kernel"][0]}
    expected, _ = tx.update(alone, tx.init(alone), alone)
    np.testing.assert_allclose(updates["query"]["kernel"][0], expected["w"], atol=1e-6)
