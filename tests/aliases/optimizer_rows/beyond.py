"""Element by element, and not in optax."""

import numpy as np

import optx_aliases
from optimizer_rows._row import Row


def cautious(p, grads, lr=0.01, b1=0.9, b2=0.999, eps=1e-8):
    """Adam's steps."""
    m = v = np.zeros_like(p)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        u = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        agree = (u * g > 0).astype(float)
        p = p - lr * u * agree / max(agree.mean(), 1e-3)
    return p


def cautious_lion(p, grads, lr=0.01, b1=0.9, b2=0.99):
    m = np.zeros_like(p)
    for g in grads:
        g = g(p)
        u = np.sign(b1 * m + (1 - b1) * g)
        m = b2 * m + (1 - b2) * g
        agree = (u * g > 0).astype(float)
        p = p - lr * u * agree / max(agree.mean(), 1e-3)
    return p


def grams(p, grads, lr=0.01, b1=0.9, b2=0.999, eps=1e-6, wd=0.0):
    m = v = np.zeros_like(p)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        u = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        p = p - lr * (np.sign(g) * np.abs(u) + wd * p)
    return p


def mars(p, grads, lr=0.01, b1=0.95, b2=0.99, gamma=0.025, eps=1e-8, wd=0.0):
    m = v = np.zeros_like(p)
    last = None
    for t, g in enumerate(grads, start=1):
        g = g(p)
        c = g if last is None else g + gamma * b1 / (1 - b1) * (g - last)
        c, last = c / max(np.linalg.norm(c), 1), g
        m, v = b1 * m + (1 - b1) * c, b2 * v + (1 - b2) * c * c
        u = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        p = p - lr * (u + wd * p)
    return p


def came(p, grads, lr=1e-3, b1=0.9, b2=0.999, b3=0.9999, eps=1e-30, doubt=1e-16):
    m, R, C, Ru, Cu = np.zeros_like(p), 0.0, 0.0, 0.0, 0.0

    def divide(x, row, col):
        return x / np.sqrt(np.outer(row, col) / np.mean(row))

    for g in grads:
        g = g(p)
        R = b2 * R + (1 - b2) * np.mean(g * g + eps, axis=1)
        C = b2 * C + (1 - b2) * np.mean(g * g + eps, axis=0)
        u = divide(g, R, C)
        u = u / max(1, np.sqrt(np.mean(u * u)))
        m = b1 * m + (1 - b1) * u
        U = (u - m) ** 2 + doubt
        Ru = b3 * Ru + (1 - b3) * np.mean(U, axis=1)
        Cu = b3 * Cu + (1 - b3) * np.mean(U, axis=0)
        p = p - lr * divide(m, Ru, Cu)
    return p


ROWS = {
    "came": Row(
        # 1 − b3 is not debiased: with a traced 0.9999 in float32 it is off by 1.7e-4.
        lambda: optx_aliases.came(1e-3, b3=0.99),
        ("scale_by_came",),
        paper=lambda p, g: came(p, g, b3=0.99),
        rates=(0.1, 0.03, 0.01, 0.003, 1e-3, 3e-4, 1e-4),
    ),
    "cautious": Row(
        lambda: optx_aliases.cautious(optx_aliases.adam(0.01)),
        paper=cautious,
        floor=28,
        over_floor=2.43,  # the entries that agree are counted first, and Adam's step is written out
        copies=2.01,
    ),
    "cautious, lion": Row(
        lambda: optx_aliases.cautious(optx_aliases.lion(0.01, weight_decay=0.0)),
        paper=cautious_lion,
        not_for={"quadratic", "rosenbrock", "classification"},  # of constant size, as lion's steps
    ),
    "grams": Row(
        lambda: optx_aliases.grams(0.01, weight_decay=0.1),
        ("scale_by_grams",),
        paper=lambda p, g: grams(p, g, wd=0.1),
        floor=28,
        over_floor=1.58,  # its sign is the gradient's, which Adam's last pass does not read
    ),
    "mars": Row(
        lambda: optx_aliases.mars(0.01, weight_decay=1e-3),
        ("scale_by_mars",),
        paper=lambda p, g: mars(p, g, wd=1e-3),
        floor=36,
        over_floor=2.0,  # the norm of an array comes first
        copies=1.01,
    ),
}
