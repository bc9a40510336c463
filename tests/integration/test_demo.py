"""The main job: it trains, refuses what it cannot do, and resumes bit-equal."""

import functools
import importlib.util
import inspect
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from flax import nnx

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "digits.py"


def run(*args, script=EXAMPLE, **environment):
    return subprocess.run(
        [sys.executable, *map(str, (script, *args))],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_trains_draws_and_resumes_bit_equal(tmp_path):
    # All runs have the same programs: they are compiled once.
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    demo = functools.partial(run, **cache)
    whole = demo("--steps", 40, "--out", tmp_path / "a", "--checkpoint", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    assert (tmp_path / "a" / "digits-adamw.png").stat().st_size > 10_000
    # A run that is stopped after its first checkpoints, and run again:
    code = (
        "import sys, runpy; sys.argv = sys.argv[1:]; m = runpy.run_path(sys.argv[0]);"
        "save = m['train'].__globals__['save'];"
        "def stop(manager, model, optimizer, settings, history):\n"
        "    save(manager, model, optimizer, settings, history); manager.wait_until_finished()\n"
        "    if len(history) >= 15: raise SystemExit(7)\n"
    )
    script = tmp_path / "stopped.py"
    script.write_text(
        code.replace(";def", "\ndef") + "m['train'].__globals__['save'] = stop\nm['main']()\n"
    )
    two = ["--steps", 40, "--checkpoint", tmp_path / "two"]
    stopped = demo(EXAMPLE, *two, "--out", tmp_path / "b", script=script)
    assert stopped.returncode == 7, stopped.stderr
    resumed = demo(*two, "--out", tmp_path / "b")
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed at step" in resumed.stdout
    assert last_state(tmp_path / "whole") == last_state(tmp_path / "two")
    other = demo(*two, "--seed", 1)
    assert other.returncode == 2
    assert "Use the same options, or another folder" in " ".join(other.stdout.split())


def last_state(folder):
    """The bytes of everything in the last checkpoint."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    manager = ocp.CheckpointManager(folder)
    made = manager.restore(
        40, args=ocp.args.Composite(state=ocp.args.StandardRestore(), log=ocp.args.JsonRestore())
    )
    manager.close()
    leaves = jax.tree_util.tree_leaves_with_path(made["state"])
    return (
        [(jax.tree_util.keystr(path), np.asarray(x).tobytes()) for path, x in leaves],
        made["log"]["history"],
    )


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("digits", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_unknown_optimizer_is_refused_with_the_names_of_those_there_are(demo, capsys):
    with pytest.raises(SystemExit):
        demo.parse(["--optimizer", "adamm"])
    told = capsys.readouterr().err
    assert "there is no optimizer 'adamm'; choose one of " in told
    assert all(name in told for name in demo.optimizers())


def test_every_optimizer_of_ours_can_be_named(demo):
    import optx_aliases

    makers = {
        name
        for name in optx_aliases.__all__
        if not name.startswith("scale_by_")
        and inspect.isfunction(made := getattr(optx_aliases, name))
        and list(inspect.signature(made).parameters)[:1] == ["learning_rate"]
    }
    assert set(demo.optimizers()) == makers - set(demo.EXCLUDED)
    assert set(demo.EXCLUDED) < makers
    assert not [name for name in demo.optimizers() if name.startswith("scale_by")]
    model = demo.Classifier(nnx.Rngs(0))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))

    def step(name, params):
        tx = demo.make_optimizer(name, model, lambda count: 1e-3)
        return tx.update(params, tx.init(params), params, value=jnp.ones(()))[0]

    for name in demo.optimizers():
        made = jax.eval_shape(functools.partial(step, name), params)
        assert jax.tree.structure(made) == jax.tree.structure(params), name


def test_the_held_out_fifth_is_a_fifth_of_each_class(demo):
    _, labels, _, held_out = demo.load_data()
    assert len(labels) + len(held_out) == 1797
    assert abs(len(held_out) - 1797 / 5) < 1
    shares = [(held_out == k).sum() / (labels == k).sum() for k in range(10)]
    assert max(shares) - min(shares) < 0.02
