"""Writes tests/losses/liger_values.npz: values and gradients of Liger-Kernel's losses of a last layer.

Run with torch and liger-kernel 0.8 installed: `python tools/make_liger_oracle.py`. They run on a CPU, in
float64 but for some of their sums. All cases share the features, weights, labels and padding; each is
stored as its value (`case/value`) and the gradients with respect to features and weights
(`case/features`, `case/weights`).
"""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from liger_kernel.chunked_loss import (
    LigerFusedLinearDPOLoss,
    LigerFusedLinearGRPOLoss,
    LigerFusedLinearJSDLoss,
    LigerFusedLinearKTOLoss,
    LigerFusedLinearORPOLoss,
    LigerFusedLinearSimPOLoss,
)

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

rng = np.random.default_rng(0)
ROWS, TOKENS, FEATURES, CLASSES = 6, 5, 4, 9
PADDING = -100
LENGTHS = np.array([5, 2, 4, 1, 3, 5])
GIVEN = {
    "features": rng.normal(size=(ROWS, TOKENS, FEATURES)),
    "weights": rng.normal(size=(FEATURES, CLASSES)),
    "bias": rng.normal(size=CLASSES),
    "reference_features": rng.normal(size=(ROWS, TOKENS, FEATURES)),
    "reference_weights": rng.normal(size=(FEATURES, CLASSES)),
    "labels": rng.integers(0, CLASSES, (ROWS, TOKENS)),
    "mask": np.arange(TOKENS) < LENGTHS[:, None],
    "old": -2 + 0.5 * rng.normal(size=(ROWS, TOKENS)),
    "reference": -2 + 0.5 * rng.normal(size=(ROWS, TOKENS)),
    "advantages": np.array([1.5, -0.7, 0.2, -1.1, 0.0, 0.8]),
    "desirable": np.array([True, False, True, True, False, True]),
    "kl": np.array(0.3),
}
T = {name: torch.tensor(array) for name, array in GIVEN.items()}
W_T, REFERENCE_T = T["weights"].T.contiguous(), T["reference_weights"].T.contiguous()
PADDED = torch.where(T["mask"], T["labels"], PADDING)


def policy(**options: Any) -> Loss:  # noqa: D103
    loss = LigerFusedLinearGRPOLoss(compiled=False, use_ref_model=True, chunk_size=2, **options)
    return lambda f, w: loss(
        f, w, T["labels"], T["mask"].double(), T["advantages"], T["bias"],
        ref_per_token_logps=T["reference"], old_per_token_logps=T["old"])[0]  # fmt: skip


def preference(loss: torch.nn.Module, *, reference: bool = True) -> Loss:  # noqa: D103
    given = (T["reference_features"], REFERENCE_T, T["bias"]) if reference else ()
    return lambda f, w: loss(w, f, PADDED, T["bias"], *given)[0]


def dpo(loss_type: str, **options: Any) -> Loss:  # noqa: D103
    return preference(
        LigerFusedLinearDPOLoss(compiled=False, loss_type=loss_type, chunk_size=2, **options)
    )


def kto(f: torch.Tensor, w: torch.Tensor) -> torch.Tensor:  # noqa: D103
    loss = LigerFusedLinearKTOLoss(compiled=False, use_ref_model=True)
    return loss(
        f, w, PADDED, T["bias"], T["desirable"],
        T["reference_features"], REFERENCE_T, T["bias"], T["kl"])[0]  # fmt: skip


def distillation(beta: float, temperature: float) -> Loss:  # noqa: D103
    loss = LigerFusedLinearJSDLoss(
        0.0, 1.0, beta=beta, temperature=temperature, compiled=False, chunk_size=4)  # fmt: skip
    return lambda f, w: loss(
        f.flatten(0, 1), w, T["reference_features"].flatten(0, 1), REFERENCE_T, PADDED.flatten()
    )


CASES = {
    "ppo": policy(loss_type="bnpo", beta=0.0),
    "ppo dual clip": policy(loss_type="bnpo", beta=0.0, delta=1.5),
    "grpo": policy(loss_type="grpo", beta=0.04),
    "dr_grpo": policy(loss_type="dr_grpo", beta=0.04, max_completion_length=7),
    "dapo": policy(loss_type="dapo", beta=0.0, epsilon_high=0.28),
    "bnpo": policy(loss_type="bnpo", beta=0.04),
    "gspo": policy(
        loss_type="grpo", beta=0.04, importance_sampling_level="sequence", epsilon_low=0.1,
        epsilon_high=0.15),
    "cispo": policy(loss_type="cispo", beta=0.0, epsilon_high=1.3),
    "sapo": policy(loss_type="sapo", beta=0.0),
    "temperature": policy(loss_type="bnpo", beta=0.0, temperature=0.7),
    "dpo": dpo("sigmoid"),
    "dpo means": dpo("sigmoid", average_log_prob=True),
    "slic": dpo("hinge"),
    "exo": dpo("exo_pair", label_smoothing=1e-3),
    "nca": dpo("nca_pair"),
    "robust": dpo("robust", label_smoothing=0.1),
    "sppo": dpo("sppo_hard"),
    "apo_zero": dpo("apo_zero"),
    "apo_down": dpo("apo_down"),
    "simpo": preference(
        LigerFusedLinearSimPOLoss(
            compiled=False, compute_nll_loss=False, beta=2.0, gamma=1.0, label_smoothing=0.1),
        reference=False),
    "orpo": preference(
        LigerFusedLinearORPOLoss(compiled=False, compute_nll_loss=False, beta=1.0),
        reference=False),
    "kto": kto,
    "forward": distillation(0.0, 1.0),
    "reverse": distillation(1.0, 2.0),
    "jsd": distillation(0.3, 2.0),
}  # fmt: skip

made = dict(GIVEN)
for name, loss in CASES.items():
    f, w = T["features"].clone().requires_grad_(), W_T.clone().requires_grad_()
    value = loss(f, w)
    value.backward()
    made[f"{name}/value"] = value.detach().numpy()
    made[f"{name}/features"] = f.grad.numpy()
    made[f"{name}/weights"] = w.grad.T.numpy()
target = pathlib.Path(__file__).parents[1] / "tests" / "losses" / "liger_values.npz"
np.savez_compressed(target, **made)
print(f"{len(CASES)} cases in {target}, {target.stat().st_size} bytes")
