"""The optimizers that optax keeps in its contrib."""

import jax
import jax.numpy as jnp
import numpy as np

import optx_aliases
from optimizer_rows._row import Row
from optx_core import GradientTransformationExtraArgs, chain, tree


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
    p, grads, lr=1.0, b1=0.9, b2=0.999, eps=1e-8, d0=1e-6, wd=0.0, coefficient=1.0, safe=False
):
    m = v = s = np.zeros_like(p)
    d, r, p0, b3 = d0, 0.0, p, np.sqrt(b2)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        rate = d * lr * np.sqrt(1 - b2**t) / (1 - b1**t)
        r = b3 * r + d / d0 * rate * np.sum(g * (p0 - p))
        m = b1 * m + (1 - b1) * d * g
        v = b2 * v + (1 - b2) * d * d * g * g
        s = b3 * s + d / d0 * (d if safe else rate) * g
        d = max(d, coefficient * r / np.sum(np.abs(s)))
        p = p - rate * m / (np.sqrt(v) + d * eps) - wd * rate * p
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


def adam(p, grads, lr=0.01, b1=0.9, b2=0.999, eps=1e-8):
    m = v = np.zeros_like(p)
    for t, g in enumerate(grads, start=1):
        g = g(p)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        p = p - lr * m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
    return p


def normalized(p, grads):
    for g in grads:
        p = p + g(p) / np.linalg.norm(g(p))
    return p


def no_state(params):
    return ()


def square(updates, state, params=None, **extra_args):
    return jax.tree.map(tree.abs_squared, updates), state


# Stands for an estimator of the Hessian's diagonal, which another package has.
SQUARES = GradientTransformationExtraArgs(no_state, square)


def value(params, updates):
    return {"value": jnp.asarray(1.0)}


def with_grad_fn(o, tx):
    """optax's sam takes no extra argument but this one."""

    def update(updates, state, params=None, grad_fn=None, **extra_args):
        return tx.update(updates, state, params, grad_fn=grad_fn)

    return o.GradientTransformationExtraArgs(tx.init, update)


def averaged(state, params):
    return optx_aliases.schedule_free_eval_params(state, params)


PROBLEMS = {"quadratic", "rosenbrock", "classification"}


ROWS = {
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
    "madgrad": Row(
        lambda: optx_aliases.madgrad(0.01, weight_decay=1e-3),
        ("scale_by_madgrad",),
        paper=lambda p, g: madgrad(p, g, wd=1e-3),
        optax=lambda o: o.contrib.madgrad(0.01, weight_decay=1e-3),
        same_numbers=False,  # optax takes √t in float32; test_contributed.py compares
        floor=32,
        over_floor=1.63,  # the decayed gradient of the row: the parameters are read three times
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
    "sophia": Row(
        lambda: optx_aliases.sophia(0.01, hessian_diagonal_fn=SQUARES),
        ("scale_by_sophia",),
        paper=sophia,
        optax=lambda o: o.contrib.sophia(0.01, hessian_diagonal_fn=SQUARES),
        options={"complex_params": False},
    ),
    "split_real_and_imaginary": Row(
        lambda: optx_aliases.split_real_and_imaginary(optx_aliases.adam(0.01)),
        paper=adam,
        optax=lambda o: o.contrib.split_real_and_imaginary(o.adam(0.01)),
        floor=28,
    ),
}
