"""Bare pictures: those of `pairs` that came without a caption, and without tags that their source gives.

Nothing is known of them but what the engine finds itself, so that nothing is learnt from them that a caption tells, and
nothing is measured on them.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

TOLD_BY = ("captions", "ready_tags")  # columns of `pairs`
IN_SQL = "(len(captions) = 0 AND ready_tags IS NULL)"


def are_bare(pairs: pa.Table) -> NDArray[np.bool_]:
    """(rows,): which rows of a table with :data:`TOLD_BY` are of bare pictures."""
    without = pc.equal(pc.list_value_length(pairs["captions"]), 0)
    bare: NDArray[np.bool_] = pc.and_(without, pc.is_null(pairs["ready_tags"])).to_numpy()
    return bare
