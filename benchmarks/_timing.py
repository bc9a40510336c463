"""Side-by-side timing: candidates alternate in one process, and medians are compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax


def alternate(
    candidates: Mapping[str, Callable[[], Any]],
    *,
    rounds: int = 15,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each candidate, all of them run in turn, round after round.

    Args:
      candidates: functions without arguments by name; what they return is waited for.
      rounds: how often each is timed.
      warmup: how often each is run before (compilation, caches).
      clock: `time.perf_counter`, or `time.process_time` for CPU time.

    Returns:
      The medians by name.
    """
    for _ in range(warmup):
        for run in candidates.values():
            jax.block_until_ready(run())
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            start = clock()
            jax.block_until_ready(run())
            seconds[name].append(clock() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def temporaries(compiled: Any) -> int:
    """Bytes of temporary buffers that a compiled program needs."""
    return compiled.memory_analysis().temp_size_in_bytes


def bytes_accessed(compiled: Any) -> float:
    """Bytes that a compiled program reads and writes, by XLA's own count."""
    return compiled.cost_analysis()["bytes accessed"]
