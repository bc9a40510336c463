"""Run by test_two_processes.py: one of several processes that train together, over gloo on loopback.

    training_in_two_processes.py RANK PROCESSES PORT CHECKPOINTS TASKS

A task is the name of a layout, "offloaded owners", or DiLoCo; one with a "+" at its end saves a checkpoint after each step and
goes on from the last one there is. Each step prints a line of JSON.
"""

import json
import pathlib
import sys

import jax

rank, processes, port = map(int, sys.argv[1:4])
jax.config.update("jax_platforms", "cpu")
if processes > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        f"127.0.0.1:{port}", num_processes=processes, process_id=rank, initialization_timeout=60
    )

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import orbax.checkpoint as ocp  # noqa: E402
from jax.sharding import NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

from flax import nnx  # noqa: E402
from optx_aliases import adamw, sgd, soap  # noqa: E402
from optx_core import apply_updates, diloco, offload, with_ema, zero1_rule  # noqa: E402
from optx_flax import abstract_state, compile_step, create_sharded, restore_into  # noqa: E402

STEPS = 6
COUNT = jax.device_count()
MESH = jax.make_mesh((COUNT,), ("data",), (jax.sharding.AxisType.Auto,))
RULE = zero1_rule("data", COUNT)
LAYOUTS = {"data parallel": {}, "FSDP": {"param_rule": RULE}, "ZeRO-1": {"rule": RULE}}
X = np.cos(np.arange(STEPS * 8 * 16, dtype=np.float32)).reshape(STEPS, 8, 16)
Y = np.sin(3 * np.arange(STEPS * 8 * 4, dtype=np.float32)).reshape(STEPS, 8, 4)


class Net(nnx.Module):
    def __init__(self):
        self.w1 = nnx.Param(jnp.sin(jnp.arange(16 * 32.0)).reshape(16, 32) / 4)
        self.w2 = nnx.Param(jnp.sin(jnp.arange(32 * 4.0)).reshape(32, 4) / 4)
        self.b2 = nnx.Param(jnp.zeros(4))

    def __call__(self, x):
        return jnp.tanh(x @ self.w1[...]) @ self.w2[...] + self.b2[...]


def train_step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(lambda m: jnp.mean((m(x) - y) ** 2))(model)
    optimizer.update(model, grads)
    return loss


def local(batch, sharding=None):
    """This process's share of a batch, as a part of the whole."""
    share = len(batch) // processes
    part = batch[rank * share : (rank + 1) * share]
    sharding = NamedSharding(MESH, P("data")) if sharding is None else sharding
    return jax.make_array_from_process_local_data(sharding, part)


def train_diloco(checkpoints):
    """Two workers, in one process or in two: every third step they agree, on one half of the arrays each time."""
    mesh = jax.make_mesh(
        (2,), ("workers",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:2]
    )
    own = NamedSharding(mesh, P("workers"))
    outer = sgd(0.7, momentum=0.9, nesterov=True)
    tx = diloco(adamw(1e-2), outer, 3, axis_name="workers", fragments=2)

    def loss_fn(params, x, y):
        return jnp.mean((jnp.tanh(x @ params["w1"]) @ params["w2"] + params["b2"] - y) ** 2)

    def start():
        model = Net()
        params = {name: getattr(model, name)[...] for name in ("w1", "w2", "b2")}
        return jax.tree.map(lambda x: jnp.stack([x, x]), (params, tx.init(params)))

    def step(params, state, x, y):
        loss, grads = jax.value_and_grad(loss_fn)(params, x, y)
        updates, state = tx.update(grads, state, params)
        return (apply_updates(params, updates), state), jax.lax.pmean(loss, "workers")

    workers = jax.vmap(step, axis_name="workers", spmd_axis_name="workers", out_axes=(0, None))
    run = jax.jit(workers, out_shardings=(own, NamedSharding(mesh, P())))
    first, carry = 0, jax.jit(start, out_shardings=own)()
    if checkpoints is not None:
        saver = ocp.StandardCheckpointer()
        saved = [int(p.name) for p in checkpoints.iterdir() if p.name.isdigit()]
        if saved:
            first = max(saved)
            carry = saver.restore(checkpoints / str(first), jax.tree.map(ocp_target, carry))
    for k in range(first, STEPS):
        x, y = (local(batch.reshape(2, 4, -1), own) for batch in (X[k], Y[k]))
        carry, loss = run(*carry, x, y)
        print(json.dumps({"layout": "DiLoCo", "step": k, "loss": float(loss)}), flush=True)
        if checkpoints is not None:
            saver.save(checkpoints / str(k + 1), carry)
            saver.wait_until_finished()


def ocp_target(x):
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)


def in_layout(layout):
    """A model and its optimizer, whose state lies as the layout says."""
    if layout == "offloaded owners":
        tx = offload(soap(1e-2, precondition_frequency=2))
        model, optimizer = create_sharded(Net, tx, MESH)
        basis = optimizer.opt_state[0].left_basis["w1"][...].sharding
        assert "data" in tuple(basis.spec), basis
        assert basis.memory_kind == "pinned_host", basis
        return model, optimizer
    model, optimizer = create_sharded(Net, with_ema(adamw(1e-2), 0.9), MESH, **LAYOUTS[layout])
    moments = optimizer.opt_state.inner_state[0].mu["w1"][...]
    split = "data" in tuple(moments.sharding.spec)
    assert split == (layout != "data parallel"), moments.sharding
    return model, optimizer


def train(layout, checkpoints):
    model, optimizer = in_layout(layout)
    first = 0
    with jax.set_mesh(MESH):
        if checkpoints is not None:
            saver = ocp.StandardCheckpointer()
            saved = [int(p.name) for p in checkpoints.iterdir() if p.name.isdigit()]
            if saved:
                first = max(saved)
                target = abstract_state(model, optimizer, MESH)
                restored = saver.restore(checkpoints / str(first), target)
                report = restore_into((model, optimizer), restored)
                assert report.missing == report.unexpected == ()
        step = compile_step(train_step, model, optimizer)
        for k in range(first, STEPS):
            loss = float(step(local(X[k]), local(Y[k])))
            print(json.dumps({"layout": layout, "step": k, "loss": loss}), flush=True)
            if checkpoints is not None:
                step.sync()
                saver.save(checkpoints / str(k + 1), nnx.state((model, optimizer)))
                saver.wait_until_finished()
        step.sync()
        assert int(optimizer.step[...]) == STEPS


for task in sys.argv[5].split(","):
    folder = pathlib.Path(sys.argv[4]) if task.endswith("+") else None
    if task.startswith("DiLoCo"):
        train_diloco(None if folder is None else folder / "DiLoCo")
    elif task.startswith("offloaded owners"):
        train("offloaded owners", None if folder is None else folder / "owners")
    else:
        train(task.removesuffix("+"), folder)
print("done", flush=True)
