"""Fits a logistic regression to convergence with `optx_aliases.minimize`, with and without bounds.

The model predicts whether a tumour is malignant from 30 measurements. The 569 cases come with scikit-learn;
every fifth is held out. With a lower bound of 0 on the weights, a larger measurement can only increase the
predicted probability.

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
    """Returns standardized measurements (cases, 30) and whether each is malignant: training, held out."""
    measured, benign = load_breast_cancer(return_X_y=True)
    held_out = np.arange(len(measured)) % 5 == 0
    x = (measured - measured[~held_out].mean(0)) / measured[~held_out].std(0)
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(1 - benign, jnp.float32)
    return (x[~held_out], y[~held_out]), (x[held_out], y[held_out])


def logits(params, x):
    """Returns the log odds of a malignant tumour."""
    return x @ params["weights"] + params["bias"]


def loss(params, x, y):
    """Returns the mean negative log-likelihood, with weight decay for a unique minimum."""
    z = logits(params, x)
    return jnp.mean(jax.nn.softplus(z) - y * z) + DECAY / 2 * jnp.sum(params["weights"] ** 2)


def options_by_name():
    """Returns the arguments of `minimize` for each fit: L-BFGS by default, L-BFGS-B with bounds."""
    lower = {"weights": 0.0, "bias": None}  # one number for a whole array; None for no bound
    upper = {"weights": 1.0, "bias": None}
    return {
        "free": {},
        "at least 0": {"bounds": (lower, None)},
        "from 0 to 1": {"bounds": (lower, upper)},
        "free, by Adam": {"optimizer": adam(0.05), "gtol": 1e-6},
    }


def name_of(status):
    """Returns the name of a status, such as "VALUE"."""
    return MinimizeStatus(int(status)).name


def main():
    """Fits the model with each set of options, and prints a table."""
    train, (x, y) = load_data()
    start = {"weights": jnp.zeros(x.shape[1]), "bias": jnp.zeros(())}
    table = Table("weights", "loss", "held out", "at 0", "steps", "evaluations", "status")
    messages = {}
    for name, options in options_by_name().items():
        result = minimize(loss, start, args=train, **options)
        accuracy = jnp.mean((logits(result.x, x) > 0) == (y > 0.5))
        table.add_row(
            name,
            f"{float(result.value):.5f}",
            f"{float(accuracy):.1%}",
            str(int(jnp.sum(result.x["weights"] == 0))),
            str(int(result.num_steps)),
            str(int(result.num_evaluations)),
            name_of(result.status),
        )
        messages[name_of(result.status)] = result.message
    console = Console()
    console.print(table)
    for status, message in messages.items():
        console.print(f"{status}: {message}")


if __name__ == "__main__":
    main()
