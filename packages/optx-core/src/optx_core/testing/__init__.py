"""The conformance kit: checks that a transformation keeps the promises of the protocol."""

from optx_core.testing._check import check_transformation
from optx_core.testing._subject import BrokenPromiseError

__all__ = ["BrokenPromiseError", "check_transformation"]
