"""Prints how far bitsandbytes' AdamW8bit strays from AdamW in 32 bits, for tests/aliases/low_memory/test_quantize_state.py.

Run with torch and bitsandbytes 0.50 installed: `python tools/make_quantized_oracle.py`. The gradients are those of
`slope`, repeated in the test: of a bowl with waves, in coordinates whose scales span a factor of 10⁴.
"""

import bitsandbytes
import numpy as np
import torch

SHAPE, STEPS = (64, 64), 200
START = np.linspace(-1.0, 1.0, 4096).reshape(SHAPE)
SCALES = 10.0 ** -(np.arange(4096.0) % 5).reshape(SHAPE)


def slope(p, k):
    """The gradient at step k."""
    return torch.tensor(SCALES, dtype=p.dtype) * (torch.sin(3 * p + k) + 0.1 * p)


def run(make):
    p = torch.nn.Parameter(torch.tensor(START, dtype=torch.float32))
    optimizer = make([p])
    for k in range(STEPS):
        p.grad = slope(p.detach(), k)
        optimizer.step()
    return p.detach().numpy()


full = run(lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.01))
short = run(lambda p: bitsandbytes.optim.AdamW8bit(p, 0.01, weight_decay=0.01, min_8bit_size=1))
for power in range(5):
    part = SCALES == 10.0**-power
    moved = np.linalg.norm((full - START)[part])
    print(f"1e-{power}: {np.linalg.norm((short - full)[part]) / moved:.4f}")
