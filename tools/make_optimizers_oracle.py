"""Writes tests/aliases/torch_values.npz: the parameters of torch.optim's optimizers, step by step.

Run with torch 2.13 installed: `python tools/make_optimizers_oracle.py`. Every optimizer takes 20 steps
in double precision from `start`, its gradients those of `slope` below (repeated in
tests/aliases/test_torch_values.py); `case` holds the parameters after each step.
"""

import pathlib

import numpy as np
import torch

START = np.linspace(-1.0, 1.0, 12).reshape(3, 4) + 0.05
STEPS = 20


def slope(p: torch.Tensor, k: int) -> torch.Tensor:
    """The gradient at step k: of a bowl with waves."""
    return torch.sin(3 * p + k) + 0.1 * p


# Left out, as torch computes something else: AMSGrad (its maximum is of uncorrected means), NAdam (its
# momentum follows a schedule), Muon (its iteration is in bfloat16), L-BFGS.
O = torch.optim
CASES = {
    "sgd": lambda p: O.SGD(p, 0.1),
    "sgd, momentum": lambda p: O.SGD(p, 0.1, momentum=0.9),
    "sgd, Nesterov": lambda p: O.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "sgd, decay": lambda p: O.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    "adam": lambda p: O.Adam(p, 0.01),
    "adamw": lambda p: O.AdamW(p, 0.01, weight_decay=0.1),
    "adamax": lambda p: O.Adamax(p, 0.01),
    "radam": lambda p: O.RAdam(p, 0.01, betas=(0.9, 0.9)),
    "adadelta": lambda p: O.Adadelta(p, 1.0),
    "adadelta, decay": lambda p: O.Adadelta(p, 0.5, rho=0.95, eps=1e-5, weight_decay=0.1),
    "adagrad": lambda p: O.Adagrad(p, 0.1, initial_accumulator_value=0.1, eps=0.0),
    "rmsprop": lambda p: O.RMSprop(p, 0.01, alpha=0.9),
    "rmsprop, momentum": lambda p: O.RMSprop(p, 0.01, alpha=0.9, momentum=0.9),
    "rmsprop, centered": lambda p: O.RMSprop(p, 0.01, alpha=0.9, centered=True, eps=1e-3),
    "rprop": lambda p: O.Rprop(p, 0.01),
    "adafactor": lambda p: O.Adafactor(p, 0.1, beta2_decay=-0.8, weight_decay=0.0),
}

made = {"start": START}
for name, make in CASES.items():
    p = torch.nn.Parameter(torch.tensor(START))
    optimizer = make([p])
    rows = []
    for k in range(STEPS):
        p.grad = slope(p.detach(), k)
        optimizer.step()
        rows.append(p.detach().numpy().copy())
    made[name] = np.stack(rows)
target = pathlib.Path(__file__).parents[1] / "tests" / "aliases" / "torch_values.npz"
np.savez_compressed(target, **made)
print(f"{len(CASES)} cases in {target}, {target.stat().st_size} bytes")
