"""Optimizers that treat each entry by itself."""

import jax
import jax.numpy as jnp
import numpy as np

import optx_aliases
from optimizer_rows._norms import norm
from optimizer_rows._row import Row
from optx_core import (
    GradientTransformationExtraArgs,
    cautious_decay,
    chain,
    corrected_decay,
    independent_decay,
    scale_by_learning_rate,
    tree,
)


def halving(count):
    """A learning rate that halves at each step, for numbers of NumPy and JAX."""
    return 0.1 * 0.5 ** jnp.asarray(count, jnp.result_type(float))


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
        u = m_hat / (np.sqrt(v / (1 - b2**t)) + eps)
        decay = wd(t - 1, u, p) if callable(wd) else wd
        p = p - (lr(t - 1) if callable(lr) else lr) * (u + decay * p)
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


def relative(p, grads, lr=0.01):
    for g in grads:
        p = p - lr * g(p) * max(norm(p), 1e-3)
    return p


def adabelief(p, grads, lr=0.01, b1=0.9, b2=0.999, eps=1e-16, nesterov=False):
    m = s = np.zeros_like(p)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * (g - m) ** 2 + eps
        m_hat = m / (1 - b1**t)
        if nesterov:
            m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        p = p - lr * m_hat / (np.sqrt(s / (1 - b2**t)) + eps)
    return p


def adadelta(p, grads, lr=1.0, rho=0.9, eps=1e-6, wd=0.0):
    g2 = x2 = np.zeros_like(p)
    for g in grads:
        g = g(p) + wd * p
        g2 = rho * g2 + (1 - rho) * g * g
        x = g * np.sqrt(x2 + eps) / np.sqrt(g2 + eps)
        x2 = rho * x2 + (1 - rho) * x * x
        p = p - lr * x
    return p


def adagrad(p, grads, lr=0.1, start=0.1, eps=1e-7):
    s = np.full_like(p, start)
    for g in grads:
        g = g(p)
        s = s + g * g
        p = p - lr * g / np.sqrt(s + eps)
    return p


def adamax(p, grads, lr=0.01, b1=0.9, b2=0.999, eps=1e-8, wd=0.0):
    m = v = np.zeros_like(p)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        m = b1 * m + (1 - b1) * g
        v = np.maximum(b2 * v, np.abs(g) + eps)
        p = p - lr * (m / (1 - b1**t) / v + wd * p)
    return p


def adan(p, grads, lr=0.01, b1=0.98, b2=0.92, b3=0.99, eps=1e-8, wd=0.0, ahead=None):
    ahead = b2 if ahead is None else ahead
    m = v = n = np.zeros_like(p)
    last = None
    for t, g in enumerate(grads, start=1):
        g = g(p)
        d = g - (g if last is None else last)
        last = g
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * d
        n = b3 * n + (1 - b3) * (g + ahead * d) ** 2
        size = np.sqrt(n / (1 - b3**t) + eps) + eps
        p = p - lr * ((m / (1 - b1**t) + ahead * v / (1 - b2**t)) / size + wd * p)
    return p


def amsgrad(p, grads, lr=0.01, b1=0.9, b2=0.999, eps=1e-8, corrected=True):
    m = v = x = np.zeros_like(p)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        c1, c2 = (1 - b1**t, 1 - b2**t) if corrected else (1, 1)
        x = np.maximum(x, v / c2)
        p = p - lr * m / c1 / (np.sqrt(x) + eps)
    return p


def lion(p, grads, lr=0.01, b1=0.9, b2=0.99, wd=1e-3, squash=np.sign):
    m = np.zeros_like(p)
    for g in grads:
        g = g(p)
        u = squash(b1 * m + (1 - b1) * g)
        m = b2 * m + (1 - b2) * g
        p = p - lr * (u + wd * p)
    return p


def optimistic(p, grads, lr=0.05, alpha=1.0, beta=1.0):
    last = None
    for g in grads:
        g = g(p)
        p = p - lr * (alpha * g + beta * (g - (g if last is None else last)))
        last = g
    return p


def optimistic_adam(p, grads, lr=0.01, alpha=0.01, beta=0.01, b1=0.9, b2=0.999, eps=1e-8):
    m = v = np.zeros_like(p)
    last = None
    for t, g in enumerate(grads, start=1):
        g = g(p)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        u = m_hat / (np.sqrt(v / (1 - b2**t)) + eps)
        p = p - (alpha * u + beta * (u - (u if last is None else last)))
        last = u
    return p


def radam(p, grads, lr=0.01, b1=0.9, b2=0.999, eps=1e-8, threshold=5.0, nesterov=False):
    m = v = np.zeros_like(p)
    longest = 2 / (1 - b2) - 1
    for t, g in enumerate(grads, start=1):
        g = g(p)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        u = m / (1 - b1**t)
        if nesterov:
            u = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        n = longest - 2 * t * b2**t / (1 - b2**t)
        if n >= threshold:
            r = (n - 4) * (n - 2) * longest / ((longest - 4) * (longest - 2) * n)
            u = np.sqrt(r) * u / (np.sqrt(v / (1 - b2**t)) + eps)
        p = p - lr * u
    return p


def rprop(p, grads, lr=0.01, minus=0.5, plus=1.2, least=1e-6, most=50.0):
    size, last = np.full_like(p, lr), np.zeros_like(p)
    for g in grads:
        g = g(p)
        same, turned = g * last > 0, g * last < 0
        size = np.where(same, np.minimum(plus * size, most), size)
        size = np.where(turned, np.maximum(minus * size, least), size)
        last = np.where(turned, 0, g)
        p = p - size * np.sign(last)
    return p


def signum(p, grads, lr=0.01, beta=0.9):
    m = np.zeros_like(p)
    for g in grads:
        m = beta * m + (1 - beta) * g(p)
        p = p - lr * np.sign(m)
    return p


def yogi(p, grads, lr=0.01, b1=0.9, b2=0.999, eps=1e-3):
    m = v = np.full_like(p, 1e-6)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        m = b1 * m + (1 - b1) * g
        v = v - (1 - b2) * np.sign(v - g * g) * g * g
        p = p - lr * m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
    return p


def acprop(p, grads, lr=0.01, b1=0.9, b2=0.999, eps=1e-16, wd=0.0):
    m = s = np.zeros_like(p)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        s_hat = np.ones_like(p) if t == 1 else s / (1 - b2 ** (t - 1))
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * (g - m) ** 2 / b1**2 + eps
        p = p - lr * (g / (np.sqrt(s_hat) + eps) + wd * p)
    return p


def ademamix(p, grads, lr=0.01, b1=0.9, b2=0.999, b3=0.9999, alpha=5.0, eps=1e-8, warmup=0):
    m1 = m2 = v = np.zeros_like(p)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        part = min(t / warmup, 1) if warmup else 1.0
        beta3 = np.exp(np.log(b1) * np.log(b3) / ((1 - part) * np.log(b3) + part * np.log(b1)))
        m1 = b1 * m1 + (1 - b1) * g
        m2 = beta3 * m2 + (1 - beta3) * g
        v = b2 * v + (1 - b2) * g * g
        m1_hat, v_hat = m1 / (1 - b1**t), v / (1 - b2**t)
        p = p - lr * (m1_hat + alpha * part * m2) / (np.sqrt(v_hat) + eps)
    return p


def simplified_ademamix(p, grads, lr=1e-3, b1=0.99, b2=0.95, alpha=0.0, eps=1e-8):
    m = v = np.zeros_like(p)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        m = b1 * m + g
        v = b2 * v + (1 - b2) * g * g
        p = p - lr * (m + alpha * g) / (np.sqrt(v / (1 - b2**t)) + eps)
    return p


def adopt(p, grads, lr=0.01, b1=0.9, b2=0.9999, eps=1e-6, clip=True, nesterov=False):
    m, v = np.zeros_like(p), None
    for t, g in enumerate(grads):
        g = g(p)
        if t > 0:
            u = g / np.maximum(np.sqrt(v), eps)
            u = np.clip(u, -(t**0.25), t**0.25) if clip else u
            m = b1 * m + (1 - b1) * u
            p = p - lr * (b1 * m + (1 - b1) * u if nesterov else m)
        v = g * g if t == 0 else b2 * v + (1 - b2) * g * g
    return p


def madgrad(p, grads, lr=0.01, momentum=0.9, eps=1e-6, wd=0.0):
    x0 = p
    s = v = np.zeros_like(p)
    for k, g in enumerate(grads):
        g = g(p) + wd * p
        rate = (lr + eps) * np.sqrt(k + 1)
        v, s = v + rate * g * g, s + rate * g
        z = x0 - s / (np.cbrt(v) + eps)
        p = momentum * p + (1 - momentum) * z
    return p


def sophia(p, grads, lr=0.01, b1=0.965, b2=0.99, eps=1e-8, wd=1e-4, gamma=0.01, interval=10):
    """With the squares of the gradients for a diagonal."""
    m = h = np.zeros_like(p)
    for t, g in enumerate(grads):
        g = g(p)
        m = b1 * m + (1 - b1) * g
        u = np.clip(m / (1 - b1 ** (t + 1)) / np.maximum(gamma * h, eps), -1, 1)
        if t % interval == 0:
            h = b2 * h + (1 - b2) * g * g
        p = p - lr * (u + wd * p)
    return p


def no_state(params):
    return ()


def square(updates, state, params=None, **extra_args):
    return jax.tree.map(tree.abs_squared, updates), state


# Stands for an estimator of the Hessian's diagonal, which another package has.
SQUARES = GradientTransformationExtraArgs(no_state, square)


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
    "sgd, relative to the norm": Row(
        lambda: chain(optx_aliases.scale_by_param_block_norm(), scale_by_learning_rate(0.01)),
        ("scale_by_param_block_norm",),
        paper=relative,
        optax=lambda o: o.chain(o.scale_by_param_block_norm(), o.scale_by_learning_rate(0.01)),
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
        over_floor=1.58,  # the pass over p reads g as well
    ),
    "adamw": Row(
        lambda: optx_aliases.adamw(0.01, weight_decay=0.1),
        paper=lambda p, g: adam(p, g, wd=0.1),
        optax=lambda o: o.adamw(0.01, weight_decay=0.1),
        floor=28,
    ),
    "adamw, cautious decay": Row(
        lambda: optx_aliases.adamw(0.01, weight_decay=cautious_decay(0.1)),
        paper=lambda p, g: adam(p, g, wd=lambda t, u, p: 0.1 * (u * p >= 0)),
        floor=28,
        over_floor=1.7,  # the step without the decay is used twice: XLA:CPU writes it out
        copies=1.01,
    ),
    "adamw, corrected decay": Row(
        lambda: optx_aliases.adamw(halving, weight_decay=corrected_decay(0.1, halving, 0.1)),
        paper=lambda p, g: adam(p, g, lr=halving, wd=lambda t, u, p: halving(t)),
        floor=28,
    ),
    "adamw, independent decay": Row(
        lambda: optx_aliases.adamw(halving, weight_decay=independent_decay(0.03, halving)),
        paper=lambda p, g: adam(p, g, lr=halving, wd=lambda t, u, p: 0.03 / halving(t)),
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
        over_floor=1.56,  # the momentum reads g, both moments and itself
    ),
    "nadam": Row(
        lambda: optx_aliases.nadam(0.01),
        paper=lambda p, g: adam(p, g, nesterov=True),
        optax=lambda o: o.nadam(0.01),
        floor=28,
        over_floor=1.58,  # the pass over p reads g as well
    ),
    "nadamw": Row(
        lambda: optx_aliases.nadamw(0.01, weight_decay=0.1),
        paper=lambda p, g: adam(p, g, nesterov=True, wd=0.1),
        optax=lambda o: o.nadamw(0.01, weight_decay=0.1),
        floor=28,
        over_floor=1.58,
    ),
    "adabelief": Row(
        lambda: optx_aliases.adabelief(0.01),
        ("scale_by_belief",),
        paper=adabelief,
        optax=lambda o: o.adabelief(0.01),
        floor=28,
        over_floor=1.58,  # the pass over s reads the new m as well
    ),
    "adabelief, Nesterov": Row(
        lambda: optx_aliases.adabelief(0.01, nesterov=True),
        paper=lambda p, g: adabelief(p, g, nesterov=True),
        optax=lambda o: o.adabelief(0.01, nesterov=True),
    ),
    "adadelta": Row(
        lambda: optx_aliases.adadelta(1.0),
        ("scale_by_adadelta",),
        paper=adadelta,
        optax=lambda o: o.adadelta(1.0),
        floor=28,
        over_floor=1.72,  # the passes over E[x²] and p read g and E[g²] as well
        rates=(10.0, 3.0, 1.0),
        steps=6000,  # they start at √eps
    ),
    "adadelta, decay": Row(
        lambda: optx_aliases.adadelta(
            0.5, 0.95, 1e-5, 0.1, lambda p: jax.tree.map(lambda x: x.ndim > 1, p)
        ),
        paper=lambda p, g: adadelta(p, g, lr=0.5, rho=0.95, eps=1e-5, wd=0.1),
        optax=lambda o: o.adadelta(
            0.5, 0.95, 1e-5, 0.1, lambda p: jax.tree.map(lambda x: x.ndim > 1, p)
        ),
        rates=(100.0, 30.0, 10.0),
    ),
    "adagrad": Row(
        lambda: optx_aliases.adagrad(0.1),
        ("scale_by_rss",),
        paper=adagrad,
        optax=lambda o: o.adagrad(0.1),
        floor=20,
    ),
    "adamax": Row(
        lambda: optx_aliases.adamax(0.01),
        ("scale_by_adamax",),
        paper=adamax,
        optax=lambda o: o.adamax(0.01),
        floor=28,
    ),
    "adamaxw": Row(
        lambda: optx_aliases.adamaxw(0.01, weight_decay=0.1),
        paper=lambda p, g: adamax(p, g, wd=0.1),
        optax=lambda o: o.adamaxw(0.01, weight_decay=0.1),
        floor=28,
    ),
    "adan": Row(
        lambda: optx_aliases.adan(0.01, weight_decay=0.1),
        ("scale_by_adan",),
        paper=lambda p, g: adan(p, g, wd=0.1),
        optax=lambda o: o.adan(0.01, weight_decay=0.1),
        same_numbers=False,  # optax weighs the differences with 1 - b2 where the paper has b2
        floor=44,
        # v and n are two passes that read g and the last g, which XLA:CPU copies before it is replaced.
        over_floor=1.82,
        copies=1.01,
    ),
    "adan, look_ahead": Row(
        lambda: optx_aliases.adan(0.01, look_ahead=1 - 0.92),
        paper=lambda p, g: adan(p, g, ahead=0.08),
        optax=lambda o: o.adan(0.01),
    ),
    "amsgrad": Row(
        lambda: optx_aliases.amsgrad(0.01),
        ("scale_by_amsgrad",),
        paper=amsgrad,
        optax=lambda o: o.amsgrad(0.01),
        floor=36,
    ),
    "amsgrad, not corrected": Row(
        lambda: optx_aliases.amsgrad(0.01, bias_correction_mu=False, bias_correction_nu=False),
        paper=lambda p, g: amsgrad(p, g, corrected=False),
        optax=lambda o: o.amsgrad(0.01, bias_correction_mu=False, bias_correction_nu=False),
    ),
    "lion": Row(
        lambda: optx_aliases.lion(0.01),
        ("scale_by_lion",),
        paper=lion,
        optax=lambda o: o.lion(0.01),
        floor=20,
        beats_optax=0.8,
    ),
    "lion, b2 small": Row(
        lambda: optx_aliases.lion(0.01, 0.5, 0.25),
        paper=lambda p, g: lion(p, g, b1=0.5, b2=0.25),
        optax=lambda o: o.lion(0.01, 0.5, 0.25),
    ),
    "noisy_sgd": Row(
        lambda: optx_aliases.noisy_sgd(0.1, key=0),
        optax=lambda o: o.noisy_sgd(0.1, key=0),
        same_numbers=False,  # another stream of random numbers
        beats_optax=0.7,
    ),
    "optimistic_gradient_descent": Row(
        lambda: optx_aliases.optimistic_gradient_descent(0.05, 0.8, 0.3),
        ("scale_by_optimistic_gradient",),
        paper=lambda p, g: optimistic(p, g, alpha=0.8, beta=0.3),
        optax=lambda o: o.optimistic_gradient_descent(0.05, 0.8, 0.3),
        floor=20,
        # XLA:CPU copies the last gradient before it is replaced.
        over_floor=1.6,
        copies=1.01,
    ),
    "optimistic_adam": Row(
        lambda: optx_aliases.optimistic_adam(0.01),
        paper=optimistic_adam,
        optax=lambda o: o.optimistic_adam(0.01),
        floor=36,
        # Both Adam's update, needed twice, and the last one are written out.
        over_floor=2.0,
        copies=2.01,
    ),
    "optimistic_adam_v2": Row(
        lambda: optx_aliases.optimistic_adam_v2(0.01, alpha=0.8, beta=0.3),
        paper=lambda p, g: optimistic_adam(p, g, alpha=0.008, beta=0.003),
        optax=lambda o: o.optimistic_adam_v2(0.01, alpha=0.8, beta=0.3),
        floor=36,
        # Both Adam's update, needed twice, and the last one are written out.
        over_floor=2.0,
        copies=2.01,
    ),
    "radam": Row(
        lambda: optx_aliases.radam(0.01),
        ("scale_by_radam",),
        paper=radam,
        optax=lambda o: o.radam(0.01),
        floor=28,
    ),
    "radam, Nesterov": Row(
        lambda: optx_aliases.radam(0.01, threshold=4.5, nesterov=True),
        paper=lambda p, g: radam(p, g, threshold=4.5, nesterov=True),
        optax=lambda o: o.radam(0.01, threshold=4.5, nesterov=True),
    ),
    "rprop": Row(
        lambda: optx_aliases.rprop(0.01),
        ("scale_by_rprop",),
        paper=rprop,
        optax=lambda o: o.rprop(0.01),
        same_numbers=False,  # optax's is one step late
        floor=28,
        over_floor=1.58,  # the pass over the last update reads the step sizes as well
        options={"complex_params": False},
    ),
    "sign_sgd": Row(
        lambda: optx_aliases.sign_sgd(0.01),
        ("scale_by_sign",),
        paper=lambda p, g: signum(p, g, beta=0.0),
        optax=lambda o: o.sign_sgd(0.01),
        floor=12,
    ),
    "signum": Row(
        lambda: optx_aliases.signum(0.01),
        paper=signum,
        optax=lambda o: o.signum(0.01),
        floor=20,
    ),
    "yogi": Row(
        lambda: optx_aliases.yogi(0.01),
        ("scale_by_yogi",),
        paper=yogi,
        optax=lambda o: o.yogi(0.01),
        floor=28,
    ),
    "acprop": Row(
        lambda: optx_aliases.acprop(0.01, eps=1e-8, eps_root=1e-8, weight_decay=0.1),
        ("scale_by_acprop",),
        paper=lambda p, g: acprop(p, g, eps=1e-8, wd=0.1),
        optax=lambda o: o.contrib.acprop(0.01, eps=1e-8, eps_root=1e-8, weight_decay=0.1),
        floor=28,
        over_floor=2.15,  # both slots' old values serve the new ones, so XLA:CPU keeps copies
        copies=2.01,
    ),
    "ademamix": Row(
        lambda: optx_aliases.ademamix(0.01),
        ("scale_by_ademamix",),
        paper=ademamix,
        optax=lambda o: o.contrib.ademamix(0.01),
        floor=36,
        over_floor=1.56,  # each of three slots reads the gradient again
    ),
    "ademamix, schedules": Row(
        lambda: optx_aliases.ademamix(
            0.01,
            b3=optx_aliases.ademamix_b3_schedule(0.99, 15),
            alpha=optx_aliases.ademamix_alpha_schedule(4.0, 15),
        ),
        paper=lambda p, g: ademamix(p, g, b3=0.99, alpha=4.0, warmup=15),
        floor=36,
        over_floor=1.56,  # each of three slots reads the gradient again
    ),
    "simplified_ademamix": Row(
        lambda: optx_aliases.simplified_ademamix(1e-3, alpha=2.0),
        ("scale_by_simplified_ademamix",),
        paper=lambda p, g: simplified_ademamix(p, g, alpha=2.0),
        optax=lambda o: o.contrib.simplified_ademamix(1e-3, alpha=2.0),
        floor=28,
        over_floor=1.58,  # the newest gradient is mixed in, which Adam's last pass does not read
    ),
    "adopt": Row(
        lambda: optx_aliases.adopt(0.01),
        ("scale_by_adopt",),
        paper=adopt,
        optax=lambda o: o.contrib.adopt(0.01),
        floor=28,
    ),
    "adopt, Nesterov, no clipping": Row(
        lambda: optx_aliases.adopt(0.01, eps=0.01, nesterov=True, use_clipping=False),
        paper=lambda p, g: adopt(p, g, eps=0.01, clip=False, nesterov=True),
        optax=lambda o: o.contrib.adopt(0.01, eps=0.01, nesterov=True, use_clipping=False),
        floor=28,
        over_floor=2.15,  # without the clip the old v must be kept, and Nesterov reads it twice
        copies=1.01,
    ),
    "madgrad": Row(
        lambda: optx_aliases.madgrad(0.01, weight_decay=1e-3),
        ("scale_by_madgrad",),
        paper=lambda p, g: madgrad(p, g, wd=1e-3),
        optax=lambda o: o.contrib.madgrad(0.01, weight_decay=1e-3),
        same_numbers=False,  # optax takes √t in float32; test_contributed.py compares
        floor=32,
        over_floor=1.63,  # the decayed gradient of the row: the parameters are read three times
    ),
    "sophia": Row(
        lambda: optx_aliases.sophia(0.01, hessian_diagonal_fn=SQUARES),
        ("scale_by_sophia",),
        paper=sophia,
        optax=lambda o: o.contrib.sophia(0.01, hessian_diagonal_fn=SQUARES),
        options={"complex_params": False},
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
