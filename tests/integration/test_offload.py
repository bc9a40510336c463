"""State in the host's memory inside `nnx.Optimizer`, with AdamW and 8-bit moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax import nnx
from optx_aliases import adamw, quantize_state
from optx_core import offload, zero1_rule
from optx_flax import abstract_state, compile_step, create_sharded

X = jnp.asarray(np.random.default_rng(0).normal(size=(16, 8)), jnp.float32)


@pytest.fixture(autouse=True)
def as_a_user_has_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def make_model():
    return nnx.Linear(8, 64, rngs=nnx.Rngs(0))


def train_step(model, optimizer, x):
    loss, grads = nnx.value_and_grad(lambda m: jnp.mean(m(x) ** 2))(model)
    optimizer.update(model, grads)
    return loss


def kinds(optimizer):
    slots = jax.tree.leaves(nnx.as_pure(optimizer.opt_state))
    return {x.sharding.memory_kind for x in slots if x.ndim}


def trained(tx):
    model = make_model()
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    with compile_step(train_step, model, optimizer) as step:
        losses = [float(step(X)) for _ in range(3)]
    return losses, kinds(optimizer)


def test_an_optimizer_trains_the_same_with_its_state_on_the_host():
    inner = quantize_state(adamw(1e-2), min_size=256)
    losses, on_host = trained(offload(inner, 1))
    assert (losses, {"device"}) == trained(inner)
    assert on_host == {"pinned_host"}


def test_state_is_created_on_the_host_and_a_checkpoint_is_restored_there():
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    rule = zero1_rule("data", 1)
    model, optimizer = create_sharded(make_model, offload(adamw(1e-2)), mesh, rule=rule)
    assert kinds(optimizer) == {"pinned_host"}
    with jax.set_mesh(mesh):
        nnx.jit(train_step)(model, optimizer, X)
    assert kinds(optimizer) == {"pinned_host"}
    target = abstract_state(model, optimizer, mesh)
    on_host = [x for x in jax.tree.leaves(target) if x.sharding.memory_kind == "pinned_host"]
    assert len(on_host) == 4  # two moments of two parameters
