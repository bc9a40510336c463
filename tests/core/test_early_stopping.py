"""When training stops."""

import copy
import json
import pickle

import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import EarlyStopping

NAN, INF = float("nan"), float("inf")
# name: (options, values, the number of calls until it stops (None: it does not), best, best_step)
ROWS = {
    "falls": ({"patience": 2}, [3.0, 2.0, 1.0], None, 1.0, 2),
    "stays": ({"patience": 2}, [1.0, 1.0, 1.0, 1.0], 3, 1.0, 0),
    "patience 1": ({"patience": 1}, [1.0, 1.5], 2, 1.0, 0),
    "recovers in time": ({"patience": 2}, [1.0, 2.0, 0.5, 2.0, 2.0], 5, 0.5, 2),
    "too little": ({"patience": 2, "min_delta": 0.1}, [1.0, 0.95, 0.92], 3, 1.0, 0),
    "little by little": ({"patience": 3, "min_delta": 0.1}, [1.0, 0.95, 0.85], None, 0.85, 2),
    "exactly min_delta": ({"patience": 1, "min_delta": 0.5}, [1.0, 0.5], 2, 1.0, 0),
    "max": ({"patience": 2, "mode": "max"}, [0.1, 0.5, 0.4, 0.3], 4, 0.5, 1),
    "max, negative": ({"patience": 2, "mode": "max"}, [-3.0, -2.0, -1.0], None, -1.0, 2),
    "NaN": ({"patience": 5}, [1.0, NAN], 2, 1.0, 0),
    "NaN at first": ({"patience": 5}, [NAN], 1, None, 0),
    "inf": ({"patience": 5}, [1.0, INF], 2, 1.0, 0),
    "-inf is no best value": ({"patience": 5}, [1.0, -INF], 2, 1.0, 0),
    "NaN as no improvement": (
        {"patience": 3, "check_finite": False},
        [NAN, 1.0, NAN, NAN, 0.5, NAN, -INF, INF],
        8,
        0.5,
        4,
    ),
    "nothing but NaN": ({"patience": 3, "check_finite": False}, [NAN] * 4, 3, None, 0),
}


@pytest.mark.parametrize("as_type", [float, np.float32, jnp.float32])
@pytest.mark.parametrize("name", ROWS)
def test_it_stops_after_patience_values_without_improvement(name, as_type):
    options, values, calls, best, best_step = ROWS[name]
    stopping = EarlyStopping(**options)
    for k, value in enumerate(values, 1):
        stopped = stopping.update(as_type(value))
        assert stopped is stopping.should_stop
        assert stopped is (calls is not None and k >= calls)
    assert stopping.best == (None if best is None else float(as_type(best)))
    assert stopping.best_step == best_step
    assert stopping.step == len(values)


def test_an_improvement_is_the_time_to_save():
    stopping = EarlyStopping(patience=9)
    assert not stopping.improved
    assert [stopping.update(x) or stopping.improved for x in (2.0, 3.0, 1.0)] == [True, False, True]


@pytest.mark.parametrize("name", ROWS)
def test_its_progress_is_saved_and_goes_on(name):
    options, values, *_ = ROWS[name]
    stopping = EarlyStopping(**options)
    stopping.update(values[0])
    others = [
        pickle.loads(pickle.dumps(stopping)),
        copy.deepcopy(stopping),
        EarlyStopping(**options),
    ]
    others[2].load_state_dict(json.loads(json.dumps(stopping.state_dict())))
    for other in others:
        assert other == stopping
    for value in values[1:]:
        assert len({s.update(value) for s in (stopping, *others)}) == 1
    assert all(other == stopping for other in others)


WRONG = {
    "patience": [0, -1, 1.5, None],
    "min_delta": [-1.0, NAN],
    "mode": ["minimum", None],
}


@pytest.mark.parametrize("argument", WRONG)
def test_arguments_out_of_range_are_refused(argument):
    for value in WRONG[argument]:
        with pytest.raises(ValueError, match=f"EarlyStopping: {argument} must be"):
            EarlyStopping(**{argument: value})


def test_a_state_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="EarlyStopping: the state must have best, best_step"):
        EarlyStopping().load_state_dict({"best": 1.0})
