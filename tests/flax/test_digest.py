"""A checkpoint that is not what was saved is refused, by the path of the array that differs."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax import nnx
from optx_core import chain, ema, trace
from optx_flax import digest, restore_into


class Net(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(2, 3, rngs=rngs), nnx.Linear(3, 1, rngs=rngs)])
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.narrow = nnx.Param(jnp.ones(3, jnp.bfloat16))
        self.steps = nnx.Variable(jnp.int32(7))


def objects(seed=0):
    model = Net(nnx.Rngs(seed))
    return model, nnx.Optimizer(model, chain(trace(0.9), ema(0.9)), wrt=nnx.Param)


def saved(made):
    """The state as a store gives it back: nested dicts of NumPy arrays (keys stay)."""

    def plain(x):
        return x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else np.array(x)

    return jax.tree.map(plain, nnx.as_pure(nnx.state(made)))


def places(tree):
    return [
        (path, x)
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
        if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    ]


MADE = objects()
PATHS = [
    "/".join(str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path)
    for path, _ in places(saved(MADE))
]


def test_a_digest_is_a_dict_of_text_and_the_same_for_equal_arrays():
    hashes = digest(MADE)
    assert json.loads(json.dumps(hashes)) == hashes
    assert set(PATHS) <= set(hashes)
    assert digest(objects()) == hashes
    assert digest(objects(1)) != hashes


def test_an_intact_checkpoint_is_restored():
    hashes, state = digest(MADE), saved(MADE)
    other = objects(1)
    report = restore_into(other, state, digest=hashes)
    assert len(report.restored) == len(hashes)
    assert digest(other) == hashes


@pytest.mark.parametrize("place", range(len(PATHS)))
def test_one_flipped_bit_is_named_by_its_path_and_nothing_changes(place):
    hashes, state = digest(MADE), saved(MADE)
    _, array = places(state)[place]
    array.reshape(-1).view(np.uint8)[-1] ^= 1
    other = objects(1)
    before = digest(other)
    message = rf"restore_into: the checkpoint differs from its digest at {PATHS[place]}: "
    for strict in (True, False):
        with pytest.raises(ValueError, match=message):
            restore_into(other, state, strict, digest=hashes)
    assert digest(other) == before


def test_a_key_is_part_of_the_digest():
    hashes, state = digest(MADE), saved(MADE)
    state[0]["drop"]["rngs"]["key"] = jax.random.key(99)
    with pytest.raises(ValueError, match=r"differs from its digest at 0/drop/rngs/key: "):
        restore_into(objects(1), state, digest=hashes)


def test_another_dtype_or_shape_of_the_same_bits_differs():
    one = {"w": jnp.zeros(4, jnp.float32)}
    for other in ({"w": jnp.zeros(4, jnp.int32)}, {"w": jnp.zeros((2, 2), jnp.float32)}):
        assert digest(nnx.Dict(w=nnx.Param(one["w"]))) != digest(nnx.Dict(w=nnx.Param(other["w"])))


def test_missing_and_unknown_arrays_are_named():
    hashes, state = digest(MADE), saved(MADE)
    less = {path: value for path, value in hashes.items() if path != "0/narrow"}
    with pytest.raises(ValueError, match=r"has 0/narrow, which its digest lacks"):
        restore_into(objects(1), state, digest=less)
    del state[0]["narrow"]
    with pytest.raises(ValueError, match=r"lacks 0/narrow of its digest"):
        restore_into(objects(1), state, False, digest=hashes)


def test_without_a_digest_nothing_is_checked():
    state = saved(MADE)
    state[0]["narrow"][0] = 5
    other = objects(1)
    restore_into(other, state)
    assert float(other[0].narrow[0]) == 5


def test_it_works_with_variables_and_with_text_indices():
    hashes = digest(MADE)
    restore_into(objects(1), nnx.state(MADE), digest=hashes)
    state = saved(MADE)

    def texts(node):
        if isinstance(node, list | tuple) and not hasattr(node, "_fields"):
            return {str(k): texts(x) for k, x in enumerate(node)}
        if isinstance(node, dict):
            return {str(k): texts(x) for k, x in node.items()}
        return node

    restore_into(objects(1), texts(state), digest=hashes)


def test_it_checks_what_orbax_restores(tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    from optx_flax import abstract_state

    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    made = model, nnx.Optimizer(model, trace(0.9), wrt=nnx.Param)
    path = pathlib.Path(tmp_path) / "step"
    with ocp.StandardCheckpointer() as saver:
        saver.save(path, nnx.state(made))
    hashes = digest(made)
    with ocp.StandardCheckpointer() as saver:
        restored = saver.restore(path, abstract_state(*made))
    restore_into(made, restored, digest=hashes)
    with pytest.raises(ValueError, match=r"differs from its digest at 0/bias"):
        restore_into(made, restored, digest={**hashes, "0/bias": "0" * 64})
