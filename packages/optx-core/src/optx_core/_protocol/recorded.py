"""Objects that record the call that created them.

A function decorated with `recorded` returns an object (a transformation, a schedule) that stores
its call: the function and its bound arguments, with defaults filled in. This record provides

- `repr`: `adamw(learning_rate=0.001, b1=0.9, ...)`,
- equality and hashes by value, so that a cache keyed on the object (such as that of `nnx.jit`) hits,
- pickling: the call is stored, and repeated on loading.

Arguments are compared by value: numbers by type and exact digits, arrays by dtype, shape and bytes,
containers elementwise, other recorded objects by their calls. Objects without a value to compare
(a lambda, a traced array) are compared by identity.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ParamSpec, Self, TypeVar

import jax
import numpy as np

from optx_core._protocol.arguments import admitted_types, call_checked, check_before_call
from optx_core._protocol.diagnosis import Failures
from optx_core._protocol.dtypes import is_dtype
from optx_core._protocol.kinds import hints_of

P = ParamSpec("P")
R = TypeVar("R", bound="Recorded")

_LINE = 100  # longer calls with nested calls print one argument per line


class Call:
    """A function and the arguments it was called with."""

    __slots__ = ("_bound", "_key", "function")

    def __init__(self, function: Callable[..., Any], bound: inspect.BoundArguments) -> None:
        self.function = function
        self._bound = bound
        self._key: Hashable = None

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.function.__name__

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name; those of `*args` as one tuple."""
        return dict(self._bound.arguments)

    def replace(self, **arguments: Any) -> Any:
        """Repeats the call with some arguments replaced."""
        bound = inspect.BoundArguments(self._bound.signature, dict(self._bound.arguments))
        bound.arguments.update(arguments)
        return self.function(*bound.args, **bound.kwargs)

    def key(self) -> Hashable:
        """Returns a hashable value that is equal for equal calls."""
        if self._key is None:
            arguments = tuple((name, _key(value)) for name, value in self.arguments.items())
            self._key = (self.function, arguments)
        return self._key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Call) and self.key() == other.key()

    def __hash__(self) -> int:
        return hash(self.key())

    def short(self) -> str:
        """Formats the call on one line, without arguments that have their default values."""
        parameters = inspect.signature(self.function).parameters
        parts = []
        for name, value in self._bound.arguments.items():
            match parameters[name].kind:
                case inspect.Parameter.VAR_POSITIONAL:
                    parts += [_show(item, short=True) for item in value]
                case inspect.Parameter.VAR_KEYWORD:
                    parts += [f"{key}={_show(item, short=True)}" for key, item in value.items()]
                case _:
                    if _key(value) != _key(parameters[name].default):
                        parts.append(f"{name}={_show(value, short=True)}")
        return f"{self.name}({', '.join(parts)})"

    def __repr__(self) -> str:
        parameters = inspect.signature(self.function).parameters
        parts = []
        for name, value in self._bound.arguments.items():
            match parameters[name].kind:
                case inspect.Parameter.VAR_POSITIONAL:
                    parts += [_show(item) for item in value]
                case inspect.Parameter.VAR_KEYWORD:
                    parts += [f"{key}={_show(item)}" for key, item in value.items()]
                case _:
                    parts.append(f"{name}={_show(value)}")
        line = f"{self.name}({', '.join(parts)})"
        has_calls = any("(" in part for part in parts)
        if not has_calls or (len(line) <= _LINE and "\n" not in line):
            return line
        body = "".join(f"{part},\n" for part in parts)
        return f"{self.name}(\n{_indent(body)})"


class Recorded:
    """Base class of objects that can record their call."""

    _call: Call | None = None
    _returned: Any = None  # the object that the function returned, if that records a call too

    def _with_call(self, call: Call) -> Self:
        """Returns a copy of the object that records `call`."""
        copy = self._blank_copy()
        copy.__dict__.update(self.__dict__)
        copy._call = call
        return copy

    def _recorded_as(self, call: Call) -> Self:
        """Returns a copy of the object that records `call`, as do its functions."""
        copy = self._with_call(call)
        copy._returned = None if self._call is None else self
        return copy

    def _blank_copy(self) -> Self:
        return object.__new__(type(self))

    def __pdoc__(self, **kwargs: Any) -> Any:
        """Prints the object as its call in wadler_lindig, which Equinox uses."""
        del kwargs
        if self._call is None:
            return None
        return importlib.import_module("wadler_lindig").TextDoc(self._call.short())

    def __repr__(self) -> str:
        return super().__repr__() if self._call is None else repr(self._call)

    def __eq__(self, other: object) -> bool:
        if self._call is None or not isinstance(other, Recorded) or other._call is None:
            return super().__eq__(other)
        return self._call == other._call

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return super().__hash__() if self._call is None else hash(self._call)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self._call is None:
            return super().__reduce_ex__(protocol)
        return _remake, (self._call.function, self._call._bound.args, self._call._bound.kwargs)


def recorded(function: Callable[P, R]) -> Callable[P, R]:
    """Makes the results of a function record the call, so that they can be printed, compared and pickled.

    Args:
      function: a function at the top level of a module (pickle refers to it by name) that returns a
        new `Recorded` object, such as a `GradientTransformation`, on every call.

    Returns:
      The function, with the same signature. It refuses arguments that their annotations do not admit: texts
      for numbers, say, or optimizers for schedules.

    Example:
      >>> from optx_core import scale, chain
      >>> from optx_core.build import recorded
      >>> @recorded
      ... def halve_twice():
      ...     return chain(scale(0.5), scale(0.5))
      >>> halve_twice()
      halve_twice()
      >>> halve_twice() == halve_twice()
      True
    """
    signature = inspect.signature(function)
    # Read at the first call: annotations may name what is defined later.
    admitted = functools.cache(lambda: admitted_types(function))

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        hints = hints_of(function)
        for name, value in bound.arguments.items():
            bound.arguments[name] = _frozen(value)
            check_before_call(function.__name__, name, hints.get(name), value)
        return call_checked(function, bound, admitted)._recorded_as(Call(call, bound))

    call.__dict__["records_call"] = True
    return call


def keeps_inner_state(function: Callable[P, R]) -> Callable[P, R]:
    """Declares that the state of a recorded wrapper is that of the transformation inside.

    `hyperparams`, `learning_rates` and `summarize` then find the numbers of that transformation.

    Args:
      function: a function decorated with `recorded`, with one transformation among its arguments.

    Returns:
      The function.

    Example:
      >>> from optx_core import scale, hyperparams, inject_hyperparams
      >>> from optx_core.build import keeps_inner_state, recorded, staged
      >>> @keeps_inner_state
      ... @recorded
      ... def same(inner):
      ...     return staged(inner.init, lambda flow, *args, **kw: flow.through(inner, *args, **kw))
      >>> tx = same(inject_hyperparams(scale)(0.5))
      >>> hyperparams(tx, tx.init(0.0))["step_size"]
      Array(0.5, dtype=float32)
    """
    function.__dict__["keeps_inner_state"] = True
    return function


class Part:
    """A function of a recorded object, such as a transformation's `init` and `update`.

    It prints as `adamw(learning_rate=0.001).update`; it compares, hashes and pickles by the call. An error
    that it raises is replaced by the result of `explain(name, *arguments)`, unless that is None.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        call: Call,
        name: str,
        explain: Callable[..., Exception | None] = lambda *args: None,
    ) -> None:
        self.__wrapped__: Callable[..., Any] = (
            function.__wrapped__ if isinstance(function, Part) else function
        )
        self.__name__ = self.__qualname__ = name
        self.call = call
        self._explain = explain

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.__wrapped__(*args, **kwargs)
        except Failures as error:
            why = self._explain(self.call.name, *args)
            if why is None:
                raise
            raise why from error

    def __repr__(self) -> str:
        return f"{self.call.short()}.{self.__name__}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Part):
            return NotImplemented
        return self.__name__ == other.__name__ and self.call == other.call

    def __hash__(self) -> int:
        return hash((self.call, self.__name__))

    def __reduce__(self) -> Any:
        bound = self.call._bound
        return _remake_part, (self.call.function, bound.args, bound.kwargs, self.__name__)


def call_of(made: object) -> Call | None:
    """Returns the call that created an object, or None if it was not recorded.

    Args:
      made: any object.

    Returns:
      A `Call` with `function`, `name`, `arguments` and `replace`, or None.

    Example:
      >>> from optx_core import scale
      >>> from optx_core.build import call_of
      >>> call_of(scale(0.5)).arguments
      {'step_size': 0.5}
    """
    return made._call if isinstance(made, Recorded) else None


def returned_by(result: object) -> Any:
    """Returns the object that the function behind a recorded object returned, if it has its own call.

    For `adamw(1e-3)` this is the chain that the function `adamw` returns.
    """
    return result._returned if isinstance(result, Recorded) else None


def _remake(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs)


def _remake_part(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str
) -> Any:
    return getattr(function(*args, **kwargs), name)


def _frozen(value: Any) -> Any:
    """Copies the mutable parts of a value that the caller could change later: NumPy arrays, dicts, lists."""
    if isinstance(value, np.ndarray):
        copy = value.copy()
        copy.flags.writeable = False
        return copy
    if isinstance(value, dict) and type(new := value.copy()) is type(value):  # OrderedDict, too
        new.update({key: _frozen(item) for key, item in value.items()})
        return new
    if type(value) in (list, tuple):
        return type(value)(_frozen(item) for item in value)
    return value


class _Identity:
    """Wraps an object to compare it by identity, and keeps it alive."""

    __slots__ = ("held",)

    def __init__(self, held: object) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.held is other.held

    def __hash__(self) -> int:
        return id(self.held)


def _key(value: Any) -> Hashable:
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return type(value), repr(value)  # repr is exact, and nan equals nan
    if isinstance(value, Recorded) and value._call is not None:
        return value
    if isinstance(value, Mapping) and type(value).__module__ in ("builtins", "types"):
        return "mapping", frozenset((_key(name), _key(item)) for name, item in value.items())
    if isinstance(value, tuple | list):
        return type(value), tuple(_key(item) for item in value)
    if isinstance(value, functools.partial):
        return "partial", _key(value.func), _key(value.args), _key(value.keywords)
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _array_key(value)
    if is_dtype(value):
        return "dtype", jax.numpy.dtype(value).name  # equal ones have other hashes
    try:
        hash(value)
    except TypeError:
        leaves, structure = jax.tree_util.tree_flatten(value)
        if jax.tree_util.all_leaves([value]):
            return _Identity(value)
        return structure, tuple(_key(leaf) for leaf in leaves)
    return value


def _array_key(array: Any) -> Hashable:
    if isinstance(array, jax.core.Tracer):
        return _Identity(array)
    if isinstance(array, jax.Array):
        if not array.is_fully_addressable:
            return _Identity(array)
        if jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key):
            return "key", str(array.dtype), _array_key(jax.random.key_data(array))
    values = np.asarray(array)
    return "array", str(values.dtype), values.shape, values.tobytes()


def _show(value: Any, *, short: bool = False) -> str:
    if short and isinstance(value, Recorded) and value._call is not None:
        return value._call.short()
    if isinstance(value, type) or (callable(value) and not isinstance(value, Recorded)):
        return getattr(value, "__qualname__", None) or repr(value)
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, jax.core.Tracer):
        return f"<traced {value.dtype}{list(value.shape)}>"
    if isinstance(value, jax.Array | np.ndarray | np.generic) and value.size > 8:
        return f"<{value.dtype}{list(value.shape)}>"
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{key!r}: {_show(item, short=short)}" for key, item in value.items())
            + "}"
        )
    if type(value) in (list, tuple):
        shown = ", ".join(_show(item, short=short) for item in value)
        return f"[{shown}]" if isinstance(value, list) else f"({shown}{',' * (len(value) == 1)})"
    return repr(value)


def _indent(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())
