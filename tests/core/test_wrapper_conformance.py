"""Every wrapper and transform keeps the promises: alone, in a chain, and inside each other wrapper."""

import jax
import jax.numpy as jnp
import pytest

import sampling
from optx_core import (
    adaptive_grad_clip,
    add_decayed_weights,
    add_noise,
    apply_every,
    apply_if_finite,
    cautious_decay,
    centralize,
    chain,
    clip_by_block_rms,
    clip_by_global_norm,
    conditionally_mask,
    conditionally_transform,
    corrected_decay,
    diloco,
    dynamic_loss_scale,
    ema,
    flatten,
    freeze,
    global_norm,
    independent_decay,
    inject_hyperparams,
    keep_params_nonnegative,
    lookahead,
    masked,
    master_weights,
    measure_with_ema,
    monitor,
    multi_steps,
    named_chain,
    normalize_by_update_norm,
    offload,
    partition,
    per_slice,
    scale,
    selective_transform,
    skip_if,
    skip_not_finite,
    snapshot,
    stochastic_rounding,
    trace,
    with_ema,
    zero1,
    zero_nans,
)
from optx_testing import check_transformation


def matrices(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


def layers(params):
    """One axis of every matrix is a stack."""
    return jax.tree.map(lambda p: int(p.ndim > 1), params)


def by_rank(params):
    return jax.tree.map(lambda p: "matrix" if p.ndim > 1 else "rest", params)


def outer_names(params):
    """True for some leaves of either rank, whatever stands in their place."""
    return jax.tree_util.tree_map_with_path(
        lambda path, p: jax.tree_util.keystr(path).endswith("1']"), params
    )


def odd(step):
    return step % 2 == 1


def early(step):
    return step < 3


def halving(step):
    return 0.5 ** jnp.asarray(step, jnp.float32)


WRAPPERS = {
    "apply_if_finite": lambda tx: apply_if_finite(tx, 3),
    "chain": lambda tx: chain(clip_by_global_norm(1.0), tx),
    "conditionally_mask": lambda tx: conditionally_mask(tx, early),
    "conditionally_transform": lambda tx: conditionally_transform(tx, odd),
    "diloco": lambda tx: diloco(tx, trace(0.9), 2, fragments=2),
    "dynamic_loss_scale": lambda tx: dynamic_loss_scale(tx, 4.0),
    "flatten": flatten,
    "lookahead": lambda tx: lookahead(tx, 2, 0.5),
    "masked": lambda tx: masked(tx, matrices),
    "master_weights": master_weights,
    "master_weights, 24 bits": lambda tx: master_weights(tx, bits=24),
    "multi_steps": lambda tx: multi_steps(tx, 2),
    "multi_steps, skipping": lambda tx: multi_steps(tx, 2, should_skip_update_fn=skip_not_finite),
    "offload": lambda tx: offload(tx, chunk_bytes=32),
    "named_chain": lambda tx: named_chain(("inner", tx)),
    "partition": lambda tx: partition({"matrix": tx, "rest": scale(0.1)}, by_rank),
    "per_slice": lambda tx: per_slice(tx, layers),
    "selective_transform": lambda tx: selective_transform(tx, freeze_mask=matrices),
    "skip_if": lambda tx: skip_if(tx, "norm"),
    "skip_if, window": lambda tx: skip_if(tx, window=4),
    "stochastic_rounding": stochastic_rounding,
    "with_ema": lambda tx: with_ema(tx, 0.9),
}
# They measure several arrays, which a slice is not.
NOT_SLICED = (
    "apply_if_finite",
    "chain",
    "diloco",
    "dynamic_loss_scale",
    "multi_steps, skipping",
    "skip_if",
    "skip_if, window",
)
# Outside another wrapper these choose by name, so that matrices and vectors are left on both sides.
OUTER = {
    "masked": lambda tx: masked(tx, outer_names),
    "selective_transform": lambda tx: selective_transform(tx, freeze_mask=outer_names),
    "partition": lambda tx: partition({True: tx, False: scale(0.1)}, outer_names),
}
TRANSFORMS = {
    "adaptive_grad_clip": (lambda: adaptive_grad_clip(0.1), {}),
    "cautious decay": (lambda: add_decayed_weights(cautious_decay(0.1)), {}),
    "corrected decay": (lambda: add_decayed_weights(corrected_decay(0.1, halving, 1.0)), {}),
    "independent decay": (lambda: add_decayed_weights(independent_decay(0.1, halving)), {}),
    "add_noise": (lambda: add_noise(0.1, 0.5, key=0), {}),
    "apply_every": (lambda: apply_every(2), {}),
    "centralize": (centralize, {}),
    "clip_by_block_rms": (lambda: clip_by_block_rms(0.5), {}),
    "freeze": (lambda: freeze(matrices), {}),
    "inject_hyperparams": (lambda: inject_hyperparams(trace)(0.9), {}),
    "keep_params_nonnegative": (keep_params_nonnegative, {"complex_params": False}),
    "monitor": (
        lambda: monitor({"norm": global_norm, "average": measure_with_ema(global_norm, 0.9)}),
        {},
    ),
    "normalize_by_update_norm": (normalize_by_update_norm, {}),
    "snapshot": (lambda: snapshot("norm", global_norm), {}),
    "zero_nans": (zero_nans, {}),
}
# Their updates are float32 on purpose; complex parameters have no low precision to widen.
WIDENING = ("master_weights", "master_weights, 24 bits", "stochastic_rounding")
NUMERIC = {
    "dynamic_loss_scale",
    "skip_if",
    "skip_if, window",
}  # their numbers are checked when built: no tracers


def optimizer():
    return chain(trace(0.9), ema(0.9), scale(-0.1))


def promises(*names):
    return [k for k in range(1, 9) if not (k == 5 and any(name in WIDENING for name in names))]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_keeps_every_promise_alone(name):
    make, options = TRANSFORMS[name]
    check_transformation(make(), **options)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_keeps_the_promises_in_a_chain(name):
    make, options = TRANSFORMS[name]
    check_transformation(
        chain(trace(0.5), make(), scale(-0.1)), promises=(1, 2, 3, 4, 6), **options
    )


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapper_keeps_every_promise_around_an_optimizer(name):
    static = (
        "initial_scale",
        "growth_factor",
        "backoff_factor",
        "min_scale",
        "max_scale",
        "factor",
        "decay",
        "sigmas",
    )
    check_transformation(
        WRAPPERS[name](optimizer()),
        promises=promises(name),
        static=static if name in NUMERIC else (),
    )


@pytest.mark.sampled(4)
@pytest.mark.parametrize("outer", WRAPPERS)
def test_a_wrapper_keeps_the_promises_around_every_other(outer):
    kernel, bias = jnp.linspace(-1.0, 1.0, 6).reshape(3, 2), jnp.asarray([0.5])
    params = {"kernel1": kernel, "bias1": bias, "kernel2": 2 * kernel, "bias2": 2 * bias}
    for inner, make in sampling.share(WRAPPERS.items(), 3, outer):
        if outer == "flatten" and inner == "partition":
            continue  # it sees one vector: there are no groups to part
        if outer == "per_slice" and inner in NOT_SLICED:
            continue
        tx = OUTER.get(outer, WRAPPERS[outer])(make(scale(-0.1)))
        try:
            check_transformation(tx, params, promises=(1, 2, 3, 4))
        except Exception as error:
            raise AssertionError(f"{outer} around {inner}: {error}") from error


def test_zero1_keeps_the_promises_on_a_mesh():
    mesh = jax.make_mesh((1,), ("x",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:1])
    tx = zero1(optimizer(), "x", mesh=mesh, min_size=1)
    check_transformation(tx, promises=(1, 3, 4, 5, 6))
