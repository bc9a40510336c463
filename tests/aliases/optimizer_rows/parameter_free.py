"""Optimizers that find their own step size."""

import jax.numpy as jnp
import numpy as np

import optx_aliases
from optimizer_rows._row import PROBLEMS, Row


def cocob(p, grads, alpha=100.0, eps=1e-8):
    p0, L = p, np.full_like(p, eps)
    G = R = theta = np.zeros_like(p)
    for g in grads:
        g = -g(p)
        L = np.maximum(L, np.abs(g))
        G = G + np.abs(g)
        R = np.maximum(R + (p - p0) * g, 0)
        theta = theta + g
        p = p0 + theta / (L * np.maximum(G + L, alpha * L)) * (L + R)
    return p


def dadapt_adamw(p, grads, lr=1.0, b1=0.9, b2=0.999, eps=1e-8, d=1e-6, wd=0.0):
    m = v = s = np.zeros_like(p)
    r, q = 0.0, np.sqrt(b2)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        rate = d * lr * np.sqrt(1 - b2**t) / (1 - b1**t)
        r = q * r + (1 - q) * rate * np.sum(g * s / (np.sqrt(v) + eps))
        m = b1 * m + (1 - b1) * rate * g
        v = b2 * v + (1 - b2) * g * g
        s = q * s + (1 - q) * rate * g
        d = max(d, r / ((1 - q) * np.sum(np.abs(s))))
        p = p - m / (np.sqrt(v) + eps) - wd * rate * p
    return p


def dadapt_sgd(p, grads, lr=1.0, momentum=0.0, d=1e-6, growth=np.inf):
    z, s, r, g0 = p, np.zeros_like(p), 0.0, None
    for g in grads:
        g = g(p)
        g0 = np.linalg.norm(g) if g0 is None else g0
        rate = d * lr / g0
        r = r + rate * np.sum(g * s)
        s, z = s + rate * g, z - rate * g
        d = max(d, min(2 * r / np.linalg.norm(s), growth * d))
        p = momentum * p + (1 - momentum) * z
    return p


def prodigy(
    p,
    grads,
    lr=1.0,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    d0=1e-6,
    wd=0.0,
    coefficient=1.0,
    safe=False,
    corrected=True,
):
    m = v = s = np.zeros_like(p)
    d, r, p0, b3 = d0, 0.0, p, np.sqrt(b2)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        rate = d * lr * (np.sqrt(1 - b2**t) / (1 - b1**t) if corrected else 1)
        r = b3 * r + d / d0 * rate * np.sum(g * (p0 - p))
        m = b1 * m + (1 - b1) * d * g
        v = b2 * v + (1 - b2) * d * d * g * g
        s = b3 * s + d / d0 * (d if safe else rate) * g
        d = max(d, coefficient * r / np.sum(np.abs(s)))
        p = p - rate * m / (np.sqrt(v) + d * eps) - wd * rate * p
    return p


def dog(p, grads, r=1e-6, eps=1e-8, wd=0.0, first=None):
    p0, G = p, 0.0
    r = r * (1 + np.linalg.norm(p)) if first is None else 0.0
    for t, g in enumerate(grads):
        g = g(p) + wd * p
        r = max(r, np.linalg.norm(p - p0))
        G = G + np.sum(g * g)
        p = p - (first if first and t == 0 else r / np.sqrt(G + eps)) * g
    return p


def dowg(p, grads, eps=1e-4):
    p0, v, r2 = p, 0.0, eps
    for g in grads:
        g = g(p)
        r2 = max(r2, np.sum((p - p0) ** 2))
        v = v + r2 * np.sum(g * g)
        p = p - r2 / (np.sqrt(v) + eps) * g
    return p


def mechanic(p, grads, wd=0.01, eps=1e-8, s_init=1e-6, n=6):
    """Around plain descent with learning rate 1, whose sum of updates is stored here."""
    p0, delta = p, np.zeros_like(p)
    beta = 1 - 0.1 ** np.arange(1, n + 1)
    r = m = v = np.zeros(n)
    s = np.full(n, s_init)
    for g in grads:
        g = g(p)
        S = np.sum(s)
        d = delta * S / (S + eps)  # the sum that is read off the parameters
        h = np.sum((g + wd * S * np.linalg.norm(g) / (np.linalg.norm(p) + eps) * p) * d)
        r = beta * r + np.clip(h, -m, m) * s
        m = np.maximum(beta * m, np.abs(h) + eps)
        v = beta**2 * v + h * h
        s = (s_init / n * m + np.maximum(r, 0)) / (np.sqrt(v) + eps)
        delta = d + g
        p = p0 - np.sum(s) * delta
    return p


def value(params, updates):
    return {"value": jnp.asarray(1.0)}


ROWS = {
    "cocob": Row(
        optx_aliases.cocob,
        ("scale_by_cocob",),
        paper=cocob,
        optax=lambda o: o.contrib.cocob(),
        floor=48,
        over_floor=2.17,  # five arrays are written, and each is a pass of its own
        copies=1.01,
        options={"complex_params": False},
    ),
    "dadapt_adamw": Row(
        lambda: optx_aliases.dadapt_adamw(weight_decay=1e-3),
        paper=lambda p, g: dadapt_adamw(p, g, wd=1e-3),
        optax=lambda o: o.contrib.dadapt_adamw(weight_decay=1e-3),
        floor=36,
        over_floor=2.56,  # a sum over the old s and v, which are renewed beside it
        copies=2.01,
    ),
    "dadapt_sgd": Row(
        lambda: optx_aliases.dadapt_sgd(momentum=0.5, growth_rate=3.0),
        paper=lambda p, g: dadapt_sgd(p, g, momentum=0.5, growth=3.0),
        floor=28,
        over_floor=2.01,  # two sums over the whole tree; the norm of the first gradient counts too
        copies=2.01,
        rates=(1.0,),
    ),
    "prodigy": Row(
        lambda: optx_aliases.prodigy(weight_decay=0.1),
        paper=lambda p, g: prodigy(p, g, wd=0.1),
        floor=44,
        over_floor=1.55,  # two sums over the whole tree
        rates=(1.0,),
    ),
    "prodigy, eps of no weight": Row(
        lambda: optx_aliases.prodigy(eps=1e-30, estim_lr_coef=0.5, safeguard_warmup=True),
        paper=lambda p, g: prodigy(p, g, eps=1e-30, coefficient=0.5, safe=True),
        optax=lambda o: o.contrib.prodigy(eps=1e-30, estim_lr_coef=0.5, safeguard_warmup=True),
        floor=44,
        over_floor=1.55,  # two sums over the whole tree
        rates=(1.0,),
    ),
    "prodigy, without bias correction": Row(
        lambda: optx_aliases.prodigy(use_bias_correction=False, estim_lr0=1e-3),
        paper=lambda p, g: prodigy(p, g, d0=1e-3, corrected=False),
        floor=44,
        over_floor=1.55,  # two sums over the whole tree
        rates=(1.0,),
    ),
    "dog": Row(
        lambda: optx_aliases.dog(weight_decay=1e-3),
        ("scale_by_dog",),
        paper=lambda p, g: dog(p, g, wd=1e-3),
        optax=lambda o: o.contrib.dog(weight_decay=1e-3),
        floor=16,
        over_floor=2.25,  # norms of the whole tree come first
        copies=1.01,
        rates=(1.0,),
    ),
    "dog, first learning rate": Row(
        lambda: optx_aliases.dog(init_step=("learning_rate", 1e-3)),
        paper=lambda p, g: dog(p, g, first=1e-3),
        optax=lambda o: o.contrib.dog(init_step=("learning_rate", 1e-3)),
        floor=16,
        over_floor=1.5,  # norms of the whole tree come first
        rates=(1.0,),
    ),
    "dowg": Row(
        optx_aliases.dowg,
        ("scale_by_dowg",),
        paper=dowg,
        optax=lambda o: o.contrib.dowg(),
        floor=16,
        over_floor=1.5,  # norms of the whole tree come first
        rates=(1.0,),
    ),
    "scale_by_distance_over_gradients": Row(
        lambda: optx_aliases.scale_by_distance_over_gradients(param_dtype=None, global_scale=-1.0),
        paper=dog,  # which for one array is the same; tests/against_optax/test_contributed.py has optax's
        floor=16,
        over_floor=1.5,  # norms of the array come first
        rates=(1.0,),
    ),
    "mechanize": Row(
        lambda: optx_aliases.mechanize(optx_aliases.sgd(1.0)),
        paper=mechanic,
        optax=lambda o: o.contrib.mechanize(o.sgd(1.0)),
        floor=16,
        over_floor=3.5,  # four products over the whole tree come first
        copies=1.01,
    ),
    "momo": Row(
        lambda: optx_aliases.momo(0.5),
        optax=lambda o: o.contrib.momo(0.5),
        extra_args=value,
        floor=20,
        over_floor=2.4,  # three products over the whole tree come first
    ),
    "momo, adapted bound": Row(
        lambda: optx_aliases.momo(0.5, adapt_lower_bound=True),
        optax=lambda o: o.contrib.momo(0.5, adapt_lower_bound=True),
        extra_args=value,
        floor=20,
        over_floor=2.4,  # three products over the whole tree come first
        not_for=PROBLEMS,
    ),
    "momo_adam": Row(
        lambda: optx_aliases.momo_adam(0.1),
        optax=lambda o: o.contrib.momo_adam(0.1),
        extra_args=value,
        floor=28,
        over_floor=3.0,  # three products over the whole tree come first
        copies=2.01,
    ),
    "momo_adam, adapted bound": Row(
        lambda: optx_aliases.momo_adam(0.1, adapt_lower_bound=True),
        optax=lambda o: o.contrib.momo_adam(0.1, adapt_lower_bound=True),
        extra_args=value,
        floor=28,
        over_floor=3.0,  # three products over the whole tree come first
        copies=2.01,
        not_for=PROBLEMS,
    ),
}
