"""NumPy's own convolution: `numpy.convolve`, of one real or complex signal with one kernel."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import numpy as np

from ..backend import Backend, Planning, Steps
from ..layout import Layout
from ..primitives import Widths, crop_parts
from ..program import Problem, Program

Array = np.ndarray[Any, Any]

#: `numpy.convolve` or `numpy.correlate`, whose types know no array of any type.
Convolve = Callable[[Array, Array, str], Array]


def pad(x: Array, widths: Widths) -> Array:
    """Zero padding of the last axes into one fresh buffer; crops alone are a view."""
    first = x.ndim - len(widths)
    parts, sizes, middle = frame(x.shape[first:], tuple(widths))
    if parts is not None:
        x = x[parts]
    if middle is None:
        return x
    out: Array = np.zeros(x.shape[:first] + sizes, x.dtype)
    out[middle] = x
    return out


@lru_cache(maxsize=1024)  # of a small call it would be a tenth
def frame(sizes: tuple[int, ...], widths: tuple[tuple[int, int], ...]) -> tuple[Any, tuple[int, ...], Any]:
    """What is left of x, the sizes with its zeros, and where it lies among them; None where that is all."""
    parts, rest = crop_parts(sizes, widths)
    left = [part.stop - part.start for part in parts]
    out = tuple([n + low + high for n, (low, high) in zip(left, rest, strict=True)])
    middle = (..., *[slice(low, low + n) for n, (low, _) in zip(left, rest, strict=True)])
    is_cut = any(low < 0 or high < 0 for low, high in widths)
    return (..., *parts) if is_cut else None, out, middle if any(map(any, rest)) else None


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
    """The mode, and the zeros that it doesn't add: "same" begins in the middle of the kernel, if x is no shorter."""
    (axis,) = problem.geometry.axes
    middle, last = axis.kernel // 2, axis.kernel - 1
    if axis.low == axis.high == last:
        return "full", ((0, 0),)
    if (axis.low, axis.high) == (middle, last - middle) and axis.size >= axis.kernel:
        return "same", ((0, 0),)
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


def whole(planning: Planning, backend: Backend, program: Program, layout: Layout, otherwise: Steps) -> Steps | None:
    """The call of one signal and one kernel before ``layout``, which has either as it lies or flips it: all but a
    microsecond of a short one is the way to it.
    """
    problem, geometry = program.problem, program.geometry
    if program.algorithm != "native" or problem.accumulator != problem.dtype:
        return None
    if geometry.batch * geometry.groups * geometry.outputs != 1:
        return None
    mode, widths = native_prepare(problem)
    is_padded, is_flipped = any(map(any, widths)), bool(layout.flipped)
    is_plain = not (is_flipped or problem.is_complex)  # `numpy.correlate` conjugates its kernel
    function = cast("Convolve", np.correlate if is_plain else np.convolve)
    taps = slice(None, None, 1 if is_plain or is_flipped else -1)

    def call(x: Array, kernel: Array, bias: Array | None = None) -> Array:
        y = function((pad(x, widths) if is_padded else x).reshape(-1), kernel.reshape(-1)[taps], mode)
        return (y if bias is None else np.add(y, bias, out=y))[None, None]

    return call
