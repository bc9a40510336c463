"""The rules about operations, proved on random programs against `jax.hessian`.

A program is a layer, up to three random operations and a reduction. The operations are found, not listed: every
public function of the modules below that maps one or two vectors to one inexact array; `SPECIAL` adds those that
need other arguments. New functions of JAX join by themselves.

Two proofs: of every intermediate value that counts as locally constant (or piecewise linear), the first (or second)
derivative is zero; and the diagonal, by each way that relies on these rules, is that of `jax.hessian`. The first
runs on 500 programs, the second, which compiles more, on every tenth of them. OPTX_RANDOM_PROGRAMS=20000 sets another number;
the first ones stay the same.
"""

import functools
import inspect
import itertools
import os
import warnings

import jax
import jax.extend
import jax.numpy as jnp
import jax.scipy.special
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from optx_second_order import exact_hessian_diag
from optx_second_order._batches import Batch
from optx_second_order._entry_kinds import Entry
from optx_second_order._gauss_newton import gauss_newton_diag
from optx_second_order._leaves import Leaves
from optx_second_order._network import Network
from optx_second_order._piecewise import frontier, graph_levels

MODULES = {
    "jnp": jnp,
    "nn": jax.nn,
    "lax": jax.lax,
    "fft": jnp.fft,
    "linalg": jnp.linalg,
    "special": jax.scipy.special,
}
LEFT_OUT = {
    "jnp.empty_like", "lax.empty", "lax.rng_uniform",  # no function of the operand
    "special.exp1", "special.expi", "special.expn",  # JAX cannot lower their second derivative
}  # fmt: skip
DTYPES = ["bfloat16", "float16", "float32", "float64", "complex64", "complex128", "int32", "bool"]
TOLERANCES = {
    "to bfloat16": 0.2, "rounded": 0.2, "to float16": 0.03, "to float32": 1e-5, "to complex64": 1e-5,
}  # fmt: skip


@jax.custom_jvp
def surrogate(x):
    """A step whose derivative is that of a sigmoid."""
    return jnp.heaviside(x, 0.5)


surrogate.defjvp(lambda p, t: (surrogate(*p), t[0] * jax.nn.sigmoid(p[0])))


@jax.custom_jvp
def mixing(x):
    """An elementwise value whose derivative is not elementwise."""
    return jnp.abs(x)


mixing.defjvp(lambda p, t: (mixing(*p), p[0] * jnp.sum(t[0] * p[0])))


@jax.custom_vjp
def clipped(x):
    """The identity, with a clipped cotangent."""
    return x


clipped.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -0.3, 0.3),))


def one_like(x):
    return jnp.ones((), x.dtype)


SPECIAL = {
    **{f"to {d}": lambda x, d=d: x.astype(d) for d in DTYPES},
    "to complex in jit": jax.jit(lambda x: jnp.abs(x.astype("complex128") * (1 + 2j))),
    "rounded": lambda x: jax.lax.reduce_precision(x, 8, 7),
    "clip": lambda x: jnp.clip(x, -0.4, 0.5),
    "clamp": lambda x: jax.lax.clamp(-one_like(x), x, one_like(x) / 2),
    "where": lambda x: jnp.where(x > 0.1, 2 * x, -x),
    "where squared": lambda x: jnp.where(x > 0.1, x * x, x),
    "reversed": lambda x: x[::-1],
    "strided": lambda x: x[::2],
    "gathered": lambda x: x[jnp.array([2, 0, 0, 1]) % x.shape[0]],
    "dynamically sliced": lambda x: jax.lax.dynamic_slice_in_dim(x, 1, 2),
    "updated": lambda x: x.at[0].set(2 * x[-1]),
    "added at": lambda x: x.at[0].add(x[-1]),
    "multiplied at": lambda x: x.at[0].multiply(x[-1]),
    "sorted by index": lambda x: x[jnp.argsort(x)],
    "top": lambda x: jax.lax.top_k(x, 2)[0],
    "padded": lambda x: jnp.pad(x, 1),
    "powers": lambda x: x**3,
    "first power": lambda x: jax.lax.integer_pow(x, 1),
    "pooled": lambda x: jax.lax.reduce_window(jnp.real(x), -jnp.inf, jax.lax.max, (2,), (1,), "VALID"),
    "summed in windows": lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (2,), (1,), "SAME"),
    "convolved": lambda x: jnp.convolve(x, jnp.array([1.0, -2.0], x.dtype)),
    "scanned": lambda x: jax.lax.scan(lambda c, y: (0.5 * c + y, c * y), 0 * x[0], x)[1],
    "looped": lambda x: jax.lax.fori_loop(0, 2, lambda _, y: y * y + x, x),
    "branched": lambda x: jax.lax.cond(x[0] > 0, lambda y: 2 * y, lambda y: y * y, x),
    "rematerialized": lambda x: jax.checkpoint(lambda y: jnp.abs(y) + jnp.sin(y))(x),
    "jitted": lambda x: jax.jit(lambda y: jnp.maximum(y, 0.2))(x),
    "straight through": lambda x: x + jax.lax.stop_gradient(jnp.round(x) - x),
    "interpolated": lambda x: jnp.interp(x, jnp.arange(4.0), jnp.arange(4.0) ** 2),
    "signs kept": lambda x: jnp.sign(x) * x,
    "divided by signs": lambda x: x / jnp.sign(x),
    "sign of complex": lambda x: jnp.sign(x + 1j * x[::-1] ** 2).real,
    "argmax": lambda x: x * (jnp.arange(x.shape[0]) == jnp.argmax(x)),
    "surrogate": surrogate,
    "mixing": mixing,
    "clipped cotangent": clipped,
}  # fmt: skip


def is_inexact(x):
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact)


@functools.cache
def operations():
    """Names and functions of all candidates."""
    found = {}
    for module, namespace in MODULES.items():
        for name in dir(namespace):
            function = getattr(namespace, name)
            if (
                name.startswith("_")
                or not callable(function)
                or inspect.isclass(function)
                or not str(getattr(function, "__module__", "")).startswith("jax")
                or f"{module}.{name}" in LEFT_OUT
            ):
                continue
            found[f"{module}.{name}"] = function
    return found


@functools.cache
def arities():
    """The operations that map one, and two, real vectors to one inexact array."""
    z = jax.ShapeDtypeStruct((3,), jnp.float64)
    found = {1: [], 2: []}
    for name, function in operations().items():
        for count, names in found.items():
            try:
                ok = is_inexact(jax.eval_shape(function, *[z] * count))
            except Exception:  # noqa: BLE001 (not a function of so many arrays)
                continue
            if ok:
                names.append(name)
    return found


class Program:
    """params, example ↦ a real number: a layer, a few random operations, a reduction.

    Attributes:
      text: the operations by name.
    """

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.entry = rng.choice(["scale", "bias", "dot", "dot"])
        self.steps = []
        for _ in range(rng.integers(1, 4)):
            kind = rng.choice(["special", "unary", "binary"], p=[0.4, 0.4, 0.2])
            if kind == "special":
                self.steps.append((str(rng.choice(list(SPECIAL))), None))
            else:
                names = arities()[1 if kind == "unary" else 2]
                other = None if kind == "unary" else str(rng.choice(["data", "first", "itself"]))
                self.steps.append((str(rng.choice(names)), other))
        self.head = str(rng.choice(["sum", "square", "sin", "total squared", "layer"]))
        shapes = {"w": (3, 3) if self.entry == "dot" else (3,), "v": (3, 2)}
        self.params = {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}
        self.data = jnp.asarray(rng.uniform(0.3, 0.9, (2, 3)) * rng.choice([-1, 1], (2, 3)))

    @property
    def tolerance(self):
        """The relative error that the dtypes of the program allow."""
        return max(TOLERANCES.get(name, 1e-8) for name, _ in self.steps)

    @property
    def text(self):
        steps = [name if other is None else f"{name}({other})" for name, other in self.steps]
        return " > ".join([self.entry, *steps, self.head])

    def __call__(self, params, x):
        w = params["w"]
        first = {"scale": lambda: x * w, "bias": lambda: x + w, "dot": lambda: x @ w}[self.entry]()
        value = first
        for name, other in self.steps:
            if name in SPECIAL:
                value = SPECIAL[name](value)
                continue
            second = {"data": x, "first": first, "itself": value, None: None}[other]
            arguments = (value,) if other is None else (value, second)
            value = operations()[name](*arguments)
        if self.head == "layer" and value.shape == (3,) and value.dtype == jnp.float64:
            return jnp.sum(jnp.square(value @ params["v"]))
        weights = jnp.arange(1.0, value.size + 1)
        parts = [jnp.real(value), jnp.imag(value)] if jnp.iscomplexobj(value) else [value]
        flat = [part.astype(jnp.float64).reshape(-1) for part in parts]
        shape = {"square": jnp.square, "sin": jnp.sin}.get(self.head, lambda v: v)
        total = sum(jnp.sum(weights * shape(part)) for part in flat)
        return jnp.square(total) if self.head == "total squared" else total


AT_ONCE = 25  # programs compiled together
COUNT = int(os.environ.get("OPTX_RANDOM_PROGRAMS", "500"))


@pytest.fixture
def any_operation(x64):
    """Promotion as users have it, and no warnings from operands out of their domain."""
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def traced(trace, seeds):
    """The first `AT_ONCE` programs that can be traced, as pairs of a program and its trace."""
    chosen = []
    for seed in seeds:
        program = Program(seed)
        try:
            trace_of = jax.make_jaxpr(lambda program=program: trace(program))()
        except Exception:  # noqa: BLE001 (operands of the wrong shape, no derivative, integers only)
            continue
        chosen.append((program, trace_of))
        if len(chosen) == AT_ONCE:
            break
    return chosen


def run_together(traces):
    return jax.jit(lambda: [jax.extend.core.jaxpr_as_fun(trace)() for trace in traces])()


def network_of(program):
    return Network(program, Leaves("test", program.params), Batch("test", (program.data,)))


def slopes_and_bends(program):
    """First derivatives of locally constant values and second ones of piecewise linear values."""
    network = network_of(program)
    graph, nodes = network.graph, network.nodes()
    levels = graph_levels(graph, nodes)
    moving = graph.dependents(nodes)
    values = {
        level: [v for v in moving if levels[v] == level and jnp.issubdtype(v.dtype, jnp.floating)]
        for level in (0, 1)
    }
    args = [*network.leaves.arrays, program.data[0]]
    wanted = [*values[0], *values[1]]

    def along(t):
        changes = {v: t * jnp.cos(jnp.arange(float(v.size))).reshape(v.shape) for v in nodes}
        return graph.run(args, changes, wanted=wanted)

    tangent = lambda t: jax.jvp(along, (t,), (1.0,))[1]
    slopes, bends = jax.jvp(tangent, (0.0,), (1.0,))
    return along(0.0), slopes[: len(values[0])], bends[len(values[0]) :]


@pytest.mark.sampled(8)
@pytest.mark.parametrize("first", range(0, COUNT, AT_ONCE))
def test_values_called_constant_or_linear_have_zero_derivatives(first, any_operation):
    chosen = traced(slopes_and_bends, range(first * 10, first * 10 + 10 * AT_ONCE))
    for (program, _), values in zip(chosen, run_together([t for _, t in chosen]), strict=True):
        count = len(values) // 2
        if all(np.isfinite(v).all() for v in values[:count]):
            for derivative in values[count:]:
                assert not np.any(derivative), program.text


def by_definition(program):
    flat, unravel = ravel_pytree(program.params)
    total = lambda q: jnp.sum(jax.vmap(lambda x: program(unravel(q), x))(program.data))
    return jnp.diag(jax.hessian(total)(flat))


def by_method(method):
    return lambda program: exact_hessian_diag(
        program, program.params, program.data, method=method, reduction="sum"
    )


def by_pullbacks(program):
    """The Gauss-Newton way wherever the rules allow it, whatever it costs."""
    network, exact = network_of(program), by_method("units")(program)
    nodes = network.nodes()
    levels = graph_levels(network.graph, nodes)
    linear = [v for v in nodes if levels[v] == 1]
    border = frontier(network.graph, graph_levels(network.graph, linear))
    chosen = [i for i, e in enumerate(network.entries) if isinstance(e, Entry) and e.node in linear]
    parts = network.leaves.vector(exact)
    data = (program.data,)
    for i, part in zip(chosen, gauss_newton_diag(network, chosen, border, data), strict=True):
        parts[i] = part
    return network.leaves.tree(parts)


WAYS = [by_method("auto"), by_method("chain"), by_pullbacks]


@pytest.mark.sampled(8)
@pytest.mark.parametrize("first", range(0, COUNT // 10, AT_ONCE))
def test_the_diagonal_is_that_of_the_hessian(first, any_operation):
    chosen = traced(by_definition, range(first * 10, first * 10 + 10 * AT_ONCE))
    found = [
        jax.make_jaxpr(lambda p=p, way=way: ravel_pytree(way(p))[0])()
        for (p, _), way in zip(chosen, itertools.cycle(WAYS))
    ]
    wanted = run_together([trace for _, trace in chosen])
    finite = 0
    for (program, _), (w,), (d,) in zip(chosen, wanted, run_together(found), strict=True):
        if not np.isfinite(w).all():  # an operand out of its domain
            continue
        finite += 1
        scale = program.tolerance * max(1, float(np.max(np.abs(w))))
        np.testing.assert_allclose(d, w, rtol=0, atol=scale, err_msg=program.text)
    assert finite > AT_ONCE / 3
