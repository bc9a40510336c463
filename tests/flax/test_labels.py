"""Labels and masks for the parameters of NNX models."""

import jax
import jax.numpy as jnp
import pytest

from flax import nnx
from optx_flax import label_params, mask


class Block(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(2, 3, rngs=rngs)
        self.layers = nnx.List(
            [nnx.Linear(3, 3, rngs=rngs), nnx.Linear(3, 1, use_bias=False, rngs=rngs)]
        )
        self.norm = nnx.BatchNorm(3, rngs=rngs)


@pytest.fixture(scope="module")
def model():
    return Block(nnx.Rngs(0))


RULES = {r"kernel$": "kernels", r"bias$": "biases", r"norm/scale": "scales"}
EXPECTED = {
    "first": {"bias": "biases", "kernel": "kernels"},
    "layers": {0: {"bias": "biases", "kernel": "kernels"}, 1: {"kernel": "kernels"}},
    "norm": {"bias": "biases", "scale": "scales"},
}


@pytest.mark.parametrize(
    "container",
    [
        lambda m: m,
        lambda m: nnx.state(m, nnx.Param),
        lambda m: nnx.as_pure(nnx.state(m, nnx.Param)),
        lambda m: nnx.to_pure_dict(nnx.state(m, nnx.Param)),
        lambda m: jax.eval_shape(lambda: nnx.state(m, nnx.Param)),
    ],
    ids=["module", "state", "pure state", "pure dict", "abstract state"],
)
def test_labels_are_plain_and_the_same_for_every_container(model, container):
    assert label_params(container(model), RULES) == EXPECTED


def test_a_function_sees_the_path_as_one_string_and_the_value(model):
    seen = []
    label_params(model, lambda path, value: seen.append((path, value.shape)) or "x")
    assert ("layers/1/kernel", (3, 1)) in seen
    assert ("norm/scale", (3,)) in seen
    assert len(seen) == 7


def test_the_first_rule_that_matches_wins(model):
    labels = label_params(model, {r"^layers/": "layers", r".": "rest"})
    assert labels["layers"][0] == {"bias": "layers", "kernel": "layers"}
    assert labels["first"]["kernel"] == "rest"


def test_rules_may_be_filters_of_nnx(model):
    labels = label_params(model, {nnx.PathContains("norm"): "norm"}, default="rest")
    assert labels["norm"] == {"bias": "norm", "scale": "norm"}
    assert labels["first"]["bias"] == "rest"


def test_an_unmatched_parameter_is_an_error_that_lists_the_paths(model):
    with pytest.raises(
        ValueError, match=r"no rule of .* matches norm/scale; add a rule, or pass default="
    ):
        label_params(model, {r"kernel$": "k", r"bias$": "b"})


def test_an_unused_rule_is_an_error_that_names_what_shadows_it(model):
    with pytest.raises(
        ValueError, match=r"the rule 'embedding' matches no parameter; the parameters"
    ):
        label_params(model, {"embedding": "e", r".": "rest"})
    with pytest.raises(ValueError, match=r"'bias' \(shadowed by '\.'\)"):
        label_params(model, {r".": "rest", r"bias": "b"})


def test_a_mask_is_true_where_a_rule_holds(model):
    kernels = mask(model, r"kernel$")
    assert kernels["layers"] == {0: {"bias": False, "kernel": True}, 1: {"kernel": True}}
    assert mask(model, [r"kernel$", "scale"])["norm"] == {"bias": False, "scale": True}
    assert mask(model, lambda path, p: jnp.ndim(p) > 1) == kernels
    with pytest.raises(ValueError, match="matches no parameter"):
        mask(model, "embedding")


def test_wrt_chooses_which_variables_are_parameters(model):
    assert label_params(model, {".": "x"}, wrt=nnx.BatchStat) == {"norm": {"mean": "x", "var": "x"}}
