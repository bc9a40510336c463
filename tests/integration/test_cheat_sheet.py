"""Every snippet of the project's NNX cheat sheet, as it stands there, with our names for `optax`.

Where it cannot run as it stands, one token is edited, and the trap is tested beside it. (The sheet's
indentation and three brackets, which its printing lost, are put back.)
"""

import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases
import optx_core
import optx_schedules
from flax import nnx
from optx_flax import label_params, place_opt_state
from optx_losses import squared_error


@pytest.fixture(autouse=True)
def as_a_user_has_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


class Names:
    """What the sheet calls `optax`: the packages that hold its names."""

    def __getattr__(self, name):
        for package in (optx_core, optx_aliases, optx_schedules):
            if name in package.__all__:
                return getattr(package, name)
        raise AttributeError(name)


def fresh():
    """What the sheet takes for granted."""
    space = {"jax": jax, "jnp": jnp, "nnx": nnx, "optax": Names(), "learning_rate": 1e-2}
    space["mse_loss"] = lambda model, x, y: squared_error(model(x), y).mean()
    x = jnp.asarray(np.random.default_rng(0).normal(size=(16, 3)), jnp.float32)
    space["data_loader"] = [(x, jnp.sum(x, axis=1, keepdims=True))] * 8
    run(MODEL, space)
    space["model"] = space["MyModel"](nnx.Rngs(0))
    return space


def run(snippet, space, edit=None):
    """Runs a snippet; `edit` replaces one token of it."""
    text = textwrap.dedent(snippet)
    if edit is not None:
        old, new = edit
        assert text.count(old) == 1, (old, text.count(old))
        text = text.replace(old, new)
    exec(compile(text, "cheat sheet", "exec"), space)
    return space


MODEL = """
class MyModel(nnx.Module):
    def __init__(self, rngs):
        self.l1 = nnx.Linear(3, 4, rngs=rngs)
        self.l2 = nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, x):
        return self.l2(nnx.relu(self.l1(x)))
"""

CORE_CONCEPTS = """
opt = optax.adam(learning_rate=1e-3)

# The `wrt` argument specifies what to differentiate with respect to. nnx.Param is the standard choice for trainable parameters.
optimizer = nnx.Optimizer(model, opt, wrt=nnx.Param)
"""

TRAINING = """
@nnx.jit
def train_step(model: MyModel, optimizer: nnx.Optimizer, x_batch, y_batch):
    # 2. Define a loss function for grad calculation
    def loss_fn_for_grad(model_to_train):
        return mse_loss(model_to_train, x_batch, y_batch)

    # 3. Calculate loss and gradients simultaneously
    loss, grads = nnx.value_and_grad(loss_fn_for_grad)(model)

    # 4. Apply gradients to update the model and optimizer state
    optimizer.update(model, grads)

    return model, optimizer, loss

# --- In the main training loop ---
for x, y in data_loader:
    model, optimizer, loss_val = train_step(model, optimizer, x, y)
"""

CLIPPING = """
opt_adam_with_clipping = optax.chain(
    optax.clip_by_global_norm(1.0), # First, clip gradients
    optax.adam(learning_rate=1e-3) # Then, apply Adam update
)
optimizer = nnx.Optimizer(model, opt_adam_with_clipping, wrt=nnx.Param)
"""

SCHEDULE = """
# 1. Define a schedule function
lr_schedule = optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=1e-3,
    warmup_steps=1000,
    decay_steps=9000
)

# 2. Pass the schedule function as the learning_rate
opt_with_schedule = optax.adam(learning_rate=lr_schedule)
optimizer = nnx.Optimizer(model, opt_with_schedule, wrt=nnx.Param)
"""

PARTITION = """
# 1. Create the param_labels PyTree
# (Requires a function to traverse the model state and assign labels based on parameter names)
def label_fn(path, param):
    return 'biases' if 'bias' in path else 'kernels'
params = nnx.state(model, nnx.Param)
param_labels = jax.tree_util.tree_map_with_path(label_fn, params)
# 2. & 3. Define transforms and create the partitioned optimizer
partitioned_opt = optax.partition(
    transforms={
        'kernels': optax.adam(learning_rate=1e-4),
        'biases': optax.sgd(learning_rate=1e-3)
    },
   param_labels=param_labels
)
optimizer = nnx.Optimizer(model, partitioned_opt, wrt=nnx.Param)
"""

SHARDING = """
# Inside a jax.sharding.Mesh context
# shard optimizer state
optimizer_internal_state = nnx.state(optimizer, nnx.optimizer.OptState)
optimizer_shardings = nnx.spmd.get_partition_spec(optimizer_internal_state,
mesh)
sharded_opt_state = jax.lax.with_sharding_constraint(
    optimizer_internal_state, optimizer_shardings
)

nnx.update(optimizer, sharded_opt_state) # Update the optimizer with sharded state
"""

TRANSFORMATIONS = {
    "chain": "opt = optax.chain()",
    "clip_by_global_norm": "opt = optax.clip_by_global_norm(1.0)",
    "adam": "opt = optax.adam(learning_rate=1e-3)",
    "add_decayed_weights": "opt = optax.add_decayed_weights(1e-4)",
    "scale": "opt = optax.scale(-learning_rate)",
}


def loss_of(space):
    return float(space["mse_loss"](space["model"], *space["data_loader"][0]))


@pytest.mark.parametrize(
    ("snippets", "edit"),
    [
        ([CORE_CONCEPTS], None),
        ([CLIPPING], None),
        ([SCHEDULE], None),
        # The one edit that mends its labels; `label_fn` and all the rest stay as they are.
        ([PARTITION], ("jax.tree_util.tree_map_with_path", "nnx.map_state")),
    ],
    ids=["core concepts", "adam with clipping", "a schedule", "per-parameter optimization"],
)
def test_a_recipe_trains_in_the_standard_workflow(snippets, edit):
    space = fresh()
    before = loss_of(space)
    for snippet in snippets:
        run(snippet, space, edit)
    run(TRAINING, space)
    assert int(space["optimizer"].step[...]) == 8
    assert np.isfinite(float(space["loss_val"]))
    if snippets != [SCHEDULE]:  # whose first 1,000 steps are a warm-up from zero
        assert loss_of(space) < before


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_a_transformation_of_the_table_serves_alone_and_in_a_chain(name):
    space = fresh()
    run(TRANSFORMATIONS[name], space)
    run("opt = optax.chain(opt, optax.chain(), optax.scale(-learning_rate))", space)
    run("optimizer = nnx.Optimizer(model, opt, wrt=nnx.Param)", space)
    run(TRAINING, space)
    assert np.isfinite(float(space["loss_val"]))


def test_an_empty_chain_is_the_identity():
    tx = run(TRANSFORMATIONS["chain"], fresh())["opt"]
    updates, _ = tx.update({"w": jnp.ones(2)}, tx.init({"w": jnp.zeros(2)}))
    np.testing.assert_array_equal(updates["w"], 1.0)


def test_trap_the_sheets_labels_are_all_kernels_and_the_error_names_the_cure():
    with pytest.raises(
        ValueError,
        match=r"(?s)no parameter is labelled 'biases'.*'bias' in path.*jax\.tree_util\.keystr\(path\)"
        r".*optx_flax\.label_params",
    ):
        run(PARTITION, fresh())


@pytest.mark.parametrize(
    "edit",
    [
        ("jax.tree_util.tree_map_with_path", "nnx.map_state"),
        ("'bias' in path", "'bias' in jax.tree_util.keystr(path)"),
        ("jax.tree_util.tree_map_with_path(label_fn, params)", "label_params(params, label_fn)"),
    ],
    ids=["map_state", "keystr", "label_params"],
)
def test_each_cure_labels_the_biases(edit):
    space = fresh() | {"label_params": label_params}
    run(PARTITION, space, edit)
    kept = space["optimizer"].opt_state.inner_states
    moments = [x.shape for x in jax.tree.leaves(kept["kernels"].inner_state[0].mu)]
    assert sorted(moments) == [(3, 4), (4, 1)]
    run(TRAINING, space)


def on_a_mesh(kind):
    mesh = jax.make_mesh((1,), ("data",), (kind,))
    space = fresh() | {"mesh": mesh}
    with jax.set_mesh(mesh):
        model = space["model"] = space["MyModel"](nnx.Rngs(0))
        model.l1.kernel.set_metadata(out_sharding=(None, "data"))
        on_it = jax.device_put(nnx.state(model), jax.sharding.NamedSharding(mesh, jax.P()))
        nnx.update(model, on_it)
        run(CORE_CONCEPTS, space)
    return mesh, space


def test_trap_get_partition_spec_takes_no_mesh():
    mesh, space = on_a_mesh(jax.sharding.AxisType.Auto)
    with jax.set_mesh(mesh), pytest.raises(TypeError, match="positional argument"):
        run(SHARDING, space)
    with jax.set_mesh(mesh):
        run(SHARDING, space, (",\nmesh)", ")"))
        run(TRAINING, space)
    assert isinstance(
        space["optimizer"].opt_state[0].mu["l1"]["kernel"].sharding.mesh, jax.sharding.Mesh
    )


@pytest.mark.parametrize("kind", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
def test_the_recipe_by_name_works_on_either_kind_of_mesh(kind):
    mesh, space = on_a_mesh(kind)
    place_opt_state(space["optimizer"], mesh)
    slot = space["optimizer"].opt_state[0].mu["l1"]["kernel"]
    assert tuple(slot.sharding.spec) == (None, "data")
    assert space["optimizer"].step[...].sharding.mesh == mesh
