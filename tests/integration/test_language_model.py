"""The example that trains a language model: its data, its groups, and a step of each optimizer."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax import nnx
from optx_core import tree

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "language_model.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("language_model", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_text_ships_with_python_and_a_tenth_is_held_out(example):
    training, held_out, characters = example.text()
    assert len(training) + len(held_out) > 400_000
    assert abs(len(held_out) / len(training) - 1 / 9) < 1e-3
    assert 80 < characters == max(training.max(), held_out.max()) + 1 < 300
    rows = example.windows(held_out, np.random.default_rng(0), 5)
    assert rows.shape == (5, example.CONTEXT + 1)


def test_a_step_of_each_optimizer_fits_the_model_and_matrices_have_groups(example):
    model = nnx.eval_shape(lambda: example.LanguageModel(90, nnx.Rngs(0)))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    made = example.optimizers(model, 100)
    assert len(made) == 3

    def step(tx, params):
        updates, state = tx.update(params, tx.init(params), params)
        return updates, state

    for name, tx in made.items():
        updates, _ = jax.eval_shape(lambda p, tx=tx: step(tx, p), params)
        assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, params), name
    groups = made["Muon, fixed norms, WSD"]
    _, state = jax.eval_shape(lambda p: step(groups, p), params)
    for group, count in (("hidden", 6 * example.LAYERS), ("tables", 3)):
        ((_, kept),) = tree.get_all_with_path(state.inner_states[group], "HyperballState")
        assert len(jax.tree.leaves(kept.radius)) == count


def test_too_few_steps_are_refused(example, capsys):
    with pytest.raises(SystemExit):
        example.main(["--steps", "3"])
    assert "--steps must be at least 10, not 3" in capsys.readouterr().err
