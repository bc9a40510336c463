"""`minimize` beside SciPy's L-BFGS-B: the same solutions, for at most half as many evaluations again."""

import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from minimize_problems import PROBLEMS
from sklearn.datasets import load_digits

from optx_aliases import lbfgs, minimize


def digits():
    images, labels = load_digits(return_X_y=True)
    images = np.concatenate([images / 16.0, np.ones((len(images), 1))], axis=1)

    def loss(x):
        w = x.reshape(65, 10)
        logits = images.astype(x.dtype) @ w
        chosen = jnp.take_along_axis(logits, labels[:, None].astype(np.int32), axis=1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(logits, axis=1) - chosen) + 1e-3 * jnp.sum(w * w)

    return loss, np.zeros(650), None, None


ALL = {**PROBLEMS, "digits": digits(), "digits, half": (*digits()[:2], (-0.1, None), None)}


EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "minimize.py"


def test_the_example_fits_within_its_bounds_and_says_why_it_stopped(capsys):
    example = runpy.run_path(str(EXAMPLE))
    example["main"]()
    told = capsys.readouterr().out
    rows = [line.split("│") for line in told.splitlines() if line.count("│") > 2]
    assert [row[1].strip() for row in rows] == list(example["options_by_name"]())
    free, above, within, adam = rows
    assert float(free[2]) < float(above[2]) < float(within[2])
    assert float(free[2]) <= float(adam[2]) + 1e-4
    assert int(above[4]) > int(free[4]) == 0
    assert "VALUE: converged: the value changed by at most ftol" in told


def by_scipy(fun, x0, bounds, dtype):
    both = jax.jit(jax.value_and_grad(fun))

    def value_and_grad(x):
        value, grad = both(jnp.asarray(x, dtype))
        return float(value), np.asarray(grad, np.float64)

    box = None if bounds is None else [bounds] * len(x0)
    return scipy.optimize.minimize(value_and_grad, x0, jac=True, method="L-BFGS-B", bounds=box)


@pytest.mark.sampled(10)
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("name", ALL)
def test_it_finds_what_scipy_finds_for_at_most_half_as_many_evaluations_again(name, dtype, x64):
    fun, x0, bounds, _ = ALL[name]
    theirs = by_scipy(fun, x0, bounds, dtype)
    ours = minimize(fun, jnp.asarray(x0, dtype), bounds=bounds)
    assert bool(ours.success), ours.message
    # Values near 0 are measured more finely than SciPy measures them, against 1.
    finer = 0 <= 10 * float(ours.value) < theirs.fun
    assert int(ours.num_evaluations) <= (2 if finer else 1.5) * theirs.nfev
    # As low as SciPy, up to the tolerance on the value.
    wide = dtype == jnp.float64
    assert float(ours.value) <= theirs.fun + (1e-6 if wide else 1e-4) * max(1.0, abs(theirs.fun))


def test_a_box_far_away_changes_nothing(x64):
    fun, x0, _, _ = ALL["digits"]
    free = minimize(fun, jnp.asarray(x0))
    boxed = minimize(fun, jnp.asarray(x0), bounds=(-1e3, 1e3))
    np.testing.assert_allclose(boxed.value, free.value, rtol=1e-6)
    np.testing.assert_allclose(
        minimize(fun, jnp.asarray(x0), lbfgs()).value, free.value, rtol=1e-12
    )
