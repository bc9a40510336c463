"""Fits a logistic regression to convergence with `optx_aliases.minimize`, free and within bounds.

Are tumours malignant? 569 cases with 30 measurements, which come with scikit-learn; every fifth is held
out. With weights bounded from below by 0, a larger measurement can only speak for a malignant tumour.

    python examples/minimize.py
"""

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer

from optx_aliases import MinimizeStatus, adam, minimize

DECAY = 1e-3


def load_data():
    """Measurements (cases, 30), standardized, and whether each is malignant; every fifth held out."""
    measured, benign = load_breast_cancer(return_X_y=True)
    held_out = np.arange(len(measured)) % 5 == 0
    x = (measured - measured[~held_out].mean(0)) / measured[~held_out].std(0)
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(1 - benign, jnp.float32)
    return (x[~held_out], y[~held_out]), (x[held_out], y[held_out])


def logits(params, x):
    """Log odds of a malignant tumour."""
    return x @ params["weights"] + params["bias"]


def loss(params, x, y):
    """The mean negative log-likelihood, and a little decay, so that there is a single minimum."""
    z = logits(params, x)
    return jnp.mean(jax.nn.softplus(z) - y * z) + DECAY / 2 * jnp.sum(params["weights"] ** 2)


def ways():
    """What `minimize` is called with: L-BFGS by default, L-BFGS-B with bounds."""
    lower = {"weights": 0.0, "bias": None}  # one number for a whole array; None for no bound
    upper = {"weights": 1.0, "bias": None}
    return {
        "free": {},
        "at least 0": {"bounds": (lower, None)},
        "from 0 to 1": {"bounds": (lower, upper)},
        "free, by Adam": {"optimizer": adam(0.05), "gtol": 1e-6},
    }


def name_of(status):
    """VALUE, say."""
    return MinimizeStatus(int(status)).name


def main():
    """Fits in each way, and prints a table."""
    train, (x, y) = load_data()
    start = {"weights": jnp.zeros(x.shape[1]), "bias": jnp.zeros(())}
    table = Table("weights", "loss", "held out", "at 0", "steps", "evaluations", "status")
    told = {}
    for name, options in ways().items():
        result = minimize(loss, start, args=train, **options)
        right = jnp.mean((logits(result.x, x) > 0) == (y > 0.5))
        table.add_row(
            name,
            f"{float(result.value):.5f}",
            f"{float(right):.1%}",
            str(int(jnp.sum(result.x["weights"] == 0))),
            str(int(result.num_steps)),
            str(int(result.num_evaluations)),
            name_of(result.status),
        )
        told[name_of(result.status)] = result.message
    console = Console()
    console.print(table)
    for status, message in told.items():
        console.print(f"{status}: {message}")


if __name__ == "__main__":
    main()
