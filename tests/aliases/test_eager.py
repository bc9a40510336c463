"""Un-jitted updates: from the second on, nothing is compiled."""

import jax
import jax.monitoring
import jax.numpy as jnp
import pytest
from optimizer_rows import ROWS

import optx_aliases as a
import optx_core as c

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 12).reshape(4, 3), "b": jnp.ones(3)}
GRADS = jax.tree.map(jnp.cos, PARAMS)
OPTIMIZERS = {name: (row.make, row.extra_args) for name, row in ROWS.items() if "," not in name}
WRAPPERS = {
    "clip_by_global_norm": lambda: c.clip_by_global_norm(1.0),
    "normalize_by_update_norm": lambda: c.normalize_by_update_norm(1.0),
    "adaptive_grad_clip": lambda: c.adaptive_grad_clip(0.1),
    "clip_by_block_rms": lambda: c.clip_by_block_rms(0.1),
    "apply_if_finite": lambda: c.apply_if_finite(a.adam(0.1), 3),
    "skip_if": lambda: c.skip_if(a.adam(0.1)),
    "multi_steps": lambda: c.multi_steps(a.adam(0.1), 2),
    "conditionally_transform": lambda: c.conditionally_transform(
        a.adam(0.1), lambda step: step > 0
    ),
    "conditionally_mask": lambda: c.conditionally_mask(a.adam(0.1), lambda step: step > 0),
    "dynamic_loss_scale": lambda: c.dynamic_loss_scale(a.adam(0.1)),
    "master_weights": lambda: c.master_weights(a.adam(0.1)),
    "master_weights, 24 bits": lambda: c.master_weights(a.adam(0.1), bits=24),
    "stochastic_rounding": lambda: c.stochastic_rounding(a.adam(0.1)),
    "with_ema": lambda: c.with_ema(a.adam(0.1)),
    "inject_hyperparams": lambda: c.inject_hyperparams(a.adam)(0.1),
    "flatten": lambda: c.flatten(a.adam(0.1)),
    "partition": lambda: c.partition({"x": a.adam(0.1), "y": a.sgd(0.1)}, {"w": "x", "b": "y"}),
    "a schedule": lambda: a.adam(lambda step: 0.1 / (1.0 + step.astype(jnp.float32))),
}
# A line search and an estimator of the Hessian close over the loss, which may be another function at each call.
COMPILES = {"lbfgs", "sophia"}


@pytest.fixture
def compilations():
    """The number of programs compiled so far."""
    count = [0]

    def listen(event, _duration, **_):
        count[0] += "backend_compile" in event

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield lambda: count[0]
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", [*OPTIMIZERS, *WRAPPERS])
def test_later_updates_compile_nothing(name, compilations):
    make, extra_args = OPTIMIZERS.get(name) or (WRAPPERS[name], None)
    tx = make()
    state, before = tx.init(PARAMS), 0
    for step in range(4):
        extra = extra_args(PARAMS, GRADS) if extra_args else {}
        before = compilations() if step == 3 else 0
        _, state = tx.update(GRADS, state, PARAMS, **extra)
    made = compilations() - before
    assert (made > 0) if name in COMPILES else (made == 0)


@pytest.mark.parametrize("norm", [c.global_norm, c.tree.norm])
def test_norms_are_compiled_once(norm, compilations):
    norm(GRADS)
    before = compilations()
    norm(GRADS)
    assert compilations() == before
