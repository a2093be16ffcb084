"""The arrays of a call: all of one library and device, of types that arrayconv computes with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .backend import Backend, describe, dtype_name, get_backend
from .program import ITEM_SIZES

Array = Any

#: Array arguments that may be None.
OPTIONAL = ("bias", "mask")


def gather_arrays(
    op: str, names: Sequence[str], arrays: Sequence[Any], optional: Sequence[str] = OPTIONAL
) -> tuple[Backend, list[Any]]:
    """One backend for all arrays, NumPy constants beside another library's arrays adopted; None stays None."""
    owners = [
        None if array is None and name in optional else _owner(op, name, array)
        for name, array in zip(names, arrays, strict=True)
    ]
    foreign = [i for i, owner in enumerate(owners) if owner is not None and owner.name != "numpy"]
    chief = foreign[0] if foreign else 0
    backend = owners[chief]
    assert backend is not None  # the first array of every operation is required
    gathered = list(arrays)
    if foreign:
        for i, (name, array, owner) in enumerate(zip(names, arrays, owners, strict=True)):
            if owner is None or i == chief:
                continue
            if owner.name == "numpy":
                gathered[i] = _adopt(op, name, array, names[chief], arrays[chief], backend)
            elif owner is not backend:
                raise TypeError(
                    f"{op}: {name} is an array of {owner.name}, {names[chief]} is one of {backend.name}; "
                    f"one call takes arrays of one library: convert {name} first"
                )
            elif backend.device(array) != backend.device(arrays[chief]):
                raise TypeError(
                    f"{op}: {name} is on device {backend.device(array)}, {names[chief]} on "
                    f"{backend.device(arrays[chief])}; one call takes arrays of one device: move {name} first"
                )
    for name, array in zip(names, gathered, strict=True):
        if array is not None and dtype_name(array.dtype) not in ITEM_SIZES:
            raise TypeError(
                f"{op}: {name} has dtype {dtype_name(array.dtype)}; arrayconv takes int8 to int64, uint8 to uint64, "
                f"float16, bfloat16, float32, float64, complex64 and complex128: cast {name} first"
            )
    return backend, [_admit(op, name, array, backend) for name, array in zip(names, gathered, strict=True)]


def _admit(op: str, name: str, array: Any, backend: Backend) -> Any:
    """The array as the backend can use it; what it can't use ends in its own words."""
    if array is None:
        return None
    try:
        return backend.admit(array)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{op}: {name} {error}") from None


def _owner(op: str, name: str, array: Any) -> Backend:
    try:
        return get_backend(array)
    except TypeError as error:
        raise TypeError(
            f"{op}: {name} must be an array of NumPy, PyTorch, JAX, Dask or another library of the array API "
            f"standard, got {type(array).__name__}: {describe(array)}; convert it with numpy.asarray, for example"
        ) from error


def _adopt(op: str, name: str, constant: Any, beside: str, like: Array, backend: Backend) -> Array:
    """A NumPy constant as an array of ``like``'s library; real floats take the float type of ``like``."""
    kind, partner = constant.dtype.kind, dtype_name(like.dtype)
    if kind == "f" and partner in _REAL_OF:
        constant = constant.astype(np.float32 if _REAL_OF[partner] == "bfloat16" else _REAL_OF[partner])
    adopted = backend.from_numpy(constant, like)
    if kind == "f" and partner == "bfloat16":
        return backend.cast(adopted, like.dtype)
    if kind in "iu" and constant.size and dtype_name(adopted.dtype) != constant.dtype.name:
        held = np.iinfo(dtype_name(adopted.dtype))
        if constant.min() < held.min or constant.max() > held.max:
            raise ValueError(
                f"{op}: {name} holds {constant.max() if constant.max() > held.max else constant.min()}, which "
                f"{backend.name}'s {held.dtype} beside {beside} can't hold; enable 64-bit types in {backend.name} "
                f"or pass smaller integers"
            )
    return adopted


#: The real type with the precision of a floating type: what an adopted real constant becomes beside it.
_REAL_OF = {
    "float16": "float16",
    "bfloat16": "bfloat16",
    "float32": "float32",
    "float64": "float64",
    "complex64": "float32",
    "complex128": "float64",
}
