"""Host time of a training step of an NNX model, by the way it is called.

    python -m benchmarks.flax            # 200 and 1,000 parameters
    python -m benchmarks.flax 200

The arrays are tiny and the loss touches each of them once, so that a step is what Python and JAX do
around it. The clock is the main thread's CPU time; all ways alternate in one process. The measure of
all things is the loop of a user without Flax: `jax.jit` on plain dicts, donated.
"""

from __future__ import annotations

import functools
import gc
import statistics
import sys
import time

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from flax import nnx
from optx_aliases import adamw
from optx_core import apply_updates
from optx_flax import compile_step

console = Console(width=110)
SCAN = 20


class Model(nnx.Module):
    """`count` parameters of eight entries, in groups of ten, as layers have them."""

    def __init__(self, count):
        self.layers = nnx.List(
            [
                nnx.Dict({f"p{k}": nnx.Param(jnp.full(8, 0.1 * (k + 1))) for k in range(10)})
                for _ in range(count // 10)
            ]
        )


def loss_of(leaves, x):
    return sum(jnp.sum((p - x) ** 2) for p in leaves)


def nnx_loss(model, x):
    return loss_of([p[...] for layer in model.layers for p in layer.values()], x)


def train_step(model, optimizer, x):
    loss, grads = nnx.value_and_grad(nnx_loss)(model, x)
    optimizer.update(model, grads)
    return loss


def ways(count):
    """Each way as `run(steps)`, which takes so many steps and returns the last loss."""
    tx = adamw(1e-3)
    x = jnp.zeros(8)
    made = {}

    params = nnx.to_pure_dict(nnx.state(Model(count)))
    state = tx.init(params)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def on_dicts(params, state, x):
        loss, grads = jax.value_and_grad(lambda p: loss_of(jax.tree.leaves(p), x))(params)
        updates, state = tx.update(grads, state, params)
        return apply_updates(params, updates), state, loss

    def raw(steps):
        nonlocal params, state
        for _ in range(steps):
            params, state, loss = on_dicts(params, state, x)
        return loss

    made["jax.jit on dicts, donated"] = raw

    def objects():
        model = Model(count)
        return model, nnx.Optimizer(model, tx, wrt=nnx.Param)

    def looped(step):
        def run(steps):
            for _ in range(steps):
                loss = step(x)
            return loss

        return run

    compiled = compile_step(train_step, *objects())
    made["compile_step"] = looped(compiled)
    scanned = compile_step(train_step, *objects())
    xs = jnp.zeros((SCAN, 8))

    def scan(steps):
        for _ in range(max(1, steps // SCAN)):
            loss = scanned.scan(xs)
        return loss

    made[f"compile_step, .scan({SCAN})"] = scan
    model, optimizer = objects()
    jitted = nnx.jit(train_step, donate_argnums=(0, 1))
    made["nnx.jit"] = looped(lambda x: jitted(model, optimizer, x))
    made["nnx.cached_partial"] = looped(nnx.cached_partial(nnx.jit(train_step), *objects()))
    graphdef, split_state = nnx.split(objects())

    @functools.partial(jax.jit, donate_argnums=0)
    def functional(split_state, x):
        inner = nnx.merge(graphdef, split_state)
        loss = train_step(*inner, x)
        return nnx.state(inner), loss

    def split_merge(steps):
        nonlocal split_state
        for _ in range(steps):
            split_state, loss = functional(split_state, x)
        return loss

    made["split/merge, donated"] = split_merge
    return made


def measure(count, rounds=15, steps=20):
    runs = ways(count)
    for run in runs.values():
        jax.block_until_ready(run(SCAN))
        jax.block_until_ready(run(SCAN))
    seconds = {name: [] for name in runs}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, run in runs.items():
                start = time.thread_time()
                last = run(steps)
                seconds[name].append((time.thread_time() - start) / steps)
                jax.block_until_ready(last)
    finally:
        gc.enable()
    return {name: statistics.median(times) for name, times in seconds.items()}


def main(counts):
    table = Table("a step of adamw", title="main-thread CPU time a step")
    for count in counts:
        table.add_column(f"{count} parameters, µs", justify="right")
        table.add_column("ratio", justify="right")
    measured = [measure(count) for count in counts]
    for name in measured[0]:
        cells = []
        for one in measured:
            base = one["jax.jit on dicts, donated"]
            cells += [f"{one[name] * 1e6:,.0f}", f"{one[name] / base:.2f}"]
        table.add_row(name, *cells)
    console.print(table)


if __name__ == "__main__":
    main([int(a) for a in sys.argv[1:]] or [200, 1000])
