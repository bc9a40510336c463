"""Every optimizer of the table with a parameter that joins late: it moves as with a new optimizer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimizer_rows import ROWS

from optx_flax import late_start

# The moves of one array depend on the others', or (random numbers by place) on how many there are.
EXCEPT = ("dadapt", "mechanize", "momo", "prodigy", "lbfgs", "kron", "apollo_mini")
# Weights that are summed and a flag of the first step are shared; scales in no tree of the parameters are
# refused.
EXCEPT = (*EXCEPT, "schedule_free", "optimistic", "quantize_state")
# A schedule of the learning rate goes on: a new optimizer starts it anew.
EXCEPT = (*EXCEPT, "adamw, corrected decay", "adamw, independent decay")
STEPS, MOVES = 12, 10


def has_counts(row):
    """Whether the row's state has counts beside moments (and takes no line search)."""
    params = {"new": jnp.ones((3, 2)), "old": jnp.ones((3, 2))}
    return row.extra_args is None and late_start(row.make(), "new").init(params).counts != {}


NAMES = [name for name, row in ROWS.items() if not name.startswith(EXCEPT) and has_counts(row)]


def gradients(names, step):
    draws = {k: np.random.default_rng((step, k == "new")).normal(size=(3, 2)) for k in names}
    return {k: jnp.asarray(draw, jnp.float32) for k, draw in draws.items()}


def moves(tx, params, state, steps):
    """The updates of some steps and the state after them; the parameters do not move."""
    update = jax.jit(tx.update)
    made = []
    for step in steps:
        updates, state = update(gradients(params, step), state, params)
        made.append(updates)
    return made, state


def test_the_table_has_the_optimizers_with_bias_corrections():
    assert {"adam", "adamw", "nadam", "adabelief", "lamb", "soap", "muon"} <= {
        name.removeprefix("scale_by_") for name in NAMES
    } | set(NAMES)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_that_joins_late_moves_as_with_a_new_optimizer(name):
    tx = ROWS[name].make()
    params = {"new": jnp.full((3, 2), 0.5), "old": jnp.ones((3, 2))}
    (old, new) = ({k: params[k]} for k in ("old", "new"))
    _, trained = moves(tx, old, tx.init(old), range(STEPS))
    late = range(STEPS, STEPS + MOVES)
    as_before, _ = moves(tx, old, trained, late)
    as_new, _ = moves(tx, new, tx.init(new), late)
    both = late_start(tx, "new")
    start = both.init(params)
    # The trained moments and counts of the one, the initial moments of the other.
    known = {str(path): x for path, x in jax.tree_util.tree_leaves_with_path(trained)}
    inner = jax.tree_util.tree_map_with_path(
        lambda path, x: known.get(str(path), x), start.inner_state
    )
    made, _ = moves(both, params, start._replace(inner_state=inner), late)
    for got, before, fresh in zip(made, as_before, as_new, strict=True):
        np.testing.assert_allclose(got["old"], before["old"], rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(got["new"], fresh["new"], rtol=1e-4, atol=1e-7)
