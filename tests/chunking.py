"""What tests of Dask share; it imports little, since the workers of a cluster import it with what they run."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np


def refuse(*_: Any, **__: Any) -> Any:
    """A scheduler."""
    raise AssertionError("something was computed while the graph was built")


def lazy(array: np.ndarray[Any, Any], chunks: Any = "auto") -> Any:
    return da.from_array(array, chunks=chunks)
