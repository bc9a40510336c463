"""Arguments that no optimizer accepts."""

import inspect

import jax.numpy as jnp
import pytest
from optimizer_rows import ROWS

import optx_aliases as a
from optx_core import build


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: a.scale_by_lion(mode="soft"), ValueError, "mode must be one of 'hard', 'smooth'"),
        (lambda: a.lion(1e-3, b2=1.0), ValueError, "scale_by_lion: b2 must be less than 1"),
        (
            lambda: a.adabelief(1e-3, eps=-1.0),
            ValueError,
            "scale_by_belief: eps must be at least 0",
        ),
        (lambda: a.adadelta(rho=1.5), ValueError, "scale_by_adadelta: rho must be less than 1"),
        (lambda: a.adagrad(0.1, -1.0), ValueError, "initial_accumulator_value must be at least 0"),
        (lambda: a.adamax(0.1, b1=1.0), ValueError, "scale_by_adamax: b1 must be less than 1"),
        (lambda: a.adan(0.1, b3=-0.1), ValueError, "scale_by_adan: b3 must be at least 0"),
        (lambda: a.amsgrad(0.1, b2=1), ValueError, "scale_by_amsgrad: b2 must be less than 1"),
        (lambda: a.radam(0.1, threshold=3.0), ValueError, "threshold must be at least 4"),
        (lambda: a.rprop(0.0), ValueError, "scale_by_rprop: learning_rate must be greater than 0"),
        (lambda: a.rprop(0.1, eta_plus=0.9), ValueError, "eta_plus must be greater than 1"),
        (lambda: a.yogi(0.1, eps=float("nan")), ValueError, "scale_by_yogi: eps must be"),
        (lambda: a.sm3(0.1, momentum=1.0), ValueError, "scale_by_sm3: b1 must be less than 1"),
        (
            lambda: a.adafactor(min_dim_size_to_factor=0),
            ValueError,
            "min_dim_size_to_factor must be",
        ),
        (
            lambda: a.noisy_sgd(0.1, eta=-1.0, key=0),
            ValueError,
            "noisy_sgd: eta must be at least 0",
        ),
        (lambda: a.noisy_sgd(0.1, key=0, seed=0), ValueError, "give a key"),
        (lambda: a.novograd(0.1, weight_decay=-1.0), ValueError, "weight_decay must be at least 0"),
        (lambda: a.fromage("fast"), TypeError, "learning_rate must be a number"),
        (lambda: a.muon(0.1, ns_steps=True), ValueError, "scale_by_muon: ns_steps must be an int"),
        (lambda: a.muon(0.1, consistent_rms=-1.0), ValueError, "consistent_rms must be at least 0"),
        (lambda: a.galore(0.1, rank=0), ValueError, "scale_by_galore: rank must be at least 1"),
        (lambda: a.galore(0.1, scale=float("inf")), ValueError, "scale must be finite"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_built(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("make", [a.lamb, a.lars, a.fromage, a.adafactor])
def test_what_needs_the_parameters_says_so(make):
    tx = make(0.1)
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))


# Infinity means no limit.
LIMITS = {
    "clip", "clip_threshold", "clipping_threshold", "curv_rtol", "growth_limit", "growth_rate",
    "increase_factor", "max_learning_rate", "max_step_size", "max_delta", "max_norm",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in ROWS if "," not in name])
def test_no_number_but_a_limit_may_be_infinite(name):
    call = build.call_of(ROWS[name].make())
    for argument, value in call.arguments.items():
        if type(value) is not float or argument in LIMITS:
            continue
        with pytest.raises(ValueError, match=r"must be (finite|at most|less than)"):
            call.replace(**{argument: float("inf")})


OWNED = [
    name
    for name in a.__all__
    if callable(getattr(a, name)) and "owner_axes" in inspect.signature(getattr(a, name)).parameters
]


@pytest.mark.parametrize("name", OWNED)
@pytest.mark.parametrize("given", [3, ["data"], ("data", 0)])
def test_mesh_axes_are_a_name_or_a_tuple_of_names(name, given):
    make = getattr(a, name)
    first = () if name.startswith("scale_by") else (0.1,)
    with pytest.raises(TypeError, match=r"\w+: owner_axes must be a name or a tuple of names, not"):
        make(*first, owner_axes=given)
