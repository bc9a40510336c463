"""Writes tests/losses/torch_values.npz: values and gradients of torch.nn.functional's losses.

Run with torch 2.13 installed: `python tools/make_losses_oracle.py`. Each case is stored as its inputs
(`case/input0`, ...), its value (`case/value`) and the gradient of its sum by input 0 (`case/grad`).
"""

import pathlib

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

rng = np.random.default_rng(0)
N, K = 8, 6
X = rng.normal(size=(N, K)).astype(np.float32) * 3
Y = rng.normal(size=(N, K)).astype(np.float32)
P = torch.softmax(torch.tensor(Y), -1).numpy()
I = rng.integers(0, K, N)
BITS = rng.integers(0, 2, (N, K)).astype(np.float32)
W = np.arange(1, K + 1).astype(np.float32)
NONE = {"reduction": "none"}

# CTC: random lengths, repeats, an empty target, padding on both sides.
FRAMES, LENGTH = 14, 5
LOGITS = rng.normal(size=(N, FRAMES, K)).astype(np.float32)
LABELS = rng.integers(1, K, (N, LENGTH))
LABELS[0], LABELS[1] = 2, [3, 3, 4, 4, 3]
LABEL_LENGTHS = np.array([5, 5, 0, 1, 3, 4, 5, 2])
FRAME_LENGTHS = np.array([14, 13, 6, 9, 14, 10, 12, 14])


def ctc(  # noqa: D103
    x: torch.Tensor,
    labels: torch.Tensor,
    frame_lengths: torch.Tensor,
    label_lengths: torch.Tensor,
) -> torch.Tensor:
    log_p = torch.log_softmax(x, -1).transpose(0, 1)
    return F.ctc_loss(log_p, labels, frame_lengths, label_lengths, **NONE)


CASES = {
    "mse": (lambda x, y: F.mse_loss(x, y, **NONE), X, Y),
    "huber": (lambda x, y: F.huber_loss(x, y, delta=0.7, **NONE), X, Y),
    "cosine": (F.cosine_similarity, X, Y),
    "soft_ce": (lambda x, p: F.cross_entropy(x, p, **NONE), X, P),
    "ce": (lambda x, i: F.cross_entropy(x, i, **NONE), X, I),
    "ce_smooth": (lambda x, i: F.cross_entropy(x, i, label_smoothing=0.1, **NONE), X, I),
    "ce_weighted": (
        lambda x, i, w: F.cross_entropy(x, i, weight=w, label_smoothing=0.2, **NONE), X, I, W),
    "ce_ignored": (lambda x, i: F.cross_entropy(x, i, ignore_index=int(I[0]), **NONE), X, I),
    "bce": (lambda x, b: F.binary_cross_entropy_with_logits(x, b, **NONE), X * 10, BITS),
    "kl": (lambda x, p: F.kl_div(x, p, **NONE).sum(-1), np.log(P[::-1].copy()), P),
    "gaussian": (lambda x, y, v: F.gaussian_nll_loss(x, y, v, full=True, **NONE), X, Y, np.abs(Y)),
    "poisson": (lambda x, y: F.poisson_nll_loss(x, y, full=True, **NONE), Y, np.abs(X)),
    "poisson_rate": (
        lambda x, y: F.poisson_nll_loss(x, y, log_input=False, **NONE), np.abs(Y), np.abs(X)),
    "triplet": (
        lambda a, p, n: F.triplet_margin_loss(a, p, n, eps=0.0, **NONE), X, Y, Y[::-1].copy()),
    "ctc": (ctc, LOGITS, LABELS, FRAME_LENGTHS, LABEL_LENGTHS),
}  # fmt: skip

made = {}
for name, (loss, *inputs) in CASES.items():
    tensors = [torch.tensor(a) for a in inputs]
    tensors[0].requires_grad_()
    value = loss(*tensors)
    value.sum().backward()
    made[f"{name}/value"] = value.detach().numpy()
    made[f"{name}/grad"] = tensors[0].grad.numpy()
    made |= {f"{name}/input{i}": a for i, a in enumerate(inputs)}
target = pathlib.Path(__file__).parents[1] / "tests" / "losses" / "torch_values.npz"
np.savez_compressed(target, **made)
print(f"{len(CASES)} cases in {target}, {target.stat().st_size} bytes")
