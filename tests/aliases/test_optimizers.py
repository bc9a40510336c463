"""Every optimizer of the package, by one table of rows.

`optimizer_rows` holds the rows; what is special to one optimizer has a test file of its own.
"""

import inspect
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimizer_rows import NO_OPTIMIZERS, ROWS, SAMPLED_OPTIONS, Row, compiled_step

import optx_aliases
import sampling
from optx_core import apply_updates
from optx_core.build import LeafStep, call_of, leafwise, recorded
from optx_testing import check_transformation

KERNEL = {"kernel": jnp.linspace(-1.0, 1.0, 32, dtype=jnp.float32).reshape(8, 4)}
PLAIN = [name for name in ROWS if "," not in name]  # without options
OPTION = (1, 3, 4, 5, 6)  # the promises that an option can break


def unlisted(module, rows):
    """Public functions without a row, and rows without a function."""
    functions = {n for n in module.__all__ if inspect.isfunction(getattr(module, n))}
    listed = {name.split(",")[0] for name in rows}
    parts = {part for row in rows.values() for part in row.parts}
    assert all(part.startswith("scale_by_") for part in parts)
    return functions ^ (listed | parts | NO_OPTIMIZERS)


def test_every_public_function_is_in_the_table():
    assert not unlisted(optx_aliases, ROWS)


def _halved(g):
    return -0.5 * g


@recorded
def halve():
    """A dummy optimizer, all that a new file must hold."""
    return leafwise(lambda flow, state, params, **_: LeafStep(_halved))


def test_a_new_optimizer_is_one_file_one_line_and_one_row(monkeypatch):
    monkeypatch.setattr(optx_aliases, "halve", halve, raising=False)
    monkeypatch.setattr(optx_aliases, "__all__", [*optx_aliases.__all__, "halve"])
    assert unlisted(optx_aliases, ROWS) == {"halve"}
    row = Row(
        halve,
        paper=lambda p, grads: [p := p - 0.5 * g(p) for g in grads][-1],
        floor=12,
        not_for={"rosenbrock"},  # its steps are too long for that
    )
    assert not unlisted(optx_aliases, {**ROWS, "halve": row})
    monkeypatch.setitem(ROWS, "halve", row)
    for test in (promises, leaves_of_every_kind, problems, bytes_moved):
        test("halve")
    with jax.enable_x64(True):
        paper("halve")


def promises(name, one_in=1):
    row = ROWS[name]
    kept = row.promises or (OPTION if "," in name else (1, 2, 3, 4, 5, 7, 8))  # 6 is tested below
    kept = sampling.share(kept, one_in, name)
    check_transformation(
        row.make(), KERNEL, extra_args=row.extra_args, promises=kept, **row.options
    )


def extra(row, params, updates):
    return {} if row.extra_args is None else row.extra_args(params, updates)


def leaves_of_every_kind(name):
    """Ten zero gradients, a large one, and two ordinary ones: all finite, all of their dtypes."""
    row = ROWS[name]
    tx = row.make()
    params = {
        "kernel": jnp.linspace(-1.0, 1.0, 12).reshape(4, 3),
        "zero_dim": jnp.asarray(0.5),
        "empty": jnp.zeros((0, 3)),
        "none": None,
        "bfloat16": jnp.linspace(-1.0, 1.0, 6, dtype=jnp.bfloat16).reshape(2, 3),
        "float16": jnp.ones(2, jnp.float16),
    }
    if row.options.get("complex_params", True):
        params["complex"] = jnp.asarray([1.0 + 0.5j, -0.3j])
    slopes = jax.tree.map(lambda p: 0.5 + jnp.cos(p), params)
    sizes = jnp.asarray([0.0] * 10 + [1e15, 1.0, 1.0])

    def step(carry, size):
        params, state = carry
        largest = {"float16": 1e4}  # the largest of float16 is 65504
        grads = {
            path: None
            if g is None
            else (jnp.minimum(size, largest.get(path, jnp.inf)) * g).astype(g.dtype)
            for path, g in slopes.items()
        }
        value = jnp.asarray(1.0)
        given = {"value": value, "grad": grads, "value_fn": lambda p: value}
        given |= {"grad_fn": lambda p, *_: grads} | extra(row, params, grads)
        updates, state = tx.update(grads, state, params, **given)
        return (apply_updates(params, updates), state), updates

    with jax.numpy_dtype_promotion("standard"):  # of the gradients made here
        (moved, _), updates = jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), sizes))(params)
    for path, p in params.items():
        if p is None:
            assert updates[path] is None
            continue
        assert updates[path].dtype == p.dtype == moved[path].dtype, path
        assert updates[path].shape[1:] == p.shape, path
        assert bool(jnp.all(jnp.isfinite(updates[path]))), (path, updates[path])


P0 = np.array([[0.5, -1.5, 2.0], [1e-3, 0.0, -0.25]])


def gradients(steps):
    """Gradients of a crooked quadratic with a wobble, as functions of the parameters."""
    scales = np.linspace(0.1, 3.0, P0.size).reshape(P0.shape)
    return [lambda p, k=k: scales * p + 0.3 * np.sin(k + p) for k in range(steps)]


def paper(name):
    row, grads = ROWS[name], gradients(25)
    expected = row.paper(P0, grads)
    tx, p = row.make(), jnp.asarray(P0)
    update = jax.jit(tx.update)
    state = tx.init(p)
    for g in grads:
        updates, state = update(jnp.asarray(g(np.asarray(p))), state, p)
        p = apply_updates(p, updates)
    np.testing.assert_allclose(p, expected, rtol=1e-10, atol=1e-12)


# Three problems on one tree of parameters, so that one program serves all: each lane of a vmap has
# a problem, and a learning rate of its own.
X = np.random.default_rng(0).normal(size=(48, 4))
CLASSES = np.argmax(X @ np.array([[2.0, 0, -1], [0, 1, 1], [-1, 2, 0], [1, -1, 1]]), axis=1)
CURVATURE = np.linspace(0.3, 2.0, 12).reshape(4, 3)


def quadratic(p):
    return 0.5 * jnp.sum(CURVATURE * p["kernel"] ** 2) + 0.5 * jnp.sum(p["bias"] ** 2)


def rosenbrock(p):
    x, y = p["kernel"][:2], p["kernel"][2:]
    return jnp.sum(10 * (y - x**2) ** 2 + (1 - x) ** 2) + 0.5 * jnp.sum(p["bias"] ** 2)


def classification(p):
    logits = X.astype(np.float32) @ p["kernel"] + p["bias"][None]
    chosen = jnp.take_along_axis(logits, CLASSES[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - chosen)


PROBLEMS = {  # the loss, and the part of the first loss that must not remain
    "quadratic": (quadratic, 1e-3),
    "rosenbrock": (rosenbrock, 0.05),
    "classification": (classification, 0.3),
}
START = {
    "kernel": jnp.asarray(np.linspace(-1.0, 1.0, 12).reshape(4, 3) + 0.1, jnp.float32),
    "bias": jnp.asarray([0.5, -0.5, 0.25]),
}


def with_rate(tx, rate):
    """The same optimizer with another learning rate, where it has one."""
    call = call_of(tx)
    given = call.arguments.get("learning_rate") if call else None
    has_rate = isinstance(given, int | float)
    return call.replace(learning_rate=rate) if has_rate else tx


def problems(name):
    row = ROWS[name]
    tried = sorted(set(PROBLEMS) - set(row.not_for))
    if not tried:
        return
    tx = row.make()
    rates = row.rates if with_rate(tx, 0.5) is not tx else row.rates[:1]
    lanes = [(which, rate) for which in range(len(tried)) for rate in rates]

    def run(which, rate):
        tx = with_rate(row.make(), rate)

        def loss(p):
            return jax.lax.switch(which, [PROBLEMS[problem][0] for problem in tried], p)

        def step(carry, _):
            p, state = carry
            value, grads = jax.value_and_grad(loss)(p)
            # The loss itself, whatever a row gives where there is none.
            given = extra(row, p, grads) | {"value": value, "grad": grads, "value_fn": loss}
            given["grad_fn"] = lambda p, *_: jax.grad(loss)(p)
            updates, state = tx.update(grads, state, p, **given)
            return (apply_updates(p, updates), state), None

        (p, state), _ = jax.lax.scan(step, (START, tx.init(START)), length=row.steps)
        return loss(p if row.evaluated is None else row.evaluated(state, p))

    which, rate = map(jnp.asarray, zip(*lanes, strict=True))
    last = np.asarray(jax.jit(jax.vmap(run))(which, rate)).reshape(len(tried), -1)
    for problem, losses in zip(tried, last, strict=True):
        loss, part = PROBLEMS[problem]
        first, best = float(loss(START)), np.where(np.isnan(losses), np.inf, losses).min()
        assert best < part * first, (problem, first, dict(zip(rates, losses, strict=True)))


def bytes_moved(name):
    row = ROWS[name]
    program = compiled_step(row.make(), row)
    moved = program.cost_analysis()["bytes accessed"] / 2**20
    assert moved <= 1.01 * row.over_floor * row.floor, (moved, row.floor, moved / row.floor)
    copies = program.memory_analysis().temp_size_in_bytes / 2**22
    assert copies <= row.copies, copies


@pytest.mark.parametrize("name", SAMPLED_OPTIONS)
def test_an_optimizer_keeps_every_promise(name):
    promises(name, one_in=3)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["galore", "kron"])
def test_promises_that_compare_numbers_are_kept_on_a_regular_matrix(name):
    row, regular = ROWS[name], {"kernel": KERNEL["kernel"].reshape(16, 2)}
    check_transformation(row.make(), regular, promises=(7, 8), **row.options)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", PLAIN)
def test_zero_gradients_then_a_large_one_move_leaves_of_every_kind_by_finite_amounts(name):
    leaves_of_every_kind(name)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.paper])
def test_25_steps_are_those_of_the_paper(name, x64):
    paper(name)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", PLAIN)
def test_it_solves_a_quadratic_rosenbrock_and_a_classification(name):
    problems(name)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.floor])
def test_a_compiled_step_moves_little_more_than_it_must(name):
    bytes_moved(name)


EIGHT_DEVICES = pathlib.Path(__file__).with_name("optimizers_on_eight_devices.py")


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_the_state_lies_as_the_parameters_do(kind, on_devices):
    assert on_devices(EIGHT_DEVICES, kind).strip().endswith("ok")
