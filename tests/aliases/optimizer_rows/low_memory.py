"""Optimizers with a small state."""

import numpy as np

import optx_aliases
from optimizer_rows._norms import rms
from optimizer_rows._row import Row


def adafactor(p, grads, lr=0.1, factored=True, decay=0.8, momentum=None, wd=0.0, clip=1.0):
    r, c, v, m = np.zeros(p.shape[0]), np.zeros(p.shape[1]), np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        d = 1 - t**-decay
        g2 = g * g + 1e-30
        r = d * r + (1 - d) * g2.mean(1)
        c = d * c + (1 - d) * g2.mean(0)
        v = d * v + (1 - d) * g2
        u = g / np.sqrt(np.outer(r, c) / r.mean() if factored else v)
        u = lr * max(rms(p), 1e-3) * u / max(1, rms(u) / clip)
        if momentum is not None:
            m = u = momentum * m + (1 - momentum) * u
        p = p - u - wd * p
    return p


def sm3(p, grads, lr=0.1, momentum=0.9):
    rows, columns, m = np.zeros((p.shape[0], 1)), np.zeros((1, p.shape[1])), np.zeros_like(p)
    for g in grads:
        g = g(p)
        v = np.minimum(rows, columns) + g * g
        m = momentum * m + (1 - momentum) * g / np.sqrt(v + 1e-8)
        rows, columns = v.max(1, keepdims=True), v.max(0, keepdims=True)
        p = p - lr * m
    return p


def adam_mini(p, grads, lr=0.01, b1=0.9, b2=0.999, eps=1e-8):
    m, v = np.zeros_like(p), np.zeros((1, p.shape[1]))
    for t, g in enumerate(grads, start=1):
        g = g(p)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * np.mean(g * g, axis=0, keepdims=True)
        p = p - lr * m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
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
    "adafactor": Row(
        lambda: optx_aliases.adafactor(0.1, min_dim_size_to_factor=2),
        ("scale_by_factored_rms", "scale_by_param_block_rms"),
        paper=adafactor,
        optax=lambda o: o.adafactor(0.1, min_dim_size_to_factor=2),
        beats_optax=0.7,
    ),
    "adafactor, not factored": Row(
        lambda: optx_aliases.adafactor(0.1, clipping_threshold=None),
        paper=lambda p, g: adafactor(p, g, factored=False, clip=np.inf),
        optax=lambda o: o.adafactor(0.1, clipping_threshold=None),
    ),
    "adafactor, momentum and decay": Row(
        lambda: optx_aliases.adafactor(
            0.1, 2, momentum=0.9, dtype_momentum=None, weight_decay_rate=1e-3
        ),
        paper=lambda p, g: adafactor(p, g, momentum=0.9, wd=1e-3),
        optax=lambda o: o.adafactor(
            0.1, 2, momentum=0.9, dtype_momentum=None, weight_decay_rate=1e-3
        ),
    ),
    "sm3": Row(
        lambda: optx_aliases.sm3(0.1),
        ("scale_by_sm3",),
        paper=sm3,
        optax=lambda o: o.sm3(0.1),
        beats_optax=1.001,
        # What its state calls nu is the momentum, complex for complex parameters: test_sm3.py.
        options={"complex_params": False},
    ),
    "quantize_state": Row(
        lambda: optx_aliases.quantize_state(optx_aliases.adamw(0.01), min_size=1),
        same_on_devices=False,  # which of two codes a number is rounded to
        promises=(1, 2, 3, 4, 5, 7),  # 8: the last bit decides that; test_quantize_state has it
        steps=500,
    ),
    "adam_mini": Row(
        lambda: optx_aliases.adam_mini(0.01),
        ("scale_by_adam_mini",),
        paper=adam_mini,
        floor=20,
    ),
    "came": Row(
        # 1 − b3 is not debiased: with a traced 0.9999 in float32 it is off by 1.7e-4.
        lambda: optx_aliases.came(1e-3, b3=0.99),
        ("scale_by_came",),
        paper=lambda p, g: came(p, g, b3=0.99),
        rates=(0.1, 0.03, 0.01, 0.003, 1e-3, 3e-4, 1e-4),
    ),
}
