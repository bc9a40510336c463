"""The numbers of other collections of optimizers, saved by tools/make_collections_oracle.py.

The settings are those in which both compute the same; the comments say what differs otherwise.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases as a
from optx_core import apply_updates, chain, scale, scale_by_learning_rate

VALUES = np.load(pathlib.Path(__file__).with_name("collection_values.npz"))


def torch_amsgrad(learning_rate, b1=0.9, b2=0.999):
    """torch's AMSGrad: the maximum is of uncorrected means, the correction follows."""

    def corrected(count):
        t = count.astype(float) + 1
        return learning_rate * jnp.sqrt(1 - b2**t) / (1 - b1**t)

    return chain(
        a.scale_by_amsgrad(b1, b2, 0.0, bias_correction_mu=False, bias_correction_nu=False),
        scale_by_learning_rate(corrected),
    )


def shampoo(graft):
    return a.shampoo(0.01, 0.0, 0.9, 1e-8, 1e-2, precondition_frequency=1, graft=graft)


ROWS = {
    # timm clips the gradients to a global norm of 1 by default, and scales only what decays;
    # pytorch_optimizer corrects no bias, limits the parameter's norm to 10, and decays beside the ratio.
    "lamb": lambda: a.lamb(0.01, weight_decay=0.1),
    "lamb, no decay": lambda: a.lamb(0.01),
    # Both divide by |g| + weight_decay·|p|, we by |g + weight_decay·p|; pytorch_optimizer leaves vectors.
    "lars": lambda: a.lars(1.0, trust_coefficient=0.01),
    "lars, Nesterov": lambda: a.lars(1.0, trust_coefficient=0.01, nesterov=True),
    # pytorch_optimizer's epsilon is 1e-30.
    "sm3": lambda: chain(a.scale_by_sm3(0.9, 1.0, 1e-8), scale(-0.1)),
    "amsgrad": lambda: torch_amsgrad(0.01),
    # Roots at each step: theirs are the identity before the first interval ends. Theirs start the statistics
    # at matrix_eps·I, ours at zero.
    "shampoo, sgd": lambda: shampoo("sgd"),
    "shampoo, adagrad": lambda: shampoo("adagrad"),
    "shampoo, rmsprop": lambda: shampoo("rmsprop"),
    # An epsilon of no weight: theirs stands before the bias correction.
    "soap": lambda: a.soap(0.01, eps=1e-12, precondition_frequency=5),
    "apollo_mini": lambda: a.apollo_mini(0.001),
}
# Until the first turn of the bases: theirs sort the columns by eigenvalue before it.
SHORTER = {"soap": 6}


def slope(p, k):
    return jnp.sin(3 * p + k) + 0.1 * p


def steps(tx):
    update = jax.jit(tx.update)
    p = jnp.asarray(VALUES["start"])
    state, rows = tx.init(p), []
    for k in range(len(VALUES["lamb"])):
        updates, state = update(slope(p, k), state, p)
        p = apply_updates(p, updates)
        rows.append(np.asarray(p))
    return np.stack(rows)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ROWS)
def test_steps_are_those_of_another_collection(name, x64):
    count = SHORTER.get(name, len(VALUES[name]))
    found, expected = steps(ROWS[name]())[:count], VALUES[name][:count]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("opaque_mode", [True, False])
def test_20_sharpness_aware_steps_are_those_of_another_collection(opaque_mode, x64):
    climb = chain(a.normalize(), a.sgd(0.05))
    tx = a.sam(a.sgd(0.1, 0.9), climb, opaque_mode=opaque_mode)
    p = jnp.asarray(VALUES["start"])
    state = tx.init(p)
    update = jax.jit(lambda s, p, k: tx.update(slope(p, k), s, p, grad_fn=lambda p, _: slope(p, k)))
    for k, expected in enumerate(VALUES["sam"]):
        for _ in range(1 if opaque_mode else 2):
            updates, state = update(state, p, float(k))
            p = apply_updates(p, updates)
        np.testing.assert_allclose(p, expected, atol=1e-8)  # their norm is in float32
