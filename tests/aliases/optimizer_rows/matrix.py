"""Optimizers of whole matrices."""

import functools

import jax
import numpy as np

import optx_aliases
from optimizer_rows._row import Row

# The kit's gradients of a matrix are of rank 3, where rounding decides what an orthogonalization does:
# promises 7 and 8, which compare numbers, are checked on regular ones, in test_optimizers or a test file
# of its own.
SINGULAR = (1, 2, 3, 4, 5, 6)


def newton_schulz(x, a, b, c, steps=5, eps=1e-8):
    x = x / (np.linalg.norm(x) + eps)
    for _ in range(steps):
        A = x @ x.T
        x = a * x + (b * A + c * A @ A) @ x
    return x


def muon(p, grads, lr=0.02, beta=0.95, wd=0.0, rms=None, nesterov=True, second=None, b2=0.95):
    m, v = np.zeros_like(p), 0.0
    rows, columns = p.shape
    factor = rms * max(rows, columns) ** 0.5 if rms else max(1, columns / rows) ** 0.5
    for t, g in enumerate(grads, start=1):
        g = g(p)
        m = beta * m + (1 - beta) * g
        u = m / (1 - beta**t)
        if nesterov:
            u = beta * m / (1 - beta ** (t + 1)) + (1 - beta) * g / (1 - beta**t)
        o = newton_schulz(np.sign(u) if second == "entry" else u, 3.4445, -4.7750, 2.0315)
        if second == "scalar":
            v = b2 * v + (1 - b2) * np.sum(g * g)
            o = o * np.linalg.norm(u) / (np.sqrt(v / (1 - b2**t)) + 1e-8)
        elif second:
            v = b2 * v + (1 - b2) * (o * o if second == "entry" else np.mean(o * o, 0))
            wanted = min(rows, columns) ** 0.5 if second == "entry" else np.linalg.norm(o)
            o = o / (np.sqrt(v) + 1e-8)
            o = o * wanted / np.linalg.norm(o)
        p = p - lr * (factor * o + wd * p)
    return p


def dion2(p, grads, lr=0.02, fraction=0.25, rho=0.95, wd=0.0, side=0):
    m = np.zeros_like(p)
    for g in grads:
        m = m + g(p)
        sums = np.sum(np.abs(m), axis=1 - side)
        chosen = np.argsort(-sums)[: int(np.ceil(fraction * len(sums)))]
        lines, step = (m[chosen] if side == 0 else m[:, chosen]), np.zeros_like(p)
        step[(slice(None),) * side + (chosen,)] = newton_schulz(lines, 3.4445, -4.7750, 2.0315)
        m[(slice(None),) * side + (chosen,)] *= rho
        p = p - lr * (max(1, p.shape[1] / p.shape[0]) ** 0.5 * step + wd * p)
    return p


def scion(p, grads, lr=0.02, beta=0.9, radius=2.0, constrained=True):
    d, (rows, columns) = np.zeros_like(p), p.shape
    for g in grads:
        d = beta * d + (1 - beta) * g(p)
        lmo = (columns / rows) ** 0.5 * newton_schulz(d, 3.4445, -4.7750, 2.0315, eps=0.0)
        p = (1 - lr * constrained) * p - lr * radius * lmo
    return p


def soap(p, grads, lr=0.01, b1=0.95, b2=0.95, eps=1e-5, every=3):
    m, v = np.zeros_like(p), np.zeros_like(p)
    L, R = (np.zeros((n, n)) for n in p.shape)
    for t, g in enumerate(grads):
        g = g(p)
        L = b2 * L + (1 - b2) * g @ g.T
        R = b2 * R + (1 - b2) * g.T @ g
        if t == 0:
            QL, QR = (np.linalg.eigh(s)[1][:, ::-1] for s in (L, R))
        else:
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * (QL.T @ g @ QR) ** 2
            n = (QL.T @ m @ QR) / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
            p = p - lr * QL @ n @ QR.T
        if t and t % every == 0:
            QL, QR = np.linalg.qr(L @ QL)[0], np.linalg.qr(R @ QR)[0]
    return p


def inverse_root(a, power, ridge=1e-6):
    values, vectors = np.linalg.eigh(a)
    return vectors @ np.diag((np.maximum(values, 0) + ridge * values.max()) ** -power) @ vectors.T


def shampoo(p, grads, lr=0.01, b1=0.9, b2=0.99, eps=1e-8, every=2, ridge=1e-2, one_sided=False):
    m, v = np.zeros_like(p), np.zeros_like(p)
    L, R = (np.zeros((n, n)) for n in p.shape)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        L = b2 * L + (1 - b2) * g @ g.T
        R = b2 * R + (1 - b2) * g.T @ g
        if t == 1 or t % every == 0:
            PL = inverse_root(L, 0.5 if one_sided else 0.25, ridge)
            PR = np.eye(len(R)) if one_sided else inverse_root(R, 0.25, ridge)
        a = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        u = PL @ m @ PR
        p = p - lr * u * np.linalg.norm(a) / np.linalg.norm(u)
    return p


def kl_shampoo(p, grads, lr=0.01, b1=0.9, b2=0.95, initial=0.5, every=2):
    m, (rows, columns) = np.zeros_like(p), p.shape
    L, R, QL, QR = initial * np.eye(rows), initial * np.eye(columns), np.eye(rows), np.eye(columns)

    def power(s, q, exponent):
        return q @ np.diag(np.diag(q.T @ s @ q) ** exponent) @ q.T

    for t, g in enumerate(grads, start=1):
        g = g(p)
        m = b1 * m + (1 - b1) * g
        L, R = (
            b2 * L + (1 - b2) / columns * g @ power(R, QR, -1) @ g.T,
            b2 * R + (1 - b2) / rows * g.T @ power(L, QL, -1) @ g,
        )
        if t % every == 0:
            QL, QR = np.linalg.qr(L @ QL)[0], np.linalg.qr(R @ QR)[0]
        p = p - lr * power(L, QL, -0.5) @ m @ power(R, QR, -0.5) / (1 - b1**t)
    return p


def galore(p, grads, lr=0.01, rank=1, gap=5, scale=0.5, b1=0.9, b2=0.999, eps=1e-8):
    m, v = np.zeros((p.shape[0], rank)), np.zeros((p.shape[0], rank))  # p is wide
    for t, g in enumerate(grads):
        g = g(p)
        if t % gap == 0:
            P = np.linalg.svd(g, full_matrices=False)[2][:rank].T
        r = g @ P
        m = b1 * m + (1 - b1) * r
        v = b2 * v + (1 - b2) * r * r
        n = m / (1 - b1 ** (t + 1)) / (np.sqrt(v / (1 - b2 ** (t + 1))) + eps)
        p = p - lr * scale * n @ P.T
    return p


def apollo(p, grads, lr=0.01, gap=5, scale=128**0.5, b1=0.9, b2=0.999, eps=1e-8, limit=1.01):
    m, v, before = np.zeros((1, p.shape[1])), np.zeros((1, p.shape[1])), 0.0  # p is wide
    for t, g in enumerate(grads):
        g = g(p)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), t // gap), 0)
        r = np.asarray(jax.random.normal(key, (1, p.shape[0]), np.float64)) @ g
        m = b1 * m + (1 - b1) * r
        v = b2 * v + (1 - b2) * r * r
        n = m / (np.sqrt(v) + eps)
        u = np.linalg.norm(n) / np.linalg.norm(r) * g
        if before and np.linalg.norm(u) > limit * before:
            u = u * limit * before / np.linalg.norm(u)
        before = np.linalg.norm(u)
        p = p - lr * scale * np.sqrt(1 - b2 ** (t + 1)) / (1 - b1 ** (t + 1)) * u
    return p


def lower_bound(a):
    largest = np.abs(a).max()
    a = a / largest
    y = a @ a[:, np.argmax(np.sum(a * a, axis=0))]
    return largest * np.linalg.norm(a @ (y / np.linalg.norm(y)))


def kron(p, grads, lr=0.01, b1=0.9, rate=0.1, every=2, clip=1.1):
    m, (QL, QR) = np.zeros_like(p), (np.eye(n) for n in p.shape)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        m = b1 * m + (1 - b1) * g
        x = m / (1 - b1**t)
        if (t - 1) % every == 0:
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), t), 0)
            V = np.asarray(jax.random.normal(key, (1, *p.shape), np.float64))[0]
            A, B = QL @ x @ QR.T, np.linalg.inv(QL).T @ V @ np.linalg.inv(QR)
            up, down = A @ A.T - B @ B.T, A.T @ A - B.T @ B
            QL = QL - rate * np.triu(up) @ QL / lower_bound(A @ A.T + B @ B.T)
            QR = QR - rate * np.triu(down) @ QR / lower_bound(A.T @ A + B.T @ B)
            r = (np.abs(QR).max() / np.abs(QL).max()) ** 0.5
            QL, QR = QL * r, QR / r
        u = QL.T @ QL @ x @ QR.T @ QR
        p = p - lr * u * min(1, clip / np.sqrt(np.mean(u * u)))
    return p


ROWS = {
    "muon": Row(
        lambda: optx_aliases.muon(0.02),
        ("scale_by_muon", "scale_by_shape"),
        paper=muon,
        optax=lambda o: o.contrib.muon(0.02),
        promises=SINGULAR,
    ),
    "muon, Moonshot": Row(
        lambda: optx_aliases.muon(0.02, weight_decay=0.1, consistent_rms=0.2, nesterov=False),
        paper=lambda p, g: muon(p, g, wd=0.1, rms=0.2, nesterov=False),
        optax=lambda o: o.contrib.muon(0.02, weight_decay=0.1, consistent_rms=0.2, nesterov=False),
        promises=SINGULAR,
    ),
    **{
        f"muon, second moment per {second}": Row(
            functools.partial(optx_aliases.muon, 0.005, second_moment=second, consistent_rms=0.2),
            paper=functools.partial(muon, lr=0.005, rms=0.2, second=second),
            promises=SINGULAR,
        )
        for second in ("row", "entry", "scalar")
    },
    "dion2": Row(
        lambda: optx_aliases.dion2(0.02),
        ("scale_by_dion2",),
        paper=dion2,
        promises=SINGULAR,
    ),
    "dion2, columns": Row(
        lambda: optx_aliases.dion2(0.02, fraction=0.6, side="columns", weight_decay=0.1),
        paper=lambda p, g: dion2(p, g, fraction=0.6, side=1, wd=0.1),
        promises=SINGULAR,
    ),
    "scion": Row(
        lambda: optx_aliases.scion(0.02, radius=2.0, eps=1e-30),
        paper=scion,
        promises=SINGULAR,
    ),
    "scion, unconstrained": Row(
        lambda: optx_aliases.scion(0.02, radius=2.0, eps=1e-30, constrained=False),
        paper=lambda p, g: scion(p, g, constrained=False),
        promises=SINGULAR,
    ),
    "soap": Row(
        lambda: optx_aliases.soap(0.01, eps=1e-5, precondition_frequency=3),
        ("scale_by_soap",),
        same_on_devices=False,  # the eigenvectors of a singular matrix
        paper=soap,
        promises=SINGULAR,
    ),
    "shampoo": Row(
        lambda: optx_aliases.shampoo(0.01, matrix_eps=1e-2, precondition_frequency=2),
        ("scale_by_shampoo",),
        paper=shampoo,
        promises=SINGULAR,
    ),
    "shampoo, one-sided": Row(
        lambda: optx_aliases.shampoo(
            0.01, matrix_eps=1e-2, precondition_frequency=2, one_sided=True
        ),
        paper=lambda p, g: shampoo(p, g, one_sided=True),
    ),
    "kl_shampoo": Row(
        lambda: optx_aliases.kl_shampoo(0.01, initial=0.5, precondition_frequency=2),
        ("scale_by_kl_shampoo",),
        paper=kl_shampoo,
        promises=SINGULAR,
    ),
    "galore": Row(
        lambda: optx_aliases.galore(0.01, rank=1, update_proj_gap=5, scale=0.5),
        ("scale_by_galore",),
        paper=galore,
        optax=lambda o: o.contrib.galore(0.01, rank=1, update_proj_gap=5, scale=0.5),
        beats_optax=1.34,  # a new projector counts at each step: without it 12 bytes, the floor
        same_state=False,  # (1,) where there is no projector, as no checkpoint keeps what is empty
        promises=SINGULAR,
    ),
    "apollo_mini": Row(
        lambda: optx_aliases.apollo_mini(0.01, update_proj_gap=5),
        ("scale_by_apollo",),
        paper=apollo,
    ),
    "kron": Row(
        lambda: optx_aliases.kron(0.01, precondition_frequency=2),
        ("scale_by_kron",),
        paper=kron,
        promises=SINGULAR,
        options={"complex_params": False},
    ),
}
