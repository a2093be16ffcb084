"""NumPy's own convolution: `numpy.convolve`, of one real or complex signal with one kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from ..primitives import Widths, crop
from ..program import Problem

Array = np.ndarray[Any, Any]

#: `numpy.convolve`, whose types know no array of any type.
Convolve = Callable[[Array, Array, str], Array]


def pad(x: Array, widths: Widths) -> Array:
    """Zero padding of the last axes into one fresh buffer; crops alone are a view."""
    x, widths = crop(x, widths)
    if not any(low or high for low, high in widths):
        return x
    first = x.ndim - len(widths)
    inner = x.shape[first:]
    sizes = [n + low + high for n, (low, high) in zip(inner, widths, strict=True)]
    out = np.zeros((*x.shape[:first], *sizes), dtype=x.dtype)
    middle: Any = tuple(slice(low, low + n) for n, (low, _) in zip(inner, widths, strict=True))
    out[(..., *middle)] = x
    return out


def native_unsupported(problem: Problem) -> str | None:
    geometry = problem.geometry
    if geometry.ndim != 1:
        return f"numpy.convolve takes one spatial axis, not {geometry.ndim}"
    if geometry.inputs != 1:
        return f"numpy.convolve takes one input channel, not {geometry.inputs}"
    (axis,) = geometry.axes
    if (axis.stride, axis.window_dilation, axis.base_dilation) != (1, 1, 1):
        return "numpy.convolve takes no stride and no dilation"
    return None


def native_prepare(problem: Problem) -> tuple[str, Widths]:
    """The mode, and the zeros that it doesn't add."""
    (axis,) = problem.geometry.axes
    if axis.low == axis.high == axis.kernel - 1:
        return "full", ((0, 0),)
    return "valid", ((axis.low, axis.high),)


def native_execute(own: tuple[str, Widths], x: Array, kernel: Array) -> Array:
    """A call for each row of the result. It swaps a convolution's kernel round, and unlike `numpy.correlate` doesn't
    conjugate.
    """
    mode, widths = own
    x, taps, convolve = pad(x, widths), kernel[:, 0, ::-1], cast("Convolve", np.convolve)
    if len(x) == len(kernel) == 1:
        return convolve(x[0, 0], taps[0], mode)[None, None]
    each = len(kernel) // x.shape[1]
    return np.asarray([[convolve(image[i // each], row, mode) for i, row in enumerate(taps)] for image in x])
