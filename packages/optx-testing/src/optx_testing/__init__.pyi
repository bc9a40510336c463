"""optx-testing: a conformance kit for gradient transformations, yours or optx's."""

# Written by tools/write_stubs.py.

from optx_testing._check import check_transformation as check_transformation
from optx_testing._subject import BrokenPromiseError as BrokenPromiseError
