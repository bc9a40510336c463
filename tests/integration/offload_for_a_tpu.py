"""Memory of an update with `offload`, compiled for a TPU that need not be there.

hatch run ahead:python tests/integration/offload_for_a_tpu.py
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from optx_aliases import adamw
from optx_core import apply_updates, offload, state_sharding

MB = 2**20
topology = topologies.get_topology_desc("v5e:2x2", "tpu", chips_per_host_bounds=(2, 2, 1))
mesh = Mesh(np.array(topology.devices), ("data",))
replicated = NamedSharding(mesh, PartitionSpec())
PARAMS = {
    f"w{k:02}": jax.ShapeDtypeStruct((2048, 2048), jnp.float32, sharding=replicated)
    for k in range(16)
}


def memory(tx):
    """Bytes on the device beside parameters, gradients and results, and bytes of state on the host."""

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return apply_updates(params, updates), state

    shapes, places = jax.eval_shape(tx.init, PARAMS), state_sharding(tx, PARAMS)
    state = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, places
    )
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(PARAMS, state, PARAMS).compile()
    told = compiled.memory_analysis()
    return told.temp_size_in_bytes / MB, told.host_argument_size_in_bytes / MB


if __name__ == "__main__":
    for name, tx in {
        "adamw": adamw(1e-3),
        **{f"offload, {n} MB": offload(adamw(1e-3), n * MB) for n in (64, 128, 256, 2048)},
    }.items():
        on_device, on_host = memory(tx)
        print(f"{name}: {on_device:.0f} MB on the device, {on_host:.0f} MB of state on the host")
