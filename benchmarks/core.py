"""The core against optax: tracing, lowering, running, importing.

hatch run bench core
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich.console import Console
from rich.table import Table

import optx_aliases
import optx_core
from benchmarks._timing import alternate, bytes_accessed, temporaries

SHAPES = [(64,), (128,), (32, 16), (16,), (3, 3, 8, 8), (1,), (48, 32), (64, 64)]


def leaves(count: int) -> dict[str, jax.Array]:
    """Parameters of realistic, mostly small shapes."""
    return {f"w{k}": jnp.ones(SHAPES[k % len(SHAPES)]) for k in range(count)}


def big(size: int, count: int = 4) -> dict[str, jax.Array]:
    """A few large arrays of `size` parameters in all."""
    return {f"w{k}": jnp.ones(size // count) for k in range(count)}


def step_of(tx: Any, module: Any, **extra_args: Any) -> Any:
    """One step, jitted and donated: update and apply."""

    def step(params: Any, state: Any, grads: Any) -> Any:
        updates, state = tx.update(grads, state, params, **extra_args)
        return module.apply_updates(params, updates), state

    return jax.jit(step, donate_argnums=(0, 1))


PAIRS = {
    "adamw": (optx_aliases.adamw(1e-3), optax.adamw(1e-3)),
    "sgd, momentum": (optx_aliases.sgd(1e-3, 0.9), optax.sgd(1e-3, 0.9)),
    "clip + adamw": (
        optx_core.chain(optx_core.clip_by_global_norm(1.0), optx_aliases.adamw(1e-3)),
        optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)),
    ),
}


def trace_and_lower(count: int = 1000, rounds: int = 7) -> dict[str, tuple[float, float]]:
    """Seconds to trace and to lower a jitted AdamW step, both libraries in turn."""
    params = leaves(count)
    seconds: dict[str, list[tuple[float, float]]] = {"optx": [], "optax": []}
    for _ in range(rounds):
        for name, tx, module in (
            ("optx", PAIRS["adamw"][0], optx_core),
            ("optax", PAIRS["adamw"][1], optax),
        ):
            state = tx.init(params)
            jax.clear_caches()
            start = time.perf_counter()
            traced = step_of(tx, module).trace(params, state, params)
            middle = time.perf_counter()
            traced.lower()
            seconds[name].append((middle - start, time.perf_counter() - middle))
    return {
        name: tuple(statistics.median(column) for column in zip(*rows, strict=True))
        for name, rows in seconds.items()
    }


def running(pair: tuple[Any, Any], params: Any, rounds: int = 15) -> tuple[dict[str, float], Any]:
    """Seconds of a jitted, donated step, and the two compiled programs."""
    runs, programs = {}, {}
    for name, tx, module in (("optx", pair[0], optx_core), ("optax", pair[1], optax)):
        grads = jax.tree.map(lambda p: 0.3 * p, params)
        held = [jax.tree.map(jnp.copy, params), tx.init(params)]
        programs[name] = step_of(tx, module).lower(*held, grads).compile()

        def run(held: list = held, program: Any = programs[name], grads: Any = grads) -> Any:
            held[:] = program(*held, grads)
            return held[0]

        runs[name] = run
    return alternate(runs, rounds=rounds), programs


def unjitted(count: int = 100) -> dict[str, float]:
    """Seconds of an un-jitted AdamW update."""
    params = leaves(count)
    runs = {}
    for name, tx in zip(("optx", "optax"), PAIRS["adamw"], strict=True):
        state = tx.init(params)
        runs[name] = lambda tx=tx, state=state: tx.update(params, state, params)[0]
    return alternate(runs, rounds=20)


def flat_parameters(count: int = 1000) -> tuple[dict[str, float], dict[str, float]]:
    """AdamW on parameters kept as one vector, against optax on the tree: seconds to run, to compile."""
    params = leaves(count)
    flat, _ = optx_core.ravel_params(params)
    runs, compiling = {}, {}
    for name, tx, module, held_params in (
        ("optx", PAIRS["adamw"][0], optx_core, flat),
        ("optax", PAIRS["adamw"][1], optax, params),
    ):
        grads = jax.tree.map(lambda p: 0.3 * p, held_params)
        held = [jax.tree.map(jnp.copy, held_params), tx.init(held_params)]
        start = time.perf_counter()
        program = step_of(tx, module).lower(*held, grads).compile()
        compiling[name] = time.perf_counter() - start

        def run(held: list = held, program: Any = program, grads: Any = grads) -> Any:
            held[:] = program(*held, grads)
            return held[0]

        runs[name] = run
    return alternate(runs, rounds=30), compiling


def accumulating(size: int = 10_000_000, k: int = 8) -> tuple[dict[str, float], dict[str, Any]]:
    """One micro-step of AdamW under MultiSteps: seconds, and bytes and flops averaged over a window."""
    params = big(size)
    runs, costs = {}, {}
    for name, inner, module in (
        ("optx", PAIRS["adamw"][0], optx_core),
        ("optax", PAIRS["adamw"][1], optax),
    ):
        tx = module.MultiSteps(inner, k)
        state = tx.init(params)
        update = jax.jit(tx.update, donate_argnums=(0, 1))
        program = update.lower(params, state, params).compile()
        one = jax.jit(inner.update, donate_argnums=(0, 1))
        whole = program.cost_analysis()
        branch = one.lower(params, inner.init(params), params).compile().cost_analysis()
        # Ours holds the optimizer in a loop that runs once in k and is counted once; optax's runs it
        # every time.
        share = (k - 1) / k if name == "optx" else 0.0
        costs[name] = {key: whole[key] - share * branch[key] for key in ("bytes accessed", "flops")}
        held = [state]

        def run(held: list = held, program: Any = program) -> Any:
            grads = jax.tree.map(lambda p: 0.1 * p, params)
            jax.block_until_ready(grads)
            start = time.perf_counter()
            updates, held[0] = program(grads, held[0], params)
            jax.block_until_ready(updates)
            return time.perf_counter() - start

        runs[name] = run
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(5 * k):
        for name, run in runs.items():
            seconds[name].append(run())
    return {name: statistics.mean(times[k:]) for name, times in seconds.items()}, costs


def importing(rounds: int = 9) -> float:
    """Seconds that `import optx_core` adds to `import jax`, the median of fresh processes."""
    code = (
        "import time, jax, jax.numpy; t = time.perf_counter(); import optx_core;"
        "print(time.perf_counter() - t)"
    )
    made = [
        float(
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stdout
        )
        for _ in range(rounds)
    ]
    return statistics.median(made)


def main() -> None:
    """Measures everything, and prints one table."""
    table = Table(
        "what",
        "optx",
        "optax",
        "ratio",
        "target",
        title=f"jax {jax.__version__}, optax {optax.__version__}",
    )

    def row(what: str, ours: float, theirs: float, target: str, form: str = "{:.1f} ms") -> None:
        table.add_row(what, form.format(ours), form.format(theirs), f"{ours / theirs:.3f}", target)

    compiling = trace_and_lower()
    for index, (what, target) in enumerate((("trace", "0.2"), ("lower", "0.4"))):
        ours, theirs = compiling["optx"][index], compiling["optax"][index]
        row(f"{what}, adamw step, 1,000 leaves", 1e3 * ours, 1e3 * theirs, target)
    seconds, _ = running(PAIRS["adamw"], leaves(1000))
    row("run, adamw step, 1,000 leaves", 1e3 * seconds["optx"], 1e3 * seconds["optax"], "1.0")
    seconds = unjitted()
    row(
        "un-jitted adamw update, 100 leaves", 1e3 * seconds["optx"], 1e3 * seconds["optax"], "0.125"
    )
    for name, pair in PAIRS.items():
        seconds, programs = running(pair, big(10_000_000))
        target = {"clip + adamw": "0.6"}.get(name, "1.0")
        row(f"run, {name} step, 10 M", 1e3 * seconds["optx"], 1e3 * seconds["optax"], target)
        moved = {key: bytes_accessed(program) / 1e7 for key, program in programs.items()}
        row(f"bytes a parameter, {name}", moved["optx"], moved["optax"], "", "{:.1f}")
        held = {key: temporaries(program) / 4e7 for key, program in programs.items()}
        table.add_row(
            f"temporaries, {name}", f"{held['optx']:.2f} N", f"{held['optax']:.2f} N", "", ""
        )
    seconds, compiling = flat_parameters()
    row("run, flat adamw, 1,000 leaves", 1e3 * seconds["optx"], 1e3 * seconds["optax"], "0.15")
    row("lower + compile, flat adamw", 1e3 * compiling["optx"], 1e3 * compiling["optax"], "0.1")
    seconds, costs = accumulating()
    row("MultiSteps(adamw, 8), a micro-step", 1e3 * seconds["optx"], 1e3 * seconds["optax"], "0.2")
    for key, target in (("bytes accessed", "0.5"), ("flops", "0.35")):
        ours, theirs = costs["optx"][key] / 1e7, costs["optax"][key] / 1e7
        row(f"{key} a parameter, averaged over 8", ours, theirs, target, "{:.1f}")
    table.add_row("import optx_core after jax", f"{1e3 * importing():.1f} ms", "", "", "20 ms")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
