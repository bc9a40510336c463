"""Bytes of every optimizer's step, compiled for a GPU and a TPU that need not be there.

hatch run ahead:bench [cuda] [tpu] [names of optimizers, or of ways to hold bfloat16 parameters]

The environment has the plugins (Linux on x86-64). Where one is missing, its half says so and is left
out. The table is the tests', `tests/aliases/optimizer_rows`.
"""

from __future__ import annotations

import pathlib
import sys
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich.console import Console
from rich.progress import track
from rich.table import Table

import optx_aliases
import optx_core
from benchmarks._ahead import TARGETS, bytes_moved, device_of
from benchmarks._timing import temporaries

sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests" / "aliases"))
from optimizer_rows import ROWS, compiled_step

SIDE = 8192  # of a matrix that no fast memory holds
# A TPU's programs for eigenvectors and QR of large matrices take minutes each to compile.
LEFT_OUT = {"cuda": (), "tpu": ("galore", "kron", "soap")}


def moved(program: Any) -> float:
    """Bytes that a step reads and writes, a parameter."""
    return bytes_moved(program) / SIDE**2


def measured(name: str, device: Any) -> list[str]:
    """The cells of a row: bytes and temporaries, ours and optax's, a parameter."""
    row = ROWS[name]
    pair: list[tuple[float, float] | None] = []
    for make, module in ((row.make, optx_core), (row.optax and (lambda: row.optax(optax)), optax)):
        if make is None:
            pair.append(None)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what optax deprecates is still to be compared with
            program = compiled_step(make(), row, module, device, SIDE)
        pair.append((moved(program), temporaries(program) / SIDE**2))
    (ours, held), theirs = pair
    floor = "-" if row.floor is None else f"{ours / row.floor:.2f}"
    cells = [f"{ours:.1f}", floor, f"{held:.1f}"]
    if theirs is None:
        return [*cells, "-", "-", "-"]
    return [*cells, f"{theirs[0]:.1f}", f"{theirs[1]:.1f}", f"{ours / theirs[0]:.2f}"]


ADAMW, LION = optx_aliases.adamw(1e-3), optx_aliases.lion(1e-4)
NARROW = {
    "bf16: adamw": ADAMW,
    "bf16: stochastic_rounding": optx_core.stochastic_rounding(ADAMW),
    "bf16: master_weights": optx_core.master_weights(ADAMW),
    "bf16: master_weights, 24 bits": optx_core.master_weights(ADAMW, bits=24),
    "bf16: master_weights, 24 bits, lion": optx_core.master_weights(LION, bits=24),
    "bf16: stochastic_rounding, 8 bits": optx_core.stochastic_rounding(
        optx_aliases.quantize_state(ADAMW)
    ),
    "bf16: master_weights, 24 bits, 8 bits": optx_core.master_weights(
        optx_aliases.quantize_state(ADAMW), bits=24
    ),
}


def measured_narrow(name: str, device: Any) -> list[str]:
    """The cells of a row: bytes of parameters and state, bytes moved and temporaries, a parameter."""
    tx, row = NARROW[name], ROWS["adamw"]
    params = {"w": jax.ShapeDtypeStruct((SIDE, SIDE), jnp.bfloat16)}
    held = jax.tree.leaves((params, jax.eval_shape(tx.init, params)))
    program = compiled_step(tx, row, optx_core, device, SIDE, jnp.bfloat16)
    sizes = (
        sum(x.size * x.dtype.itemsize for x in held) / SIDE**2,
        moved(program),
        temporaries(program) / SIDE**2,
    )
    return [f"{size:.2f}" for size in sizes]


def main() -> None:
    """Compiles the table for the platforms and the optimizers that are named, or for all."""
    given = sys.argv[1:]
    named = [name for name in given if name in ROWS or name in NARROW]
    names = [name for name in named if name in ROWS] if named else list(ROWS)
    narrow = [name for name in named if name in NARROW] if named else list(NARROW)
    console = Console(width=110)
    for platform in [name for name in TARGETS if name in given] or TARGETS:
        try:
            device = device_of(platform)
        except Exception as error:  # noqa: BLE001 (whatever a missing plugin raises)
            reason = f"{type(error).__name__}: {str(error)[:100]}"
            console.print(f"{platform}: not compiled for, {reason}")
            continue
        table = Table(
            "optimizer", "bytes", "x floor", "temporaries", "optax's bytes", "temporaries", "ratio",
            title=f"Compiled for {TARGETS[platform][0]}, a parameter: jax {jax.__version__}",
        )  # fmt: skip
        chosen = [name for name in names if name not in LEFT_OUT[platform]]
        for name in track(chosen, f"compiling for {platform}", console=console):
            jax.clear_caches()
            try:
                cells = measured(name, device)
            except Exception as error:  # noqa: BLE001 (a compiler that cannot is a figure as well)
                cells = [f"{type(error).__name__}: {str(error)[:60]}"]
            table.add_row(name, *cells)
        if chosen:
            console.print(table)
        table = Table(
            "of bfloat16 parameters", "bytes held", "moved", "temporaries",
            title=f"Compiled for {TARGETS[platform][0]}, a parameter: jax {jax.__version__}",
        )  # fmt: skip
        for name in track(narrow, f"compiling for {platform}", console=console):
            table.add_row(name, *measured_narrow(name, device))
        if narrow:
            console.print(table)


if __name__ == "__main__":
    main()
