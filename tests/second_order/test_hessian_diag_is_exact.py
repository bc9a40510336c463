"""The exact diagonal against jax.hessian, for every way in which a parameter can enter."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from optx_second_order import empirical_fisher_diag, exact_hessian_diag, explain, hessian_trace


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape))


def cross_entropy(logits, label):
    return -jax.nn.log_softmax(logits)[label]


def by_definition(loss, params, batch):
    flat, unravel = ravel_pytree(params)
    total = lambda q: jnp.mean(jax.vmap(lambda *e: loss(unravel(q), *e))(*batch))
    return jax.jit(lambda q: jnp.diag(jax.hessian(total)(q)))(flat)


def worst(found, wanted):
    return float(jnp.max(jnp.abs(ravel_pytree(found)[0] - wanted)) / jnp.max(jnp.abs(wanted)))


def mlp(sizes, activation, rng):
    params = [
        {"w": normal(rng, a, b) / a**0.5, "b": normal(rng, b) * 0.1}
        for a, b in itertools.pairwise(sizes)
    ]

    def loss(params, x, y):
        for layer in params[:-1]:
            x = activation(x @ layer["w"] + layer["b"])
        return cross_entropy(x @ params[-1]["w"] + params[-1]["b"], y)

    return loss, params, (normal(rng, 6, sizes[0]), jnp.asarray(rng.integers(0, sizes[-1], 6)))


def convolution(activation):
    def build(rng):
        spec = ("NHWC", "HWIO", "NHWC")

        def loss(p, x, y):
            conv = jax.lax.conv_general_dilated
            h = conv(x[None], p["k"], (2, 2), "SAME", dimension_numbers=spec)
            h = activation(h + p["kb"].reshape(1, 1, 1, -1))
            h = conv(h, p["k2"], (1, 1), "VALID", dimension_numbers=spec, feature_group_count=2)
            return cross_entropy(activation(h).reshape(-1) @ p["w"] + p["b"], y)

        params = {
            "k": normal(rng, 3, 3, 2, 4) / 3,
            "kb": normal(rng, 4),
            "k2": normal(rng, 2, 2, 2, 4) / 2,
            "w": normal(rng, 16, 3) / 4,
            "b": normal(rng, 3),
        }
        return loss, params, (normal(rng, 4, 5, 5, 2), jnp.asarray(rng.integers(0, 3, 4)))

    return build


def transformer(rng):
    def loss(p, tokens, y):
        h = p["emb"][tokens] + p["pos"]
        mean = h.mean(-1, keepdims=True)
        var = jnp.square(h - mean).mean(-1, keepdims=True)
        g = (h - mean) / jnp.sqrt(var + 1e-5) * p["s"].reshape(1, -1) + p["sb"].reshape(1, -1)
        q, k, v = (jnp.einsum("td,dhe->the", g, p[n]) for n in "qkv")
        a = jax.nn.softmax(jnp.einsum("the,uhe->htu", q, k) / 1.4)
        h = h + jnp.einsum("htu,uhe,hed->td", a, v, p["o"])
        h = h + jnp.tanh(h @ p["w1"] + p["b1"].reshape(1, -1)) @ p["w2"].T
        return cross_entropy(h.mean(0) @ p["w"], y)

    shapes = {
        "emb": (6, 4), "pos": (5, 4), "s": (4,), "sb": (4,), "q": (4, 2, 2), "k": (4, 2, 2),
        "v": (4, 2, 2), "o": (2, 2, 4), "w1": (4, 6), "b1": (6,), "w2": (4, 6), "w": (4, 3),
    }  # fmt: skip
    params = {name: normal(rng, *shape) for name, shape in shapes.items()}
    batch = (jnp.asarray(rng.integers(0, 6, (4, 5))), jnp.asarray(rng.integers(0, 3, 4)))
    return loss, params, batch


def recurrent_and_tied(rng):
    def loss(p, x, y):
        step = lambda h, x: (jnp.tanh(x @ p["i"] + h @ p["h"]), None)
        h, _ = jax.lax.scan(step, jnp.zeros(3), x)
        return cross_entropy(jnp.tanh(h @ p["t"]) @ p["t"].T @ p["w"], y)

    params = {"i": normal(rng, 2, 3), "h": normal(rng, 3, 3), "t": normal(rng, 3, 4)}
    params["w"] = normal(rng, 3, 3)
    return loss, params, (normal(rng, 4, 6, 2), jnp.asarray(rng.integers(0, 3, 4)))


def odd_views(rng):
    def loss(p, x, y):
        h = jnp.tanh(jnp.transpose(p["a"].reshape(4, 3)) @ x)
        h = jax.nn.silu(jnp.expand_dims(p["c"], 0)[0].T @ h)
        return jnp.sum(h * p["scale"] - p["shift"]) ** 2 * y

    params = {"a": normal(rng, 12), "c": normal(rng, 3, 5)}
    params |= {"scale": normal(rng, 5), "shift": normal(rng, 5)}
    return loss, params, (normal(rng, 4, 4), normal(rng, 4))


def residual_relu(rng):
    def loss(p, x, y):
        h = x @ p["in"]
        for name in ("r1", "r2"):
            h = h + jax.nn.relu(h @ p[name]) @ p[name + "out"]
        return cross_entropy(h @ p["w"], y)

    shapes = {"in": (4, 6), "r1": (6, 5), "r1out": (5, 6), "r2": (6, 5), "r2out": (5, 6)}
    params = {name: normal(rng, *shape) / 2 for name, shape in shapes.items()}
    params["w"] = normal(rng, 6, 2)
    return loss, params, (normal(rng, 5, 4), jnp.asarray(rng.integers(0, 2, 5)))


def dropped_out_gates(rng):
    def loss(p, x, gate, y):
        h = jnp.tanh(x @ p["w1"]) * gate  # a product with data, elementwise, inside the chain
        return jnp.square(jnp.sin(h @ p["w2"]) @ p["w3"] - y)

    params = {"w1": normal(rng, 3, 5), "w2": normal(rng, 5, 4), "w3": normal(rng, 4)}
    gate = jnp.asarray(rng.integers(0, 2, (5, 5)), jnp.result_type(float))
    return loss, params, (normal(rng, 5, 3), gate, normal(rng, 5))


def experts(rng):
    def loss(p, x, y):
        h = jnp.tanh(jnp.einsum("gtk,gkj->gtj", x, p["experts"]))
        return jnp.sum(h * y)

    return (
        loss,
        {"experts": normal(rng, 3, 4, 2)},
        (normal(rng, 5, 3, 2, 4), normal(rng, 5, 3, 2, 2)),
    )


ACTIVATIONS = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "abs": jnp.abs,
    "leaky_relu": jax.nn.leaky_relu,
}
MODELS = {
    f"mlp-{name}-{len(sizes)}": lambda rng, a=a, sizes=sizes: mlp(sizes, a, rng)
    for name, a in ACTIVATIONS.items()
    for sizes in [[5, 4, 6, 3]]
} | {
    "mlp-tanh-6": lambda rng: mlp([5, 4, 6, 5, 4, 3], jnp.tanh, rng),
    "mlp-elu-6": lambda rng: mlp([5, 4, 6, 5, 4, 3], jax.nn.elu, rng),
    "logistic": lambda rng: mlp([5, 3], jnp.tanh, rng),
    "one-hidden": lambda rng: mlp([5, 4, 3], jnp.tanh, rng),
    "wide-head": lambda rng: mlp([3, 4, 20], jnp.tanh, rng),
    "convolution-relu": convolution(jax.nn.relu),
    "convolution-tanh": convolution(jnp.tanh),
    "transformer": transformer,
    "recurrent-and-tied": recurrent_and_tied,
    "odd-views": odd_views,
    "residual-relu": residual_relu,
    "gates": dropped_out_gates,
    "experts": experts,
}


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", MODELS)
def test_the_diagonal_is_that_of_the_definition(name, x64):
    loss, params, batch = MODELS[name](np.random.default_rng(0))
    found = jax.jit(lambda p: exact_hessian_diag(loss, p, *batch))(params)
    assert worst(found, by_definition(loss, params, batch)) < 1e-12


@pytest.mark.sampled(4)
@pytest.mark.parametrize("method", ["chain", "units"])
@pytest.mark.parametrize("name", ["mlp-tanh-6", "convolution-relu", "residual-relu", "odd-views"])
def test_the_other_methods_agree(name, method, x64):
    loss, params, batch = MODELS[name](np.random.default_rng(0))
    found = jax.jit(lambda p: exact_hessian_diag(loss, p, *batch, method=method))(params)
    assert worst(found, by_definition(loss, params, batch)) < 1e-12


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["mlp-tanh-4", "recurrent-and-tied"])
def test_chunks_give_the_same_whatever_their_size(name, x64):
    loss, params, batch = MODELS[name](np.random.default_rng(0))
    wanted = by_definition(loss, params, batch)
    for chunk in (1, 7, 1000):
        options = {"method": "chunked", "chunk_size": chunk}
        found = jax.jit(lambda p: exact_hessian_diag(loss, p, *batch, **options))(params)
        assert worst(found, wanted) < 1e-12


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", ["mlp-tanh-6", "mlp-relu-4", "convolution-tanh", "residual-relu"])
def test_float32_agrees_with_float64_to_its_precision(name, x64):
    loss, params, batch = MODELS[name](np.random.default_rng(0))
    cast = lambda t, dtype: jax.tree.map(
        lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, t
    )
    narrow = cast((params, batch), jnp.float32)
    found = jax.jit(lambda p, b: exact_hessian_diag(loss, p, *b))(*narrow)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found))
    # The truth is that of the rounded parameters: rounding them is not our error.
    wanted = by_definition(loss, *cast(narrow, jnp.float64))
    assert worst(cast(found, jnp.float64), wanted) < 1e-6


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "name", ["mlp-relu-4", "convolution-tanh", "transformer", "recurrent-and-tied", "odd-views"]
)
def test_the_empirical_fisher_is_the_mean_of_squared_gradients(name, x64):
    loss, params, batch = MODELS[name](np.random.default_rng(0))
    flat, unravel = ravel_pytree(params)
    grad = lambda *e: jax.grad(lambda q: loss(unravel(q), *e))(flat)
    wanted = jax.jit(lambda: jnp.mean(jnp.square(jax.vmap(grad)(*batch)), axis=0))()
    found = jax.jit(lambda p: empirical_fisher_diag(loss, p, *batch))(params)
    assert worst(found, wanted) < 1e-12


def test_each_leaf_falls_back_alone(x64):
    loss, params, batch = MODELS["recurrent-and-tied"](np.random.default_rng(0))
    methods = {leaf.path: leaf.method for leaf in explain(loss, params, *batch).leaves}
    assert methods["['w']"] == "units"
    assert {methods["['t']"], methods["['i']"], methods["['h']"]} == {"chunked"}


def test_probes_of_shared_weights_are_fan_out_times_the_smaller_of_positions_and_fan_in(x64):
    loss, params, batch = MODELS["convolution-tanh"](np.random.default_rng(0))
    probes = {leaf.path: leaf.probes for leaf in explain(loss, params, *batch).leaves}
    positions, fan_in, fan_out = 9, 18, 4
    assert probes["['k']"] == fan_out * min(positions, fan_in)
    assert probes["['k2']"] == 4 * min(4, 8)
    assert probes["['kb']"] == 4
    assert probes["['w']"] == 3


def test_a_function_with_its_own_derivative_is_judged_by_that_derivative(x64):
    @jax.custom_jvp
    def spike(x):
        return (x > 0).astype(x.dtype)

    # a surrogate gradient: the value is locally constant, the derivative is not
    spike.defjvp(lambda p, t: (spike(p[0]), t[0] * jax.nn.sigmoid(p[0])))
    rng = np.random.default_rng(0)
    loss, params, batch = mlp([5, 4, 6, 3], spike, rng)
    wanted = by_definition(loss, params, batch)
    assert worst(exact_hessian_diag(loss, params, *batch), wanted) < 1e-12


def test_an_elementwise_value_with_a_mixing_derivative_is_no_link_of_a_chain(x64):
    @jax.custom_jvp
    def mixing(x):
        return jnp.tanh(x)

    mixing.defjvp(lambda p, t: (mixing(*p), jnp.sin(p[0]) * jnp.sum(t[0] * p[0])))
    loss, params, batch = mlp([5, 4, 6, 3], mixing, np.random.default_rng(0))
    wanted = by_definition(loss, params, batch)
    for method in ("auto", "chain"):
        assert worst(exact_hessian_diag(loss, params, *batch, method=method), wanted) < 1e-12


COMPLEX = {
    "conversion": lambda z: jnp.sum(jnp.real(z.astype(complex)) ** 2),
    "fft": lambda z: jnp.sum(jnp.abs(jnp.fft.fft(z)) ** 2),
    "real fft": lambda z: jnp.sum(jnp.abs(jnp.fft.rfft(z)) ** 2),
    "sign": lambda z: jnp.sum(jnp.real(jnp.sign(z + 1j * z[::-1] ** 2))),
    "complex": lambda z: jnp.sum(jnp.abs(jax.lax.complex(z, z[::-1]) ** 3)),
    "polar": lambda z: jnp.sum(jnp.angle(z * jnp.exp(1j * z))),
    "matrix": lambda z: jnp.abs(z.astype(complex) @ jnp.array([1j, 2.0, 1 + 1j])) ** 2,
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", COMPLEX)
def test_a_real_value_that_becomes_complex_keeps_its_curvature(name, x64):
    loss = lambda p, a: COMPLEX[name](p * a)
    p, a = jnp.array([0.5, -1.0, 2.0]), jnp.array([[1.0, 2.0, 3.0], [0.5, 1.5, -1.0]])
    with jax.numpy_dtype_promotion("standard"):
        wanted = by_definition(loss, p, (a,))
        for method in ("auto", "chain", "units"):
            diagonal = exact_hessian_diag(loss, p, a, method=method)
            np.testing.assert_allclose(diagonal, wanted, rtol=1e-10, atol=1e-12)
    if name == "conversion":
        np.testing.assert_allclose(wanted, 2 * jnp.mean(a**2, axis=0))


def test_an_integer_activation_ends_a_chain(x64):
    table = jnp.arange(12).reshape(4, 3)

    def loss(p, x, y):
        counts = jnp.round(jnp.tanh(x @ p["w"]) * 3).astype(table.dtype) @ table
        return jnp.sum(jnp.sin(x @ p["w"])) * jnp.sum(counts * y)

    rng = np.random.default_rng(0)
    params, batch = {"w": normal(rng, 3, 4)}, (normal(rng, 5, 3), jnp.ones((5, 3), int))
    with jax.numpy_dtype_promotion("standard"):
        wanted = by_definition(loss, params, batch)
        for method in ("auto", "chain"):
            assert worst(exact_hessian_diag(loss, params, *batch, method=method), wanted) < 1e-12


def test_a_function_with_its_own_reverse_mode_needs_no_forward_mode(x64):
    slope = lambda x: 1 - jnp.tanh(x) ** 2
    own = jax.custom_vjp(jnp.tanh)
    own.defvjp(lambda x: (jnp.tanh(x), x), lambda x, g: (g * slope(x),))
    loss, params, batch = mlp([5, 4, 6, 3], own, np.random.default_rng(0))
    plain, *_ = mlp([5, 4, 6, 3], jnp.tanh, np.random.default_rng(0))
    wanted = by_definition(plain, params, batch)
    for method in ("auto", "chunked"):
        assert worst(exact_hessian_diag(loss, params, *batch, method=method), wanted) < 1e-12


def test_the_trace_is_the_sum_of_the_diagonal(x64):
    loss, params, batch = MODELS["mlp-tanh-4"](np.random.default_rng(0))
    wanted = jnp.sum(by_definition(loss, params, batch))
    np.testing.assert_allclose(hessian_trace(loss, params, *batch), wanted, rtol=1e-12)


def test_the_trace_of_each_example_comes_with_reduction_none(x64):
    loss, params, batch = MODELS["mlp-tanh-4"](np.random.default_rng(0))
    traces = hessian_trace(loss, params, *batch, reduction="none")
    assert traces.shape == (6,)
    np.testing.assert_allclose(traces.mean(), hessian_trace(loss, params, *batch), rtol=1e-12)


def test_a_logistic_regression_has_the_diagonal_of_the_textbook(x64):
    rng = np.random.default_rng(0)
    x, y, w = normal(rng, 20, 3), jnp.asarray(rng.integers(0, 2, 20), float), normal(rng, 3)
    loss = lambda w, x, y: jnp.logaddexp(0.0, x @ w) - y * (x @ w)
    p = jax.nn.sigmoid(x @ w)
    wanted = jnp.mean((p * (1 - p))[:, None] * x**2, axis=0)
    np.testing.assert_allclose(exact_hessian_diag(loss, w, x, y), wanted, rtol=1e-12)


def test_rosenbrock_needs_two_colors_and_has_its_analytic_diagonal(x64):
    n = 101
    p = jnp.asarray(np.random.default_rng(0).normal(size=n))
    loss = lambda p: jnp.sum(100 * (p[1:] - p[:-1] ** 2) ** 2 + (1 - p[:-1]) ** 2)
    wanted = jnp.zeros(n).at[:-1].add(1200 * p[:-1] ** 2 - 400 * p[1:] + 2).at[1:].add(200)
    colored = exact_hessian_diag(loss, p, coloring=np.arange(n) % 2)
    np.testing.assert_allclose(colored, wanted, rtol=1e-12)
    np.testing.assert_allclose(exact_hessian_diag(loss, p), wanted, rtol=1e-12)


def test_a_piecewise_linear_loss_has_no_curvature(x64):
    rng = np.random.default_rng(0)
    loss = lambda w, x: jnp.abs(jax.nn.relu(x @ w)).sum()
    assert not jnp.any(exact_hessian_diag(loss, normal(rng, 3, 4), normal(rng, 5, 3)))


def test_many_leaves_share_loops(x64):
    params = {str(i): jnp.full((2,), float(i + 1)) for i in range(30)}
    loss = lambda p: sum(jnp.sum(v**3) for v in p.values())
    found = exact_hessian_diag(loss, params)
    for name, value in params.items():
        np.testing.assert_allclose(found[name], 6 * value, rtol=1e-12)
