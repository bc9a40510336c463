"""Optimizers that evaluate the loss along a direction."""

import jax
import jax.numpy as jnp
import numpy as np

import optx_aliases
from optimizer_rows._row import Row


def bowl(params, updates):
    """A loss that has the updates for its gradient at the parameters, whatever they are.

    f(q) = 1 + Re Σ g·(q − p) + ½·Σ|q − p|²,  g the conjugate of the updates
    """

    def part(p, u, q):
        if u is None or getattr(u, "dtype", None) == jax.dtypes.float0 or u.shape != p.shape:
            return []
        if not jnp.issubdtype(p.dtype, jnp.inexact):
            return []
        wide = jnp.complex64 if jnp.iscomplexobj(p) else jnp.float32
        wide = p.dtype if p.dtype.itemsize > 4 else wide
        d, g = (q - p).astype(wide), jnp.conj(u).astype(wide)
        return [jnp.sum((g * d).real) + 0.5 * jnp.sum((jnp.conj(d) * d).real)]

    leaves, structure = jax.tree.flatten(updates, is_leaf=lambda x: x is None)

    def value_fn(q):
        pairs = zip(
            structure.flatten_up_to(params), leaves, structure.flatten_up_to(q), strict=True
        )
        parts = [x for pair in pairs for x in part(*pair)]
        real = max((x.dtype for x in parts), key=lambda dtype: dtype.itemsize)
        return 1.0 + sum(x.astype(real) for x in parts)

    return {"value": jnp.asarray(1.0), "grad": jax.tree.map(conj, updates), "value_fn": value_fn}


def conj(u):
    return jnp.conj(u) if jnp.issubdtype(u.dtype, jnp.complexfloating) else u


def two_loops(p, grads, lr=0.1, m=3):
    """L-BFGS without a search: Nocedal and Wright's algorithms 7.4 and 7.5."""
    pairs, last = [], None
    for g in grads:
        g = g(p).ravel()
        if last is not None:
            pairs = [*pairs, (p.ravel() - last[0], g - last[1])][-m:]
        last = p.ravel(), g
        used = [(s, y) for s, y in pairs if s @ y > 0]  # the noise can bend the curvature
        q, alphas = g, []
        for s, y in reversed(used):
            alphas.append(s @ q / (s @ y))
            q = q - alphas[-1] * y
        s, y = used[-1] if used else (g, g * max(1.0, np.linalg.norm(g)))
        r = s @ y / (y @ y) * q
        for (s, y), a in zip(used, reversed(alphas), strict=True):
            r = r + (a - y @ r / (s @ y)) * s
        p = p - lr * r.reshape(p.shape)
    return p


SEARCH = {"differentiable": False}  # a while loop has no reverse mode


ROWS = {
    "polyak_sgd": Row(
        optx_aliases.polyak_sgd,
        ("scale_by_polyak",),
        optax=lambda o: o.polyak_sgd(),
        same_state=False,  # two empty states, the other way round
        beats_optax=1.25,  # the norm's second way, for overflow, counts but does not run
        extra_args=lambda params, updates: {"value": jnp.asarray(5.0)},
    ),
    "polyak_sgd, sps+": Row(
        lambda: optx_aliases.polyak_sgd(0.1, 0.5, 2.0, 1e-3, "sps+"),
        extra_args=lambda params, updates: {"value": jnp.asarray(5.0)},
        not_for={"quadratic", "rosenbrock", "classification"},
    ),
    "lbfgs": Row(
        optx_aliases.lbfgs,
        ("scale_by_lbfgs", "scale_by_zoom_linesearch"),
        extra_args=bowl,
        steps=40,
        options=SEARCH,
    ),
    "lbfgs, without a search": Row(
        lambda: optx_aliases.lbfgs(0.1, 3, linesearch=None),
        paper=lambda p, g: two_loops(p, g),
        optax=lambda o: o.lbfgs(0.1, 3, linesearch=None),
        beats_optax=1.18,  # XLA counts a loop's trip once: γ is computed after it, not at each trip
        rates=(1.0, 0.3, 0.1),
        steps=200,
        not_for={"rosenbrock"},  # needs a search: full steps leave the valley
        promises=tuple(range(1, 9)),
    ),
    "lbfgs, backtracking": Row(
        lambda: optx_aliases.lbfgs(
            linesearch=optx_aliases.scale_by_backtracking_linesearch(20, store_grad=True)
        ),
        ("scale_by_backtracking_linesearch",),
        extra_args=bowl,
        not_for={"quadratic", "rosenbrock", "classification"},
        options=SEARCH,
    ),
    "scale_by_zoom_linesearch, alone": Row(
        lambda: optx_aliases.scale_by_zoom_linesearch(15),
        extra_args=bowl,
        not_for={"quadratic", "rosenbrock", "classification"},
        promises=(1, 2, 7),  # the others above
    ),
    "scale_by_backtracking_linesearch, alone": Row(
        lambda: optx_aliases.scale_by_backtracking_linesearch(15),
        extra_args=bowl,
        not_for={"quadratic", "rosenbrock", "classification"},
        promises=(1, 2, 7),  # the others above
    ),
}
