"""Run by test_scale.py with eight fake devices: the blocks of docs/scale.md, then its table."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "scale.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
SLICES = 16
BITS = {"pred": 8, "s8": 8, "u8": 8, "bf16": 16, "s32": 32, "u32": 32, "f32": 32}
COLLECTIVE = re.compile(
    r" = (.*?) (?:all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)


def bytes_of(shapes):
    """The bytes of the shapes in a line of HLO, such as "(f32[8,2]{1,0}, f32[])"."""
    return sum(
        BITS[kind] // 8 * int(np.prod([int(n) for n in dims.split(",") if n]))
        for kind, dims in re.findall(r"(\w+)\[([\d,]*)\]", shapes)
    )


def held(arrays, kind):
    return sum(
        x.addressable_shards[0].data.nbytes
        for x in jax.tree.leaves(arrays)
        if x.sharding.memory_kind == kind
    )


def row(name, page, tx, params, mesh_axes="data", own=None):
    """A line of the table, for a step as the page has it."""
    gradient = page["micro_grad"](page["loss"], len(page["batch"]) // SLICES, mesh_axes=mesh_axes)

    def step(params, state, x):
        updates, state = tx.update(gradient(params, x), state, params)
        return page["apply_updates"](params, updates), state

    split = {} if own is None else {"out_shardings": page["state_sharding"](tx, params)}
    state = jax.jit(tx.init, **split)(params)
    split = {} if own is None else {"out_shardings": (own, split["out_shardings"])}
    text = jax.jit(step, **split).lower(params, state, page["batch"]).compile().as_text()
    in_loop, outside = (COLLECTIVE.findall(part) for part in text.split("\nENTRY "))
    sent = sum(map(bytes_of, outside)) + SLICES * sum(map(bytes_of, in_loop))
    runs = SLICES * len(in_loop)
    numbers = [held(params, "device"), held(state, "device"), held(state, "pinned_host")]
    cells = [
        *(f"{n / 1024:,.0f}" for n in numbers),
        len(outside) + runs,
        runs,
        f"{sent / 1024:,.0f}",
    ]
    print("|", name, "|", " | ".join(map(str, cells)), "|")


def table(page):
    weights, adamw, zero1 = page["weights"], page["adamw"](1e-3), page["zero1"]
    mesh, split = page["mesh"], page["split"]
    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    whole = jax.device_put(weights, replicated)
    narrow = jax.tree.map(lambda p: p.astype(jnp.bfloat16), whole)
    parts = jax.device_put(weights, split)

    def over_data(tx):
        return zero1(tx, "data", mesh=mesh, param_shardings=page["own"])

    row("data parallel, without `mesh_axes`", page, adamw, whole, mesh_axes=None)
    row("data parallel", page, adamw, whole)
    row("ZeRO-1", page, over_data(adamw), whole)
    row("FSDP, without `mesh_axes`", page, adamw, parts, mesh_axes=None, own=split)
    row("FSDP", page, adamw, parts, own=split)
    row("data parallel, 8 bits", page, page["quantize_state"](adamw), whole)
    row("ZeRO-1, bfloat16", page, over_data(page["master_weights"](adamw)), narrow)
    row("data parallel, on the host", page, page["offload"](adamw), whole)
    row("ZeRO-1, on the host", page, over_data(page["offload"](adamw)), whole)


if __name__ == "__main__":
    page = {}
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec"), page)
        if "value" in page:
            assert np.isfinite(np.asarray(page["value"])).all()
    table(page)
