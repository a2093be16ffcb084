"""Any library that follows the array API standard and has no file of its own."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ..backend import Backend, standard_backend


@cache
def backend_of(xp: Any) -> Backend:
    """The backend of a namespace, named after its module."""
    name = xp.__name__
    return standard_backend(
        name,
        xp,
        owns=lambda array: getattr(array, "__array_namespace__", lambda: None)() is xp,
        to_numpy=lambda array: np.from_dlpack(array) if array.size else np.zeros(array.shape, _numpy_dtype(array)),
        device=lambda array: array.device,
        device_kind=lambda array: "cpu",
        dtype=lambda dtype: getattr(xp, dtype, None),
        cast=lambda array, dtype: xp.astype(array, dtype, copy=False),
    )


def _numpy_dtype(array: Any) -> Any:
    return np.dtype(str(array.dtype).rpartition(".")[2])
