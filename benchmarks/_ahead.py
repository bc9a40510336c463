"""Devices that need not be there: programs are compiled for them, and their bytes counted.

The environment `ahead` has the plugins of jax (Linux on x86-64).
"""

from __future__ import annotations

from typing import Any

import jax

from benchmarks._timing import bytes_accessed

# What XLA has to know of an H100 to compile for it: the data sheet's numbers.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84978434048
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 minor: 0 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
TARGETS: dict[str, tuple[str, dict[str, Any]]] = {
    "cuda": ("H100", {"target_config": H100, "topology": "1x1x1"}),
    "tpu": ("v5e:2x2", {"chips_per_host_bounds": (2, 2, 1)}),
}


def device_of(platform: str) -> Any:
    """A device of the platform, described."""
    from jax.experimental import topologies

    name, kwargs = TARGETS[platform]
    return topologies.get_topology_desc(name, platform, **kwargs).devices[0]


def bytes_moved(program: Any) -> float:
    """Bytes that a program for such a device reads and writes."""
    try:
        return bytes_accessed(program)
    except TypeError:  # a program for a GPU that is not there does not count itself
        from jax._src.lib import xla_client

        client = jax.devices("cpu")[0].client
        (module,) = program.runtime_executable().hlo_modules()
        return xla_client._xla.hlo_module_cost_analysis(client, module)["bytes accessed"]
