"""The optimizers that optax has had from the start, and their relatives."""

import numpy as np

import optx_aliases
from optimizer_rows._row import Row


def sgd(p, grads, lr=0.1, momentum=0.0, nesterov=False):
    t = np.zeros_like(p)
    for g in grads:
        g = g(p)
        t = g + momentum * t
        p = p - lr * (g + momentum * t if nesterov else t)
    return p


def adam(p, grads, lr=0.01, b1=0.9, b2=0.999, eps=1e-8, wd=0.0, nesterov=False):
    m = v = np.zeros_like(p)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        m_hat = m / (1 - b1**t)
        if nesterov:
            m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        p = p - lr * (m_hat / (np.sqrt(v / (1 - b2**t)) + eps) + wd * p)
    return p


def rmsprop(p, grads, lr=0.01, decay=0.9, eps=1e-8, centered=False, momentum=0.0, corrected=False):
    m = v = s = np.zeros_like(p)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        m = decay * m + (1 - decay) * g
        v = decay * v + (1 - decay) * g * g
        c = 1 - decay**t if corrected else 1.0
        variance = v / c - (m / c) ** 2 if centered else v / c
        s = -lr * g / np.sqrt(variance + eps) + momentum * s
        p = p + s
    return p


ROWS = {
    "sgd": Row(
        lambda: optx_aliases.sgd(0.1),
        paper=sgd,
        optax=lambda o: o.sgd(0.1),
        floor=12,
    ),
    "sgd, momentum": Row(
        lambda: optx_aliases.sgd(0.1, 0.9),
        paper=lambda p, g: sgd(p, g, momentum=0.9),
        optax=lambda o: o.sgd(0.1, 0.9),
        floor=20,
    ),
    "sgd, Nesterov": Row(
        lambda: optx_aliases.sgd(0.1, 0.9, nesterov=True),
        paper=lambda p, g: sgd(p, g, momentum=0.9, nesterov=True),
        optax=lambda o: o.sgd(0.1, 0.9, nesterov=True),
        floor=20,
    ),
    "adam": Row(
        lambda: optx_aliases.adam(0.01),
        ("scale_by_adam",),
        paper=adam,
        optax=lambda o: o.adam(0.01),
        floor=28,
    ),
    "adam, Nesterov": Row(
        lambda: optx_aliases.adam(0.01, nesterov=True),
        paper=lambda p, g: adam(p, g, nesterov=True),
        optax=lambda o: o.adam(0.01, nesterov=True),
        floor=28,
    ),
    "adamw": Row(
        lambda: optx_aliases.adamw(0.01, weight_decay=0.1),
        paper=lambda p, g: adam(p, g, wd=0.1),
        optax=lambda o: o.adamw(0.01, weight_decay=0.1),
        floor=28,
    ),
    "rmsprop": Row(
        lambda: optx_aliases.rmsprop(0.01),
        ("scale_by_rms",),
        paper=rmsprop,
        optax=lambda o: o.rmsprop(0.01),
        floor=20,
    ),
    "rmsprop, corrected": Row(
        lambda: optx_aliases.rmsprop(0.01, bias_correction=True),
        paper=lambda p, g: rmsprop(p, g, corrected=True),
        optax=lambda o: o.rmsprop(0.01, bias_correction=True),
        floor=20,
    ),
    "rmsprop, centered, momentum": Row(
        lambda: optx_aliases.rmsprop(0.01, centered=True, momentum=0.9, eps=1e-4),
        ("scale_by_stddev",),
        # At the first step the variance of a single gradient is smaller than eps allows for.
        paper=lambda p, g: rmsprop(p, g, centered=True, momentum=0.9, eps=1e-4),
        optax=lambda o: o.rmsprop(0.01, centered=True, momentum=0.9, eps=1e-4),
        floor=36,
    ),
}
