"""Prints how far bitsandbytes' AdamW8bit strays from AdamW in 32 bits.

Run with torch and bitsandbytes 0.50 installed: `python tools/make_quantized_oracle.py`. The numbers stand in
tests/aliases/low_memory/test_quantize_state.py, as do the gradients, `slope` below: of a bowl with waves, in
coordinates whose scales span a factor of 10⁴.
"""

from collections.abc import Callable
from typing import Any

import bitsandbytes
import numpy as np
import torch

SHAPE, STEPS = (64, 64), 200
START = np.linspace(-1.0, 1.0, 4096).reshape(SHAPE)
POWERS = (np.arange(4096) % 5).reshape(SHAPE)


def slope(p: torch.Tensor, k: int) -> torch.Tensor:
    """The gradient at step k."""
    return torch.tensor(10.0**-POWERS, dtype=p.dtype) * (torch.sin(3 * p + k) + 0.1 * p)


def run(make: Callable[[Any], Any]) -> np.ndarray:
    """The parameters after all steps of the optimizer that `make(parameters)` returns."""
    p = torch.nn.Parameter(torch.tensor(START, dtype=torch.float32))
    optimizer = make([p])
    for k in range(STEPS):
        p.grad = slope(p.detach(), k)
        optimizer.step()
    return p.detach().numpy()


full = run(lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.01))
short = run(lambda p: bitsandbytes.optim.AdamW8bit(p, 0.01, weight_decay=0.01, min_8bit_size=1))
for power in range(5):
    part = power == POWERS
    moved = np.linalg.norm((full - START)[part])
    print(f"1e-{power}: {np.linalg.norm((short - full)[part]) / moved:.4f}")
