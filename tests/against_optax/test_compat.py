"""optx_compat: every public name of the installed optax, the same numbers, optax's classes."""

import functools
import importlib
import inspect
import pathlib
import types
import typing
from inspect import Parameter

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optx_compat
from optx_compat import as_optax
from optx_compat._page import page
from optx_compat._rewrite import home
from optx_compat._table import DIFFERS, MISSING, OLDER, OPTAX, TABLE

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = sorted(ROOT.glob("tests/compat/programs/*.py"))
MODULES = sorted(set(TABLE) - {"optax.monte_carlo"})
OURS = {"as_optax", "__version__"}


def theirs(module):
    """A module of the installed optax, by its attribute: `optax.experimental.aggregating` is no import."""
    place = optax
    for name in module.split(".")[1:]:
        place = getattr(place, name)
    return place


def public(module):
    """The public names of a module: functions, classes, types, but no modules and no imports from elsewhere."""
    for name, value in vars(theirs(module)).items():
        imported = isinstance(value, types.ModuleType) or getattr(typing, name, None) is value
        if not name.startswith("_") and not imported:
            yield name


@pytest.mark.parametrize("module", MODULES)
def test_the_table_has_every_public_name_of_optax_and_no_other(module):
    missing = {name.rpartition(".")[2] for name in MISSING if name.rpartition(".")[0] == module}
    older = set(OLDER.get(module, "").split())
    known = set(TABLE[module]) | missing
    assert set(public(module)) - known == set(), "write where they are, or what to use instead"
    assert known - set(public(module)) == older | (OURS if module == "optax" else set())
    assert not missing & set(TABLE[module])


def test_the_table_has_every_module_of_optax():
    def modules(place, name):
        for part, value in vars(place).items():
            is_module = isinstance(value, types.ModuleType)
            if is_module and value.__name__.startswith("optax.") and not part.startswith("_"):
                yield f"{name}.{part}"

    outer = [*modules(optax, "optax")]
    inner = modules(optax.experimental, "optax.experimental")
    assert sorted([*outer, *inner]) == MODULES[1:]
    assert optax.__version__ == OPTAX == optx_compat.__version__


def test_what_differs_is_said_of_names_that_there_are():
    names = {name for homes in TABLE.values() for name in homes}
    assert set(DIFFERS) <= names
    adapted = {
        name
        for module, homes in TABLE.items()
        for name in homes
        if home(module, name)[0].startswith("optx_compat") and name not in OURS
    }
    assert adapted <= set(DIFFERS)


def test_the_page_is_that_of_the_table():
    assert (ROOT / "docs/from_optax.md").read_text() == page(), (
        "run python -m optx_compat --page > docs/from_optax.md"
    )


@pytest.mark.parametrize("module", MODULES)
def test_a_call_of_optax_fits_the_function_that_serves_it(module):
    ours = importlib.import_module(module.replace("optax", "optx_compat", 1))
    for name in set(public(module)) & set(TABLE[module]):
        function = getattr(theirs(module), name)
        if not inspect.isfunction(function):
            continue
        unnamed, either, named = (
            [p.name for p in inspect.signature(function).parameters.values() if p.kind is kind]
            for kind in (
                Parameter.POSITIONAL_ONLY,
                Parameter.POSITIONAL_OR_KEYWORD,
                Parameter.KEYWORD_ONLY,
            )
        )
        served = inspect.signature(getattr(ours, name))
        served.bind(*unnamed, *either, **dict.fromkeys(named))
        if name != "reshape_batch_axis":
            served.bind(*unnamed, **dict.fromkeys([*either, *named]))


def run(source):
    namespace = {}
    exec(compile(source, "program", "exec"), namespace)
    return namespace["main"]()


def on_optx(source):
    """A program with its imports of optax changed."""
    lines = [
        line.replace("optax", "optx_compat", 1) + " as optax" * (line == "import optax")
        if line.startswith(("import optax", "from optax"))
        else line
        for line in source.splitlines()
    ]
    return "\n".join(lines)


@pytest.mark.filterwarnings("ignore:optax.* is deprecated")
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_of_optax_has_the_same_numbers_with_its_imports_changed(path):
    source = path.read_text()
    expected = run(source)
    ours = run(on_optx(source))
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)


def test_microbatching_takes_the_calls_of_optax():
    x = jnp.linspace(-1.0, 1.0, 24).reshape(8, 3)
    w = jnp.ones(3)

    def loss(w, x):
        return jnp.mean(jnp.tanh(x @ w)), x.sum()

    def calls(ox):
        kinds = ox.microbatching.AccumulationType
        micro_grad = ox.microbatching.micro_grad
        both = micro_grad(loss, True, microbatch_size=4, transform_fn=lambda g: (g, g**2))
        yield both(w, x)[0]
        yield both(w, x)[1].aux
        yield micro_grad(loss, True, accumulator=kinds.RUNNING_MEAN)(w, x)[0]
        yield ox.microbatch(
            lambda x: {"a": x, "b": x.sum(0)}, 0, 2, {"a": kinds.CONCAT, "b": kinds.SUM}
        )(x)
        yield ox.microbatch(jnp.sum, 0, None)(x)
        yield ox.microbatching.reshape_batch_axis(x, 2)

    for one, other in zip(calls(optx_compat), calls(optax), strict=True):
        chex.assert_trees_all_close(one, other, rtol=1e-5, atol=0.0)


def test_means_over_examples_are_those_of_optax():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, 4, 5)), jnp.float32)
    where = jnp.asarray(rng.integers(2, size=(3, 4, 5)), bool)
    one_hot = jax.nn.one_hot(rng.integers(5, size=(3, 4)), 5)

    @functools.partial(jax.jit, static_argnums=0)
    def values(ox, x):
        ranking = ox.losses.ranking_softmax_loss
        return (
            ox.ntxent(x[:, 0], jnp.asarray([1, 1, 1]), temperature=0.5),
            ox.ntxent(x[0], jnp.asarray([0, 1, 1, 1])),
            ranking(x, one_hot),
            ranking(x, one_hot, where=where, weights=jnp.abs(x)),
            ranking(x, one_hot, reduce_fn=jnp.max),
            ranking(x, one_hot, where=where.at[0].set(False)),
            ranking(x, one_hot, where=where.at[:, 1].set(False), reduce_fn=jnp.sum),
            ranking(x, one_hot, where=jnp.zeros_like(where)),
            ranking(x, one_hot, where=where.at[0].set(False), reduce_fn=None),
        )

    for one, other in zip(values(optx_compat, x), values(optax, x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert optx_compat.ntxent(x[0], jnp.arange(4)) == 0.0


def test_sophia_takes_the_call_of_optax():
    params = {"w": jnp.array([1.0, -2.0])}
    loss = lambda p: jnp.sum(jnp.asarray([0.5, 2.0]) * p["w"] ** 2)
    moved = []
    for ox in (optx_compat, optax):
        estimator = ox.contrib.hutchinson_estimator_diag_hessian(jax.random.key(0))
        tx = ox.contrib.sophia(0.1, hessian_diagonal_fn=estimator, update_interval=1)
        for sophia in (tx, ox.contrib.sophia(0.1, 0.9, update_interval=1)):
            updates, _ = sophia.update(
                jax.grad(loss)(params), sophia.init(params), params, obj_fn=loss
            )
            moved.append(updates["w"])
    for one, other in zip(moved[:2], moved[2:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)  # the Hessian is diagonal: no noise


def test_libraries_that_check_for_the_classes_of_optax_accept_as_optax():
    tx = as_optax(optx_compat.adam(1e-2))
    assert isinstance(tx, optax.GradientTransformation)
    assert isinstance(tx, optax.GradientTransformationExtraArgs)
    assert tx == as_optax(optx_compat.adam(1e-2))
    assert hash(tx) == hash(as_optax(optx_compat.adam(1e-2)))
    params, grads = {"w": jnp.ones(2)}, {"w": jnp.array([1.0, -3.0])}
    for wrapped in (tx, optax.chain(tx, optax.scale(1.0)), as_optax(optax.adam(1e-2))):
        updates, _ = wrapped.update(grads, wrapped.init(params), params)
        np.testing.assert_allclose(updates["w"], [-0.01, 0.01], rtol=1e-4)
    with pytest.raises(TypeError, match="init"):
        as_optax(jnp.ones(2))
