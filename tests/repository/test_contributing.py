"""The optimizer in CONTRIBUTING.md is complete, short, keeps the promises and trains."""

import pathlib
import pickle
import re
import sys
import types

import jax
import jax.numpy as jnp

from optx_core import apply_updates
from optx_testing import check_transformation

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_optimizer_of_the_page_keeps_every_promise_and_trains(monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 25
    module = types.ModuleType("new_optimizer")
    monkeypatch.setitem(sys.modules, "new_optimizer", module)
    exec(compile(code, "new_optimizer.py", "exec"), module.__dict__)
    tx = module.lion_trust(0.1)
    assert repr(tx) == "lion_trust(learning_rate=0.1, b1=0.9, b2=0.99)"
    assert pickle.loads(pickle.dumps(tx)) == tx
    check_transformation(tx)
    check_transformation(module.lion_trust(lambda count: 0.1), promises=(1, 3))

    params = {"w": jnp.array([3.0, -2.0]), "b": jnp.array(1.0)}
    tx = module.lion_trust(lambda count: 0.2 * 0.95 ** count.astype(float))

    def loss(p):
        return jnp.sum((p["w"] - 1) ** 2) + p["b"] ** 2

    @jax.jit
    def step(p, state):
        updates, state = tx.update(jax.grad(loss)(p), state, p)
        return apply_updates(p, updates), state

    state, before = tx.init(params), loss(params)
    for _ in range(60):
        params, state = step(params, state)
    assert loss(params) < 0.05 * before
