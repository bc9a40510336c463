"""docs/long_runs.md: its blocks run, and the recipe with fixed norms is its equations."""

import pathlib
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import apply_updates

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "long_runs.md"
BLOCKS = dict(re.findall(r"^## ([^\n]+)\n.*?^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S))
RECIPE = "Matrices of a fixed norm, three groups by name"


@pytest.fixture(scope="module")
def page():
    """The names that the blocks define, one after another."""
    names = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for code in BLOCKS.values():
            exec(compile(code, PAGE.name, "exec"), names)
    return names


def test_all_blocks_of_the_page_run(page):
    assert len(BLOCKS) == PAGE.read_text().count("\n```python") == 7
    assert callable(page["train"])


def test_the_recipe_has_ten_lines():
    lines = BLOCKS[RECIPE].split("\n(params")[0].splitlines()
    assert len([line for line in lines if line.strip()]) == 10


def newton_schulz(x):
    x = x / np.linalg.norm(x)
    if x.shape[0] > x.shape[1]:
        return newton_schulz(x.T).T
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
    return x


def muon_direction(m, g, t, beta=0.95):
    m = beta * m + (1 - beta) * g
    return m, newton_schulz(beta * m / (1 - beta ** (t + 1)) + (1 - beta) * g / (1 - beta**t))


def adam_direction(moments, g, t, b1=0.9, b2=0.999):
    m, v = b1 * moments[0] + (1 - b1) * g, b2 * moments[1] + (1 - b2) * g * g
    return (m, v), m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + 1e-8)


def turned(w, u, radius, rate):
    moved = w - rate * radius * u / np.linalg.norm(u)
    return radius * moved / np.linalg.norm(moved)


def wsd(t, peak):
    """Warm-up of 2, 10 steps at the peak, 8 down to 0; t counts from 0."""
    return peak * min(t / 2, 1.0, max((20 - t) / 8, 0.0))


def transcription(params, grads):
    """The parameters after each step, by the equations alone."""
    matrices = {"embed": [0.05], "head": [0.05], "blocks": [0.1, 0.1]}
    state = {}
    for t, g in enumerate(grads):
        new = {}
        for name, rates in matrices.items():
            # A stack is a list of matrices, one matrix a list of one.
            stack, slopes = (
                np.atleast_3d(x) if x.ndim == 3 else x[None] for x in (params[name], g[name])
            )
            rows = []
            for k, (w, slope) in enumerate(zip(stack, slopes, strict=True)):
                zero = np.zeros_like(w)
                start = zero if name == "blocks" else (zero, zero)
                moments, radius = state.get((name, k), (start, np.linalg.norm(w)))
                direction = muon_direction if name == "blocks" else adam_direction
                moments, u = direction(moments, slope, t + 1)
                state[name, k] = moments, radius
                rows.append(turned(w, u, radius, wsd(t, rates[k])))
            new[name] = np.stack(rows).reshape(params[name].shape)
        zero = np.zeros_like(params["scale"])
        state["scale"], u = adam_direction(state.get("scale", (zero, zero)), g["scale"], t + 1)
        new["scale"] = params["scale"] - wsd(t, 0.01) * u
        params = new
        yield params


def test_the_recipe_is_its_equations_to_1e6(page):
    rng = np.random.default_rng(0)
    start = {name: np.asarray(p, np.float64) for name, p in page["model"].items()}
    grads = [{k: rng.normal(size=p.shape) for k, p in start.items()} for _ in range(20)]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        tx = page["recipe"]
        params = jax.tree.map(jnp.asarray, start)
        state, update = tx.init(params), jax.jit(tx.update)
        for g, expected in zip(grads, transcription(start, grads), strict=True):
            updates, state = update(jax.tree.map(jnp.asarray, g), state, params)
            params = apply_updates(params, updates)
            chex.assert_trees_all_close(params, expected, rtol=1e-6, atol=1e-7)
