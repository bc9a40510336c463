"""optax does not run under strict promotion; here both libraries run as a user has them."""

import jax
import pytest


@pytest.fixture(autouse=True)
def as_a_user_has_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
