"""Mathematics on trees of arrays, and what transformations are written with.

None and masked nodes are "not here" and pass through everything.
"""

from optx_core._flow import map_leaves
from optx_core._dtypes import abs_squared
from optx_core._slots import slot_dtype, slots_like

__all__ = ["abs_squared", "map_leaves", "slot_dtype", "slots_like"]
