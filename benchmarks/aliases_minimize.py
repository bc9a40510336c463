"""Evaluations of `minimize` beside SciPy's L-BFGS-B: `python -m benchmarks.aliases_minimize`.

Both see the same function, in float64 and in float32 (SciPy computes in float64 around it). An evaluation
is one of value and gradient together. The default tolerances of both: gtol 1e-5, ftol 2.2e-9 (in float32
`minimize` takes twice the rounding unit).
"""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

from optx_aliases import minimize

sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests" / "aliases"))

from minimize_problems import PROBLEMS


def digits():
    """Softmax regression on the digits, 650 parameters."""
    images, labels = load_digits(return_X_y=True)
    images = np.concatenate([images / 16.0, np.ones((len(images), 1))], axis=1)

    def loss(x):
        w = x.reshape(65, 10)
        logits = images.astype(x.dtype) @ w
        chosen = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(logits, axis=1) - chosen) + 1e-3 * jnp.sum(w * w)

    return loss, np.zeros(650), None, None


def problems():
    return {
        **PROBLEMS,
        "digits, 650": digits(),
        "digits, 650, half": (*digits()[:2], (-0.1, None), None),
    }


def by_scipy(fun, x0, bounds, dtype):
    """SciPy's result."""
    both = jax.jit(jax.value_and_grad(fun))

    def value_and_grad(x):
        value, grad = both(jnp.asarray(x, dtype))
        return float(value), np.asarray(grad, np.float64)

    box = None if bounds is None else [bounds] * len(x0)
    return scipy.optimize.minimize(value_and_grad, x0, jac=True, method="L-BFGS-B", bounds=box)


def main():
    with jax.enable_x64(True):
        for dtype in (jnp.float64, jnp.float32):
            table = Table(title=f"evaluations, {jnp.dtype(dtype).name}")
            for column in (
                "problem",
                "SciPy",
                "optx",
                "optx / SciPy",
                "value SciPy",
                "value optx",
                "why",
            ):
                table.add_column(
                    column, justify="left" if column in ("problem", "why") else "right"
                )
            for name, (fun, x0, bounds, _) in problems().items():
                theirs = by_scipy(fun, x0, bounds, dtype)
                ours = minimize(fun, jnp.asarray(x0, dtype), bounds=bounds)
                count = int(ours.num_evaluations)
                table.add_row(
                    name, str(theirs.nfev), str(count), f"{count / theirs.nfev:.2f}",
                    f"{theirs.fun:.6g}", f"{float(ours.value):.6g}", ours.message.split(";")[0],
                )  # fmt: skip
            Console(width=150).print(table)


if __name__ == "__main__":
    main()
