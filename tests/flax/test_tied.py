"""Rules by path on models whose Variables stand in several places: any of the paths counts."""

import jax
import jax.numpy as jnp
import pytest

from flax import nnx
from optx_core import scale_by_learning_rate
from optx_flax import freeze, label_params, mask, param_groups, trainable


class Tied(nnx.Module):
    """A table that is the output layer too, a layer used twice, a reference back to the model."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.embed = nnx.Embed(3, 3, rngs=rngs)
        self.decoder = nnx.Linear(3, 3, use_bias=False, rngs=rngs)
        self.decoder.kernel = self.embed.embedding
        self.blocks = nnx.List([nnx.Linear(3, 3, rngs=rngs)])
        self.again = nnx.Dict(block=self.blocks[0])
        self.blocks[0].model = self


@pytest.fixture
def model():
    return Tied()


# Each rule, and the parameters it matches by the first of their paths.
TABLE, KERNEL, BIAS = "decoder/kernel", "again/block/kernel", "again/block/bias"
RULES = {
    "the first path": (r"^decoder", {TABLE}),
    "the other path": (r"^embed", {TABLE}),
    "a layer by its other path": (r"^blocks/0", {KERNEL, BIAS}),
    "both names": (r"kernel$", {TABLE, KERNEL}),
    "the other name": (r"embedding$", {TABLE}),
    "a list": ([r"^embed", r"^blocks/0/bias"], {TABLE, BIAS}),
    "a filter": (nnx.PathContains("embed"), {TABLE}),
    "a filter on a name's part": ([nnx.PathContains("block")], {KERNEL, BIAS}),
    "a function": (lambda path, p: "embed" in path, {TABLE}),
}


def moved(model, tx, wrt=nnx.Param):
    optimizer = nnx.Optimizer(model, tx, wrt=wrt)
    before = nnx.to_flat_state(nnx.as_pure(nnx.state(model, nnx.Param)))
    grads = jax.tree.map(jnp.ones_like, nnx.state(model, wrt))
    optimizer.update(model, grads)
    after = dict(nnx.to_flat_state(nnx.as_pure(nnx.state(model, nnx.Param))))
    far = {"/".join(map(str, path)): float(jnp.max(x - after[path])) for path, x in before}
    return {path for path, x in far.items() if x > 0}


def by_groups(model, rule):
    groups = [{"params": rule, "learning_rate": 0.1}, {"learning_rate": 0.0}]
    return moved(model, param_groups(model, groups, scale_by_learning_rate))


ALL = {TABLE, KERNEL, BIAS}
FUNCTIONS = {
    "freeze": lambda m, rule: ALL - moved(m, freeze(m, rule, scale_by_learning_rate(0.1))),
    "trainable": lambda m, rule: moved(m, scale_by_learning_rate(0.1), trainable(m, rule)),
    "param_groups": by_groups,
    "mask": lambda m, rule: _on(mask(m, rule)),
    "label_params": lambda m, rule: _on(label_params(m, dict.fromkeys(_list(rule), 1), default=0)),
}


def _on(flags):
    pairs = jax.tree_util.tree_leaves_with_path(flags)
    return {"/".join(str(key.key) for key in path) for path, on in pairs if on}


def _list(rule):
    return rule if isinstance(rule, list) else [rule]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", RULES)
def test_a_rule_matches_a_shared_variable_by_any_of_its_paths(model, function, name):
    rule, expected = RULES[name]
    if name == "a function" and function in ("param_groups", "label_params"):
        pytest.skip("takes no function as a rule")
    assert FUNCTIONS[function](model, rule) == expected


def test_a_filter_of_trainable_parameters_can_be_compared(model):
    assert trainable(model, r"embed") == trainable(model, r"decoder")
    assert hash(trainable(model, r"embed")) == hash(trainable(model, r"decoder"))
    assert trainable(model, r"embed") != trainable(model, r"block")


CONTRADICTIONS = {
    "labels": lambda m: label_params(m, {"embed": "a", "decoder": "b"}, default="c"),
    "pairs": lambda m: label_params(m, [("embed", "a"), ("decoder", "b"), (".", "c")]),
    "groups": lambda m: param_groups(
        m,
        [{"params": "embed", "name": "a"}, {"params": "decoder", "name": "b"}, {}],
        scale_by_learning_rate,
        learning_rate=0.1,
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_rules_that_contradict_each_other_are_an_error_that_names_both(model, name):
    told = (
        "embed/embedding and decoder/kernel are one Variable; the rule 'embed' labels it 'a', the rule "
        "'decoder' 'b'. Put a rule that matches both paths before them"
    )
    with pytest.raises(ValueError, match=told):
        CONTRADICTIONS[name](model)


def test_so_are_the_labels_of_a_function(model):
    with pytest.raises(
        ValueError, match=r"decoder/kernel and embed/embedding are one Variable.*'b'.*'a'"
    ):
        label_params(model, lambda path, p: "a" if "embed" in path else "b")


def test_the_order_of_rules_decides_where_the_later_one_matches_both_paths(model):
    labels = label_params(model, {r"embed": "table", r".": "rest"})
    assert labels["decoder"]["kernel"] == "table"
    both = {r"embed|decoder": "table", r"^decoder": "head", r".": "rest"}
    with pytest.raises(ValueError, match=r"'\^decoder' \(shadowed by 'embed\|decoder'\)"):
        label_params(model, both)


REFUSED = {
    "freeze, tx first": (lambda m, tx: freeze(tx, m, "embed"), r"freeze\(model, rules, tx\)"),
    "freeze, tx second": (lambda m, tx: freeze(m, tx, "embed"), r"freeze\(model, rules, tx\)"),
    "freeze, rules first": (
        lambda m, tx: freeze("embed", m, tx),
        "must be an nnx.Module or the state",
    ),
    "labels, rules first": (lambda m, tx: label_params("embed", m), "must be an nnx.Module"),
    "mask of an optimizer": (lambda m, tx: mask(tx, "embed"), "must be an nnx.Module"),
    "trainable, rules first": (
        lambda m, tx: trainable("embed", m),
        r"wrt=trainable\(model, rules\)",
    ),
    "no rules": (
        lambda m, tx: label_params(m, 3),
        r"a dict from rules to labels, or \(rule, label\) pairs",
    ),
    "no pairs": (lambda m, tx: label_params(m, ["a"]), r"or \(rule, label\) pairs, not \['a'\]"),
    "a pair as a rule": (
        lambda m, tx: mask(m, [("embed", True)]),
        "a regular expression or an nnx filter",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_arguments_in_another_order_or_form_are_refused(model, name):
    call, message = REFUSED[name]
    with pytest.raises(TypeError, match=message):
        call(model, scale_by_learning_rate(0.1))


def test_labels_can_be_given_as_pairs(model):
    labels = label_params(model, [(r"embed", "table"), (r".", "rest")])
    assert labels == label_params(model, {r"embed": "table", r".": "rest"})
    with pytest.raises(ValueError, match="the rule 'embed' is given twice"):
        label_params(model, [("embed", "a"), ("embed", "b")])
