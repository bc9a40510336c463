"""Writes tests/aliases/collection_values.npz: parameters of optimizers from other collections, step by step.

Run with torch 2.15, pytorch_optimizer 4.1, timm 1.0.31 (`--no-deps` suffices) and apollo-torch 1.0.3
installed: `python tools/make_collections_oracle.py`. Every optimizer takes 20 steps in double precision from
`start`, its gradients those of `slope` below (repeated in tests/aliases/test_collection_values.py); `case`
holds the parameters after each step.
"""

import functools
import importlib
import importlib.util
import pathlib
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytorch_optimizer
import torch
from apollo_torch import APOLLOAdamW
from pytorch_optimizer.optimizer.utils import preconditioner

START = np.linspace(-1.0, 1.0, 12).reshape(3, 4) + 0.05
STEPS = 20
# What apollo_mini(..., key=0) draws first in float64 for a matrix of 3 rows.
PROJECTION = [-0.9984514375928081, 0.9237688592297483, 1.5244678020609637]


def slope(p: torch.Tensor, k: int) -> torch.Tensor:
    """The gradient at step k: of a bowl with waves."""
    return torch.sin(3 * p + k) + 0.1 * p


def timm_optimizer(name: str) -> Any:
    """A class of timm.optim, without timm's models, which need torchvision."""
    if "timm" not in sys.modules:
        root = pathlib.Path(importlib.util.find_spec("timm").origin).parent
        for package, folder in (("timm", root), ("timm.optim", root / "optim")):
            sys.modules[package] = types.ModuleType(package)
            sys.modules[package].__path__ = [str(folder)]
    return getattr(importlib.import_module(f"timm.optim.{name.lower()}"), name)


class Projector:
    """The projection of APOLLO's code, onto one given direction."""

    def project(self, gradient: torch.Tensor, step: int) -> torch.Tensor:
        """The gradient along the direction."""
        del step
        return torch.tensor([PROJECTION], dtype=gradient.dtype) @ gradient


def apollo(params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """APOLLO-Mini of its authors, with the growth limiter."""
    group = {
        "params": params,
        "rank": 1,
        "proj": "random",
        "scale_type": "tensor",
        "scale": 128,
        "update_proj_gap": 200,
        "proj_type": "std",
    }
    optimizer = APOLLOAdamW([group], lr=0.001, eps=1e-8, scale_front=False, disable_nl=False)
    optimizer.state[params[0]]["projector"] = Projector()
    return optimizer


def shampoo(params: list[torch.nn.Parameter], graft: int) -> torch.optim.Optimizer:
    """Shampoo of Anil et al., with statistics that start at zero and roots to the last digit."""
    optimizer = pytorch_optimizer.ScalableShampoo(
        params,
        lr=0.01,
        betas=(0.0, 0.9),
        start_preconditioning_step=1,
        preconditioning_compute_steps=1,
        shape_interpretation=False,
        graft_type=graft,
        nesterov=False,
        diagonal_eps=1e-8,
        matrix_eps=1e-2,
    )
    params[0].grad = torch.zeros_like(params[0])
    optimizer.init_group(optimizer.param_groups[0])
    for statistic in optimizer.state[params[0]]["pre_conditioner"].statistics:
        statistic.zero_()
    return optimizer


preconditioner.compute_power_schur_newton = functools.partial(
    preconditioner.compute_power_schur_newton, error_tolerance=1e-12
)
P = pytorch_optimizer
CASES: dict[str, Callable[[list[torch.nn.Parameter]], Any]] = {
    "lamb": lambda p: timm_optimizer("Lamb")(
        p, lr=0.01, weight_decay=0.1, max_grad_norm=None, foreach=False
    ),
    "lamb, no decay": lambda p: timm_optimizer("Lamb")(
        p, lr=0.01, weight_decay=0.0, max_grad_norm=None, always_adapt=True, foreach=False
    ),
    "lars": lambda p: P.LARS(p, lr=1.0, momentum=0.9, trust_coefficient=0.01, foreach=False),
    "lars, Nesterov": lambda p: timm_optimizer("Lars")(
        p,
        lr=1.0,
        momentum=0.9,
        trust_coeff=0.01,
        nesterov=True,
        eps=0.0,
        always_adapt=True,
        foreach=False,
    ),
    "sm3": lambda p: P.SM3(p, lr=0.1, momentum=0.9, beta=0.0, eps=1e-8, foreach=False),
    "amsgrad": lambda p: torch.optim.Adam(p, 0.01, amsgrad=True, eps=0.0),
    "shampoo, sgd": functools.partial(shampoo, graft=1),
    "shampoo, adagrad": functools.partial(shampoo, graft=2),
    "shampoo, rmsprop": functools.partial(shampoo, graft=3),
    "soap": lambda p: P.SOAP(
        p, lr=0.01, betas=(0.95, 0.95), precondition_frequency=5, eps=1e-12, weight_decay=0.0
    ),
    "apollo_mini": apollo,
}


def run(make: Callable[[list[torch.nn.Parameter]], Any]) -> Iterable[np.ndarray]:
    """The parameters after each step."""
    p = torch.nn.Parameter(torch.tensor(START))
    optimizer = make([p])
    for k in range(STEPS):
        p.grad = slope(p.detach(), k)
        optimizer.step()
        yield p.detach().numpy().copy()


def sam() -> Iterable[np.ndarray]:
    """The same of sharpness-aware minimization, which takes a gradient elsewhere too."""
    p = torch.nn.Parameter(torch.tensor(START))
    optimizer = P.SAM([p], torch.optim.SGD, rho=0.05, lr=0.1, momentum=0.9)
    for k in range(STEPS):
        p.grad = slope(p.detach(), k)
        optimizer.first_step()
        p.grad = slope(p.detach(), k)
        optimizer.second_step()
        yield p.detach().numpy().copy()


if __name__ == "__main__":
    torch.manual_seed(0)  # of the starts of power iterations
    made = {"start": START, **{name: np.stack(list(run(make))) for name, make in CASES.items()}}
    made["sam"] = np.stack(list(sam()))
    target = pathlib.Path(__file__).parents[1] / "tests" / "aliases" / "collection_values.npz"
    np.savez_compressed(target, **made)
    print(f"{len(made) - 1} cases in {target}, {target.stat().st_size} bytes")
