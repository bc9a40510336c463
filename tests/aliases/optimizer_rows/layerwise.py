"""Optimizers with one step size per array."""

import numpy as np

import optx_aliases
from optimizer_rows._norms import norm
from optimizer_rows._row import Row


def fromage(p, grads, lr=0.01):
    for g in grads:
        g = g(p)
        p = (p - lr * g * norm(p) / norm(g)) / np.sqrt(1 + lr * lr)
    return p


def lamb(p, grads, lr=0.01, b1=0.9, b2=0.999, eps=1e-6, wd=0.0):
    m = v = np.zeros_like(p)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        u = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + wd * p
        p = p - lr * u * norm(p) / norm(u)
    return p


def lars(p, grads, lr=1.0, trust=0.1, momentum=0.9, wd=0.0, nesterov=False):
    t = np.zeros_like(p)
    for g in grads:
        g = g(p) + wd * p
        u = lr * trust * g * norm(p) / norm(g)
        t = momentum * t + u
        p = p - (u + momentum * t if nesterov else t)
    return p


def novograd(p, grads, lr=0.01, b1=0.9, b2=0.25, eps=1e-6, wd=0.0):
    m, v = np.zeros_like(p), None
    for g in grads:
        g = g(p)
        v = norm(g) ** 2 if v is None else b2 * v + (1 - b2) * norm(g) ** 2
        m = b1 * m + g / (np.sqrt(v) + eps) + wd * p
        p = p - lr * m
    return p


ROWS = {
    "fromage": Row(
        lambda: optx_aliases.fromage(0.01),
        ("scale_by_trust_ratio",),
        paper=fromage,
        optax=lambda o: o.fromage(0.01),
        beats_optax=0.7,
    ),
    "lamb": Row(
        lambda: optx_aliases.lamb(0.01),
        paper=lamb,
        optax=lambda o: o.lamb(0.01),
        beats_optax=0.7,
    ),
    "lamb, decay": Row(
        lambda: optx_aliases.lamb(0.01, weight_decay=0.1),
        paper=lambda p, g: lamb(p, g, wd=0.1),
        optax=lambda o: o.lamb(0.01, weight_decay=0.1),
        beats_optax=0.72,
    ),
    "lars": Row(
        lambda: optx_aliases.lars(1.0, trust_coefficient=0.1),
        paper=lars,
        optax=lambda o: o.lars(1.0, trust_coefficient=0.1),
        beats_optax=0.7,
    ),
    "lars, decay, Nesterov": Row(
        lambda: optx_aliases.lars(1.0, 0.1, trust_coefficient=0.02, nesterov=True),
        paper=lambda p, g: lars(p, g, trust=0.02, wd=0.1, nesterov=True),
        optax=lambda o: o.lars(1.0, 0.1, trust_coefficient=0.02, nesterov=True),
    ),
    "novograd": Row(
        lambda: optx_aliases.novograd(0.01, weight_decay=0.1),
        ("scale_by_novograd",),
        paper=lambda p, g: novograd(p, g, wd=0.1),
        optax=lambda o: o.novograd(0.01, weight_decay=0.1),
    ),
}
