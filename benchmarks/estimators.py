"""Gradient estimators: against the old algorithm, against their own floor, against TFP and NumPyro.

    python -m benchmarks.estimators            # all
    python -m benchmarks.estimators jacfwd floor noise logistic

TFP and NumPyro are left out where they are not installed.
"""

from __future__ import annotations

import functools
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import optx_estimators as oe
from benchmarks._timing import alternate, temporaries
from optx_aliases import adam
from optx_core import apply_updates

console = Console(width=110)


# The algorithm of the estimators that were dropped, transcribed: forward-mode Jacobians of the rows.


def old_score(function, params, rng, n):
    samples = jax.lax.stop_gradient(oe.multi_normal(*params).sample((n,), rng))

    def surrogate(*params):
        dist = oe.multi_normal(*params)
        return jax.vmap(lambda x: function(x) * dist.log_prob(x))(samples)

    return jax.jacfwd(surrogate, argnums=tuple(range(len(params))))(*params)


def old_pathwise(function, params, rng, n):
    def surrogate(*params):
        return jax.vmap(function)(oe.multi_normal(*params).sample((n,), rng))

    return jax.jacfwd(surrogate, argnums=tuple(range(len(params))))(*params)


def square(x):
    return jnp.sum(x**2)


def against_jacfwd(D=1000, N=1000):
    """CPU time, alternating, and the memory of measure-valued gradients."""
    params = [jnp.ones(D), jnp.zeros(D)]
    key = jax.random.key(0)
    table = Table("estimator", "jacfwd, CPU s", "ours, CPU s", "times less", title=f"{D=} {N=} Σx²")
    for name, ours, old in (
        ("score", oe.score_function_jacobians, old_score),
        ("pathwise", oe.pathwise_jacobians, old_pathwise),
    ):
        new_run = jax.jit(lambda p, k, f=ours: f(square, p, oe.multi_normal, k, N))
        old_run = jax.jit(lambda p, k, f=old: f(square, p, k, N))
        seconds = alternate(
            {"old": lambda r=old_run: r(params, key), "new": lambda r=new_run: r(params, key)},
            rounds=3,
            warmup=1,
            clock=time.process_time,
        )
        ratio = seconds["old"] / seconds["new"]
        table.add_row(name, f"{seconds['old']:.3f}", f"{seconds['new']:.4f}", f"{ratio:.0f}")
    console.print(table)
    run = jax.jit(lambda p, k: oe.measure_valued_jacobians(square, p, oe.multi_normal, k, N))
    compiled = run.lower(params, key).compile()
    e = oe.estimator(square, lambda p: oe.multi_normal(*p), method=oe.measure_valued())
    console.print(
        f"measure-valued: {temporaries(compiled) / 1e6:.1f} MB of temporaries, "
        f"{e.evaluations(params, N):,} evaluations (3ND + N = {3 * N * D + N:,})"
    )


def against_floor(D=1000, N=1000):
    """Value and gradient, in units of drawing the samples and evaluating f.

    "floor and ∇f" is what a pathwise gradient cannot do without: ∇f at every sample.
    """
    A = jax.random.normal(jax.random.key(1), (D, D)) / np.sqrt(D)

    def f(x):
        return jnp.sum(jax.nn.softplus(A @ x))

    params = [jnp.ones(D), jnp.zeros(D)]
    key = jax.random.key(0)

    @jax.jit
    def floor(p, k):
        return jnp.mean(jax.vmap(f)(oe.multi_normal(*p).sample((N,), k)))

    @jax.jit
    def derivative(p, k):
        samples = oe.multi_normal(*p).sample((N,), k)
        return jax.value_and_grad(lambda xs: jnp.mean(jax.vmap(f)(xs)))(samples)

    runs = {"floor": lambda: floor(params, key), "floor and ∇f": lambda: derivative(params, key)}
    for name, method in (
        ("score", oe.score_function()),
        ("leave-one-out", oe.score_function(oe.leave_one_out())),
        ("pathwise", oe.pathwise()),
    ):
        fn = jax.jit(
            oe.value_and_grad(f, lambda p: oe.multi_normal(*p), method=method, num_samples=N)
        )
        runs[name] = functools.partial(fn, params, key)
    seconds = alternate(runs, rounds=15)
    table = Table("", "ms", "times the floor", title=f"f = Σ softplus(Ax), {D=} {N=}")
    for name, s in seconds.items():
        table.add_row(name, f"{1e3 * s:.1f}", f"{s / seconds['floor']:.2f}")
    console.print(table)


def breast_cancer():
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    X = np.concatenate([X, np.ones((len(X), 1))], axis=1)
    X, y = jnp.asarray(X, jnp.float32), jnp.asarray(y, jnp.float32)

    def log_joint(w):
        logits = X @ w
        likelihood = jnp.sum(y * logits - jax.nn.softplus(logits))
        return likelihood - jnp.sum(w**2) / 2 - w.size / 2 * np.log(2 * np.pi)

    D = X.shape[1]
    return log_joint, {"loc": jnp.zeros(D), "log_scale": jnp.full(D, -1.0)}


def guide(p):
    return oe.multi_normal(p["loc"], p["log_scale"])


def ours(log_joint, method, N, noise=None):
    noise = oe.iid() if noise is None else noise

    def gradient(p, key):
        return jax.value_and_grad(
            lambda p: -oe.elbo(log_joint, guide, p, key, N, method=method, noise=noise)
        )(p)

    return gradient


def peers(log_joint, N):
    """The same gradient by TFP and NumPyro, by name."""
    found = {}
    try:
        import tensorflow_probability.substrates.jax as tfp

        def by_tfp(reparameterized):
            def gradient(p, key):
                def loss(p):
                    q = tfp.distributions.MultivariateNormalDiag(p["loc"], jnp.exp(p["log_scale"]))
                    return -tfp.monte_carlo.expectation(
                        lambda z: jax.vmap(log_joint)(z) - q.log_prob(z),
                        q.sample(N, seed=key),
                        log_prob=None if reparameterized else q.log_prob,
                        use_reparameterization=reparameterized,
                    )

                return jax.value_and_grad(loss)(p)

            return gradient

        found["TFP score"] = by_tfp(False)
        found["TFP pathwise"] = by_tfp(True)
    except ImportError:
        pass
    try:
        import numpyro
        import numpyro.distributions as nd
        from numpyro.infer import Trace_ELBO

        def model(p=None):
            del p
            w = numpyro.sample("w", nd.Normal(0.0, 1.0).expand([31]).to_event(1))
            prior = -jnp.sum(w**2) / 2 - w.size / 2 * np.log(2 * np.pi)
            numpyro.factor("likelihood", log_joint(w) - prior)

        def numpyro_guide(p):
            numpyro.sample("w", nd.Normal(p["loc"], jnp.exp(p["log_scale"])).to_event(1))

        objective = Trace_ELBO(num_particles=N)

        def by_numpyro(p, key):
            return jax.value_and_grad(
                lambda p: objective.loss(key, {}, model, lambda: numpyro_guide(p))
            )(p)

        found["NumPyro pathwise"] = by_numpyro
    except ImportError:
        pass
    return found


def train(gradient, params, steps, learning_rate=0.02):
    tx = adam(learning_rate)

    @jax.jit
    def run(params, key):
        def step(carry, key):
            params, state = carry
            _, grads = gradient(params, key)
            updates, state = tx.update(grads, state, params)
            return (apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, tx.init(params)), jax.random.split(key, steps))[0][0]

    return run(params, jax.random.key(0))


def variance(gradient, params, repeats=400):
    rows = jax.jit(lambda keys: jax.lax.map(lambda k: gradient(params, k)[1], keys))(
        jax.random.split(jax.random.key(5), repeats)
    )
    return {k: float(jnp.sum(jnp.var(v, axis=0))) for k, v in rows.items()}


def logistic_regression(N=16, steps=2000):
    """Bayesian logistic regression: time, variance at the optimum, the bound after training."""
    log_joint, start = breast_cancer()
    best = train(ours(log_joint, oe.pathwise(), 64), start, 3000)
    bound = jax.jit(lambda p: oe.elbo(log_joint, guide, p, jax.random.key(9), 4096))
    candidates = {
        "score": ours(log_joint, oe.score_function(), N),
        "leave-one-out": ours(log_joint, oe.score_function(oe.leave_one_out()), N),
        "optimal baseline": ours(log_joint, oe.score_function(oe.optimal_baseline()), N),
        "evolution, mirrored": ours(log_joint, oe.evolution(), N // 2),
        "measure-valued": ours(log_joint, oe.measure_valued(), N),
        "pathwise": ours(log_joint, oe.pathwise(), N),
        "pathwise, sticking": ours(log_joint, oe.pathwise(stick_the_landing=True), N),
        "pathwise, antithetic": ours(log_joint, oe.pathwise(), N, oe.antithetic()),
        "pathwise, Sobol": ours(log_joint, oe.pathwise(), N, oe.sobol()),
        **peers(log_joint, N),
    }
    compiled = {name: jax.jit(g) for name, g in candidates.items()}
    key = jax.random.key(0)
    seconds = alternate(
        {name: functools.partial(g, best, key) for name, g in compiled.items()}, rounds=15
    )
    table = Table(
        "method",
        "µs a gradient",
        "variance, loc",
        "variance, log scale",
        f"ELBO after {steps} Adam steps",
        title=f"Bayesian logistic regression, breast cancer, D = 31, N = {N} samples",
    )
    for name, gradient in candidates.items():
        spread = variance(gradient, best)
        trained = train(gradient, start, steps)
        table.add_row(
            name,
            f"{1e6 * seconds[name]:.0f}",
            f"{spread['loc']:.4g}",
            f"{spread['log_scale']:.4g}",
            f"{float(bound(trained)):.3f}",
        )
    console.print(table)


def noises(N=1024):
    """Variance of the pathwise gradient at the optimum, by noise."""
    log_joint, start = breast_cancer()
    best = train(ours(log_joint, oe.pathwise(), 64), start, 3000)
    base = variance(ours(log_joint, oe.pathwise(), N), best, 200)
    table = Table("noise", "times less, loc", "times less, log scale", title=f"{N=} at the optimum")
    for noise in (oe.antithetic(), oe.orthogonal(), oe.lattice(), oe.sobol()):
        spread = variance(ours(log_joint, oe.pathwise(), N, noise), best, 200)
        table.add_row(repr(noise), *(f"{base[k] / spread[k]:.1f}" for k in base))
    console.print(table)


PARTS = {
    "jacfwd": against_jacfwd,
    "floor": against_floor,
    "noise": noises,
    "logistic": logistic_regression,
}


def main(names):
    for name in names or PARTS:
        PARTS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
