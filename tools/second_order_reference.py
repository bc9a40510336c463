"""Makes tests/second_order/reference.npz: curvature diagonals by BackPACK, curvlinops and torch.func.

Run it where `torch`, `backpack-for-pytorch` and `curvlinops-for-pytorch` are installed:

    python tools/second_order_reference.py tests/second_order/reference.npz

All in float64. For each net: its sizes, activation and loss, the weights (torch's layout, transposed to
ours: kernel [in, out]), the inputs and targets, and the diagonals of the Hessian (three ways), of the
Gauss-Newton matrix and of the sum of squared gradients, leaf by leaf. Losses are means over the batch;
the squared error is half the sum over outputs, as BackPACK's MSELoss is scaled to match.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from typing import Any

import numpy as np
import torch
from backpack import backpack, extend
from backpack.extensions import BatchGrad, DiagGGNExact, DiagHessian
from curvlinops import HessianLinearOperator

NETS: dict[str, tuple[list[int], str, str]] = {
    "tanh": ([5, 7, 3], "tanh", "cross_entropy"),
    "relu": ([5, 7, 6, 3], "relu", "cross_entropy"),
    "sigmoid": ([5, 6, 4, 3], "sigmoid", "cross_entropy"),
    "elu": ([5, 6, 5, 4, 4, 3], "elu", "cross_entropy"),
    "deep": ([4, 5, 5, 5, 5, 3], "tanh", "cross_entropy"),
    "mse": ([5, 7, 6, 2], "tanh", "squared_error"),
    "logistic": ([5, 4], "tanh", "cross_entropy"),
}
ACTIVATIONS: dict[str, Any] = {
    "tanh": torch.nn.Tanh,
    "relu": torch.nn.ReLU,
    "sigmoid": torch.nn.Sigmoid,
    "elu": torch.nn.ELU,
}


def build(sizes: list[int], activation: str) -> torch.nn.Sequential:
    """A multilayer perceptron."""
    layers: list[torch.nn.Module] = []
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        layers.append(torch.nn.Linear(a, b))
        if i < len(sizes) - 2:
            layers.append(ACTIVATIONS[activation]())
    return torch.nn.Sequential(*layers)


def ours(tensor: torch.Tensor) -> np.ndarray:
    """A weight in our layout."""
    array = tensor.detach().numpy()
    return array.T.copy() if array.ndim == 2 else array.copy()


def reference(name: str) -> dict[str, np.ndarray]:
    """All values of one net."""
    sizes, activation, kind = NETS[name]
    torch.manual_seed(sum(map(ord, name)))
    model = extend(build(sizes, activation), use_converter=False)
    x = torch.randn(9, sizes[0])
    if kind == "cross_entropy":
        y, lossfunc, factor = torch.randint(0, sizes[-1], (9,)), torch.nn.CrossEntropyLoss(), 1.0
    else:
        y, lossfunc, factor = torch.randn(9, sizes[-1]), torch.nn.MSELoss(), sizes[-1] / 2
    classes = kind == "cross_entropy"
    lossfunc = extend(lossfunc)
    names, params = zip(*model.named_parameters(), strict=True)
    with backpack(DiagHessian(), DiagGGNExact(), BatchGrad()):
        lossfunc(model(x), y).backward()
    found = {f"{name}/x": x.numpy(), f"{name}/y": y.numpy()}
    plain = build(sizes, activation)
    plain.load_state_dict(model.state_dict())

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts, start = {}, 0
        for key, p in zip(names, params, strict=True):
            parts[key] = flat[start : start + p.numel()].reshape(p.shape)
            start += p.numel()
        out = torch.func.functional_call(plain, parts, (x,))
        return (
            torch.nn.functional.cross_entropy(out, y)
            if classes
            else (torch.nn.functional.mse_loss(out, y))
        )

    flat = torch.cat([p.detach().reshape(-1) for p in params])
    by_func = torch.func.hessian(loss)(flat).diagonal()
    plain_loss = torch.nn.CrossEntropyLoss() if classes else torch.nn.MSELoss()
    operator = HessianLinearOperator(
        plain, plain_loss, list(plain.parameters()), [(x, y)], progressbar=False
    )
    by_linops = (operator @ torch.eye(flat.numel())).diagonal()
    start = 0
    for i, p in enumerate(params):
        stop, shape = start + p.numel(), p.shape
        values = {
            "param": p,
            "backpack": factor * p.diag_h,
            "ggn": factor * p.diag_ggn_exact,
            "torch_func": factor * by_func[start:stop].reshape(shape),
            "curvlinops": factor * by_linops[start:stop].reshape(shape),
            "squares": ((p.grad_batch * 9 * factor) ** 2).mean(0),
        }
        found.update({f"{name}/{i}/{k}": ours(v) for k, v in values.items()})
        start = stop
    return found


def main() -> None:
    """Writes the file."""
    warnings.simplefilter("ignore")
    torch.set_default_dtype(torch.float64)
    values: dict[str, Any] = {}
    for name in NETS:
        values.update(reference(name))
    np.savez_compressed(sys.argv[1], **values)
    print(f"{len(values)} arrays in {sys.argv[1]}")


if __name__ == "__main__":
    main()
