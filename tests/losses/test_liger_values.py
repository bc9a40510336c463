"""The same numbers as Liger-Kernel's losses of a last layer, padding and gradients included.

The file beside this one is written by tools/make_liger_oracle.py. Parts of Liger-Kernel compute in float32.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_losses as L

STORED = np.load(pathlib.Path(__file__).with_name("liger_values.npz"))
MASK, LABELS, BIAS, OLD, REFERENCE, ADVANTAGES, DESIRABLE = (
    STORED[name]
    for name in ("mask", "labels", "bias", "old", "reference", "advantages", "desirable")
)
TEACHER = STORED["reference_features"], STORED["reference_weights"]
KL = {"reference_log_probs": REFERENCE, "kl_coefficient": 0.04}


def token_log_probs(f, w, **options):
    return L.linear_log_probs(f, w, LABELS, bias=BIAS, chunk_size=7, where=MASK, **options)


def policy(loss, temperature=None, **options):
    def of_layer(f, w):
        log_p = token_log_probs(f, w, temperature=temperature)
        return loss(log_p, OLD, ADVANTAGES, where=MASK, **options)

    return of_layer


def answers(f, w, reduction):
    return L.answer_log_probs(token_log_probs(f, w), reduction=reduction, where=MASK)


def preference(loss, *, reduction="sum", reference=True, **options):
    """The mean over pairs: the first half of the rows is chosen, the second rejected."""

    def of_layer(f, w):
        halves = jnp.split(answers(f, w, reduction), 2)
        if reference:
            halves += jnp.split(answers(*TEACHER, reduction), 2)
        return jnp.mean(loss(*halves, **options))

    return of_layer


def kto(f, w):
    of_reference = answers(*TEACHER, "sum")
    return jnp.mean(L.kto_loss(answers(f, w, "sum"), of_reference, DESIRABLE, STORED["kl"]))


def distillation(**options):
    def of_layer(f, w):
        loss = L.linear_distillation_loss(f, w, *TEACHER, chunk_size=7, where=MASK, **options)
        return jnp.mean(loss, where=MASK)

    return of_layer


OURS = {
    "ppo": policy(L.ppo_loss),
    "ppo dual clip": policy(L.ppo_loss, dual_clip=1.5),
    "grpo": policy(L.grpo_loss, **KL),
    "dr_grpo": policy(L.dr_grpo_loss, max_length=7, **KL),
    "dapo": policy(L.dapo_loss),
    "bnpo": policy(L.bnpo_loss, **KL),
    "gspo": policy(L.gspo_loss, clip=(0.1, 0.15), **KL),
    "cispo": policy(L.cispo_loss, clip=(None, 0.3)),
    "sapo": policy(L.sapo_loss),
    "temperature": policy(L.bnpo_loss, temperature=0.7),
    "dpo": preference(L.dpo_loss),
    "dpo means": preference(L.dpo_loss, reduction="mean"),
    "slic": preference(L.slic_loss),
    "exo": preference(L.exo_loss),
    "nca": preference(L.nca_loss),
    "robust": preference(L.robust_dpo_loss),
    "sppo": preference(L.sppo_loss),
    "apo_zero": preference(L.apo_zero_loss),
    "apo_down": preference(L.apo_down_loss),
    "simpo": preference(L.simpo_loss, reduction="mean", reference=False, label_smoothing=0.1),
    "orpo": preference(L.orpo_loss, reduction="mean", reference=False),
    "kto": kto,
    "forward": distillation(),
    "reverse": distillation(divergence="reverse", temperature=2.0),
    "jsd": distillation(divergence="jsd", beta=0.3, temperature=2.0),
}


@functools.cache
def results():
    """Values and gradients of all of them: one program."""
    program = {name: jax.value_and_grad(loss, (0, 1)) for name, loss in OURS.items()}
    f = np.where(MASK[..., None], STORED["features"], np.nan)  # padding
    return jax.jit(lambda f, w: {name: run(f, w) for name, run in program.items()})(
        f, STORED["weights"]
    )


@pytest.mark.parametrize("name", OURS)
def test_values_and_gradients_are_ligers(name, x64):
    value, (of_features, of_weights) = results()[name]
    np.testing.assert_allclose(value, STORED[f"{name}/value"], rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(of_features, STORED[f"{name}/features"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_weights, STORED[f"{name}/weights"], rtol=1e-5, atol=1e-6)


def test_each_stored_case_is_compared():
    assert {key.split("/")[0] for key in STORED if "/" in key} == OURS.keys()
