"""Curvature diagonals: time and memory beside optax, BackPACK and a gradient, in one process.

    python -m benchmarks.second_order              # exact, Fisher, black box, shared weights
    python -m benchmarks.second_order variance     # estimates at one product, on the digits
    python -m benchmarks.second_order curves       # every method from 1 k to 1 M parameters
    python -m benchmarks.second_order backpack     # needs torch and backpack; single-threaded both

Networks: 64 inputs, softmax cross entropy over 10 classes, B = 64, float32. "grads" is the time in jitted
gradients of the same run. Memory is XLA's plan of temporaries.
"""

from __future__ import annotations

import itertools
import os
import sys

if "backpack" in sys.argv:  # before jax starts
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["OMP_NUM_THREADS"] = "1"

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import optx_second_order as so
from benchmarks._timing import alternate, temporaries

NETS = {
    985: [64, 13, 10],
    4_960: [64, 66, 10],
    19_960: [64, 266, 10],
    59_146: [64, 128, 128, 128, 128, 10],
    99_690: [64, 280, 280, 10],
    1_014_630: [64, 970, 970, 10],
}
ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}


def cross_entropy(logits, label):
    return -jax.nn.log_softmax(logits)[label]


class Problem:
    """A multilayer perceptron, its batch, and the programs to compare."""

    def __init__(self, sizes, activation, batch=64, x=None, y=None):
        rng = np.random.default_rng(0)
        self.sizes = sizes
        self.params = [
            {"w": jnp.asarray(rng.normal(size=(a, b)) / a**0.5, jnp.float32), "b": jnp.zeros(b)}
            for a, b in itertools.pairwise(sizes)
        ]
        self.x = jnp.asarray(rng.normal(size=(batch, sizes[0])), jnp.float32) if x is None else x
        self.y = jnp.asarray(rng.integers(0, sizes[-1], batch)) if y is None else y

        def model(params, x):
            for i, layer in enumerate(params):
                x = x @ layer["w"] + layer["b"]
                x = activation(x) if i < len(params) - 1 else x
            return x

        self.model = model
        self.loss = lambda p, x, y: cross_entropy(model(p, x), y)

    def mean(self, params, x, y):
        return jnp.mean(jax.vmap(lambda x, y: self.loss(params, x, y))(x, y))

    def compiled(self, function):
        return jax.jit(function).lower(self.params, self.x, self.y).compile()

    def programs(self, *names):
        def exact(method):
            return lambda p, x, y: so.exact_hessian_diag(self.loss, p, x, y, method=method)

        known = {
            "gradient": jax.grad(self.mean),
            "auto": exact("auto"),
            "units": exact("units"),
            "chunked": exact("chunked"),
            "black box": lambda p, x, y: so.hessian_diag(self.mean, p, x, y),
            "GGN": lambda p, x, y: so.ggn_diag(self.model, so.categorical(), p, x),
            "empirical Fisher": lambda p, x, y: so.empirical_fisher_diag(self.loss, p, x, y),
            "estimate": lambda p, x, y: (
                so.hessian_diag_estimate(self.loss, p, x, y, key=jax.random.key(0)).value
            ),
            "optax": self._optax,
        }
        return {name: self.compiled(known[name]) for name in names}

    def _optax(self, p, x, y):
        import optax

        return optax.second_order.hessian_diag(self.mean, p, x, y)


def table(title, *columns):
    found = Table(title=title)
    for column in columns:
        found.add_column(column, justify="left" if column in {"net", "what"} else "right")
    return found


def fill(rows, name, problem, programs, rounds):
    calls = {k: lambda c=c: c(problem.params, problem.x, problem.y) for k, c in programs.items()}
    times = alternate(calls, rounds=rounds, warmup=1)
    for what, seconds in times.items():
        memory = temporaries(programs[what]) / 2**20
        grads = seconds / times["gradient"]
        rows.add_row(name, what, f"{seconds * 1e3:,.2f} ms", f"{grads:,.2f}", f"{memory:,.2f} MiB")


def exact(console):
    rows = table("Exact diagonals", "net", "what", "time", "grads", "temporaries")
    for n, sizes in NETS.items():
        for name, activation in ACTIVATIONS.items():
            problem = Problem(sizes, activation)
            names = ["gradient", "auto", "GGN", "empirical Fisher", "estimate"]
            names += ["units"] if n < 1_000_000 else []
            fill(rows, f"{n:,} {name}", problem, problem.programs(*names), 15)
            if n <= 19_960:
                others = problem.programs("gradient", "auto", "black box", "optax")
                fill(rows, f"{n:,} {name}, beside optax", problem, others, 3 if n > 5_000 else 7)
    console.print(rows)


def shared_models():
    """A small convolutional net and a one-layer transformer."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape) / shape[0] ** 0.5, jnp.float32)

    spec = ("NHWC", "HWIO", "NHWC")

    def conv(p, x, y):
        run = jax.lax.conv_general_dilated
        h = jnp.tanh(run(x[None], p["k1"], (2, 2), "SAME", dimension_numbers=spec))
        h = jnp.tanh(run(h, p["k2"], (2, 2), "SAME", dimension_numbers=spec))
        return cross_entropy(h.reshape(-1) @ p["w"], y)

    def transformer(p, x, y):
        q, k, v = (x @ p[n] for n in "qkv")
        h = x + jax.nn.softmax(q @ k.T / 4.0) @ v @ p["o"]
        h = h + jnp.tanh(h @ p["w1"]) @ p["w2"]
        return cross_entropy(h.mean(0) @ p["w"], y)

    return {
        "conv": (
            conv,
            {"k1": normal(3, 3, 1, 8), "k2": normal(3, 3, 8, 16), "w": normal(64, 10)},
            (8, 8, 1),
        ),
        "transformer": (
            transformer,
            {
                **{n: normal(16, 16) for n in "qkvo"},
                "w1": normal(16, 32),
                "w2": normal(32, 16),
                "w": normal(16, 10),
            },
            (8, 16),
        ),
    }


def shared(console):
    """Networks that share weights: exact, the count predicted."""
    rng, models = np.random.default_rng(0), shared_models()
    rows = table(
        "Shared weights, B = 64", "net", "what", "time", "probes", "temporaries", "largest error"
    )
    for name, (loss, params, shape) in models.items():
        x = jnp.asarray(rng.normal(size=(64, *shape)), jnp.float32)
        y = jnp.asarray(rng.integers(0, 10, 64))
        programs, values = {}, {}
        for method in ("auto", "chunked"):

            def run(p, method=method, loss=loss, x=x, y=y):
                return so.exact_hessian_diag(loss, p, x, y, method=method)

            programs[method] = jax.jit(run).lower(params).compile()
            values[method] = programs[method](params)
        pairs = zip(*map(jax.tree.leaves, (values["auto"], values["chunked"])), strict=True)
        error = max(float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))) for a, b in pairs)
        times = alternate({k: lambda c=c: c(params) for k, c in programs.items()}, rounds=5)
        for method, seconds in times.items():
            plan = so.explain(loss, params, x, y, method=method)
            memory = temporaries(programs[method]) / 2**20
            rows.add_row(
                name, method, f"{seconds * 1e3:,.1f} ms", f"{plan.probes:,}", f"{memory:.2f} MiB",
                f"{error:.1e}",
            )  # fmt: skip
    console.print(rows)


def variance(console):
    """Variance at one product with the Hessian, over Hutchinson's, on the digits."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x = jnp.asarray(data.data[:256] / 16.0, jnp.float32)
    y = jnp.asarray(data.target[:256])
    rows = table(
        "Variance of Hutchinson's estimate over ours, one product",
        "net",
        "at initialization",
        "after 200 steps",
    )
    for name, sizes in {
        "19,960 tanh": [64, 266, 10], "99,690 tanh": [64, 280, 280, 10],
        "59,146 tanh": [64, 128, 128, 128, 128, 10],
    }.items():  # fmt: skip
        problem = Problem(sizes, jnp.tanh, x=x, y=y)
        params, ratios = problem.params, []
        for steps in (0, 200):
            params = descend(problem, params, steps)
            ratios.append(ratio(problem, params))
        rows.add_row(name, *(f"{r:,.0f}" for r in ratios))
    rng = np.random.default_rng(0)
    for name, (loss, params, shape) in shared_models().items():
        problem = Problem([1, 1], jnp.tanh)
        problem.loss, problem.params = loss, params
        problem.x = jnp.asarray(rng.normal(size=(64, *shape)), jnp.float32)
        problem.y = jnp.asarray(rng.integers(0, 10, 64))
        ratios = [ratio(problem, descend(problem, params, steps)) for steps in (0, 1000)]
        rows.add_row(f"{name}, random data, 1,000 steps", *(f"{r:,.1f}" for r in ratios))
    console.print(rows)


def descend(problem, params, steps):
    if not steps:
        return params
    zeros = jax.tree.map(jnp.zeros_like, params)

    def step(carry, t):  # Adam
        p, m, v = carry
        g = jax.grad(problem.mean)(p, problem.x, problem.y)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        a, b = 1 - 0.9 ** (t + 1), 1 - 0.999 ** (t + 1)
        p = jax.tree.map(lambda p, m, v: p - 1e-3 * (m / a) / (jnp.sqrt(v / b) + 1e-8), p, m, v)
        return (p, m, v), None

    (params, _, _), _ = jax.lax.scan(step, (params, zeros, zeros), jnp.arange(float(steps)))
    return params


def ratio(problem, params):
    def scatter(probe):
        found = so.hessian_diag_estimate(
            problem.loss,
            params,
            problem.x,
            problem.y,
            key=jax.random.key(0),
            num_samples=30,
            probe=probe,
        )
        return sum(jnp.sum(jnp.square(s)) for s in jax.tree.leaves(found.stderr))

    return float(jax.jit(lambda: scatter("parameters") / scatter("activations"))())


def curves(console):
    rows = table("One hidden layer, tanh", "net", "what", "time", "grads", "temporaries")
    for hidden in (13, 40, 133, 420, 1_330, 13_330):
        n = 75 * hidden + 10
        problem = Problem([64, hidden, 10], jnp.tanh)
        names = ["gradient", "auto", "GGN", "empirical Fisher", "estimate"]
        names += ["units"] if n < 200_000 else []
        names += ["chunked"] if n < 12_000 else []
        fill(rows, f"{n:,}", problem, problem.programs(*names), 5)
    console.print(rows)


def beside_backpack(console):
    import torch
    from backpack import backpack, extend
    from backpack.extensions import DiagGGNExact, DiagHessian

    torch.set_num_threads(1)
    layers = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}
    rows = table(
        "Beside BackPACK, one thread each", "net", "what", "ours", "BackPACK", "times faster"
    )
    for n, sizes in NETS.items():
        for name, activation in ACTIVATIONS.items():
            problem = Problem(sizes, activation)
            modules = []
            for i, layer in enumerate(problem.params):
                linear = torch.nn.Linear(*layer["w"].shape)
                with torch.no_grad():
                    linear.weight.copy_(torch.tensor(np.asarray(layer["w"]).T))
                    linear.bias.copy_(torch.tensor(np.asarray(layer["b"])))
                modules += [linear] + ([layers[name]()] if i < len(problem.params) - 1 else [])
            net = extend(torch.nn.Sequential(*modules))
            entropy = extend(torch.nn.CrossEntropyLoss())
            x, y = torch.tensor(np.asarray(problem.x)), torch.tensor(np.asarray(problem.y))

            def run(extension, net=net, entropy=entropy, x=x, y=y):
                net.zero_grad()
                with backpack(extension()):
                    entropy(net(x), y.long()).backward()

            ours = problem.programs("auto", "GGN")
            pairs = {"auto": DiagHessian, "GGN": DiagGGNExact}
            if name == "relu" or n > 500_000:  # its residuals take minutes there
                pairs.pop("auto")
            for what, extension in pairs.items():
                times = alternate(
                    {
                        "ours": lambda c=ours[what], q=problem: c(q.params, q.x, q.y),
                        "theirs": lambda e=extension: run(e),
                    },
                    rounds=7,
                    warmup=1,
                )
                rows.add_row(
                    f"{n:,} {name}", what, f"{times['ours'] * 1e3:.2f} ms",
                    f"{times['theirs'] * 1e3:.2f} ms", f"{times['theirs'] / times['ours']:.1f}",
                )  # fmt: skip
    console.print(rows)


def main():
    console = Console(width=120)
    chosen = sys.argv[1] if len(sys.argv) > 1 else "all"
    runs = {
        "all": (exact, shared),
        "variance": (variance,),
        "curves": (curves,),
        "backpack": (beside_backpack,),
    }
    for run in runs[chosen]:
        run(console)


if __name__ == "__main__":
    main()
