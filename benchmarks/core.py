"""The core against optax: tracing, lowering, running, importing.

hatch run bench core
"""

from __future__ import annotations

import gc
import itertools
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


CLIP = (optx_core.clip_by_global_norm(1.0), optax.clip_by_global_norm(1.0))


def gpt(layers: int = 12, width: int = 768, words: int = 50_257) -> dict[str, Any]:
    """The shapes of the parameters of GPT-2."""

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    params: dict[str, Any] = {
        "tokens": array(words, width),
        "places": array(1024, width),
        "norm": {"scale": array(width), "bias": array(width)},
    }
    for k in range(layers):
        params[f"layer{k}"] = {
            "qkv": array(width, 3 * width),
            "out": array(width, width),
            "up": array(width, 4 * width),
            "down": array(4 * width, width),
            "norm1": array(width),
            "norm2": array(width),
        }
    return params


STAGES = ("trace", "lower", "compile")


def stages(name: str, params: Any, rounds: int = 5) -> dict[str, tuple[float, ...]]:
    """CPU seconds to trace, to lower and to compile a jitted step, both libraries in turn.

    Compilation has rounds of its own: what it leaves of the heap slows down the lowering of both after it.
    """
    seconds: dict[str, list[tuple[float, ...]]] = {"optx": [], "optax": []}
    compiling: dict[str, list[float]] = {"optx": [], "optax": []}
    for number in range(2 * rounds):
        for library, tx, module in zip(seconds, PAIRS[name], (optx_core, optax), strict=True):
            state = jax.eval_shape(tx.init, params)
            jax.clear_caches()
            gc.collect()  # what the other one left
            times = [time.process_time()]
            traced = step_of(tx, module).trace(params, state, params)
            times.append(time.process_time())
            lowered = traced.lower()
            times.append(time.process_time())
            if number < rounds:
                seconds[library].append(tuple(b - a for a, b in itertools.pairwise(times)))
            else:
                lowered.compile()
                compiling[library].append(time.process_time() - times[-1])
    return {
        name: (
            *(statistics.median(column) for column in zip(*rows, strict=True)),
            statistics.median(compiling[name]),
        )
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


def unjitted(pair: tuple[Any, Any], count: int = 100) -> dict[str, float]:
    """Seconds of an un-jitted update."""
    params = leaves(count)
    runs = {}
    for name, tx in zip(("optx", "optax"), pair, strict=True):
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

    for name, tree, params, targets in (
        ("adamw", "1,000 leaves", leaves(1000), ("0.2", "0.4", "")),
        ("clip + adamw", "1,000 leaves", leaves(1000), ("0.25", "0.9", "0.9")),
        ("clip + adamw", "GPT-2, 76 leaves", gpt(), ("0.25", "0.9", "0.9")),
    ):
        made = stages(name, params)
        for what, ours, theirs, target in zip(
            STAGES, made["optx"], made["optax"], targets, strict=True
        ):
            row(f"{what}, {name} step, {tree}", 1e3 * ours, 1e3 * theirs, target)
    seconds, _ = running(PAIRS["adamw"], leaves(1000))
    row("run, adamw step, 1,000 leaves", 1e3 * seconds["optx"], 1e3 * seconds["optax"], "1.0")
    for name, target in (("adamw", "0.125"), ("clip", "0.3"), ("clip + adamw", "0.3")):
        seconds = unjitted(CLIP if name == "clip" else PAIRS[name])
        ours, theirs = 1e3 * seconds["optx"], 1e3 * seconds["optax"]
        row(f"un-jitted {name} update, 100 leaves", ours, theirs, target)
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
