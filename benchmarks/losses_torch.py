"""Losses of a last layer beside torch's: `python -m benchmarks.losses_torch`.

Value and both gradients, on a CPU, beside plain torch and what is installed of Liger-Kernel and
cut-cross-entropy (`pip install torch liger-kernel cut-cross-entropy`). Liger-Kernel's losses in Triton do
not run on a CPU; those of `liger_kernel.chunked_loss` do, and cut-cross-entropy's `impl="torch_compile"`.
All candidates of a case alternate in one process, each with all cores.
"""

import argparse
import importlib.util
import time

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import optx_losses as L  # noqa: N812
from benchmarks._timing import alternate, temporaries

ROWS, EPSILON, BETA = 16, 0.2, 0.1


def arrays(tokens, classes, features):
    """Features of `ROWS` sequences, weights and what the losses need, in float32."""
    rng = np.random.default_rng(0)
    shape = (ROWS, tokens // ROWS)

    def normal(*size):
        return rng.normal(size=size).astype(np.float32)

    return {
        "f": normal(*shape, features),
        "w": normal(features, classes) * np.float32(0.05),
        "f_teacher": normal(*shape, features),
        "w_teacher": normal(features, classes) * np.float32(0.05),
        "y": rng.integers(0, classes, shape).astype(np.int32),
        "old": np.log(1 / classes).astype(np.float32) + normal(*shape),
        "advantages": normal(ROWS),
    }


def of_jax():
    """For each case the plain composition, and ours; functions of features, weights and `arrays`."""

    def plain(f, w, y):
        return jnp.take_along_axis(jax.nn.log_softmax(f @ w), y[..., None], -1)[..., 0]

    def grpo(log_probs):
        return lambda f, w, x: L.grpo_loss(log_probs(f, w, x["y"]), x["old"], x["advantages"])

    def dpo(log_probs):
        def loss(f, w, x):
            reference = log_probs(x["f_teacher"], x["w_teacher"], x["y"]).sum(-1)
            sums = log_probs(f, w, x["y"]).sum(-1), reference
            return L.dpo_loss(*(half for s in sums for half in jnp.split(s, 2))).mean()

        return loss

    def plain_jsd(f, w, x):
        log_s, log_t = (
            jax.nn.log_softmax(f @ w),
            jax.nn.log_softmax(x["f_teacher"] @ x["w_teacher"]),
        )
        s, t = jnp.exp(log_s), jnp.exp(log_t)
        log_m = jnp.log((s + t) / 2)
        return (jnp.sum(t * (log_t - log_m) + s * (log_s - log_m), -1) / 2).mean()

    def jsd(f, w, x):
        teacher = x["f_teacher"], x["w_teacher"]
        return L.linear_distillation_loss(f, w, *teacher, divergence="jsd").mean()

    def plain_cross_entropy(f, w, x):
        return -plain(f, w, x["y"]).mean()

    def cross_entropy(f, w, x):
        return L.linear_softmax_cross_entropy(f, w, x["y"]).mean()

    chunked = L.linear_log_probs
    return {
        "cross entropy": {"plain": plain_cross_entropy, "optx": cross_entropy},
        "log-probabilities + GRPO": {"plain": grpo(plain), "optx": grpo(chunked)},
        "DPO, with the reference": {"plain": dpo(plain), "optx": dpo(chunked)},
        "distillation, JSD": {"plain": plain_jsd, "optx": jsd},
    }


def of_torch(x):
    """The same in torch, with weights [classes, features], and what is installed beside it."""
    import torch

    def tensor(name):
        return torch.tensor(x[name])

    y, old, a, other = tensor("y").long(), tensor("old"), tensor("advantages"), tensor("f_teacher")
    w_other = tensor("w_teacher").T.contiguous()
    flat = y.flatten()

    def log_probs(f, w):
        return torch.log_softmax(f @ w.T, -1).gather(-1, y[..., None])[..., 0]

    def grpo(f, w):
        ratio = torch.exp(log_probs(f, w) - old)
        limited = ratio.clamp(1 - EPSILON, 1 + EPSILON)
        return -torch.minimum(ratio * a[:, None], limited * a[:, None]).mean(-1).mean()

    def dpo(f, w):
        with torch.no_grad():
            reference = log_probs(other, w_other).sum(-1)
        chosen, rejected = (log_probs(f, w).sum(-1) - reference).chunk(2)
        return -torch.nn.functional.logsigmoid(BETA * (chosen - rejected)).mean()

    def jsd(f, w):
        log_s, log_t = torch.log_softmax(f @ w.T, -1), torch.log_softmax(other @ w_other.T, -1)
        s, t = log_s.exp(), log_t.exp()
        log_m = ((s + t) / 2).log()
        return ((t * (log_t - log_m) + s * (log_s - log_m)).sum(-1) / 2).mean()

    def cross_entropy(f, w):
        return torch.nn.functional.cross_entropy((f @ w.T).flatten(0, 1), flat)

    cases = {
        "cross entropy": {"torch, plain": cross_entropy},
        "log-probabilities + GRPO": {"torch, plain": grpo},
        "DPO, with the reference": {"torch, plain": dpo},
        "distillation, JSD": {"torch, plain": jsd},
    }
    if importlib.util.find_spec("cut_cross_entropy"):
        from cut_cross_entropy import linear_cross_entropy

        cases["cross entropy"]["cut-cross-entropy"] = lambda f, w: linear_cross_entropy(
            f, w, y, impl="torch_compile"
        )
    if importlib.util.find_spec("liger_kernel"):
        from liger_kernel import chunked_loss as liger

        policy = liger.LigerFusedLinearGRPOLoss(
            beta=0.0, loss_type="grpo", use_ref_model=False, compiled=False
        )
        preference = liger.LigerFusedLinearDPOLoss(beta=BETA, compiled=False)
        divergence = liger.LigerFusedLinearJSDLoss(0.0, 1.0, compiled=False, chunk_size=256)
        ones = torch.ones_like(y, dtype=torch.float32)
        cases["log-probabilities + GRPO"]["Liger-Kernel"] = lambda f, w: policy(
            f, w, y, ones, a, old_per_token_logps=old
        )[0]
        cases["DPO, with the reference"]["Liger-Kernel"] = lambda f, w: preference(
            w, f, y, None, other, w_other
        )[0]
        cases["distillation, JSD"]["Liger-Kernel"] = lambda f, w: divergence(
            f.flatten(0, 1), w, other.flatten(0, 1), w_other, flat
        )
    return cases


def compiled(loss, f, w, x):
    """A run of the value and the gradients, and the bytes of its temporaries."""
    program = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(f, w, x).compile()
    return lambda: program(f, w, x)[0], temporaries(program)


def eager(loss, f, w):
    """The same for torch, whose temporaries are the peak of its allocations, less the gradients."""
    import torch

    leaves = [torch.tensor(a).requires_grad_() for a in (f, np.ascontiguousarray(w.T))]

    def run():
        for leaf in leaves:
            leaf.grad = None
        value = loss(*leaves)
        value.backward()
        return value.item()

    run()  # what is compiled or kept from call to call
    for leaf in leaves:
        leaf.grad = None
    with torch.profiler.profile(profile_memory=True) as profile:
        run()
    events = profile.profiler.kineto_results.events()
    changes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return run, int(np.cumsum(changes).max()) - sum(leaf.grad.nbytes for leaf in leaves)


def main():
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--classes", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    console = Console(width=120)
    for name in ("torch", "liger_kernel", "cut_cross_entropy"):
        if not importlib.util.find_spec(name):
            console.print(f"{name} is not installed: its losses are left out")
    x = arrays(given.tokens, given.classes, given.features)
    beside = of_torch(x) if importlib.util.find_spec("torch") else {}
    size = f"{given.tokens} × {given.classes} × {given.features}"
    given_jax = jax.tree.map(jnp.asarray, x)
    for case, losses in of_jax().items():
        f, w = given_jax["f"], given_jax["w"]
        made = {f"JAX, {name}": compiled(loss, f, w, given_jax) for name, loss in losses.items()}
        made |= {name: eager(loss, x["f"], x["w"]) for name, loss in beside.get(case, {}).items()}
        runs = {name: run for name, (run, _) in made.items()}
        values = [float(run()) for run in runs.values()]
        np.testing.assert_allclose(values, values[0], rtol=1e-4, atol=1e-5)
        wall = alternate(runs, rounds=given.rounds, warmup=1)
        cpu = alternate(runs, rounds=given.rounds, warmup=0, clock=time.process_time)
        first = next(iter(made))
        table = Table(
            "candidate", "seconds", "× plain", "CPU seconds", "× plain", "temporaries, MiB", "× plain",
            title=f"{case}, {size}")  # fmt: skip
        for name, (_, held) in made.items():
            table.add_row(
                name, f"{wall[name]:.2f}", f"{wall[name] / wall[first]:.2f}",
                f"{cpu[name]:.2f}", f"{cpu[name] / cpu[first]:.2f}",
                f"{held / 2**20:.0f}", f"{held / made[first][1]:.2f}")  # fmt: skip
        console.print(table)


if __name__ == "__main__":
    main()
