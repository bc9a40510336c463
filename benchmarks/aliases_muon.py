"""Muon against optax's: 24 layers of (512, 512) and (512, 2048); trace, lower, compile, run.

hatch run bench aliases_muon
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich.console import Console
from rich.table import Table

import optx_aliases
from benchmarks._timing import alternate, temporaries

MUON = {"optx": optx_aliases.muon(0.02), "optax": optax.contrib.muon(0.02)}


def layers(count: int = 24, width: int = 512) -> dict[str, Any]:
    """The matrices of a transformer: a square one and a wide one for each layer."""
    shape = jax.ShapeDtypeStruct
    return {
        f"layer_{k}": {
            "attention": shape((width, width), jnp.float32),
            "mlp": shape((width, 4 * width), jnp.float32),
        }
        for k in range(count)
    }


def traced(tx: Any, params: Any) -> tuple[Any, float, float]:
    """The lowered update, the seconds to trace it and to lower it."""
    state = jax.eval_shape(tx.init, params)

    def update(grads: Any, state: Any, params: Any) -> Any:  # afresh: nothing is cached
        return tx.update(grads, state, params)

    start = time.perf_counter()
    program = jax.jit(update).trace(params, state, params)
    middle = time.perf_counter()
    lowered = program.lower()
    return lowered, middle - start, time.perf_counter() - middle


def trace_and_lower(rounds: int = 6) -> dict[str, float]:
    """Median seconds to trace and lower, the width another each time so that nothing is cached."""
    seconds: dict[str, list[float]] = {name: [] for name in MUON}
    for k in range(rounds + 1):
        for name, tx in MUON.items():
            _, trace, lower = traced(tx, layers(width=512 + 8 * k))
            seconds[name].append(trace + lower)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def compiled(rounds: int = 3) -> tuple[dict[str, float], dict[str, Any]]:
    """Median seconds of CPU to compile, and the programs."""
    seconds: dict[str, list[float]] = {name: [] for name in MUON}
    programs: dict[str, Any] = {}
    for k in reversed(range(rounds)):
        for name, tx in MUON.items():
            lowered, _, _ = traced(tx, layers(width=512 + 8 * k))
            start = time.process_time()
            programs[name] = lowered.compile()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}, programs


def main() -> None:
    """Prints the table."""
    jax.config.update("jax_enable_compilation_cache", False)
    table = Table("what", "optx", "optax", "ratio", "target")

    def row(what: str, made: dict[str, float], target: str, unit: float = 1e3) -> None:
        ours, theirs = made["optx"] * unit, made["optax"] * unit
        table.add_row(what, f"{ours:.1f}", f"{theirs:.1f}", f"{ours / theirs:.2f}", target)

    row("trace and lower, ms", trace_and_lower(), "0.2")
    seconds, programs = compiled()
    row("compile, ms of CPU", seconds, "0.55")
    params = jax.tree.map(
        lambda x: jax.random.normal(jax.random.key(0), x.shape, x.dtype), layers()
    )
    states = {name: jax.jit(tx.init)(params) for name, tx in MUON.items()}
    runs = {name: lambda name=name: programs[name](params, states[name], params) for name in MUON}
    row("step, ms", alternate(runs, rounds=3, warmup=1), "0.55")
    size = sum(x.size for x in jax.tree.leaves(params))
    row(
        "temporaries, bytes a parameter",
        {n: temporaries(p) / size for n, p in programs.items()},
        "",
        1,
    )
    Console().print(table)


if __name__ == "__main__":
    main()
