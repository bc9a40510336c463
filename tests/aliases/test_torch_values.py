"""The numbers of torch.optim, saved by tools/make_optimizers_oracle.py.

Where a row passes arguments that are not the default ones, it is where the two differ: torch's epsilon
stands outside the root in Adagrad and RMSProp, and its weight decay in SGD is added before the momentum.
torch's AMSGrad (the maximum is of uncorrected means), NAdam (its momentum follows a schedule) and Muon
(its iteration is in bfloat16) compute something else.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases as a
from optx_core import add_decayed_weights, apply_updates, chain

VALUES = np.load(pathlib.Path(__file__).with_name("torch_values.npz"))
ROWS = {
    "sgd": lambda: a.sgd(0.1),
    "sgd, momentum": lambda: a.sgd(0.1, 0.9),
    "sgd, Nesterov": lambda: a.sgd(0.1, 0.9, nesterov=True),
    "sgd, decay": lambda: chain(add_decayed_weights(0.1), a.sgd(0.1, 0.9)),
    "adam": lambda: a.adam(0.01),
    "adamw": lambda: a.adamw(0.01, weight_decay=0.1),
    "adamax": lambda: a.adamax(0.01),
    "radam": lambda: a.radam(0.01, b2=0.9),
    "adadelta": lambda: a.adadelta(1.0),
    "adadelta, decay": lambda: a.adadelta(0.5, 0.95, 1e-5, 0.1),
    "adagrad": lambda: a.adagrad(0.1, eps=0.0),
    "rmsprop": lambda: a.rmsprop(0.01, eps_in_sqrt=False),
    "rmsprop, momentum": lambda: a.rmsprop(0.01, eps_in_sqrt=False, momentum=0.9),
    "rmsprop, centered": lambda: a.rmsprop(0.01, eps_in_sqrt=False, centered=True, eps=1e-3),
    "rprop": lambda: a.rprop(0.01),
    "adafactor": lambda: a.adafactor(0.1, min_dim_size_to_factor=2),
}


def steps(tx):
    update = jax.jit(tx.update)
    p = jnp.asarray(VALUES["start"])
    state, rows = tx.init(p), []
    for k in range(len(VALUES["sgd"])):
        updates, state = update(jnp.sin(3 * p + k) + 0.1 * p, state, p)
        p = apply_updates(p, updates)
        rows.append(np.asarray(p))
    return np.stack(rows)


@pytest.mark.parametrize("name", ROWS)
def test_20_steps_are_those_of_torch(name, x64):
    np.testing.assert_allclose(steps(ROWS[name]()), VALUES[name], rtol=1e-9, atol=1e-12)
