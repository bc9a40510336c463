"""Situations that every optimizer of matrices goes through; the next one is covered by its row here."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec

import optx_aliases
from optx_aliases import matrix_inverse_pth_root, muon, newton_schulz, power_iteration
from optx_core.build import run_if

OPTIMIZERS = {
    "scale_by_muon": {},
    "scale_by_soap": {"precondition_frequency": 2},
    "scale_by_shampoo": {"precondition_frequency": 1},
    "scale_by_kron": {},
    "scale_by_galore": {"rank": 4, "update_proj_gap": 3},
    "scale_by_apollo": {"update_proj_gap": 2},
    "scale_by_dion2": {"fraction": 0.5},
    "scale_by_kl_shampoo": {"precondition_frequency": 2},
}
FUNCTIONS = {
    "power_iteration": lambda x: power_iteration(x)[0],
    "matrix_inverse_pth_root": lambda x: matrix_inverse_pth_root(x, 4)[0],
    "newton_schulz": lambda x: newton_schulz(x[:, :2]),
    "run_if": lambda x: run_if(x[0, 0] > 0, lambda _: x[0], jnp.zeros(4)),
}
PRECONDITIONINGS = ("frobenius", "spectral", "aol", "schatten")


def optimizer(name, **options):
    return getattr(optx_aliases, name)(**{**OPTIMIZERS[name], **options})


def of_rank(rank, shape, condition=1.0, seed=0):
    """A matrix of that rank with singular values between 1 and 1 / condition."""
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.normal(size=(n, rank)))[0] for n in shape)
    return (u * np.geomspace(1, 1 / condition, rank)) @ v.T


def largest(x):
    return np.linalg.svd(np.asarray(x, np.float64), compute_uv=False).max()


def test_every_optimizer_of_matrices_is_in_the_table():
    public = {n: getattr(optx_aliases, n) for n in optx_aliases.__all__ if n[:9] == "scale_by_"}
    ours = {n for n, f in public.items() if "._matrix." in f.__module__}
    assert ours == {*OPTIMIZERS, "scale_by_shape"}


def varying(function, *operands):
    """The shapes of a function's results on one device's part of operands that are split over a mesh."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    spec, everywhere = PartitionSpec("data"), PartitionSpec()

    def part(first, *rest):
        return jax.tree.map(lambda x: x[None], function(first[0], *rest))

    specs = (spec, *(everywhere for _ in operands[1:]))
    return jax.eval_shape(jax.shard_map(part, mesh=mesh, in_specs=specs, out_specs=spec), *operands)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_loops_that_start_from_constants_take_varying_matrices_inside_shard_map(name):
    varying(FUNCTIONS[name], jnp.ones((1, 4, 4)))


@pytest.mark.parametrize("made_inside", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_vary_inside_shard_map_whether_or_not_the_state_does(name, made_inside):
    tx, p = optimizer(name), jnp.ones((4, 3))

    def two_steps(g, state):
        state = tx.init(g) if made_inside else state
        for _ in range(2):
            g, state = tx.update(g, state)
        return g

    assert varying(two_steps, p[None], tx.init(p)).shape == (1, 4, 3)


OF_STACKS = [
    *((name, {}) for name in OPTIMIZERS if name != "scale_by_galore"),  # which projects no stacks
    *(("scale_by_muon", {"second_moment": kind}) for kind in ("row", "entry", "scalar")),
    ("scale_by_shampoo", {"graft": "adagrad"}),
    ("scale_by_apollo", {"rank": 2, "per_channel": True}),
]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("name", "options"), OF_STACKS)
def test_matrices_in_a_stack_move_as_they_would_alone(name, options):
    rng = np.random.default_rng(0)
    sizes = np.array([1e-2, 1.0, 30.0])[:, None, None]
    grads = [jnp.asarray(sizes * rng.normal(size=(3, 4, 6))) for _ in range(4)]
    tx = optimizer(name, **options)
    moved = np.zeros((3, 4, 6))
    state = tx.init(grads[0])
    for t, g in enumerate(grads):
        moved, state = tx.update(g.at[1].set(0.0) if t == 2 else g, state, grads[0])
    for k in range(3):
        alone = tx.init(grads[0][k])
        for t, g in enumerate(grads):
            g = jnp.zeros_like(g[k]) if (t, k) == (2, 1) else g[k]
            one, alone = tx.update(g, alone, grads[0][k])
        np.testing.assert_allclose(moved[k], one, rtol=2e-4, atol=1e-6 * sizes[k, 0, 0])


@pytest.mark.sampled(2)
@pytest.mark.parametrize("steps", [5, 12])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_long_matrices_of_any_condition_stay_bounded_in_every_precision(dtype, steps):
    for shape in ((20, 10), (10, 48)):
        for rank, condition in ((10, 1e3), (10, 1e6), (1, 1.0)):
            x = jnp.asarray(of_rank(rank, shape, condition), dtype)
            assert largest(newton_schulz(x, ns_steps=steps)) < 1.3, (shape, rank, condition)


@pytest.mark.parametrize("bits", [10, 7])  # TF32, bfloat16
def test_so_they_do_on_accelerators_whose_products_are_rounded(bits, monkeypatch):
    module = sys.modules[newton_schulz.__module__]
    exact = module._product

    def rounded(x, y, *axes):
        return exact(lax.reduce_precision(x, 8, bits), lax.reduce_precision(y, 8, bits), *axes)

    def elsewhere(*operands, default, **_):
        return default(*operands)

    monkeypatch.setattr(module, "_product", rounded)
    monkeypatch.setattr(module.lax, "platform_dependent", elsewhere)
    for rank, condition in ((10, 1e3), (10, 1e6), (1, 1.0)):
        x = jnp.asarray(of_rank(rank, (20, 10), condition), jnp.float32)
        assert largest(newton_schulz(x, ns_steps=12)) < 1.3, (rank, condition)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("preconditioning", PRECONDITIONINGS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_norms_of_large_matrices_neither_stall_nor_overflow_in_half_precision(
    dtype, preconditioning
):
    x = jnp.ones((300, 300), dtype)  # 90,000 is more than float16 has
    assert 0.6 < largest(newton_schulz(x, preconditioning=preconditioning)) < 1.3


def test_muon_in_bfloat16_moves_as_far_as_in_float32():
    g = jnp.asarray(of_rank(10, (20, 10), 1e3), jnp.float32)
    sizes = []
    for dtype in (None, jnp.bfloat16):
        tx = muon(0.1, ns_dtype=dtype)
        sizes.append(float(jnp.linalg.norm(tx.update(g, tx.init(g), g)[0])))
    np.testing.assert_allclose(sizes[1], sizes[0], rtol=0.05)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_power_iteration_and_roots_of_half_precision_are_those_of_float32(dtype):
    factor = np.random.default_rng(0).normal(size=(12, 3))
    a = jnp.asarray(factor @ factor.T, dtype)
    wide = np.asarray(a, np.float64)
    expected = np.linalg.eigvalsh(wide).max()
    value, vector = power_iteration(a)
    assert value.dtype == vector.dtype == jnp.float32
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    by_function, _ = power_iteration(lambda v: a @ v, v0=jnp.ones(12, dtype))
    np.testing.assert_allclose(by_function, expected, rtol=1e-2)
    values, vectors = np.linalg.eigh(wide + 0.01 * expected * np.eye(12))
    root, _ = matrix_inverse_pth_root(a, 4, ridge_epsilon=0.01)
    np.testing.assert_allclose(root, (vectors * values**-0.25) @ vectors.T, atol=1e-4)


@pytest.mark.parametrize("name", ["scale_by_soap", "scale_by_galore", "scale_by_shampoo"])
def test_gradients_of_less_than_full_rank_are_not_stepped_out_of_their_span(name):
    tx, rng = optimizer(name), np.random.default_rng(0)
    B = rng.normal(size=(8, 2))
    span = np.linalg.qr(B)[0]
    state, update = tx.init(jnp.zeros((8, 6))), jax.jit(tx.update)
    for t in range(8):
        u, state = update(jnp.asarray(B @ rng.normal(size=(2, 6)), jnp.float32), state)
        u = np.asarray(u, np.float64)
        outside = np.linalg.norm(u - span @ (span.T @ u))
        assert outside <= 1e-4 * np.linalg.norm(u), t


@pytest.mark.parametrize("name", ["scale_by_soap", "scale_by_galore"])
def test_a_direction_a_ten_thousandth_as_strong_still_gets_full_steps(name):
    tx = optimizer(name)
    g = jnp.asarray(of_rank(2, (8, 2), 1e4), jnp.float32)
    state = tx.init(g)
    for _ in range(2):
        u, state = tx.update(g, state)
    values = np.linalg.svd(np.asarray(u), compute_uv=False)
    assert values.min() > 0.5


def test_galore_keeps_adams_mean_in_a_dtype_of_ones_choice():
    state = optx_aliases.galore(0.1, rank=2, mu_dtype=jnp.bfloat16).init(jnp.ones((8, 6)))
    base = state[0].base_optimizer_state
    assert (base.mu.dtype, base.nu.dtype) == (jnp.bfloat16, jnp.float32)
    with pytest.raises(ValueError, match="give mu_dtype to the base_optimizer"):
        optx_aliases.galore(0.1, mu_dtype=jnp.bfloat16, base_optimizer=optx_aliases.adam(0.1))
