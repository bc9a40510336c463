"""The last layer and its cross entropy in chunks: the same numbers as all logits at once, in less memory."""

import functools
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_losses as L
from optx_losses import _row_gradients

ROWS, FEATURES, CLASSES = 11, 3, 7
MANY = 2_501  # classes: two blocks on the CPU, the last of which begins in the one before

OPTIONS = {
    "plain": {},
    "bias": {"bias": True},
    "a class ruled out": {"bias": True, "out": True},
    "smoothed": {"label_smoothing": 0.1, "bias": True, "out": True},
    "z-loss": {"z_loss": 1e-2},
    "bounded": {"soft_cap": 2.0, "bias": True, "out": True},
    "ignoring": {"ignore_index": 2},
    "all": {
        "bias": True,
        "label_smoothing": 0.1,
        "z_loss": 1e-2,
        "soft_cap": 2.0,
        "ignore_index": 2,
    },
}
ways = pytest.mark.parametrize("recompute", [False, True], ids=["units", "recompute"])


def layer(options, classes=CLASSES, rows=ROWS):
    """Features, weights, bias and labels; the loss of all logits at once; that in chunks."""
    rng = np.random.default_rng(0)
    options = dict(options)
    given = {"f": rng.normal(size=(rows, FEATURES)), "w": rng.normal(size=(FEATURES, classes))}
    if options.pop("bias", False):
        given["b"] = rng.normal(size=classes)
        if options.pop("out", False):
            given["b"][4] = -np.inf
    given = {k: jnp.asarray(v) for k, v in given.items()}
    labels = jnp.asarray(rng.choice([i for i in range(classes) if i != 4], rows), jnp.int32)
    labels = labels.at[3].set(2)

    def at_once(given):
        others = dict(options)
        x = given["f"] @ given["w"] + given.get("b", jnp.zeros(classes))[None]
        if cap := others.pop("soft_cap", None):
            x = jnp.where(x == -jnp.inf, x, cap * jnp.tanh(jnp.where(x == -jnp.inf, 0, x) / cap))
        return L.softmax_cross_entropy_with_integer_labels(x, labels, **others)

    def in_chunks(given, **how):
        return L.linear_softmax_cross_entropy(
            given["f"], given["w"], labels, bias=given.get("b"), **options, **how
        )

    return given, at_once, in_chunks


def same(a, b):
    chex.assert_trees_all_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.sampled(4)
@ways
@pytest.mark.parametrize("size", [1, 4, ROWS])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_values_and_gradients_are_those_of_all_logits_at_once(options, size, recompute, x64):
    given, at_once, in_chunks = layer(options)
    in_chunks = functools.partial(in_chunks, chunk_size=size, recompute=recompute)
    same(in_chunks(given), at_once(given))
    want = jax.jit(jax.grad(lambda g: jnp.sum(at_once(g))))(given)
    same(jax.jit(jax.grad(lambda g: jnp.sum(in_chunks(g))))(given), want)


@pytest.mark.parametrize("options", [OPTIONS["ignoring"], OPTIONS["all"]], ids=["ignoring", "all"])
@pytest.mark.parametrize("blocks", [1, 2, 8], ids=["as an accelerator", "halves", "the CPU's"])
def test_classes_in_blocks_give_the_same_gradients(options, blocks, x64, monkeypatch):
    monkeypatch.setattr(_row_gradients, "_CPU_BLOCKS", blocks)
    given, at_once, in_chunks = layer(options, MANY)
    want = jax.grad(lambda g: jnp.mean(at_once(g)))(given)
    same(jax.jit(jax.grad(lambda g: jnp.mean(in_chunks(g, chunk_size=4))))(given), want)


def test_only_the_cpu_takes_the_classes_in_blocks():
    given, _, in_chunks = layer({}, MANY)
    gradient = jax.jit(jax.grad(lambda g: jnp.mean(in_chunks(g, chunk_size=ROWS)))).trace(given)

    def loops(platform):
        return gradient.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.while")

    assert loops("cpu") > loops("cuda") == loops("tpu")


@ways
def test_rows_of_unequal_weight_have_their_own_gradients(recompute, x64):
    given, at_once, in_chunks = layer(OPTIONS["all"])
    weight = jnp.linspace(-1.0, 2.0, ROWS)
    want = jax.grad(lambda g: jnp.sum(weight * at_once(g)))(given)
    got = jax.jit(
        jax.grad(lambda g: jnp.sum(weight * in_chunks(g, chunk_size=4, recompute=recompute)))
    )(given)
    same(got, want)


@pytest.mark.sampled(2)
@ways
@pytest.mark.parametrize("of", ["f", "w", "b"])
def test_one_argument_alone_can_be_differentiated(of, recompute, x64):
    given, at_once, in_chunks = layer(OPTIONS["all"])

    def gradient(loss):
        return jax.grad(lambda x: jnp.sum(loss({**given, of: x})))(given[of])

    same(
        gradient(functools.partial(in_chunks, chunk_size=4, recompute=recompute)), gradient(at_once)
    )


@ways
@pytest.mark.parametrize("options", [OPTIONS["plain"], OPTIONS["all"]], ids=["plain", "all"])
def test_tangents_and_second_derivatives_are_those_of_all_logits_at_once(options, recompute, x64):
    given, at_once, in_chunks = layer(options)
    direction = jax.tree.map(jnp.cos, given)

    def derivatives(loss):
        def total(g):
            return jnp.sum(loss(g))

        def slope(g):
            gradient = jax.grad(total)(g)
            return sum(
                jnp.vdot(a, b) for a, b in zip(gradient.values(), direction.values(), strict=True)
            )

        return (
            jax.jvp(loss, (given,), (direction,))[1],
            jax.jvp(jax.grad(total), (given,), (direction,))[1],
            jax.grad(slope)(given),
        )

    in_chunks = functools.partial(in_chunks, chunk_size=4, recompute=recompute)
    same(jax.jit(lambda: derivatives(in_chunks))(), jax.jit(lambda: derivatives(at_once))())


@ways
def test_the_second_derivative_knows_weights_that_are_equal_only_here(recompute, x64):
    given, at_once, in_chunks = layer(OPTIONS["plain"])
    direction = jnp.arange(ROWS, dtype=jnp.float64)

    def mixed(loss):
        def gradient(t):
            return jax.grad(lambda g: jnp.sum((1 + t * direction) * loss(g)))(given)

        return jax.jacfwd(gradient)(0.0), jax.jacrev(gradient)(0.0)

    in_chunks = functools.partial(in_chunks, chunk_size=4, recompute=recompute)
    same(mixed(in_chunks), mixed(at_once))


@ways
def test_gradients_can_be_batched_checkpointed_and_split_over_devices(recompute, x64):
    given, at_once, in_chunks = layer(OPTIONS["all"])
    several = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), given)
    in_chunks = functools.partial(in_chunks, chunk_size=4, recompute=recompute)

    def gradient(loss):
        return jax.grad(lambda g: jnp.mean(loss(g)))

    want = jax.vmap(gradient(at_once))(several)
    same(jax.vmap(gradient(in_chunks))(several), want)
    same(jax.jit(jax.vmap(jax.jit(gradient(jax.checkpoint(in_chunks)))))(several), want)
    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("i")
    split = jax.shard_map(jax.vmap(gradient(in_chunks)), mesh=mesh, in_specs=spec, out_specs=spec)
    same(jax.jit(split)(several), want)


def test_the_logits_are_recomputed_only_where_cotangents_differ():
    """XLA hoists what it can out of a branch that is a loop; then it would run always."""
    f, w, y = jnp.ones((32, 8)), jnp.ones((8, 64)), jnp.arange(32)
    gradient = jax.grad(
        lambda f, w: jnp.mean(L.linear_softmax_cross_entropy(f, w, y, chunk_size=8)), (0, 1)
    )
    program = jax.jit(gradient).lower(f, w).compile().as_text()
    outside = program[program.index("ENTRY") :].splitlines()
    assert any(" while(" in line or " call(" in line for line in outside)
    assert not [line for line in outside if " while(" in line and "/while/body/" in line]


def test_on_eight_devices_the_gradients_are_the_same_however_things_lie(on_devices):
    on_devices(pathlib.Path(__file__).with_name("last_layer_on_eight_devices.py"))


@pytest.mark.parametrize(
    ("how", "most"),
    [({}, 0.25), ({"chunk_size": 256}, 0.1), ({"chunk_size": 128, "recompute": True}, 0.1)],
    ids=["by default", "small chunks", "recompute"],
)
def test_the_temporaries_are_a_small_part_of_those_of_all_logits(how, most):
    f, w = (jax.ShapeDtypeStruct(s, jnp.float32) for s in [(4096, 512), (512, 50_000)])
    y = jax.ShapeDtypeStruct((4096,), jnp.int32)

    def temporaries(loss):
        gradient = jax.value_and_grad(lambda f, w, y: jnp.mean(loss(f, w, y)), (0, 1))
        return jax.jit(gradient).lower(f, w, y).compile().memory_analysis().temp_size_in_bytes

    plain = temporaries(lambda f, w, y: L.softmax_cross_entropy_with_integer_labels(f @ w, y))
    chunked = temporaries(lambda f, w, y: L.linear_softmax_cross_entropy(f, w, y, **how))
    assert chunked <= most * plain
