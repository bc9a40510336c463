"""Every optimizer names wrong parameters and states, and takes NumPy's double precision in silence."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimizer_rows import ROWS

import optx_aliases
from optx_core.build import call_of

NAMES = [name for name in ROWS if "," not in name and call_of(ROWS[name].make()) is not None]
MODEL = {"layer": {"act": jax.nn.gelu, "w": jnp.ones((2, 2))}}
PARAMS = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}


@pytest.mark.filterwarnings("ignore:.*requires ndarray or scalar:DeprecationWarning")
@pytest.mark.parametrize("name", NAMES)
def test_a_model_with_functions_is_refused_by_path_or_makes_no_state(name):
    tx = ROWS[name].make()
    shapes = jax.eval_shape(tx.init, PARAMS)
    if all(x.ndim == 0 for x in jax.tree.leaves(shapes)):
        pytest.skip("nothing is kept for each parameter")
    with pytest.raises(
        TypeError, match=r"params\['layer'\]\['act'\] is <.*, which is not an array"
    ) as e:
        tx.init(MODEL)
    assert str(e.value).startswith(f"{call_of(tx).name}: ")


@pytest.mark.parametrize("name", NAMES)
def test_the_state_of_another_optimizer_is_named(name):
    row = ROWS[name]
    tx = row.make()
    own = jax.eval_shape(tx.init, PARAMS)
    if not jax.tree.leaves(own):
        pytest.skip("it has no state")
    extra = {} if row.extra_args is None else row.extra_args(PARAMS, PARAMS)
    with pytest.raises(ValueError, match=r"the state .*made by the init of another"):
        tx.update(PARAMS, {"of": {"another": jnp.ones(1)}}, PARAMS, **extra)


@pytest.mark.parametrize("name", NAMES)
def test_numpy_parameters_in_double_precision_give_no_warning(name):
    params = {"w": np.linspace(0.1, 1.0, 4).reshape(2, 2), "b": np.ones(2)}
    state = jax.eval_shape(lambda: ROWS[name].make().init(params))  # a warning is an error
    floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert all(x.dtype.itemsize <= 4 for x in floats)


SCHEDULED = [
    name
    for name, made in ((n, getattr(optx_aliases, n)) for n in optx_aliases.__all__)
    if inspect.isfunction(made)
    and name != "sophia"  # needs another argument
    and "learning_rate" in inspect.signature(made).parameters
    and "ScalarOrSchedule" in str(inspect.signature(made).parameters["learning_rate"].annotation)
    and all(
        p.default is not p.empty or p.name == "learning_rate" or p.kind is p.VAR_KEYWORD
        for p in inspect.signature(made).parameters.values()
    )
]


@pytest.mark.parametrize("name", SCHEDULED)
def test_a_schedule_that_returns_a_tuple_is_refused(name):
    def run():
        tx = getattr(optx_aliases, name)(learning_rate=lambda count: (1e-3,))
        extra = {"value": jnp.float32(1.0), "loss": jnp.float32(1.0)}
        jax.eval_shape(lambda p: tx.update(p, tx.init(p), p, **extra), PARAMS)

    with pytest.raises(TypeError, match=r"a schedule must return a number, but .* returned"):
        run()
