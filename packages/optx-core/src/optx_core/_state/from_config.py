"""Transformations and schedules from data such as JSON holds.

A call is a dict of its name and its arguments: {"name": "adamw", "learning_rate": 0.001}. A list is a
tuple of Python, a dict without "name" a dict. Other values have a form with "$":

    {"$object": "kernels"}                    the object of this name, public or given; it is not called
    {"$list": [...]}                          a list
    {"$dict": [[key, value], ...]}            a dict with a key "name", "$...", or one that is no string
    {"$float": "inf"}                         or "-inf" or "nan"
    {"$complex": [real, imaginary]}
    {"$dtype": "bfloat16"}
    {"$scalar": 0.1, "dtype": "float64"}      a NumPy scalar
    {"$array": [...], "dtype": "float32"}     an array of NumPy, which compares equal to JAX's
    {"$partial": function, "args": [...], "keywords": {...}}
    {"$operator": "mul", "operands": [a, b]}  arithmetic on schedules

Nothing is imported by a name in a config, and nothing is evaluated: a name stands for what optx's packages
list as public, or for what the caller gives.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from optx_core import build
from optx_core._state.config_names import (
    Names,
    all_public,
    checked,
    closest,
    may_be_called,
    not_installed,
    public,
    signature_of,
)

_OPERATORS = ("add", "sub", "mul", "truediv", "pow", "neg")
_AS_DICT = 'a dict with such a key is written {"$dict": [[key, value], ...]}'


def from_config(config: Mapping[str, Any], names: Names | None = None) -> Any:
    """Makes a transformation, or a schedule, from data such as JSON holds.

    Args:
      config: a dict of the name of a function and its arguments by name, those of `*args` as one list:
        `{"name": "chain", "transformations": [...]}`. Arguments may be such dicts; `to_config` shows the form
        of any value. A list becomes a tuple (`{"$list": [...]}` a list). Other Python objects are
        passed on unchanged.
      names: your own functions, by name, and other objects to which the config refers as
        `{"$object": "kernels"}`.

    Returns:
      The result of the function. Only functions in `names` and public functions of optx that make
      transformations or schedules are called; nothing is imported by name or evaluated.

    Raises:
      ValueError: if a name is unknown (lists the known ones), or both given and public in optx.
      TypeError: if an argument is unknown or missing; lists the function's arguments. Errors raised by
        the functions have a note with the place in the config.

    Example:
      >>> from optx_core import from_config
      >>> decay = {"name": "add_decayed_weights", "weight_decay": 0.1, "mask": {"$object": "kernels"}}
      >>> config = {"name": "chain", "transformations": [decay, {"name": "scale", "step_size": 0.5}]}
      >>> def kernels(params):
      ...     return {"kernel": True, "bias": False}
      >>> tx = from_config(config, names={"kernels": kernels})
      >>> params, zeros = {"kernel": 2.0, "bias": 2.0}, {"kernel": 0.0, "bias": 0.0}
      >>> updates, _ = tx.update(zeros, tx.init(params), params)
      >>> [round(float(updates[name]), 3) for name in params]
      [0.1, 0.0]
    """
    if not isinstance(config, Mapping) or not {"name", "$operator"} & set(config):
        raise TypeError(
            'from_config takes a dict with the "name" of a function and its arguments, '
            f"not {build.short_repr(config)}"
        )
    return _Reader(checked("from_config", names)).value(config, "config")


class _Reader:
    """Turns the values of a config into Python's; `path` is their place, for errors."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names

    def value(self, data: Any, path: str) -> Any:
        if isinstance(data, Mapping):
            if "name" in data:
                return self.call(data, path)
            if any(isinstance(key, str) and key.startswith("$") for key in data):
                return _noted(path, lambda: self.form(data, path))
            return {key: self.value(item, f"{path}[{key!r}]") for key, item in data.items()}
        if type(data) in (list, tuple):
            return tuple(self.value(item, f"{path}[{k}]") for k, item in enumerate(data))
        return data

    def call(self, config: Mapping[str, Any], path: str) -> Any:
        function, shown = self.function(config["name"], path)
        signature = signature_of("from_config", function)
        parameters = signature.parameters
        arguments = {
            key: self.value(item, f"{path}[{key!r}]") if key in parameters else None
            for key, item in config.items()
            if key != "name"
        }
        wrong = ""
        for key in arguments:
            if key not in parameters:
                wrong = f"has no argument {key!r}{closest(key, parameters)}"
        for key, parameter in parameters.items():
            is_many = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            expected = tuple if parameter.kind is parameter.VAR_POSITIONAL else dict
            if is_many and type(arguments.get(key, expected())) is not expected:
                wrong = f"takes a {'list' if expected is tuple else 'dict'} of {key}"
            elif not is_many and parameter.default is parameter.empty and key not in arguments:
                wrong = wrong or f"needs the argument {key!r}"
        if wrong:
            known = ", ".join(parameters) or "none"
            raise TypeError(f"from_config: {path}: {shown} {wrong}; its arguments are {known}")
        bound = inspect.BoundArguments(signature, arguments)
        bound.apply_defaults()
        return _noted(path, lambda: function(*bound.args, **bound.kwargs))

    def function(self, name: Any, path: str) -> tuple[Callable[..., Any], str]:
        """Returns the function to call, and its name. A call that makes a function may be its name."""
        if isinstance(name, Mapping) and "name" in name:
            made: Any = self.call(name, f"{path}['name']")
            is_function = callable(made) and isinstance(made, build.Recorded)
            if not is_function:
                raise TypeError(f"from_config: {path}['name'] makes {made!r}, which is no function")
            return made, getattr(made, "__name__", build.short_repr(made))
        if not isinstance(name, str):
            raise TypeError(
                f"from_config: the name at {path} must be that of a function, not {name!r}; {_AS_DICT}"
            )
        if name in self.names:
            given = self.names[name]
            if not callable(given):
                raise TypeError(
                    f"from_config: {path}: {name!r} is not a function; write {{'$object': {name!r}}}"
                )
            return given, name
        function = public(name)
        if not may_be_called(function):
            known = [*self.names, *(n for n in all_public() if may_be_called(public(n)))]
            raise ValueError(
                f"from_config: {path}: there is no {name!r}{closest(name, known)}; there are "
                f"{', '.join(known)}{not_installed()}. For your own: "
                f"from_config(config, names={{{name!r}: ...}})"
            )
        return function, name

    def form(self, data: Mapping[Any, Any], path: str) -> Any:
        def value(item: Any) -> Any:
            return self.value(item, path)

        match data, len(data):
            case {"$object": str(name)}, 1:
                return self.named(name, path)
            case {"$list": [*items]}, 1:
                return list(value(items))
            case {"$dict": [*pairs]}, 1:
                return dict(value(pairs))
            case {"$float": "inf" | "-inf" | "nan" as text}, 1:
                return float(text)
            case {"$complex": [real, imaginary]}, 1:
                return complex(value(real), value(imaginary))
            case {"$dtype": str(dtype)}, 1:
                return jnp.dtype(dtype).type
            case {"$scalar": number, "dtype": str(dtype)}, 2:
                return jnp.dtype(dtype).type(value(number))
            case {"$array": numbers, "dtype": str(dtype)}, 2:
                return np.array(value(numbers), jnp.dtype(dtype))
            case {"$partial": function, "args": [*args], "keywords": keywords}, 3:
                return functools.partial(value(function), *value(args), **value(keywords))
            case {"$operator": str(name), "operands": [*operands]}, 2 if name in _OPERATORS:
                return _applied(name, value(operands))
        raise ValueError(
            f"from_config: {path}: {build.short_repr(dict(data))} is no form; the forms are $object, $list, "
            f"$dict, $float, $complex, $dtype, $scalar, $array, $partial and $operator; {_AS_DICT}"
        )

    def named(self, name: str, path: str) -> Any:
        value = self.names[name] if name in self.names else public(name)
        if name not in self.names and not callable(value):
            known = [*self.names, *all_public()]
            given = ", ".join(self.names) or "none"
            raise ValueError(
                f"from_config: {path}: there is no {name!r}{closest(name, known)}; the given names are "
                f"{given}. For your own: from_config(config, names={{{name!r}: ...}})"
            )
        return value


def _applied(name: str, operands: tuple[Any, ...]) -> Any:
    if not any(callable(x) and isinstance(x, build.Recorded) for x in operands):
        raise TypeError(f"from_config: {name} needs a schedule, not {operands!r}")
    return getattr(operator, name)(*operands)


def _noted(path: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:
        if not (hasattr(error, "__notes__") or str(error).startswith("from_config:")):
            error.add_note(f"from_config: the error was raised at {path}")
        raise
