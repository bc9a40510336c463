"""Versions, devices and settings for a bug report, printed by `python -m optx_core`."""

import importlib.metadata
import platform
import sys

import jax

_BESIDE = ("jax", "jaxlib", "numpy", "flax", "optax", "orbax-checkpoint")


def report() -> str:
    """Returns the versions, the devices and the settings of jax that matter, a line each."""
    installed = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    optx = sorted(name for name in installed if name.startswith("optx-"))
    lines = [f"Python {platform.python_version()} on {platform.platform()}"]
    lines += [f"{name} {installed[name]}" for name in (*optx, *_BESIDE) if name in installed]
    kinds = ", ".join(sorted({f"{d.platform} ({d.device_kind})" for d in jax.devices()}))
    lines.append(f"devices: {jax.device_count()} × {kinds}, {jax.process_count()} process(es)")
    for name in ("jax_enable_x64", "jax_numpy_dtype_promotion", "jax_default_matmul_precision"):
        lines += [f"{name}: {getattr(jax.config, name)}"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(report() + "\n")
