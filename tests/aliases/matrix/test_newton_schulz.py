"""Coefficients of Newton–Schulz iterations, and the Gram iteration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrix.compiled_work import CompiledWork

from optx_aliases import newton_schulz, polar_express_coefficients, scale_by_muon

# The table of Amsel et al., computed for a lower bound of 1e-3 and a cushion of 0.02407327424182761.
AMSEL = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
# That of dion and modded-nanogpt: five steps, safety 0.02, cushion 0.02.
FIVE = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
# That of a lower bound of 1e-3 without safety and cushion, as CANS has it, and of safety 0.01, as others print them.
CANS = (
    (8.4703, -25.1081, 18.6293),
    (4.1828, -3.1087, 0.5806),
    (3.9619, -2.9541, 0.5630),
    (3.2866, -2.4647, 0.5074),
    (2.2737, -1.6447, 0.4162),
)
SAFE = (
    (8.237312490495555, -23.157747414558198, 16.680568411445915),
    (4.082441999064835, -2.893047735332586, 0.5252849256975648),
    (3.9263479922546582, -2.8547468034765298, 0.5318022422894988),
    (3.2982187133085143, -2.424541981026706, 0.48632008358844075),
    (2.2970369434552573, -1.63662558125903, 0.4002628455953627),
    (1.8763805351440397, -1.2347896577722228, 0.35891887501668385),
    (1.8564423485617974, -1.2132449880935525, 0.3568003487825883),
    (1.8749994008682747, -1.2499988017229169, 0.3749994008546422),
)


def polynomial(p, x):
    return p[0] * x + p[1] * x**3 + p[2] * x**5


@pytest.mark.parametrize(
    ("arguments", "printed", "digits"),
    [
        ((8, 1e-3, 0.0, 0.02407327424182761), AMSEL, 1e-9),
        ((5, 1e-3, 0.02, 0.02), FIVE, 1e-12),
        ((8, 1e-3, 0.01, 0.02), SAFE, 1e-6),  # whose last row is for l = u
        ((5, 1e-3, 0.0, 0.0), CANS, 5e-5),
    ],
)
def test_the_tables_in_print_are_computed(arguments, printed, digits):
    table = polar_express_coefficients(*arguments)
    np.testing.assert_allclose(table, printed, rtol=digits, atol=digits)
    assert all(type(x) is float for row in table for x in row)


def test_tables_have_names():
    def of(name):
        return np.asarray(scale_by_muon(name).init(None).ns_coeffs)

    divided = np.asarray(AMSEL)
    np.testing.assert_allclose(of("polar_express_5"), FIVE, rtol=1e-6)
    np.testing.assert_allclose(
        of("polar_express")[:7], divided[:7] / 1.01 ** np.array([1, 3, 5]), 1e-6
    )
    np.testing.assert_array_equal(of("polar_express")[7], AMSEL[7])
    np.testing.assert_allclose(
        of("polar_express_gram"), divided[:5] / 1.05 ** np.array([1, 3, 5]), 1e-6
    )
    np.testing.assert_allclose(of("cans"), CANS, rtol=5e-5, atol=5e-5)
    assert of("deepseek_v4").shape == (10, 3)
    assert not of("cubic")[:, 2].any()


@pytest.mark.parametrize("degree", [3, 5])
@pytest.mark.parametrize("low", [1e-12, 1e-3, 0.1, 0.9, 0.99, 0.999])
def test_the_error_of_the_best_polynomial_equioscillates(low, degree):
    """By Chebyshev's theorem, one more alternation than there are coefficients makes it the best."""
    (p,) = polar_express_coefficients(1, low, 0.0, 0.0, degree=degree)
    a, b, c = p
    squares = np.roots([5 * c, 3 * b, a] if degree == 5 else [3 * b, a])
    ends = [low, *np.sort(np.sqrt(squares)), 1.0]
    errors = 1 - polynomial(np.longdouble(p), np.longdouble(ends))
    signs = np.sign(errors).tolist()
    assert signs == [1.0, -1.0, 1.0, -1.0][: len(ends)]
    largest = np.max(np.abs(errors))
    np.testing.assert_allclose(np.abs(errors), largest, rtol=1e-3, atol=5e-16)
    grid = np.longdouble(np.linspace(low, 1, 2001))
    assert np.max(np.abs(1 - polynomial(np.longdouble(p), grid))) <= largest * (1 + 1e-3) + 5e-16


@pytest.mark.parametrize("degree", [3, 5])
@pytest.mark.parametrize(("safety", "cushion"), [(0.0, 0.0), (0.02, 0.02), (0.05, 0.1)])
def test_singular_values_above_the_bound_come_near_1(degree, safety, cushion):
    x = np.geomspace(1e-4, 1, 2001)
    for k, p in enumerate(polar_express_coefficients(25, 1e-4, safety, cushion, degree=degree)):
        x = polynomial(p, x)
        assert x.max() < 2 + 1e-9, k
        assert x.min() > 0, k
    np.testing.assert_allclose(x, 1, atol=1e-4 if safety else 1e-12)


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        ({"steps": 0}, "steps must be a positive int"),
        ({"steps": 2.0}, "steps must be a positive int"),
        ({"lower_bound": 0.0}, "lower_bound must be greater than 0"),
        ({"lower_bound": 2.0}, "lower_bound must be"),
        ({"safety": -0.1}, "safety must be"),
        ({"cushion": 1.0}, "cushion must be"),
        ({"cushion": float("nan")}, "cushion must be"),
        ({"degree": 4}, "degree must be 3 or 5"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, cure):
    with pytest.raises(ValueError, match=f"polar_express_coefficients: {cure}"):
        polar_express_coefficients(**arguments)


@pytest.mark.parametrize("low", [1.0, 1 - 1e-16, 1e-300])
def test_the_ends_of_the_range_have_coefficients(low):
    table = polar_express_coefficients(3, low, 0.0, 0.0)
    assert np.all(np.isfinite(table))
    np.testing.assert_allclose(polynomial(table[0], 1.0), 1.0 if low > 0.5 else 2.0, rtol=1e-12)


def transcribed(x, table):
    """The iteration in double precision, by singular values."""
    u, s, v = np.linalg.svd(np.asarray(x, np.float64), full_matrices=False)
    s = s / np.linalg.norm(s)
    for p in table:
        s = polynomial(p, s)
    return u * s @ v


def small_directions(rows, columns):
    rng = np.random.default_rng(0)
    u, _, v = np.linalg.svd(rng.normal(size=(rows, columns)), full_matrices=False)
    return u * np.geomspace(1, 1e-3, min(rows, columns)) @ v


@pytest.mark.parametrize(
    ("dtype", "shape", "error"),
    [
        ("float64", (6, 16), 1e-13),
        ("float32", (6, 16), 1e-4),
        ("float32", (16, 6), 1e-4),
        ("float16", (6, 16), 0.05),
        ("bfloat16", (6, 16), 0.4),
    ],
)
def test_the_gram_iteration_agrees_with_the_plain_one_down_to_small_directions(
    dtype, shape, error, x64
):
    x = small_directions(*shape)
    made = newton_schulz(jnp.asarray(x, dtype), "polar_express_5", eps=0.0)
    assert made.dtype == dtype
    np.testing.assert_allclose(np.asarray(made, np.float64), transcribed(x, FIVE), atol=error)


def flops(shape, dtype="float32", coefficients="polar_express_5"):
    function = jax.jit(lambda x: newton_schulz(x, coefficients))
    return CompiledWork(function.lower(jax.ShapeDtypeStruct(shape, dtype)).compile()).flops


def plain_flops(r, c, steps, products=1):
    return steps * (4 * r * r * c + products * 2 * r**3)


def gram_flops(r, c, *parts):
    return sum(4 * r * r * c + (4 * k - 3) * 2 * r**3 for k in parts)


@pytest.mark.parametrize(
    ("shape", "coefficients", "expected"),
    [
        ((8, 12), "polar_express_5", plain_flops(8, 12, 5)),  # as many as the Gram iteration
        ((8, 14), "polar_express_5", gram_flops(8, 14, 2, 3)),
        ((64, 8), "standard", gram_flops(8, 64, 3, 2)),
        ((8, 8), "cubic", plain_flops(8, 8, 7, products=0)),
    ],
)
def test_the_gram_iteration_runs_where_it_takes_fewer_operations(shape, coefficients, expected):
    assert flops(shape, coefficients=coefficients) == expected


def test_bfloat16_and_unknown_coefficients_take_no_risk():
    narrow = jax.ShapeDtypeStruct((8, 64), jnp.bfloat16)
    text = jax.jit(lambda x: newton_schulz(x, FIVE)).lower(narrow).as_text()
    assert "8x64" in text.split("stablehlo.while")[1]  # whole matrices in the loop
    x, table = np.float32(small_directions(8, 64)), np.float32(FIVE)
    traced = jax.jit(lambda x, table: newton_schulz(x, table)).lower(x, table).compile()
    assert CompiledWork(traced).flops == gram_flops(8, 64, 2, 2) + plain_flops(8, 64, 1)
    np.testing.assert_allclose(traced(x, table), transcribed(x, FIVE), atol=1e-4)


def test_tables_are_the_same_whatever_is_asked_before():
    tables = [polar_express_coefficients(n) for n in (4, 6, 4)]
    assert tables[0] == tables[2]
    assert all(a == b for a, b in itertools.islice(zip(tables[0], tables[1], strict=False), 3))
