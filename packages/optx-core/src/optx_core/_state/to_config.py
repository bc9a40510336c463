"""Transformations and schedules as data that JSON can hold; `from_config` describes the forms."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import build
from optx_core._protocol.dtypes import is_dtype
from optx_core._protocol.recorded import _key
from optx_core._state.config_names import (
    PACKAGES,
    Names,
    checked,
    is_options,
    public,
    signature_of,
)
from optx_core._wrappers.multi_steps import MultiSteps

_MOST_NUMBERS = 256  # a config is for people to read; longer arrays are data


def to_config(tx: Any, names: Names | None = None, *, defaults: bool = True) -> dict[str, Any]:
    """Writes the call that made a transformation, or a schedule, as data that JSON can hold.

    Args:
      tx: a transformation or a schedule created by recorded functions (such as all of optx's). `MultiSteps`
        is written as `multi_steps`.
      names: your own functions, by name, and other objects without a form in JSON, such as masks
        that are functions.
      defaults: whether arguments with their default values are included, so that a later version
        with other defaults makes the same optimizer. Private default functions are always left out.

    Returns:
      A dict of dicts, lists, strings, numbers, booleans and None. `from_config(config, names)` is
      equal to `tx`, also after `json.loads(json.dumps(config))`.
      Dicts keep their order, which counts in comparisons: do not sort keys.

    Raises:
      TypeError: if `tx` is not recorded, or an argument has no form in JSON: a function without a name, a
        traced array or one of more than 256 numbers, a mesh. Names the argument.
      ValueError: if a name is both given and public in optx.

    Example:
      >>> from optx_core import to_config, trace
      >>> to_config(trace(0.9))
      {'name': 'trace', 'decay': 0.9, 'nesterov': False, 'accumulator_dtype': None}
      >>> to_config(trace(0.9), defaults=False)
      {'name': 'trace', 'decay': 0.9}
    """
    call = build.call_of(tx.gradient_transformation() if isinstance(tx, MultiSteps) else tx)
    if call is None:
        raise TypeError(f"to_config: {build.short_repr(tx)} was not made by a recorded function")
    return _Writer(checked("to_config", names), defaults).call(call, call.name)


class _Writer:
    """Turns Python's values into those of a config; `path` is their place, for errors."""

    def __init__(self, names: dict[str, Any], defaults: bool) -> None:
        self.names = names
        self.defaults = defaults

    def call(self, call: build.Call, path: str) -> dict[str, Any]:
        if (call.function.__module__, call.name) == ("optx_schedules._schedule", "combine"):
            name, *operands = call.arguments.values()
            operands = operands[:1] if name == "neg" else operands
            return {"$operator": name, "operands": self.items(operands, f"{path}.operands")}
        config = {"name": self.function(call, path)}
        arguments = call.arguments
        for name, parameter in signature_of("to_config", call.function).parameters.items():
            value = arguments[name]
            is_default = _key(value) == _key(parameter.default)
            if is_default and not self.defaults:
                continue
            try:
                config[name] = self.value(value, f"{path}.{name}")
            except TypeError:
                if not is_default:
                    raise
        return config

    def function(self, call: build.Call, path: str) -> Any:
        for name, given in self.names.items():
            if given is call.function:
                return name
        made_by = build.call_of(call.function)
        if made_by is not None:
            return self.call(made_by, path)
        if public(call.name) is not call.function:
            raise TypeError(
                f"to_config: {path}: {call.name} is not public in {', '.join(PACKAGES)}. Give it a "
                f"name: to_config(tx, names={{{call.name!r}: {call.name}}}), and the same to from_config"
            )
        return call.name

    def value(self, value: Any, path: str) -> Any:
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"$float": repr(value)}
        for name, given in self.names.items():
            if _key(given) == _key(value):
                return {"$object": name}
        call = build.call_of(value)
        if call is not None:
            return self.call(call, path)
        if type(value) in (tuple, list):
            items = self.items(value, path)
            return items if type(value) is tuple else {"$list": items}
        if isinstance(value, Mapping) and type(value).__module__ in ("builtins", "types"):
            pairs = [
                [self.value(key, path), self.value(item, f"{path}[{key!r}]")]
                for key, item in value.items()
            ]
            is_plain = all(type(key) is str and key != "name" and key[:1] != "$" for key in value)
            return dict(pairs) if is_plain else {"$dict": pairs}
        if type(value) is complex:
            return {"$complex": self.items((value.real, value.imag), path)}
        if is_dtype(value):
            return {"$dtype": jnp.dtype(value).name}
        if isinstance(value, np.generic):
            return {"$scalar": self.value(value.item(), path), "dtype": value.dtype.name}
        if isinstance(value, np.ndarray | jax.Array):
            return self.array(value, path)
        if type(value) is functools.partial:
            return {
                "$partial": self.value(value.func, f"{path}.func"),
                "args": self.value(value.args, f"{path}.args"),
                "keywords": self.value(value.keywords, f"{path}.keywords"),
            }
        kind = type(value).__name__
        if is_options(type(value)) and public(kind) is type(value):
            given = {
                k: getattr(value, k) for k in signature_of("to_config", type(value)).parameters
            }
            return {"name": kind} | {k: self.value(x, f"{path}.{k}") for k, x in given.items()}
        name = getattr(value, "__name__", "")
        if callable(value) and public(name) is value:
            return {"$object": name}
        raise _no_form(path, build.short_repr(value))

    def items(self, values: Any, path: str) -> list[Any]:
        return [self.value(item, f"{path}[{k}]") for k, item in enumerate(values)]

    def array(self, value: Any, path: str) -> dict[str, Any]:
        shown = f"an array {value.dtype}{list(value.shape)}"
        if not 0 < value.size <= _MOST_NUMBERS:
            raise _no_form(path, shown, f" (arrays of 1 to {_MOST_NUMBERS} numbers have)")
        try:
            array = np.asarray(value)
        except (
            TypeError,
            RuntimeError,
        ):  # a traced array, a key, an array on other processes' devices
            raise _no_form(path, shown) from None

        def lists(x: Any) -> Any:
            return [lists(item) for item in x] if isinstance(x, list) else self.value(x, path)

        return {"$array": lists(array.tolist()), "dtype": array.dtype.name}


def _no_form(path: str, shown: str, why: str = "") -> TypeError:
    name = path.rpartition(".")[2].partition("[")[0]
    return TypeError(
        f"to_config: {path} is {shown}, which has no form in JSON{why}. Give it a name: "
        f"to_config(tx, names={{{name!r}: ...}}), and the same to from_config"
    )
