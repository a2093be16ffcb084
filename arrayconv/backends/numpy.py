"""NumPy: strided views instead of gathers, and buffers that may be written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .. import primitives
from ..backend import Native, standard_backend
from ..frames import Runs, pad_into
from ..primitives import split_ranges, window_counts
from .blas import CROWD
from .numpy_native import native_execute, native_prepare, native_unsupported, pad, whole
from .numpy_products import matmul, sum_view
from .numpy_transforms import forward, inverse
from .workers import WORKERS

Array = np.ndarray[Any, Any]
Compute = Callable[[Array], Array]


#: NumPy's functions, but methods in place of those that look for one in every call, which takes them half a
#: microsecond: a sixth of a small correlation.
XP: Any = ModuleType("numpy")
vars(XP).update(vars(np), reshape=lambda x, shape: x.reshape(shape), permute_dims=lambda x, axes: x.transpose(axes))


def owns(array: Any) -> bool:
    """ndarrays, memory maps too; masked arrays and matrices mean something else by ``*`` and indexing."""
    return isinstance(array, np.ndarray) and not isinstance(array, np.ma.MaskedArray | np.matrix)


def pad_runs(x: Array, runs: Runs, value: Any = 0) -> Array:
    padded = pad_into(np.empty, flip, x, runs, value)
    joined: Array = primitives.pad_runs(XP, x, runs, value) if padded is None else padded
    return joined


def flip(array: Array, axis: int) -> Array:
    """`numpy.flip` takes ten times as long to come to the same view."""
    return array[(*(slice(None),) * axis, slice(None, None, -1))]


def windows(x: Array, window: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Array:
    """A read-only view: no copy. Of x as it lies in memory, `as_strided` takes longer than all else of a small call."""
    shape, strides = view_of(x.shape, x.strides, tuple(window), tuple(stride), tuple(dilation))
    if x.flags.c_contiguous:
        view: Array = np.ndarray(shape, x.dtype, x, strides=strides)
        view.flags.writeable = False
        return view
    return as_strided(x, shape, strides, writeable=False)


@lru_cache(maxsize=1024)
def view_of(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    window: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shape and the strides of the windows of an array that has these."""
    first = len(shape) - len(window)
    out = window_counts(shape[first:], window, stride, dilation)
    axes = list(zip(strides[first:], stride, dilation, strict=True))
    steps = (*(step * s for step, s, _ in axes), *(step * d for step, _, d in axes))
    return (*shape[:first], *out, *window), (*strides[:first], *steps)


def band(kernel: Array, place: int, block: int, stride: int, dilation: int) -> Array:
    """Zeros, and the taps written to their diagonals by one copy."""
    outputs, *shape = kernel.shape
    taps = shape[place - 1]
    shape[place - 1] = (block - 1) * stride + (taps - 1) * dilation + 1
    out: Array = np.zeros((outputs, block, *shape), kernel.dtype)
    each, row, *strides = out.strides
    step = strides[place - 1]
    strides[place - 1] = step * dilation
    diagonals = (each, row + step * stride, *strides)
    np.ndarray((outputs, block, *kernel.shape[1:]), kernel.dtype, out, strides=diagonals)[...] = kernel[:, None]
    return out.reshape(outputs * block, *shape)


def sum_products(pairs: Sequence[tuple[Array, Array]], out: Array | None = None) -> Array:
    """Two buffers, however many products."""
    (a, b), *others = pairs
    total = np.asarray(np.multiply(a, b, out=out))
    if others:
        product = np.empty_like(total)
        for a, b in others:
            np.add(total, np.multiply(a, b, out=product), out=total)
    return total


def scatter_add(total: Array, index: Array, values: Array) -> Array:
    """Rows added into ``total`` itself. `numpy.add.at` is fast for flat indices; in pieces, since they are many."""
    width = total.shape[1]
    columns, flat = np.arange(width), total.reshape(-1)
    for part in split_ranges(len(index), max(1, 2**16 // max(1, width))):
        own = slice(part.start, part.stop)
        np.add.at(flat, (index[own, None] * width + columns).reshape(-1), values[own].reshape(-1))
    return total


def unless_finite(compute: Compute, otherwise: Compute, x: Array) -> Array:
    with np.errstate(invalid="ignore"):
        y = compute(x)
    return y if np.isfinite(y).all() else otherwise(x)


def if_finite(compute: Callable[..., Any], otherwise: Callable[..., Any], *arrays: Array, shown: Any = None) -> Any:
    """By the arrays: NumPy would warn of what is not finite."""
    return (compute if all(np.isfinite(array).all() for array in arrays) else otherwise)(*arrays)


def promote(a: Array, b: Array) -> Any:
    return np.result_type(a.dtype, b.dtype)


# The C library of Linux gives freed memory back to the system at once, and each new buffer of a tile is then cleared by
# the system page by page (half of a transform's time), until it has seen one block freed that is larger than those: of
# up to 32 MiB (mallopt(3), M_MMAP_THRESHOLD). It keeps up to twice as much then.
np.empty(2**25 - 2**17, dtype=np.uint8)

BACKEND = standard_backend(
    "numpy",
    XP,
    owns=owns,
    types=(np.ndarray,),
    signature=lambda array: (array.shape, array.dtype),
    from_numpy=lambda array, like: array,
    dtype=lambda name: np.dtype(name) if name != "bfloat16" else None,
    promote=promote,
    cast=lambda array, dtype: array.astype(dtype, copy=False),
    admit=lambda array: array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("=")),
    pad=pad,
    pad_runs=pad_runs,
    windows=windows,
    band=band,
    matmul=matmul,
    forward=forward,
    inverse=inverse,
    native=Native(native_unsupported, native_prepare, native_execute, has_layers=False),
    sum_products=sum_products,
    sum_view=sum_view,
    is_writable=lambda x: True,
    max_windows=lambda fold, axes, x: fold(np.maximum),
    add_to=lambda y, bias: np.add(y, bias, out=y),
    whole=whole,
    empty=np.empty,
    unless_finite=unless_finite,
    if_finite=if_finite,
    cache=2**21,
    workers=WORKERS,
    multipliers=None if CROWD is None else WORKERS,
    short_lines=True,
    scatter_add=scatter_add,
    peek=lambda array: array,
)
