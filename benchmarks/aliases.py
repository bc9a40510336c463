"""The optimizers against optax, torch.optim and the bytes that must move; variants beside the plain ones.

python -m benchmarks.aliases [steps] [leaves] [state] [variants]; without names all of them.
"""

from __future__ import annotations

import itertools
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
from benchmarks.core import leaves, step_of

# name: (ours or optax's, from the module; torch.optim's; bytes a float32 parameter that must move)
ROWS: dict[str, tuple[Any, Any, float]] = {
    "sgd, momentum": (
        lambda m: m.sgd(1e-3, 0.9),
        lambda o, p, **k: o.SGD(p, 1e-3, momentum=0.9, **k),
        20,
    ),
    "adam": (lambda m: m.adam(1e-3), lambda o, p, **k: o.Adam(p, 1e-3, **k), 28),
    "adamw": (lambda m: m.adamw(1e-3), lambda o, p, **k: o.AdamW(p, 1e-3, **k), 28),
    "lion": (lambda m: m.lion(1e-3), None, 20),
    "adafactor": (
        lambda m: m.adafactor(1e-3),
        lambda o, p, **k: o.Adafactor(p, 1e-3, **k),
        12,
    ),
    "lamb": (lambda m: m.lamb(1e-3), None, 28),
}
# name: (the plain optimizer, the variant)
VARIANTS: dict[str, tuple[Any, Any]] = {
    **{
        f"muon, second_moment {kind!r}": (
            lambda: optx_aliases.muon(1e-3),
            lambda kind=kind: optx_aliases.muon(1e-3, second_moment=kind),
        )
        for kind in ("row", "entry", "scalar")
    },
    "dion2, a quarter of the rows, beside muon": (
        lambda: optx_aliases.muon(1e-3),
        lambda: optx_aliases.dion2(1e-3, fraction=0.25),
    ),
    "scion beside muon": (
        lambda: optx_aliases.muon(1e-3),
        lambda: optx_aliases.scion(1e-3),
    ),
    "hyperball(muon)": (
        lambda: optx_aliases.muon(1e-3),
        lambda: optx_aliases.hyperball(optx_aliases.muon(1.0), 1e-3),
    ),
    "hyperball(adam)": (
        lambda: optx_aliases.adam(1e-3),
        lambda: optx_aliases.hyperball(optx_aliases.adam(1.0), 1e-3),
    ),
    "kl_shampoo beside shampoo": (
        lambda: optx_aliases.shampoo(1e-3),
        lambda: optx_aliases.kl_shampoo(1e-3),
    ),
    "adamw, cautious_decay": (
        lambda: optx_aliases.adamw(1e-3, weight_decay=0.1),
        lambda: optx_aliases.adamw(1e-3, weight_decay=optx_core.cautious_decay(0.1)),
    ),
    "skip_if(adamw, window=128)": (
        lambda: optx_aliases.adamw(1e-3),
        lambda: optx_core.skip_if(optx_aliases.adamw(1e-3), window=128),
    ),
    "lookahead(adamw)": (
        lambda: optx_aliases.adamw(1e-3),
        lambda: optx_core.lookahead(optx_aliases.adamw(1e-3), 5, 0.5),
    ),
}
SIZES = {"1 M": 1_000_000, "10 M": 10_000_000, "50 M": 50_000_000}
LEAVES = (100, 1_000, 5_000)


def matrices(size: int, count: int = 4) -> dict[str, jax.Array]:
    """A few large matrices of about `size` parameters in all, so that Adafactor has something to factor."""
    side = round((size / count) ** 0.5)
    return {f"w{k}": jnp.full((side, side), 0.1) for k in range(count)}


def torch_runs(make: Any, params: dict[str, jax.Array]) -> dict[str, Any]:
    """torch.optim's step, one call for many arrays (foreach) and one kernel (fused), where there are."""
    try:
        import torch
    except ImportError:
        return {}
    runs = {}
    for kind in ("foreach", "fused"):
        held = [torch.full(p.shape, 0.1) for p in params.values()]
        for p in held:
            p.requires_grad_()
            p.grad = torch.full_like(p, 0.03)
        try:
            optimizer = make(torch.optim, held, **{kind: True})
        except (TypeError, RuntimeError):
            continue
        runs[f"torch {kind}"] = optimizer.step
    return runs


def compiled(tx: Any, module: Any, params: Any, grads: Any, **extra_args: Any) -> tuple[Any, Any]:
    """The compiled step, and a function that takes one step after the other."""
    held = [jax.tree.map(jnp.copy, params), tx.init(params)]
    program = step_of(tx, module, **extra_args).lower(*held, grads).compile()

    def run() -> Any:
        held[:] = program(*held, grads)
        return held[0]

    return program, run


def running(name: str, params: dict[str, jax.Array], rounds: int) -> tuple[dict[str, float], Any]:
    """Median seconds of a jitted, donated step of each library, and the two compiled programs."""
    make, make_torch, _ = ROWS[name]
    runs: dict[str, Any] = {}
    programs = {}
    for label, aliases, module in (("optx", optx_aliases, optx_core), ("optax", optax, optax)):
        grads = jax.tree.map(lambda p: 0.3 * p, params)
        programs[label], runs[label] = compiled(make(aliases), module, params, grads)
    seconds = alternate(runs, rounds=rounds)
    if make_torch is not None:
        # In a round of their own: torch's threads go on spinning for a while after each call.
        theirs = alternate(torch_runs(make_torch, params), rounds=rounds)
        seconds |= theirs
    return seconds, programs


def steps(console: Console, names: list[str] | None = None, sizes: Any = None) -> None:
    """Time per step, and the bytes."""
    table = Table(
        "optimizer", "parameters", "optx ms", "x optax", "x foreach", "x fused",
        "bytes moved / floor", "optax's", "temporaries", "optax's",
        title=f"A step, jitted and donated: jax {jax.__version__}, optax {optax.__version__}",
    )  # fmt: skip
    for name in names or ROWS:
        for label in sizes or SIZES:
            params = matrices(SIZES[label])
            total = sum(p.size for p in params.values())
            seconds, programs = running(name, params, 15 if total < 2e7 else 7)
            ours = seconds["optx"]

            def ratio(other: str, ours: float = ours, seconds: Any = seconds) -> str:
                return f"{ours / seconds[other]:.2f}" if other in seconds else "-"

            moved = {k: bytes_accessed(p) / total / ROWS[name][2] for k, p in programs.items()}
            held = {k: temporaries(p) / total / 4 for k, p in programs.items()}
            table.add_row(
                name, label, f"{1e3 * ours:.2f}", ratio("optax"), ratio("torch foreach"),
                ratio("torch fused"), f"{moved['optx']:.2f}", f"{moved['optax']:.2f}",
                f"{held['optx']:.2f} N", f"{held['optax']:.2f} N",
            )  # fmt: skip
    console.print(table)


def many_leaves(console: Console, counts: tuple[int, ...] = LEAVES) -> None:
    """Seconds to trace, to lower and to compile an AdamW step on many small leaves."""
    table = Table(
        "leaves", "trace s", "x optax", "lower s", "x optax", "compile s", "x optax",
        title="Tracing and compiling an adamw step",
    )  # fmt: skip
    for count in (8, *counts):  # the first is to warm up, and not shown
        params = leaves(count)
        seconds = {}
        for label, aliases, module in (("optx", optx_aliases, optx_core), ("optax", optax, optax)):
            tx = aliases.adamw(1e-3)
            state = tx.init(params)
            jax.clear_caches()
            marks = [time.perf_counter()]
            made: Any = step_of(tx, module).trace(params, state, params)
            marks.append(time.perf_counter())
            made = made.lower()
            marks.append(time.perf_counter())
            made.compile()
            marks.append(time.perf_counter())
            seconds[label] = [b - a for a, b in itertools.pairwise(marks)]
        if count == 8:
            continue
        cells = []
        for a, b in zip(seconds["optx"], seconds["optax"], strict=True):
            cells += [f"{a:.2f}", f"{a / b:.2f}"]
        table.add_row(f"{count:,}", *cells)
    console.print(table)


def bytes_of(state: Any) -> int:
    """The bytes of a state, or of its shapes."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))


def state_bytes(console: Console) -> None:
    """Bytes of state per float32 parameter, on matrices of 1,024 x 1,024."""
    table = Table("optimizer", "optx", "optax", title="Bytes of state a float32 parameter")
    params = {"w": jax.ShapeDtypeStruct((1024, 1024), jnp.float32)}
    for name, (make, _, _) in ROWS.items():
        sizes = []
        for module in (optx_aliases, optax):
            state = jax.eval_shape(make(module).init, params)
            sizes.append(bytes_of(state) / 2**20)
        table.add_row(name, *(f"{size:.3f}" for size in sizes))
    console.print(table)


def variants(console: Console) -> None:
    """Time, bytes, temporaries and state of variants, as parts of those of the plain optimizers."""
    table = Table(
        "variant", "ms", "x plain", "bytes moved", "x plain", "temporaries", "state bytes", "plain's",
        title="Variants beside the plain optimizers, 4 matrices of 500 x 500",
    )  # fmt: skip
    params = matrices(1_000_000)
    grads = jax.tree.map(lambda p: 0.3 * jnp.cos(jnp.arange(p.size).reshape(p.shape)), params)
    total = sum(p.size for p in params.values())
    for name, pair in VARIANTS.items():
        runs, programs, states = {}, {}, {}
        for label, make in zip(("plain", "variant"), pair, strict=True):
            tx = make()
            states[label] = bytes_of(jax.eval_shape(tx.init, params)) / total
            programs[label], runs[label] = compiled(
                tx, optx_core, params, grads, value=jnp.asarray(1.0)
            )
        seconds = alternate(runs, rounds=15)
        moved = {label: bytes_accessed(program) / total for label, program in programs.items()}
        table.add_row(
            name, f"{1e3 * seconds['variant']:.1f}", f"{seconds['variant'] / seconds['plain']:.2f}",
            f"{moved['variant']:.0f}", f"{moved['variant'] / moved['plain']:.2f}",
            f"{temporaries(programs['variant']) / total / 4:.1f} N",
            f"{states['variant']:.2f}", f"{states['plain']:.2f}",
        )  # fmt: skip
    console.print(table)


PARTS = {"steps": steps, "leaves": many_leaves, "state": state_bytes, "variants": variants}


def main() -> None:
    """Measures the parts that are named on the command line, or all."""
    chosen = [name for name in sys.argv[1:] if name in PARTS] or list(PARTS)
    console = Console(width=130)
    for name in chosen:
        PARTS[name](console)


if __name__ == "__main__":
    main()
