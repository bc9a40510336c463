"""Leaves of every kind, refusals, dtypes, and what jax does with the functions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import TreeMismatchError
from optx_second_order import (
    categorical,
    coloring_error,
    empirical_fisher_diag,
    exact_hessian_diag,
    explain,
    fisher_vp,
    ggn_diag,
    hessian_diag_estimate,
    hessian_vp,
    hutchpp_trace,
    hvp,
    true_fisher_diag,
    xdiag,
)

X = jnp.ones((3, 2))
PARAMS = {"w": jnp.ones(2), "v": jnp.zeros((3, 2))}


def square(p, x):
    return 0.5 * (p["w"] @ x) ** 2


def test_none_integers_and_masked_leaves_are_none_in_the_result():
    params = {"w": jnp.ones(2), "step": jnp.array(3), "flag": True, "gone": None, "v": jnp.ones(2)}
    loss = lambda p, x: square(p, x) + jnp.sum(p["v"] ** 2)
    for found in (
        exact_hessian_diag(
            loss, params, X, mask={"w": True, "step": True, "flag": True, "gone": None, "v": False}
        ),
        empirical_fisher_diag(loss, params, X, mask=lambda p: {k: k != "v" for k in p}),
    ):
        assert found["step"] is None
        assert found["flag"] is None
        assert found["gone"] is None
        assert found["v"] is None
        assert found["w"].shape == (2,)


def test_empty_trees_empty_leaves_and_scalars_pass():
    assert exact_hessian_diag(lambda p, x: jnp.sum(x), {}, X) == {}
    found = exact_hessian_diag(
        lambda p, x: p["s"] ** 2 * x[0], {"s": jnp.array(2.0), "e": jnp.zeros((0, 3))}, X
    )
    assert found["e"].shape == (0, 3)
    np.testing.assert_allclose(found["s"], 2.0)


def test_a_leaf_that_is_not_used_has_zero_curvature():
    found = exact_hessian_diag(square, {"w": jnp.ones(2), "idle": jnp.ones(3)}, X)
    np.testing.assert_array_equal(found["idle"], 0)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_parameters_have_float32_diagonals(dtype):
    params = {"w": jnp.ones((2, 3), dtype), "t": jnp.ones((3,), dtype)}
    loss = lambda p, x: jnp.sum(jnp.tanh(x @ p["w"]) * p["t"]) ** 2
    wide = jax.tree.map(lambda a: a.astype(jnp.float32), params)
    wanted = exact_hessian_diag(loss, wide, X)
    for method in ("auto", "units", "chunked"):
        found = exact_hessian_diag(loss, params, X.astype(dtype), method=method)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            assert a.dtype == jnp.float32
            np.testing.assert_allclose(a, b, rtol=0.05, atol=0.02)


def test_infinite_and_nan_data_stay_visible():
    bad = X.at[0, 0].set(jnp.nan).at[1, 1].set(jnp.inf)
    found = exact_hessian_diag(square, {"w": jnp.ones(2)}, bad)["w"]
    assert jnp.isnan(found[0])
    assert not jnp.isfinite(found[1])


REFUSALS = {
    "complex": (
        lambda: exact_hessian_diag(square, {"w": jnp.ones(2, complex)}, X),
        TypeError,
        r"params\['w'\] is complex",
    ),
    "no-array": (
        lambda: exact_hessian_diag(square, {"w": "a"}, X),
        TypeError,
        r"params\['w'\] must be an array or a number, not 'a'",
    ),
    "vector-loss": (
        lambda: exact_hessian_diag(lambda p, x: p["w"] * x, {"w": jnp.ones(2)}, X),
        ValueError,
        "must return a real scalar",
    ),
    "aux": (
        lambda: exact_hessian_diag(lambda p, x: (square(p, x), 1), {"w": jnp.ones(2)}, X),
        TypeError,
        "has_aux=True",
    ),
    "uneven": (
        lambda: exact_hessian_diag(square, {"w": jnp.ones(2)}, X, jnp.ones(4)),
        ValueError,
        "differ in length",
    ),
    "scalar-batch": (
        lambda: exact_hessian_diag(square, {"w": jnp.ones(2)}, 1.0),
        ValueError,
        r"batch\[0\] is a scalar",
    ),
    "empty-batch": (
        lambda: empirical_fisher_diag(square, {"w": jnp.ones(2)}, X[:0]),
        ValueError,
        "batch is empty",
    ),
    "method": (
        lambda: exact_hessian_diag(square, {"w": jnp.ones(2)}, X, method="fast"),
        ValueError,
        "method must be one of",
    ),
    "reduction": (
        lambda: exact_hessian_diag(square, {"w": jnp.ones(2)}, X, reduction="max"),
        ValueError,
        "reduction must be one of",
    ),
    "chunk": (
        lambda: explain(square, {"w": jnp.ones(2)}, X, chunk_size=0),
        ValueError,
        "chunk_size must be an integer",
    ),
    "mask": (
        lambda: exact_hessian_diag(square, {"w": jnp.ones(2)}, X, mask={"v": True}),
        TreeMismatchError,
        "mask must be",
    ),
    "coloring": (
        lambda: exact_hessian_diag(square, {"w": jnp.ones(2)}, X, coloring={"w": np.zeros(3, int)}),
        ValueError,
        r"coloring\['w'\]",
    ),
    "no-batch": (
        lambda: exact_hessian_diag(lambda p: jnp.sum(p), jnp.ones(2), method="units"),
        ValueError,
        "black box",
    ),
    "vector": (
        lambda: hessian_vp(square, {"w": jnp.ones(2)}, {"w": jnp.ones(3)}, X),
        TreeMismatchError,
        r"v\['w'\] has shape \(3,\)",
    ),
    "structure": (
        lambda: hessian_vp(square, {"w": jnp.ones(2)}, [jnp.ones(2)], X),
        TreeMismatchError,
        "structure of params",
    ),
    "flat": (
        lambda: hvp(
            lambda p, x, y: jnp.sum(p["a"]) + jnp.sum(p["b"]),
            jnp.ones(3),
            {"a": jnp.ones(2), "b": jnp.ones(2)},
            0,
            0,
        ),
        TreeMismatchError,
        r"\(4,\)",
    ),
    "no-key": (
        lambda: ggn_diag(lambda p, x: x, categorical(), jnp.ones(2), X, method="mc"),
        ValueError,
        "key=",
    ),
    "no-likelihood": (
        lambda: ggn_diag(
            lambda p, x: x, lambda f, y: f[0], jnp.ones(2), X, X, method="mc", key=jax.random.key(0)
        ),
        ValueError,
        "pass a Likelihood",
    ),
    "no-labels": (
        lambda: ggn_diag(lambda p, x: x, lambda f, y: f[0], jnp.ones(2), X),
        ValueError,
        "needs labels",
    ),
    "integer-outputs": (
        lambda: ggn_diag(lambda p, x: jnp.argmax(x), categorical(), jnp.ones(2), X),
        TypeError,
        "must be floating point",
    ),
    "no-examples": (
        lambda: hessian_diag_estimate(lambda p: jnp.sum(p), jnp.ones(2), key=jax.random.key(0)),
        ValueError,
        "without a batch",
    ),
    "parameters-as-loss": (
        lambda: ggn_diag(lambda p, x: x, PARAMS, X, X),
        TypeError,
        "ggn_diag: loss_fn must be a function, not a dict",
    ),
    "parameters-as-model": (
        lambda: ggn_diag(PARAMS, categorical(), PARAMS, X),
        TypeError,
        "ggn_diag: model_fn must be a function, not a dict",
    ),
    "parameters-as-likelihood": (
        lambda: true_fisher_diag(lambda p, x: x, PARAMS, X, X),
        TypeError,
        "likelihood must be a Likelihood, such as categorical\\(\\), not a dict",
    ),
    "parameters-as-fisher-likelihood": (
        lambda: fisher_vp(lambda p, x: x, PARAMS, X, X, X),
        TypeError,
        "not a dict",
    ),
    "parameters-as-hessian-loss": (
        lambda: exact_hessian_diag(PARAMS, PARAMS, X),
        TypeError,
        "exact_hessian_diag: loss_fn must be a function, not a dict",
    ),
    "parameters-in-a-leaf": (
        lambda: exact_hessian_diag(square, {"w": object()}, X),
        TypeError,
        "not an object",
    ),
    "array-as-mask": (
        lambda: exact_hessian_diag(square, {"w": jnp.ones(2)}, X, mask={"w": jnp.ones(2)}),
        TypeError,
        r"mask must contain bools, not an array float32\[2\]",
    ),
    "odd-products": (
        lambda: xdiag(lambda v: v, jnp.ones(9), jax.random.key(0), 5),
        ValueError,
        "must be even",
    ),
    "thirds": (
        lambda: hutchpp_trace(lambda v: v, jnp.ones(9), jax.random.key(0), 4),
        ValueError,
        "multiple of 3",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_bad_input_is_refused_by_name(name):
    call, error, words = REFUSALS[name]
    with pytest.raises(error, match=words):
        call()


PRINTED = ["parameters-as", "vector", "structure", "mask", "coloring"]


@pytest.mark.parametrize("name", [n for n in REFUSALS if any(n.startswith(p) for p in PRINTED)])
def test_errors_do_not_print_arrays(name):
    call, error, _ = REFUSALS[name]
    with pytest.raises(error) as caught:
        call()
    assert "Array(" not in str(caught.value)
    assert "array(" not in str(caught.value)


def test_a_callable_tree_of_bools_is_a_mask():
    @jax.tree_util.register_pytree_node_class
    class Layer(dict):
        def __call__(self, x):
            raise AssertionError("a mask is not called")

        def tree_flatten(self):
            return list(self.values()), tuple(self)

        @classmethod
        def tree_unflatten(cls, keys, values):
            return cls(zip(keys, values, strict=True))

    params, mask = Layer(w=jnp.ones(2), v=jnp.ones(2)), Layer(w=True, v=False)
    diagonal = exact_hessian_diag(square, params, X, mask=mask)
    assert diagonal["v"] is None
    np.testing.assert_allclose(diagonal["w"], 1.0)


def test_auxiliary_output_is_dropped_when_announced():
    loss = lambda p, x: (square(p, x), {"n": 1})
    found = exact_hessian_diag(loss, {"w": jnp.ones(2)}, X, has_aux=True)
    np.testing.assert_allclose(found["w"], 1.0)


def test_a_wrong_coloring_is_found_out():
    loss = lambda p: jnp.sum(p) ** 2
    wrong = coloring_error(loss, jnp.ones(4), coloring=np.zeros(4, int), key=jax.random.key(0))
    right = coloring_error(loss, jnp.ones(4), coloring=np.arange(4), key=jax.random.key(0))
    assert wrong > 1
    assert right < 1e-5


def network(activation):
    rng = np.random.default_rng(0)
    shapes = {"w": (5, 4), "t": (4, 6), "u": (6, 3)}
    params = {k: jnp.asarray(rng.normal(size=s)) for k, s in shapes.items()}
    loss = lambda p, x, y: categorical().nll(
        activation(activation(x @ p["w"]) @ p["t"]) @ p["u"], y
    )
    return loss, params, jnp.asarray(rng.normal(size=(6, 5))), jnp.asarray(rng.integers(0, 3, 6))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("activation", [jnp.tanh, jax.nn.relu])
def test_a_diagonal_can_be_differentiated_mapped_and_split(activation, x64):
    loss, params, x, y = network(activation)
    diag = lambda p, **options: exact_hessian_diag(loss, p, x, y, **options)
    total = lambda p, m: sum(jnp.sum(jnp.sin(d)) for d in jax.tree.leaves(diag(p, method=m)))
    grads = [jax.jit(jax.grad(lambda p, m=m: total(p, m)))(params) for m in ("auto", "chunked")]
    chex.assert_trees_all_close(*grads, rtol=1e-9, atol=1e-13)
    ensemble = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), params)
    mapped = jax.jit(jax.vmap(diag))(ensemble)
    alone = jax.jit(diag)(jax.tree.map(lambda a: 2 * a, params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-10), mapped, alone)
    whole = jax.jit(diag)(params)
    parts = jax.jit(lambda p: diag(p, microbatch=4))(params)
    each = jax.jit(lambda p: diag(p, reduction="none"))(params)
    sums = jax.jit(lambda p: diag(p, reduction="sum"))(params)
    for a, b, c, d in zip(*map(jax.tree.leaves, (whole, parts, each, sums)), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12)
        np.testing.assert_allclose(c.mean(0), a, rtol=1e-12)
        np.testing.assert_allclose(d / 6, a, rtol=1e-12)


def test_explain_runs_on_shapes_and_predicts_the_memory_xla_plans():
    rng = np.random.default_rng(0)
    params = [
        jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((64, 100), (100, 100), (100, 10))
    ]
    x, y = jnp.ones((64, 64)), jnp.zeros(64, int)
    loss = lambda p, x, y: categorical().nll(jnp.tanh(jnp.tanh(x @ p[0]) @ p[1]) @ p[2], y)
    for method in ("auto", "units", "chunked"):
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (params, x, y))
        plan = explain(loss, *shapes, method=method)
        program = jax.jit(lambda p, m=method: exact_hessian_diag(loss, p, x, y, method=m))
        planned = program.lower(params).compile().memory_analysis().temp_size_in_bytes
        assert planned / 5 < plan.memory < planned * 5, method
        assert "probes in all" in str(plan)


SHARDED = """
import re, jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from optx_second_order import *
rng = np.random.default_rng(0)
p = {"w": jnp.asarray(rng.normal(size=(8, 12)), jnp.float32), "t": jnp.asarray(rng.normal(size=(12, 3)), jnp.float32)}
model = lambda p, x: jnp.tanh(x @ p["w"]) @ p["t"]
loss = lambda p, x, y: categorical().nll(model(p, x), y)
x, y = jnp.asarray(rng.normal(size=(16, 8)), jnp.float32), jnp.asarray(rng.integers(0, 3, 16))
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
rows, same = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
for f in (
    lambda p, x, y: exact_hessian_diag(loss, p, x, y),
    lambda p, x, y: exact_hessian_diag(loss, p, x, y, method="units"),
    lambda p, x, y: empirical_fisher_diag(loss, p, x, y),
    lambda p, x, y: ggn_diag(model, categorical(), p, x),
    lambda p, x, y: hessian_diag_estimate(loss, p, x, y, key=jax.random.key(0)).value,
):
    args = jax.device_put(p, same), jax.device_put(x, rows), jax.device_put(y, rows)
    program = jax.jit(f, out_shardings=same).lower(*args).compile()
    text = program.as_text()
    assert len(re.findall(r"all-reduce(-start)?\\(", text)) == 1, "all-reduce"
    assert "all-gather" not in text and "all-to-all" not in text
    found, wanted = program(*args), f(p, x, y)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
print("fine")
"""


def test_a_sharded_batch_takes_one_all_reduce_and_no_all_gather(on_devices):
    assert on_devices("-c", SHARDED, count=4).strip() == "fine"
