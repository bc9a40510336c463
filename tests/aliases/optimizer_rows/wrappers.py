"""Optimizers around other optimizers."""

import numpy as np

import optx_aliases
from optimizer_rows._row import PROBLEMS, Row
from optimizer_rows.elementwise import adam
from optx_core import chain


def sharpness_aware(p, grads, lr=0.1, rho=0.05, period=2):
    """Every call of the transparent mode: climb, ..., descend."""
    start = p
    for k, g in enumerate(grads):
        g = g(p)
        start = p if k % period == 0 else start
        last = k % period == period - 1
        p = start - lr * g if last else p + rho * g / np.linalg.norm(g)
    return p


def schedule_free(y, grads, lr=0.1, b1=0.9, b2=None, wd=0.0, warmup=0, eps=1e-8, rectified=False):
    """SGD, or AdamW for a b2; the average x is kept here."""
    z = x = y
    v, total, largest, most = np.zeros_like(y), 0.0, 0.0, 2 / (1 - (b2 or 0)) - 1
    for t, g in enumerate(grads, start=1):
        g = g(y)
        rate = lr * min(t / warmup, 1) if warmup else lr
        if rectified:
            rho = most - 2 * t * b2**t / (1 - b2**t)
            squared = (rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)
            rate = rate * np.sqrt(squared) if rho > 4 else 0.0
        if b2 is not None:
            v = b2 * v + (1 - b2) * g * g
            g = g / (np.sqrt(v / (1 - b2**t)) + eps)
        largest = max(largest, rate)
        total += largest**2
        c = largest**2 / total if total else 0.0
        z = z - rate * (g + wd * y)
        x = (1 - c) * x + c * z
        y = b1 * x + (1 - b1) * z
    return y


def normalized(p, grads):
    for g in grads:
        p = p + g(p) / np.linalg.norm(g(p))
    return p


def with_grad_fn(o, tx):
    """optax's sam takes no extra argument but this one."""

    def update(updates, state, params=None, grad_fn=None, **extra_args):
        return tx.update(updates, state, params, grad_fn=grad_fn)

    return o.GradientTransformationExtraArgs(tx.init, update)


def averaged(state, params):
    return optx_aliases.schedule_free_eval_params(state, params)


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


def hyperball(p, grads, lr=0.1, project=True, brake=1.0):
    """Gradient descent on the sphere."""
    radius = np.linalg.norm(p)
    for g in grads:
        size = radius if project else np.linalg.norm(p)
        p = p - lr * size * g(p) / np.linalg.norm(g(p))
        grown = np.linalg.norm(p)
        p = p * (radius if project else size + brake * (grown - size)) / grown
    return p


ROWS = {
    "normalize": Row(
        optx_aliases.normalize,
        paper=normalized,
        optax=lambda o: o.contrib.normalize(),
        floor=12,
        over_floor=1.67,  # the norm comes first; its second way, for overflow, counts but does not run
        beats_optax=1.25,
        not_for=PROBLEMS,  # it climbs
    ),
    "sam": Row(
        lambda: optx_aliases.sam(
            optx_aliases.sgd(0.1), chain(optx_aliases.normalize(), optx_aliases.sgd(0.05))
        ),
        paper=sharpness_aware,
        optax=lambda o: with_grad_fn(
            o, o.contrib.sam(o.sgd(0.1), o.chain(o.contrib.normalize(), o.sgd(0.05)))
        ),
        beats_optax=1.25,  # both optimizers' loops count; each call runs one of them
        not_for={"rosenbrock"},  # the steps of plain descent are too long for it
        evaluated=lambda state, params: state.cache,
    ),
    "sam, opaque": Row(
        lambda: optx_aliases.sam(
            optx_aliases.sgd(0.1),
            chain(optx_aliases.normalize(), optx_aliases.sgd(0.05)),
            opaque_mode=True,
        ),
        optax=lambda o: with_grad_fn(
            o,
            o.contrib.sam(
                o.sgd(0.1), o.chain(o.contrib.normalize(), o.sgd(0.05)), opaque_mode=True
            ),
        ),
        extra_args=lambda params, updates: {"grad_fn": lambda p, i: updates},
    ),
    "schedule_free": Row(
        lambda: optx_aliases.schedule_free(optx_aliases.sgd(0.1), 0.1),
        paper=schedule_free,
        optax=lambda o: o.contrib.schedule_free(o.sgd(0.1), 0.1),
        floor=20,
        not_for={"rosenbrock"},  # the steps of plain descent are too long for it
        evaluated=averaged,
    ),
    "schedule_free_sgd": Row(
        lambda: optx_aliases.schedule_free_sgd(0.3, weight_decay=1e-3),
        optax=lambda o: o.contrib.schedule_free_sgd(0.3, weight_decay=1e-3),
        floor=20,
        over_floor=1.6,  # decays
        evaluated=averaged,
    ),
    "schedule_free_adamw": Row(
        lambda: optx_aliases.schedule_free_adamw(0.1, weight_decay=1e-3),
        paper=lambda p, g: schedule_free(p, g, b2=0.999, wd=1e-3),
        optax=lambda o: o.contrib.schedule_free_adamw(0.1, weight_decay=1e-3),
        floor=28,
        over_floor=2.0,  # the quotient serves both z and the parameters, and is written out
        copies=1.01,
        evaluated=averaged,
    ),
    "schedule_free_adamw, warmup": Row(
        lambda: optx_aliases.schedule_free_adamw(0.1, warmup_steps=10),
        paper=lambda p, g: schedule_free(p, g, b2=0.999, warmup=10),
        optax=lambda o: o.contrib.schedule_free_adamw(0.1, warmup_steps=10),
        same_numbers=False,  # one count for both schedules
        floor=28,
        over_floor=1.86,  # the quotient serves both z and the parameters, and is written out
        copies=1.01,
        evaluated=averaged,
    ),
    "schedule_free_radam": Row(
        lambda: optx_aliases.schedule_free_radam(0.1),
        paper=lambda p, g: schedule_free(p, g, b2=0.999, rectified=True),
        floor=28,
        over_floor=1.86,  # the quotient serves both z and the parameters, and is written out
        copies=1.01,
        evaluated=averaged,
    ),
    "split_real_and_imaginary": Row(
        lambda: optx_aliases.split_real_and_imaginary(optx_aliases.adam(0.01)),
        paper=adam,
        optax=lambda o: o.contrib.split_real_and_imaginary(o.adam(0.01)),
        floor=28,
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
    "hyperball": Row(
        lambda: optx_aliases.hyperball(optx_aliases.sgd(0.1), 0.1),
        paper=hyperball,
        floor=12,
        over_floor=3.67,  # the update is written out for its largest entry and its norm, the sum for its own
        copies=1.01,
        not_for=PROBLEMS,  # whose solutions have other norms
    ),
    "hyperball, relative": Row(
        lambda: optx_aliases.hyperball(optx_aliases.sgd(0.1), 0.1, project=False),
        paper=lambda p, grads: hyperball(p, grads, project=False),
        not_for=PROBLEMS,
    ),
    "hyperball, with a brake": Row(
        lambda: optx_aliases.hyperball(optx_aliases.sgd(0.1), 0.1, project=False, brake=0.3),
        paper=lambda p, grads: hyperball(p, grads, project=False, brake=0.3),
        not_for=PROBLEMS,
    ),
}
