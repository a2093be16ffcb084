"""Padding and sliding windows as operations of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf, isfinite
from typing import Any

import numpy as np

from ..arguments import PerAxis, read_ints, read_pair, read_per_axis, read_word
from ..backend import Backend, dtype_name
from ..boundary import BOUNDARIES, Run, check_depth, runs
from ..gather import gather_arrays
from ..geometry import WindowDimension, dilated
from ..primitives import add_windows

Array = Any


def pad(x: Array, widths: Sequence[tuple[int, int]], *, boundary: str = "constant", value: complex = 0) -> Array:
    """x with ``low`` elements before and ``high`` after each axis: ``out[i] = x[map(i - low)]``.

    ========== ========================== ==============================
    boundary   ``1 2 3 4`` padded (2, 2)  `numpy.pad`'s mode
    ========== ========================== ==============================
    constant   ``0 0 1 2 3 4 0 0``        constant
    edge       ``1 1 1 2 3 4 4 4``        edge
    reflect    ``3 2 1 2 3 4 3 2``        reflect
    symmetric  ``2 1 1 2 3 4 4 3``        symmetric
    wrap       ``3 4 1 2 3 4 1 2``        wrap
    ========== ========================== ==============================

    Args:
        x: any shape.
        widths: one ``(low, high)`` pair (or one int, for both sides) for each axis of x; negative widths crop, and any
            depth is allowed, also past the length of x.
        boundary: what the new elements are.
        value: the fill of ``"constant"``; it must be a value of x's dtype.

    Returns:
        An array of x's dtype with ``n + low + high`` elements an axis.

    Raises:
        TypeError: a list, a bool array.
        ValueError: not one entry an axis, less than no element left, an unknown boundary, an empty axis that a boundary
            can't continue, a value that the dtype can't hold.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> ac.pad(np.array([1, 2, 3, 4]), [(5, -1)], boundary="reflect")
    array([2, 3, 4, 3, 2, 1, 2, 3])
    """
    backend, (x,) = gather_arrays("pad", ("x",), (x,))
    value = plain_number(value)
    pieces = read_pad(x, widths, boundary, value)
    return padded(backend, x, pieces, value)


def padded(backend: Backend, x: Array, pieces: tuple[tuple[Run, ...], ...], value: complex) -> Array:
    """A new array also where nothing is added: a crop alone would be a view."""
    y = backend.pad_runs(x, pieces, value)
    return backend.copy(y) if all(len(runs) == 1 for runs in pieces) else y


def read_pad(x: Array, widths: Any, boundary: Any, value: Any) -> tuple[tuple[Run, ...], ...]:
    """The runs of every axis."""
    read_word("pad", "boundary", boundary, BOUNDARIES)
    read_value(x, value)
    entries = tuple(widths) if isinstance(widths, Iterable) else (widths,)
    if len(entries) != x.ndim:
        raise ValueError(
            f"pad: widths has {len(entries)} entries, expected one (low, high) pair for each of x's {x.ndim} axes: "
            f"widths={widths!r}"
        )
    pieces = []
    for i, (entry, n) in enumerate(zip(entries, x.shape, strict=True)):
        low, high = read_pair("pad", f"widths[{i}]", entry)
        if n + low + high < 0:
            raise ValueError(f"pad: widths[{i}]={(low, high)} crops more than axis {i} has, {n} elements")
        if n == 0 and boundary != "constant" and n + low + high > 0:
            raise ValueError(f"pad: boundary={boundary!r} can't continue axis {i} of size 0; use 'constant'")
        check_depth("pad", boundary, n, low, high)
        pieces.append(runs(boundary, n, low, high))
    return tuple(pieces)


#: The largest number of the types that are narrower than Python's float (IEEE 754, and bfloat16's 8-bit mantissa).
LARGEST = {
    "float16": 65504.0,
    "bfloat16": 3.3895313892515355e38,
    "float32": 3.4028234663852886e38,
    "complex64": 3.4028234663852886e38,
}


def plain_number(value: Any) -> Any:
    """A NumPy scalar as Python's number; anything else as it is, for `read_value` to judge."""
    return value.item() if isinstance(value, np.number) else value


def read_value(x: Array, value: Any) -> None:
    """The fill must mean the same in x's dtype."""
    name = dtype_name(x.dtype)
    if isinstance(value, bool) or not isinstance(value, int | float | complex):
        raise TypeError(f"pad: value must be a number, got {value!r}")
    if abs(value) > LARGEST.get(name, inf) and isfinite(abs(value)):
        raise ValueError(f"pad: value={value!r} is too large for {name}; cast x first")
    if ("int" in name and not isinstance(value, int)) or (isinstance(value, complex) and "complex" not in name):
        raise ValueError(f"pad: value={value!r} is no {name}; cast x or take another value")
    if "int" in name:
        bits = int(name.lstrip("uint"))
        low, high = (0, 2**bits - 1) if name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if not low <= value <= high:  # type: ignore[operator]
            raise ValueError(f"pad: value={value!r} is outside {name}'s range of {low} to {high}; cast x first")


def pull_pad(x: Array, widths: Any, *, boundary: str = "constant", value: complex = 0) -> Any:
    """`pad`, and its transpose: every padded element goes back to the one that it was read from."""
    backend, (x,) = gather_arrays("pad", ("x",), (x,))
    value = plain_number(value)
    pieces = read_pad(x, widths, boundary, value)
    return padded(backend, x, pieces, value), lambda dy: (backend.pad_runs_transpose(dy, pieces, x.shape),)


def windows(x: Array, window: Sequence[int], *, stride: PerAxis = 1, dilation: PerAxis = 1) -> Array:
    """Sliding windows over the last axes of x: ``out[..., j, t] = x[..., j * stride + t * dilation]``.

    `numpy.lib.stride_tricks.sliding_window_view` with stride and dilation, on every library; on NumPy a read-only view,
    on PyTorch a view.

    Args:
        x: ``(..., *spatial)`` with at least as many axes as ``window`` has entries.
        window: window sizes, a tuple.
        stride: step of the window, one int or one an axis.
        dilation: distance of neighbouring elements in a window.

    Returns:
        ``(..., *out, *window)`` of x's dtype, ``out = floor((n - dilation * (k - 1) - 1) / stride) + 1``.

    Raises:
        TypeError: a list, a bool array, entries that are no ints.
        ValueError: a window longer than x, entries below 1.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> ac.windows(np.arange(6), (2,), stride=2)
    array([[0, 1],
           [2, 3],
           [4, 5]])
    """
    backend, (x,) = gather_arrays("windows", ("x",), (x,))
    return backend.windows(x, *read_windows(x, window, stride, dilation))


def read_windows(x: Array, window: Any, stride: Any, dilation: Any) -> tuple[tuple[int, ...], ...]:
    """Window, stride and dilation, checked against x."""
    sizes = read_ints("windows", "window", window, 1)
    if not 1 <= len(sizes) <= x.ndim:
        raise ValueError(f"windows: window={sizes} must have 1 to {x.ndim} entries, since x has {x.ndim} axes")
    strides = read_per_axis("windows", "stride", stride, len(sizes), 1)
    dilations = read_per_axis("windows", "dilation", dilation, len(sizes), 1)
    for axis, (k, d) in enumerate(zip(sizes, dilations, strict=True), x.ndim - len(sizes)):
        if dilated(k, d) > x.shape[axis]:
            raise ValueError(
                f"windows: window of {k} (dilation {d}) covers {dilated(k, d)} elements, axis {axis} of x has "
                f"{x.shape[axis]}; pad x first or take a smaller window"
            )
    return sizes, strides, dilations


def pull_windows(x: Array, window: Any, *, stride: Any = 1, dilation: Any = 1) -> Any:
    """`windows`, and its transpose: every window is added back where it was read."""
    backend, (x,) = gather_arrays("windows", ("x",), (x,))
    read = read_windows(x, window, stride, dilation)
    sizes = x.shape[x.ndim - len(read[0]) :]
    axes = [WindowDimension(n, k, s, window_dilation=d) for n, k, s, d in zip(sizes, *read, strict=True)]
    return backend.windows(x, *read), lambda dy: (backend.pull_windows(backend, add_back, axes, x, dy),)


def add_back(backend: Backend, axes: Sequence[WindowDimension], x: Array, dy: Array) -> Array:
    """Windows of axes without padding, summed in place."""
    sizes, *read = zip(*((axis.size, axis.kernel, axis.stride, axis.window_dilation) for axis in axes), strict=True)
    return add_windows(backend.xp, dy, sizes, *read)
