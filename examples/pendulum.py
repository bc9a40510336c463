"""Fits a damped pendulum to noisy measurements with L-BFGS, through a differential equation.

    python examples/pendulum.py [--plot pendulum.png]

θ'' = −(gravity / length)·sin θ − damping·θ', solved by a Runge–Kutta scheme of fourth order in
`jax.lax.scan`. The length, the damping and the first angle are fitted, within bounds, by `minimize`.
Compared with Adam.
"""

import argparse

import jax
import jax.numpy as jnp
import matplotlib as mpl

from optx_aliases import adam, minimize

GRAVITY, DT, STEPS = 9.81, 0.02, 400
TRUE = {"length": 1.3, "damping": 0.25, "angle": 2.0}


def simulate(p):
    """Returns the angle at each step."""

    def slope(y):
        return jnp.stack([y[1], -GRAVITY / p["length"] * jnp.sin(y[0]) - p["damping"] * y[1]])

    def step(y, _):
        k1 = slope(y)
        k2 = slope(y + DT / 2 * k1)
        k3 = slope(y + DT / 2 * k2)
        k4 = slope(y + DT * k3)
        y = y + DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return y, y[0]

    start = jnp.stack([p["angle"], jnp.zeros_like(p["angle"])])
    return jax.lax.scan(step, start, length=STEPS)[1]


def loss(p, measured):
    """Returns the mean square of the errors, in rad²."""
    return jnp.mean((simulate(p) - measured) ** 2)


def plot(measured, fits, path):
    """Plots the measurements and the fitted curves."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    time = jnp.arange(1, STEPS + 1) * DT
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    axis.plot(time, measured, ".", markersize=3, color="grey", label="measured")
    for name, p in fits.items():
        axis.plot(time, simulate(p), label=name)
    axis.set(xlabel="time, s", ylabel="angle, rad")
    axis.legend()
    figure.savefig(path)
    plt.close(figure)


def main():
    """Fits, prints the parameters, and plots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", default="pendulum.png")
    arguments = parser.parse_args()
    true = jax.tree.map(jnp.asarray, TRUE)
    measured = simulate(true) + 0.1 * jax.random.normal(jax.random.key(0), (STEPS,))
    start = {"length": jnp.array(1.1), "damping": jnp.array(0.0), "angle": jnp.array(1.7)}
    low = {"length": 0.1, "damping": 0.0, "angle": -3.1}
    fits = {"start": start}
    for name, options in {
        "L-BFGS-B": {"bounds": (low, None)},
        "Adam, 200 steps": {"optimizer": adam(0.02), "max_steps": 200},
    }.items():
        result = minimize(loss, start, args=(measured,), **options)
        fits[name] = result.x
        found = ", ".join(f"{key} {float(value):.3f}" for key, value in sorted(result.x.items()))
        print(f"{name:16} {found}; loss {float(result.value):.5f}, {int(result.num_steps)} steps")
    print(f"{'truth':16} " + ", ".join(f"{key} {value:.3f}" for key, value in sorted(TRUE.items())))
    plot(measured, fits, arguments.plot)


if __name__ == "__main__":
    main()
