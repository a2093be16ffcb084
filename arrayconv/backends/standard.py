"""Any library that follows the array API standard and has no file of its own."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ..backend import Backend, dtype_name, standard_backend


@cache
def backend_of(xp: Any) -> Backend:
    """The backend of a namespace, named after its module."""
    name = xp.__name__
    return standard_backend(
        name,
        xp,
        owns=lambda array: getattr(array, "__array_namespace__", lambda: None)() is xp,
        to_numpy=lambda array: _to_numpy(xp, array),
        device=lambda array: array.device,
    )


def _to_numpy(xp: Any, array: Any) -> np.ndarray[Any, Any]:
    """A copy first: NumPy before 2.1 doesn't export read-only memory, and none exports an empty array everywhere."""
    if array.size == 0:
        return np.zeros(array.shape, np.dtype(dtype_name(array.dtype)))
    return np.from_dlpack(xp.asarray(array, copy=True))
