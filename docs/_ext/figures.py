"""The plots of the reference, and the bytes of the optimizers.

    python docs/_ext/figures.py optimizers 0 2 OUT    # the first of two parts
    python docs/_ext/figures.py curves OUT

Optimizers are the rows of the tests' table (tests/aliases/optimizer_rows), at the best of their rates.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/aliases"), str(pathlib.Path(__file__).parent)]
STEPS = 120
GREY, BLUE, ORANGE = "#808080", "#3b82c4", "#d9822b"  # readable on white and on black
STYLE = {
    "svg.hashsalt": "optx",
    "svg.fonttype": "none",
    "savefig.transparent": True,
    "figure.constrained_layout.use": True,
    "font.size": 9.0,
    **dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"], GREY),
    "axes.spines.top": False,
    "axes.spines.right": False,
}  # fmt: skip


def valley(p: jax.Array) -> jax.Array:
    """A quadratic whose curvatures differ by a factor of 20, turned by 30 degrees."""
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    return 0.5 * (c * p[0] + s * p[1]) ** 2 + 10.0 * (c * p[1] - s * p[0]) ** 2


def rosenbrock(p: jax.Array) -> jax.Array:
    """Rosenbrock's function with 10 in the place of 100."""
    return (1 - p[0]) ** 2 + 10 * (p[1] - p[0] ** 2) ** 2


PROBLEMS = {  # the loss, the start, the minimum, the frame
    "Rosenbrock": (rosenbrock, (-1.2, 1.2), (1.0, 1.0), (-1.8, 1.8, -1.0, 2.4)),
    "a narrow valley": (valley, (-1.6, 0.9), (0.0, 0.0), (-2.1, 1.3, -1.5, 1.5)),
}


def optimizers(part: int, parts: int, out: pathlib.Path) -> None:
    """Plots the trajectories of a part of the optimizers, and writes down their bytes."""
    from optimizer_rows import ROWS

    import optx_aliases
    from optx_core import apply_updates
    from optx_core.build import call_of

    shown = set(optx_aliases.__all__) - {"normalize"}  # which ascends
    names = [name for name in ROWS if name in shown][part::parts]
    facts: dict[str, dict[str, Any]] = {}
    backgrounds = [contours(*PROBLEMS[problem][::3]) for problem in PROBLEMS]
    for name in names:
        row = ROWS[name]
        matrix = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
        state = jax.eval_shape(row.make().init, {"w": matrix})
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
        facts[name] = {"state": size / 2**20, "floor": row.floor, "over_floor": row.over_floor}
        call = call_of(row.make())
        rated = at_rate(call, 1.0) is not None
        rates = row.rates if rated else row.rates[:1]

        def run(
            which: Any, rate: Any, row: Any = row, call: Any = call, rated: bool = rated
        ) -> Any:
            tx = at_rate(call, rate) if rated else row.make()

            def loss(p: Any) -> Any:
                functions = [problem[0] for problem in PROBLEMS.values()]
                return jax.lax.switch(which, functions, p["w"][:, 0])

            def step(carry: Any, _: Any) -> Any:
                p, state = carry
                value, grads = jax.value_and_grad(loss)(p)
                given = {} if row.extra_args is None else row.extra_args(p, grads)
                given |= {"value": value, "grad": grads, "value_fn": loss}
                given["grad_fn"] = lambda p, *_: jax.grad(loss)(p)
                updates, state = tx.update(grads, state, p, **given)
                p = apply_updates(p, updates)
                shown = p if row.evaluated is None else row.evaluated(state, p)
                return (p, state), (shown["w"][:, 0], loss(shown))

            starts = jnp.asarray([problem[1] for problem in PROBLEMS.values()], jnp.float32)
            p = {"w": starts[which][:, None]}
            _, (path, values) = jax.lax.scan(step, (p, tx.init(p)), length=STEPS)
            return jnp.concatenate([starts[which][None], path]), jnp.min(values[-10:])

        lanes = [(which, rate) for which in range(len(PROBLEMS)) for rate in rates]
        try:
            paths, last = jax.jit(jax.vmap(run))(*map(jnp.asarray, zip(*lanes, strict=True)))
        except ValueError as error:  # what no (2, 1) matrix can show has no plot
            print(f"{name} has no plot: {str(error)[:100]}")
            continue
        last = np.where(np.isnan(last), np.inf, last).reshape(len(PROBLEMS), -1)
        best = last.argmin(axis=1)
        paths = np.asarray(paths).reshape(len(PROBLEMS), len(rates), STEPS + 1, 2)
        plot_paths(
            [path[i] for path, i in zip(paths, best, strict=True)],
            [rates[i] if rated else None for i in best],
            backgrounds,
            out / f"optx_aliases.{name}.svg",
        )
    (out / f"facts{part}.json").write_text(json.dumps(facts), encoding="utf-8")


def at_rate(call: Any, rate: Any) -> Any:
    """An optimizer at another learning rate, its own or that of the optimizer inside; None without one."""
    from optx_core.build import call_of

    if call is None:
        return None
    if isinstance(call.arguments.get("learning_rate"), int | float):
        return call.replace(learning_rate=rate)
    for name, value in call.arguments.items():
        if (inner := at_rate(call_of(value), rate)) is not None:
            return call.replace(**{name: inner})
    return None


def contours(loss: Any, frame: tuple[float, ...]) -> tuple[Any, ...]:
    """The values of a loss on a grid."""
    x, y = np.linspace(*frame[:2], 60), np.linspace(*frame[2:], 60)
    values = loss(np.stack(np.meshgrid(x, y)))
    return x, y, np.sqrt(values)


def plot_paths(
    paths: list[Any], rates: list[Any], backgrounds: list[Any], file: pathlib.Path
) -> None:
    """Draws one trajectory on each function."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(7, 2.9))
        for axis, path, rate, ground, name in zip(
            axes, paths, rates, backgrounds, PROBLEMS, strict=True
        ):
            axis.contour(*ground, levels=9, colors=GREY, linewidths=0.4, alpha=0.6)
            axis.plot(*path.T, "-", color=BLUE, linewidth=1.2, marker=".", markersize=3)
            axis.plot(*PROBLEMS[name][2], "*", color=ORANGE, markersize=9)
            axis.set(xlim=PROBLEMS[name][3][:2], ylim=PROBLEMS[name][3][2:], xticks=[], yticks=[])
            axis.set_title(name + (f", learning rate {rate:g}" if rate else ""), fontsize=9)
        figure.savefig(file, metadata={"Date": None})
        plt.close(figure)


def schedules(out: pathlib.Path) -> None:
    """Plots the curve of each schedule."""
    import optx_schedules as o

    warmup, halves = o.linear_schedule(0.0, 1.0, 60), {100: 0.5, 200: 0.5}
    cycle = {"init_value": 0.0, "decay_steps": 100, "warmup_steps": 20, "end_value": 0.0}
    curves = {
        "clamp": o.clamp(o.exponential_decay(1.0, 100, 0.3), 0.2, 0.8),
        "constant_schedule": o.constant_schedule(1.0),
        "cosine_decay_schedule": o.cosine_decay_schedule(1.0, 300, alpha=0.1),
        "cosine_onecycle_schedule": o.cosine_onecycle_schedule(300, 1.0),
        "cosine_restarts_schedule": o.cosine_restarts_schedule(1.0, 60, 1.5),
        "cyclic_schedule": o.cyclic_schedule(0.1, 1.0, 40),
        "exponential_decay": o.exponential_decay(1.0, 100, 0.5),
        "join_schedules": o.join_schedules([warmup, o.exponential_decay(1.0, 80, 0.4)], [60]),
        "linear_onecycle_schedule": o.linear_onecycle_schedule(300, 1.0),
        "linear_schedule": o.linear_schedule(1.0, 0.0, 300),
        "piecewise_constant_schedule": o.piecewise_constant_schedule(1.0, halves),
        "piecewise_interpolate_schedule": o.piecewise_interpolate_schedule("cosine", 1.0, halves),
        "polynomial_schedule": o.polynomial_schedule(1.0, 0.0, 2.0, 300),
        "scale_schedule": o.scale_schedule(o.exponential_decay(1.0, 100, 0.5), 0.5),
        "sgdr_schedule": o.sgdr_schedule([{**cycle, "peak_value": peak} for peak in (1.0, 0.7, 0.5)]),
        "shift_schedule": o.shift_schedule(o.linear_schedule(1.0, 0.0, 300), 100),
        "warmup_constant_schedule": o.warmup_constant_schedule(0.0, 1.0, 50),
        "warmup_cosine_decay_schedule": o.warmup_cosine_decay_schedule(0.0, 1.0, 50, 300),
        "warmup_exponential_decay_schedule": o.warmup_exponential_decay_schedule(0.0, 1.0, 50, 100, 0.5),
        "warmup_inverse_sqrt_schedule": o.warmup_inverse_sqrt_schedule(0.0, 1.0, 50),
        "warmup_polynomial_decay_schedule": o.warmup_polynomial_decay_schedule(0.0, 1.0, 50, 300, 0.0, 2.0),
        "warmup_stable_decay_schedule": o.warmup_stable_decay_schedule(0.0, 1.0, 50, 180, 70),
    }  # fmt: skip
    steps = np.arange(301)
    for name, schedule in curves.items():
        values = np.broadcast_to(jax.jit(jax.vmap(schedule))(jnp.asarray(steps)), steps.shape)
        curve(out / f"optx_schedules.{name}.svg", steps, {"value": values}, "step", str(schedule))


def losses(out: pathlib.Path) -> None:
    """Plots value and derivative of each loss of one error, margin or logit."""
    import loss_curves

    x = {name: jnp.linspace(*ends, 121) for name, (ends, _, _) in loss_curves.CURVES.items()}

    @jax.jit
    def evaluate(x: Any) -> Any:
        return {
            name: jax.vmap(jax.value_and_grad(lambda x, f=f: jnp.sum(f(x))))(x[name])
            for name, (_, _, f) in loss_curves.CURVES.items()
        }

    for name, (value, slope) in evaluate(x).items():
        label = loss_curves.CURVES[name][1]
        ys = {"value": value, "derivative": slope}
        curve(out / f"optx_losses.{name}.svg", np.asarray(x[name]), ys, label, "")


def curve(file: pathlib.Path, x: Any, ys: dict[str, Any], label: str, title: str) -> None:
    """Draws lines over one axis."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(
            figsize=(5, 2.4), layout="none"
        )  # its layout takes half of the time
        figure.subplots_adjust(left=0.1, right=0.98, bottom=0.2, top=0.92)
        for (name, y), color, line in zip(ys.items(), (BLUE, ORANGE), ("-", "--"), strict=False):
            axis.plot(x, y, line, color=color, linewidth=1.5, label=name)
        axis.set_xlabel(label)
        if len(ys) > 1:
            axis.legend(frameon=False)
        axis.set_title(title if len(title) < 90 else "", fontsize=8)
        figure.savefig(file, metadata={"Date": None})
        plt.close(figure)


def main(what: str, *rest: str) -> None:
    """Makes the pictures of one kind."""
    out = pathlib.Path(rest[-1])
    out.mkdir(parents=True, exist_ok=True)
    if what == "optimizers":
        optimizers(int(rest[0]), int(rest[1]), out)
    else:
        schedules(out)
        losses(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
