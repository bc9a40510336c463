"""The tables of optimizers and schedules in docs/from_pytorch.md and docs/guide/from_keras.md: both cells of a row come to
the same numbers.

`peer_numbers.json` has those of the left cells, of torch 2.14 and Keras 3.15 (jax's backend); where the library is installed, it
is run again.
"""

import json
import os
import pathlib
import re

import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases
import optx_core
import optx_schedules

ROOT = pathlib.Path(__file__).parents[2]
KEPT = json.loads((pathlib.Path(__file__).parent / "peer_numbers.json").read_text())
PAGES = {
    "torch": ("docs/from_pytorch.md", "Optimizers", "Schedulers"),
    "keras": ("docs/guide/from_keras.md", "Optimizers", "Schedules"),
}
STEPS_OF_A_SCHEDULE, STEPS_OF_AN_OPTIMIZER = 20, 4
START = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


def rows(peer, title):
    """The rows of the table under a title: (left cell, right cell), without their backticks."""
    text = (ROOT / PAGES[peer][0]).read_text()
    section = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("| ")][2:]
    found = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", "\n".join(table), re.MULTILINE)
    assert len(found) == len(table)
    return found


OPTIMIZERS = [(peer, *row) for peer in PAGES for row in rows(peer, PAGES[peer][1])]
SCHEDULES = [(peer, *row) for peer in PAGES for row in rows(peer, PAGES[peer][2])]


def gradient(step):
    return np.sin(np.arange(12, dtype=np.float32) * (step + 1) + 1).reshape(4, 3)


def torch_parameters(torch, cell):
    params = [torch.nn.Parameter(torch.tensor(START))]
    optimizer = eval(cell, {**vars(torch.optim), "params": params})
    for step in range(STEPS_OF_AN_OPTIMIZER):
        params[0].grad = torch.tensor(gradient(step))
        optimizer.step()
        yield params[0].detach().numpy().ravel().tolist()


def torch_rates(torch, cell):
    opt = torch.optim.SGD([torch.nn.Parameter(torch.tensor(START))], lr=0.1)
    scheduler = eval(cell, {**vars(torch.optim.lr_scheduler), "opt": opt})
    for step in range(STEPS_OF_A_SCHEDULE):
        yield opt.param_groups[0]["lr"]
        opt.step()
        if step < STEPS_OF_A_SCHEDULE - 1:  # OneCycleLR refuses one more
            scheduler.step(*([1.0] if "Plateau" in cell else []))


def keras_parameters(keras, cell):
    variable = keras.Variable(START)
    optimizer = eval(cell, vars(keras.optimizers))
    optimizer.build([variable])
    for step in range(STEPS_OF_AN_OPTIMIZER):
        optimizer.apply([jnp.asarray(gradient(step))], [variable])
        yield np.ravel(variable.value).tolist()


def keras_rates(keras, cell):
    schedule = eval(cell, vars(keras.optimizers.schedules))
    for step in range(STEPS_OF_A_SCHEDULE):
        yield float(schedule(step))


def peers_numbers(peer, cell):
    """The numbers of a left cell: the parameters after each step of an optimizer, or the rates of a schedule."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    library = pytest.importorskip(peer)
    kind = "parameters" if any(row[:2] == (peer, cell) for row in OPTIMIZERS) else "rates"
    return list(globals()[f"{peer}_{kind}"](library, cell))


def made_by(expression):
    """The optimizer or schedule in a right cell."""
    space = {"jnp": jnp}
    for package in (optx_core, optx_schedules, optx_aliases):
        space |= {name: getattr(package, name) for name in package.__all__}
    return eval(expression, space)


def test_the_tables_and_the_kept_numbers_have_the_same_rows():
    named = [row[:2] for row in OPTIMIZERS + SCHEDULES]
    assert len(named) == len(set(named)) > 40
    assert sorted(named) == sorted((peer, cell) for peer in KEPT for cell in KEPT[peer])


@pytest.mark.parametrize(("peer", "cell", "ours"), OPTIMIZERS)
def test_an_optimizer_makes_the_steps_of_its_peer(peer, cell, ours):
    tx, params, found = made_by(ours), jnp.asarray(START), []
    state = tx.init(params)
    for step in range(STEPS_OF_AN_OPTIMIZER):
        updates, state = tx.update(jnp.asarray(gradient(step)), state, params)
        params = optx_core.apply_updates(params, updates)
        found.append(np.ravel(params))
    # Keras adds eps to the root before the bias correction.
    atol = 1e-5 if peer == "keras" and "eps=" in ours else 2e-6
    np.testing.assert_allclose(found, KEPT[peer][cell], rtol=1e-5, atol=atol)


@pytest.mark.parametrize(("peer", "cell", "ours"), SCHEDULES)
def test_a_schedule_has_the_values_of_its_peer(peer, cell, ours):
    schedule = made_by(ours)
    if not hasattr(schedule, "init"):
        found = [float(schedule(step)) for step in range(STEPS_OF_A_SCHEDULE)]
    else:  # torch's sees a loss after a step, ours at the next one
        state, found = schedule.init(START), [0.1]
        for _ in range(STEPS_OF_A_SCHEDULE - 1):
            updates, state = schedule.update(jnp.ones((4, 3)), state, START, value=1.0)
            found.append(-float(updates[0, 0]))
    np.testing.assert_allclose(found, KEPT[peer][cell], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("peer", "cell"), [row[:2] for row in OPTIMIZERS + SCHEDULES])
def test_the_peer_has_the_numbers_that_are_kept(peer, cell):
    np.testing.assert_allclose(peers_numbers(peer, cell), KEPT[peer][cell], rtol=1e-5, atol=1e-6)
