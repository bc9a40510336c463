"""What is special to one of optax's own optimizers; the rest is in the table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases as a
from optx_core import apply_updates


def run(tx, params, grads):
    update = jax.jit(tx.update)
    state = tx.init(params)
    for g in grads:
        updates, state = update(g, state, params)
        params = apply_updates(params, updates)
    return params, state


def waves(shape, steps):
    rng = np.random.default_rng(3)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(steps)]


def test_lion_from_the_new_momentum_is_lion_from_the_old_for_200_steps():
    p, grads = jnp.ones((4, 8)), waves((4, 8), 200)
    new, state = run(a.lion(0.01), p, grads)
    # A traced b2 is not known to be other than 0: then the old momentum is read.
    update = jax.jit(lambda b2, g, s, p: a.lion(0.01, b2=b2).update(g, s, p))
    old, held = p, a.lion(0.01).init(p)
    for g in grads:
        updates, held = update(jnp.float32(0.99), g, held, old)
        old = apply_updates(old, updates)
    np.testing.assert_allclose(new, old, rtol=1e-6)
    np.testing.assert_allclose(state[0].mu, held[0].mu, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mode", ["hard", "smooth", "refined"])
def test_the_modes_of_lion_squash_the_mean(mode, x64):
    squash = {
        "hard": np.sign,
        "smooth": lambda c: np.tanh(3.0 * c),
        "refined": lambda c: np.where(np.abs(c) > 1, np.sign(c), c),
    }[mode]
    tx = a.scale_by_lion(0.5, 0.75, mode=mode, smooth_beta=3.0)
    state, m = tx.init(jnp.zeros(4)), np.zeros(4)
    for g in ([3.0, -0.1, 0.0, 0.5], [-1.0, 4.0, 0.2, 0.5]):
        updates, state = tx.update(jnp.asarray(g), state)
        np.testing.assert_allclose(updates, squash(0.5 * m + 0.5 * np.array(g)), rtol=1e-12)
        m = 0.75 * m + 0.25 * np.array(g)


def test_sm3_keeps_a_vector_for_each_axis_and_a_number_for_a_0d_array():
    params = {
        "m": jnp.ones((4, 3, 2)),
        "v": jnp.ones(5),
        "s": jnp.asarray(1.0),
        "e": jnp.ones((0, 2)),
    }
    tx = a.scale_by_sm3()
    state = tx.init(params)
    shapes = jax.tree.map(jnp.shape, state.mu, is_leaf=lambda x: isinstance(x, jax.Array))
    assert shapes == {"m": [(4,), (3,), (2,)], "v": [(5,)], "s": [()], "e": [(0,), (2,)]}
    _, after = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert float(after.mu["s"][0]) == 1.0


def test_sm3_has_real_sums_and_a_complex_momentum_of_complex_parameters():
    p = jnp.asarray([[1.0 + 1.0j, 2.0j], [0.5, -1.0]])
    tx = a.scale_by_sm3(0.0, eps=0.0)
    updates, state = tx.update(p, tx.init(p))
    assert [x.dtype for x in (*state.mu, state.nu)] == [jnp.float32, jnp.float32, jnp.complex64]
    np.testing.assert_allclose(updates, np.asarray(p) / np.abs(p), rtol=1e-6)


def test_sm3_bounds_adagrads_sums_from_above_and_meets_them_for_a_vector():
    sm3, adagrad = a.scale_by_sm3(0.0, eps=0.0), a.scale_by_rss(0.0, eps=0.0)
    for shape in ((5,), (4, 3)):
        p, grads = jnp.ones(shape), waves(shape, 10)
        mine, theirs = sm3.init(p), adagrad.init(p)
        for g in grads:
            u, mine = sm3.update(g, mine)
            w, theirs = adagrad.update(g, theirs)
        assert bool(jnp.all(jnp.abs(u) <= 1.00001 * jnp.abs(w)))
        if len(shape) == 1:
            np.testing.assert_allclose(u, w, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "row", "column", "whole"),
    [
        ((256, 130), (130,), (256,), (1,)),
        ((2, 130, 200, 3), (2, 130, 3), (2, 200, 3), (1,)),
        ((130, 100), (1,), (1,), (130, 100)),
        ((300,), (1,), (1,), (300,)),
        ((), (1,), (1,), ()),
        ((0, 300, 300), (0, 300), (0, 300), (1,)),
    ],
)
def test_adafactor_factors_the_two_longest_axes_where_they_are_long(shape, row, column, whole):
    tx = a.adafactor(0.1)
    state = tx.init(jnp.ones(shape))
    assert (state[0].v_row.shape, state[0].v_col.shape, state[0].v.shape) == (row, column, whole)
    updates, _ = tx.update(jnp.ones(shape), state, jnp.ones(shape))
    assert updates.shape == shape
    assert bool(jnp.all(jnp.isfinite(updates)))


def test_factored_mean_squares_are_exact_where_squares_are_a_product():
    r, c = jnp.asarray([1.0, 2.0, 4.0]), jnp.asarray([0.5, 3.0])
    g = jnp.sqrt(r[:, None] * c[None, :])
    tx = a.scale_by_factored_rms(min_dim_size_to_factor=2)
    np.testing.assert_allclose(tx.update(g, tx.init(g))[0], 1.0, rtol=1e-5)


def test_the_decay_of_adafactor_can_be_given_and_begin_late():
    g = jnp.full(2, 2.0)
    tx = a.scale_by_factored_rms(decay_rate=0.5, decay_rate_fn=lambda i, rate: rate)
    np.testing.assert_allclose(tx.update(g, tx.init(g))[1].v, 2.0, rtol=1e-6)
    late = a.scale_by_factored_rms(step_offset=7)
    state = late.init(g)._replace(count=jnp.asarray(7), v=jnp.full(2, 100.0))
    np.testing.assert_allclose(late.update(g, state)[1].v, 4.0, rtol=1e-6)


def test_the_noise_of_noisy_sgd_is_normal_and_differs_by_entry_leaf_and_step():
    tx = a.noisy_sgd(1.0, eta=0.04, gamma=1.0, key=5)
    params = {
        "a": jnp.zeros((100, 200)),
        "b": jnp.zeros(20000),
        "c": jnp.zeros(20000, jnp.complex64),
    }
    state, drawn = tx.init(params), []
    for _ in range(2):
        updates, state = tx.update(jax.tree.map(jnp.zeros_like, params), state)
        drawn += [np.ravel(updates["a"]), np.ravel(updates["b"])]
        whole = np.asarray(updates["c"])
    for k, x in enumerate(drawn):
        deviation = 0.2 / np.sqrt(1 + k // 2)
        assert abs(x.mean()) < 4 * deviation / np.sqrt(x.size)
        np.testing.assert_allclose(x.std(), deviation, rtol=0.03)
        normal = x / deviation
        np.testing.assert_allclose((normal**4).mean(), 3.0, rtol=0.1)
        np.testing.assert_allclose((np.abs(normal) < 1).mean(), 0.6827, atol=0.015)
        assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 0.03
        assert len(np.unique(x)) > 0.95 * x.size
    correlations = np.corrcoef(drawn) - np.eye(4)
    assert np.abs(correlations).max() < 0.03
    np.testing.assert_allclose((np.abs(whole) ** 2).mean(), 0.02, rtol=0.05)
    assert abs(np.corrcoef(whole.real, whole.imag)[0, 1]) < 0.03


def test_the_bits_of_noisy_sgd_are_those_of_threefry():
    from optx_aliases._elementwise.noisy_sgd import _threefry

    seed = jnp.asarray([0x13198A2E, 0x03707344], jnp.uint32)
    from jax.extend.random import threefry_2x32

    expected = threefry_2x32(seed, jnp.asarray([5, 6, 0, 0], jnp.uint32))
    made = _threefry(seed, jnp.asarray([5, 6], jnp.uint32))
    np.testing.assert_array_equal(jnp.concatenate(made), expected)


def test_a_scheduled_fromage_follows_the_schedule():
    p, grads = jnp.asarray([3.0, 4.0]), [jnp.asarray([0.6, -0.8])] * 3
    rates = [0.1, 0.05, 0.025]
    expected = np.asarray(p, np.float64)
    for rate in rates:
        turned = expected - rate * np.linalg.norm(expected) * np.asarray(grads[0])
        expected = turned / np.sqrt(1 + rate**2)
    made, _ = run(a.fromage(lambda count: 0.1 * 0.5 ** count.astype(float)), p, grads)
    np.testing.assert_allclose(made, expected, rtol=1e-6)


def test_novograd_decays_only_where_its_mask_says():
    params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    tx = a.novograd(0.1, weight_decay=0.5, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p))
    updates, state = tx.update(zeros, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], -0.05, rtol=1e-6)
    np.testing.assert_array_equal(updates["b"], 0.0)
    assert jax.tree.structure(state) == jax.tree.structure(tx.init(params))


def test_without_decay_the_parameters_are_not_needed():
    for tx in (a.adadelta(1.0), a.adan(0.1), a.nadamw(0.1, weight_decay=0.0), a.novograd(0.1)):
        updates, _ = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
        assert updates.shape == (2,)


def test_adadelta_without_a_learning_rate_descends():
    updates, _ = a.adadelta().update(jnp.ones(2), a.adadelta().init(jnp.ones(2)))
    assert bool(jnp.all(updates < 0))


def test_optimism_finds_the_saddle_that_descent_circles():
    """min over x, max over y of x·y: descent runs away from 0, optimism goes there."""

    def play(tx):
        def step(carry, _):
            p, state = carry
            updates, state = tx.update(jnp.stack([p[1], -p[0]]), state, p)
            return (apply_updates(p, updates), state), None

        start = jnp.asarray([1.0, 1.0])
        (end, _), _ = jax.lax.scan(step, (start, tx.init(start)), length=1000)
        return end

    assert jnp.linalg.norm(play(a.optimistic_gradient_descent(0.1))) < 0.1
    assert jnp.linalg.norm(play(a.sgd(0.1))) > 5.0


def test_nadamw_is_adamw_with_nesterovs_momentum():
    p, grads = jnp.ones((2, 3)), waves((2, 3), 5)
    one, _ = run(a.nadamw(0.01, weight_decay=0.1), p, grads)
    other, _ = run(a.adamw(0.01, weight_decay=0.1, nesterov=True), p, grads)
    np.testing.assert_array_equal(one, other)


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


def test_rprop_refuses_complex_gradients():
    tx, p = a.rprop(0.1), jnp.ones(2, jnp.complex64)
    with pytest.raises(TypeError, match="complex gradients have no sign"):
        tx.update(p, tx.init(p))
