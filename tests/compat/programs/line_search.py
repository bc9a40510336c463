"""L-BFGS with its line search, which keeps value and gradient for the next step."""

import jax
import jax.numpy as jnp
import optax


def rosenbrock(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def main():
    tx = optax.lbfgs(memory_size=5)
    value_and_grad = optax.value_and_grad_from_state(rosenbrock)

    def step(carry, _):
        params, state = carry
        value, grad = value_and_grad(params, state=state)
        updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=rosenbrock)
        params = optax.apply_updates(params, updates)
        return (params, state), (value, optax.tree_utils.tree_norm(grad))

    params = jnp.array([-1.0, 0.8])
    (params, state), (values, _) = jax.lax.scan(step, (params, tx.init(params)), length=6)
    return {"params": params, "values": values, "count": optax.tree.get(state, "count")}
