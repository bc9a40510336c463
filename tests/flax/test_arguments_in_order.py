"""Arguments in another order, and filters by rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax import nnx
from optx_core import scale, trace
from optx_flax import freeze, trainable


def model():
    return nnx.Linear(2, 3, kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))


ORDERS = {
    "the optimizer first": (lambda m, rules, tx: freeze(tx, m, rules), "call freeze"),
    "the rules last": (lambda m, rules, tx: freeze(m, tx, rules), "call freeze"),
    "the rules first": (lambda m, rules, tx: freeze(rules, m, tx), "the first argument must be"),
    "the optimizer first, the rules second": (
        lambda m, rules, tx: freeze(tx, rules, m),
        "call freeze",
    ),
}


@pytest.mark.parametrize("order", ORDERS)
def test_freeze_with_its_arguments_in_another_order_says_how_to_call_it(order):
    call, message = ORDERS[order]
    with pytest.raises(TypeError, match=rf"(?s)freeze: .*{message}"):
        call(model(), r"kernel$", trace(0.9))


def test_trainable_of_a_model_and_a_rule_trains_that_part_alone():
    net = model()
    only = trainable(net, r"bias$")
    optimizer = nnx.Optimizer(net, scale(-0.5), wrt=only)
    grads = nnx.grad(lambda m: m(jnp.ones((1, 2))).sum(), argnums=nnx.DiffState(0, only))(net)
    assert jax.tree.leaves(grads)
    optimizer.update(net, grads)
    np.testing.assert_allclose(net.bias[...], -0.5)
    np.testing.assert_allclose(net.kernel[...], 1.0)


def test_trainable_refuses_a_rule_that_matches_nothing_and_a_rule_alone():
    with pytest.raises(ValueError, match="trainable"):
        trainable(model(), r"no such")
    with pytest.raises(TypeError, match="trainable: pass it as a filter"):
        trainable(r"kernel$", model())
