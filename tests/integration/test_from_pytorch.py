"""docs/from_pytorch.md: the snippets of every row are run, and both columns come to the same losses."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases
import optx_core
import optx_schedules
from flax import nnx

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "from_pytorch.md"
SNIPPETS = {
    (side, row): code
    for side, row, code in re.findall(
        r"^```python (torch|optx): ([\w ]+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
}
STEPS = 6
X = np.random.default_rng(0).normal(size=(STEPS, 8, 3)).astype(np.float32)
Y = np.sin(X.sum(-1, keepdims=True))
KERNELS = [np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), np.ones((4, 1), np.float32) / 2]

# The rows that make a run: what each adds to, or puts in the place of, the plain one.
RUNS = {
    "init": ["init", "gradients", "step"],
    "groups": ["groups", "gradients", "step"],
    "partition": ["partition", "gradients", "step"],
    "schedule": ["schedule", "gradients", "step"],
    "by hand": ["by hand", "gradients", "step"],
    "clearing": ["init", "clearing", "gradients", "step"],
    "clipping": ["init", "gradients", "step", "clipping"],
}


@pytest.fixture(autouse=True)
def as_a_user_has_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def space_of(side, run):
    space = {}
    exec(SNIPPETS[side, "setup"], space)
    model = space["model"]
    if side == "optx":
        for layer, kernel in zip((model.layers[0], model.layers[2]), KERNELS, strict=True):
            layer.kernel[...] = jnp.asarray(kernel)
            layer.bias[...] = jnp.full_like(layer.bias[...], 0.1)
    else:
        torch = space["torch"]
        with torch.no_grad():
            for layer, kernel in zip((model[0], model[2]), KERNELS, strict=True):
                layer.weight.copy_(torch.tensor(kernel.T))
                layer.bias.fill_(0.1)
    for row in RUNS[run]:
        exec(SNIPPETS[side, row], space)
    return space


def with_optx(run):
    space = space_of("optx", run)
    model, optimizer = space["model"], space["optimizer"]
    losses = [float(space["train_step"](model, optimizer, x, y)) for x, y in zip(X, Y, strict=True)]
    assert int(optimizer.step[...]) == STEPS
    return losses


class Together:
    """Several of torch's optimizers, which the loop steps one after another."""

    def __init__(self, members):
        self.members = members

    def zero_grad(self):
        for member in self.members:
            member.zero_grad()

    def step(self):
        for member in self.members:
            member.step()


def with_torch(run):
    torch = pytest.importorskip("torch")
    space = space_of("torch", run)
    optimizer = Together(space["optimizers"]) if run == "partition" else space["optimizer"]
    losses = []
    for x, y in zip(X, Y, strict=True):
        loss = space["train_step"](space["model"], optimizer, torch.tensor(x), torch.tensor(y))
        losses.append(loss.item())
        if run == "schedule":
            space["scheduler"].step()
    return losses


# The losses of torch 2.13 on one CPU, so that the comparison is made without torch, too.
TORCH = {
    "init": [2.8699722, 2.912817, 2.9154754, 1.5996481, 2.1512043, 2.7734878],
    "groups": [2.8699722, 3.0189478, 3.1152427, 1.7708133, 2.4681621, 3.2365882],
    "partition": [2.8699722, 2.9183898, 2.7753947, 1.3224279, 1.5865695, 2.3513992],
    "schedule": [2.8699722, 2.912817, 2.9154754, 1.6372247, 2.2666392, 2.9665523],
    "by hand": [2.8699722, 3.0288172, 3.1664138, 1.8125572, 2.5846219, 3.3225145],
    "clearing": [2.8699722, 2.912817, 2.9154754, 1.5996481, 2.1512043, 2.7734878],
    "clipping": [2.8699722, 2.9128175, 2.9155049, 1.5997761, 2.1475632, 2.7691824],
}


def test_every_row_has_both_columns():
    rows = {row for side, row in SNIPPETS if side == "torch"}
    assert {row for side, row in SNIPPETS if side == "optx"} == rows | {"compiled"}
    assert {row for run in RUNS.values() for row in run} == rows - {"setup"}
    assert len(SNIPPETS) == PAGE.read_text().count("```python")


@pytest.mark.parametrize("run", RUNS)
def test_the_optx_column_runs_and_has_torchs_losses(run):
    np.testing.assert_allclose(with_optx(run), TORCH[run], rtol=2e-5)


@pytest.mark.parametrize("run", RUNS)
def test_the_torch_column_runs(run):
    np.testing.assert_allclose(with_torch(run), TORCH[run], rtol=2e-6)


def test_the_compiled_step_runs():
    space = space_of("optx", "init")
    space["batches"] = list(zip(map(jnp.asarray, X), map(jnp.asarray, Y), strict=True))
    exec(SNIPPETS["optx", "compiled"], space)
    np.testing.assert_allclose([float(x) for x in space["losses"]], TORCH["init"], rtol=2e-5)
    assert isinstance(space["optimizer"], nnx.Optimizer)


# Rows of "Everything else" with numbers; those of torch 2.14 are kept.


def averages(decay):
    """A parameter from 1 that loses 0.1 at each step: its average after each."""
    tx, params, found = optx_core.with_ema(optx_aliases.sgd(0.1), decay), jnp.ones(()), []
    state = tx.init(params)
    for _ in range(6):
        updates, state = tx.update(jnp.ones(()), state, params)
        params = optx_core.apply_updates(params, updates)
        found.append(optx_core.eval_params(state, params))
    return found


def test_averages_are_torchs_once_they_begin_with_the_same_parameters():
    swa = [0.9, 0.85, 0.8, 0.75, 0.7, 0.65]
    np.testing.assert_allclose(averages(optx_schedules.tail_average_schedule(1)), swa, rtol=1e-6)
    ema = [0.9, 0.89, 0.871, 0.8439, 0.80951, 0.768559]
    first = averages(lambda count: jnp.where(count == 0, 0.0, 0.9))
    np.testing.assert_allclose(first, ema, rtol=1e-6)
    np.testing.assert_allclose(averages(0.9), np.add(ema, 0.1 * 0.9 ** np.arange(1, 7)), rtol=1e-6)


def test_the_loss_scale_goes_as_that_of_torch():
    kept = [65536, 65536, 131072, 131072, 65536, 32768, 32768, 32768, 65536, 65536, 65536, 131072]
    tx = optx_core.dynamic_loss_scale(optx_aliases.sgd(0.1), 2.0**16, growth_interval=3)
    state, scales = tx.init(jnp.ones(1)), []
    for step in range(12):
        grads = optx_core.loss_scale(state) * jnp.array([jnp.inf if step in (4, 5) else 1.0])
        _, state = tx.update(grads, state, jnp.ones(1))
        scales.append(float(optx_core.loss_scale(state)))
    assert scales == kept


def test_accumulated_gradients_are_averaged_or_summed_as_the_page_says():
    for options, expected in (({}, -2.0), ({"use_grad_mean": False}, -4.0)):
        tx = optx_core.multi_steps(optx_aliases.sgd(1.0), 2, **options)
        state = tx.init(jnp.zeros(1))
        for gradient_of_one in (1.0, 3.0):
            updates, state = tx.update(jnp.array([gradient_of_one]), state)
        assert float(updates[0]) == expected


def test_the_first_gradient_that_is_not_finite_raises():
    tx = optx_core.apply_if_finite(optx_aliases.sgd(1.0), 0, when_exceeded="raise")
    with pytest.raises(Exception, match="not finite 1 times"):
        jax.block_until_ready(tx.update(jnp.array([jnp.nan]), tx.init(jnp.zeros(1))))
