"""optx-testing: a conformance kit for gradient transformations, yours or optx's."""

from optx_core.build import table_of_contents

__getattr__, __dir__, __all__ = table_of_contents(
    __name__,
    """
    _check: check_transformation
    _subject: BrokenPromiseError
    """,
)
