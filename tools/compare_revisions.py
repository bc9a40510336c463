"""Compares every optimizer of the table with an earlier revision, bit for bit.

    hatch run python tools/compare_revisions.py c97f94d            # every row
    hatch run python tools/compare_revisions.py c97f94d adam soap  # rows whose names begin so

Each row of `tests/aliases/optimizer_rows` runs 12 jitted steps on one sequence of gradients, in a process
with the packages of that revision (a git worktree) and in one with those of the checkout. Updates and
states must have equal bits and equal structures; each difference is printed as a relative error.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
STEPS = 12


def record(out: pathlib.Path, names: list[str]) -> None:
    """Runs the rows with the packages on the path, and writes updates and states to a file."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from optimizer_rows import ROWS

    shapes = {"kernel": (8, 4), "wide": (5, 12), "bias": (4,), "scale": (), "conv": (2, 2, 3, 4)}
    rng = np.random.default_rng(0)
    params = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}
    grads = [
        {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}
        for _ in range(STEPS)
    ]
    results = {}
    for name, row in ROWS.items():
        if names and not name.startswith(tuple(names)):
            continue
        try:
            tx = row.make()

            def step(p, g, state, tx=tx, row=row):  # noqa: ANN001, ANN202
                given = {} if row.extra_args is None else row.extra_args(p, g)
                updates, state = tx.update(g, state, p, **given)
                return jax.tree.map(jnp.add, p, updates), updates, state

            state, p, seen = tx.init(params), params, []
            run = jax.jit(step)
            for g in grads:
                p, updates, state = run(p, g, state)
                seen.append(jax.tree.leaves(updates))
            leaves, structure = jax.tree_util.tree_flatten_with_path(state)
            arrays = [
                jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
                for _, x in leaves
            ]
            paths = [jax.tree_util.keystr(path) for path, _ in leaves]
            results[name] = (
                [np.asarray(x) for row_ in seen for x in row_],
                dict(zip(paths, map(np.asarray, arrays), strict=True)),
                str(structure),
            )
        except Exception as error:  # noqa: BLE001 (compared like any other result)
            results[name] = f"{type(error).__name__}: {error}"
        jax.clear_caches()
    out.write_bytes(pickle.dumps(results))


def differences(before: tuple, after: tuple) -> list[str]:
    """What differs between two results of one row."""
    import numpy as np

    if isinstance(before, str) or isinstance(after, str):
        return [] if before == after else [f"{before!r:.200} | {after!r:.200}"]
    found = []
    if before[2] != after[2]:
        found.append(f"state structure: {before[2]:.300} | {after[2]:.300}")
    pairs = [("updates", a, b) for a, b in zip(before[0], after[0], strict=True)]
    pairs += [(f"state{k}", a, after[1][k]) for k, a in before[1].items() if k in after[1]]
    worst: dict[str, float] = {}
    for what, a, b in pairs:
        if a.shape != b.shape or a.dtype != b.dtype:
            found.append(f"{what}: {a.dtype}{a.shape} | {b.dtype}{b.shape}")
        elif a.tobytes() != b.tobytes():
            size = np.max(np.abs(a), initial=1e-30)
            error = float(np.max(np.abs(a.astype(np.float64) - b.astype(np.float64))) / size)
            worst[what] = max(worst.get(what, 0.0), error)
    return found + [f"{what}: {error:.1e}" for what, error in worst.items()]


def run_side(checkout: pathlib.Path, out: pathlib.Path, names: list[str]) -> subprocess.Popen:
    """Starts the recording of one side."""
    sources = [*checkout.glob("packages/*/src"), checkout / "tests" / "aliases"]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, sources)),
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    command = [sys.executable, __file__, "--record", str(out), *names]
    return subprocess.Popen(command, env=env, cwd=checkout)


def main() -> int:
    """Compares; returns the number of rows that differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("revision")
    parser.add_argument("rows", nargs="*")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        old = place / "old"
        add = ["git", "worktree", "add", "--quiet", "--detach", str(old), args.revision]
        subprocess.run(add, cwd=ROOT, check=True)
        try:
            runs = [
                run_side(old, place / "before.pkl", args.rows),
                run_side(ROOT, place / "after.pkl", args.rows),
            ]
            if any(run.wait() for run in runs):
                return 1
        finally:
            remove = ["git", "worktree", "remove", "--force", str(old)]
            subprocess.run(remove, cwd=ROOT, check=True)
        before = pickle.loads((place / "before.pkl").read_bytes())
        after = pickle.loads((place / "after.pkl").read_bytes())
    differing = 0
    for name in before:
        found = differences(before[name], after[name]) if name in after else ["no such row now"]
        differing += bool(found)
        for text in found:
            print(f"{name}: {text}")
    print(f"{len(before)} rows, {differing} differ")
    return differing


if __name__ == "__main__":
    if sys.argv[1:2] == ["--record"]:
        record(pathlib.Path(sys.argv[2]), sys.argv[3:])
    else:
        sys.exit(main())
