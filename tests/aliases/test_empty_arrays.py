"""Parameters without entries: no NaN in the state, and none in the others' updates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases
from optx_aliases import sgd
from optx_core import chain

SHAPES = ((0,), (0, 4), (3, 0), (2, 0, 3), (2, 2))
MAKE = {
    "adafactor": lambda: optx_aliases.adafactor(0.1, min_dim_size_to_factor=1, momentum=0.9),
    "adam_mini": lambda: optx_aliases.adam_mini(0.1),
    "adam_mini, blocks": lambda: optx_aliases.adam_mini(0.1, blocks=lambda path, shape: (0,)),
    "came": lambda: optx_aliases.came(0.1),
    "sm3": lambda: optx_aliases.sm3(0.1),
    "cocob": optx_aliases.cocob,
    "dadapt_adamw": optx_aliases.dadapt_adamw,
    "dadapt_sgd": optx_aliases.dadapt_sgd,
    "dog": optx_aliases.dog,
    "dowg": optx_aliases.dowg,
    "L-DoG": optx_aliases.scale_by_distance_over_gradients,
    "mechanize": lambda: optx_aliases.mechanize(sgd(1.0)),
    "momo": optx_aliases.momo,
    "momo_adam": optx_aliases.momo_adam,
    "prodigy": optx_aliases.prodigy,
    "cautious": lambda: optx_aliases.cautious(sgd(0.1)),
    "schedule_free_adamw": lambda: optx_aliases.schedule_free_adamw(0.1),
    "polyak_sgd": optx_aliases.polyak_sgd,
    "lbfgs": optx_aliases.lbfgs,
    "backtracking": lambda: chain(
        sgd(1.0), optx_aliases.scale_by_backtracking_linesearch(5, store_grad=True)
    ),
}


def loss(p):
    return sum(jnp.sum((x - 1.0) ** 2) for x in p.values())


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", MAKE)
def test_arrays_without_entries_leave_no_nan(name):
    tx = MAKE[name]()
    p = {str(shape): jnp.zeros(shape) for shape in SHAPES}

    @jax.jit
    def step(p, state):
        value, grads = jax.value_and_grad(loss)(p)
        updates, state = tx.update(grads, state, p, value=value, grad=grads, value_fn=loss)
        return updates, state

    state = tx.init(p)
    for _ in range(2):
        updates, state = step(p, state)
    assert float(jnp.abs(updates["(2, 2)"]).max()) > 0
    for x in jax.tree.leaves((updates, state)):
        assert not np.isnan(np.asarray(x)).any()
