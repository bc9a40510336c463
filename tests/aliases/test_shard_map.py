"""Inside `jax.shard_map`, whose types tell what varies, each device takes the steps it would take alone."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from optx_aliases import (
    adafactor,
    came,
    cocob,
    dadapt_adamw,
    dadapt_sgd,
    dog,
    lbfgs,
    mechanize,
    momo,
    momo_adam,
    normalize,
    polyak_sgd,
    prodigy,
    sam,
    scale_by_backtracking_linesearch,
    scale_by_zoom_linesearch,
    schedule_free_adamw,
    sgd,
    sm3,
)
from optx_core import apply_updates, chain
from sampling import share

OPTIMIZERS = {
    "lbfgs": lbfgs,
    "lbfgs, no search": lambda: lbfgs(linesearch=None),
    "zoom": lambda: chain(sgd(1.0), scale_by_zoom_linesearch(10)),
    "backtracking": lambda: chain(sgd(1.0), scale_by_backtracking_linesearch(10)),
    "backtracking, store_grad": lambda: chain(
        sgd(1.0), scale_by_backtracking_linesearch(10, store_grad=True)
    ),
    "polyak_sgd": polyak_sgd,
    "momo": momo,
    "momo_adam": momo_adam,
    "dog": dog,
    "prodigy": prodigy,
    "dadapt_sgd": dadapt_sgd,
    "dadapt_adamw": dadapt_adamw,
    "mechanize": lambda: mechanize(sgd(1.0)),
    "cocob": cocob,
    "sam": lambda: sam(sgd(0.1), chain(normalize(), sgd(0.05))),
    "schedule_free": lambda: schedule_free_adamw(0.1),
    "sm3": lambda: sm3(0.1),
    "adafactor": lambda: adafactor(0.1),
    "came": lambda: came(0.1),
}


def test_each_device_takes_its_own_steps(on_devices):
    assert on_devices(__file__, count=2).strip().endswith("ok")


def on_two_devices():
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
    start = jnp.arange(4.0)

    def loss(p):
        return jnp.sum((p - 1.0) ** 4)

    def steps(make, p):
        tx = make()
        state = tx.init(p)
        for _ in range(2):
            value, grad = jax.value_and_grad(loss)(p)
            updates, state = tx.update(grad, state, p, value=value, grad=grad, value_fn=loss)
            p = apply_updates(p, updates)
        return p

    for name in share(OPTIMIZERS, 3):
        make = OPTIMIZERS[name]
        run = jax.jit(lambda p, make=make: steps(make, p))
        apart = np.concatenate([run(p) for p in start.reshape(2, 2)])
        together = jax.shard_map(
            lambda p, make=make: steps(make, p),
            mesh=mesh,
            in_specs=P("d"),
            out_specs=P("d"),
            check_vma=True,
        )
        np.testing.assert_allclose(jax.jit(together)(start), apart, rtol=1e-5, err_msg=name)


if __name__ == "__main__":
    on_two_devices()
    sys.stdout.write("ok\n")
