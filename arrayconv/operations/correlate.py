"""Correlation and convolution without channels: the seed's `corr2d`, and N-D with every option."""

from __future__ import annotations

from math import prod
from typing import Any

from ..arguments import Padding, PerAxis, read_ints
from ..geometry import Geometry
from ..layout import identity_or
from .linear import Options, Reading, call_linear, freeze, window_axes

Array = Any


def read_axes(op: str, axes: Any, x_ndim: int, kernel_ndim: int) -> tuple[int, ...]:
    """The spatial axes of x, counted from the front; the last ones by default."""
    if kernel_ndim < 1:
        raise ValueError(f"{op}: kernel must have at least one axis, got shape ()")
    if kernel_ndim > x_ndim:
        raise ValueError(f"{op}: kernel has {kernel_ndim} axes, x has {x_ndim}; x needs at least as many")
    if axes is None:
        return tuple(range(x_ndim - kernel_ndim, x_ndim))
    chosen = read_ints(op, "axes", (axes,) if isinstance(axes, int) else axes)
    if len(chosen) != kernel_ndim:
        raise ValueError(f"{op}: axes={chosen} names {len(chosen)} axes of x, the kernel has {kernel_ndim}")
    counted = tuple(axis + x_ndim if axis < 0 else axis for axis in chosen)
    if any(not 0 <= axis < x_ndim for axis in counted) or len(set(counted)) != kernel_ndim:
        raise ValueError(f"{op}: axes={chosen} must be different axes of x, which has {x_ndim}")
    return counted


def read_correlate(op: str, x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], options: Options) -> Reading:
    """``x (..., *s)`` as ``(N, 1, *s)``, ``kernel (*k)`` as ``(1, 1, *k)``."""
    axes = read_axes(op, options.axes, len(x_shape), len(kernel_shape))
    others = tuple(axis for axis in range(len(x_shape)) if axis not in axes)
    sizes = tuple(x_shape[axis] for axis in axes)
    pieces, dimensions = window_axes(op, sizes, kernel_shape, options)
    geometry = Geometry(prod(x_shape[axis] for axis in others), 1, 1, 1, dimensions)
    y_shape = list(x_shape)
    for axis, n in zip(axes, geometry.out, strict=True):
        y_shape[axis] = n
    order = (*others, *axes)
    return (
        identity_or(x_shape, axes=order, merged=(geometry.batch, 1, *sizes)),
        identity_or(kernel_shape, merged=geometry.kernel_shape),
        identity_or(tuple(y_shape), axes=order, merged=geometry.y_shape),
        pieces,
        geometry,
    )


def read_convolve(op: str, x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], options: Options) -> Reading:
    """`read_correlate` with the kernel flipped."""
    x_layout, _, y_layout, pieces, geometry = read_correlate(op, x_shape, kernel_shape, options)
    flipped = tuple(range(len(kernel_shape)))
    kernel_layout = identity_or(kernel_shape, flipped=flipped, merged=geometry.kernel_shape)
    return x_layout, kernel_layout, y_layout, pieces, geometry


def read_corr2d(op: str, x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], options: Options) -> Reading:
    """Exactly two axes each."""
    for name, shape in (("x", x_shape), ("kernel", kernel_shape)):
        if len(shape) != 2:
            raise ValueError(f"{op}: {name} must have 2 axes, got shape {shape}; use correlate for other ranks")
    return read_correlate(op, x_shape, kernel_shape, options)


_PLAIN = Options(1, "valid", 1, "constant", "auto")


def corr2d(x: Array, kernel: Array) -> Array:
    """Two-dimensional valid cross-correlation: the seed's function.

    ``y[i, j] = sum_{u, v} x[i + u, j + v] * kernel[u, v]``

    Args:
        x: ``(h, w)``.
        kernel: ``(kh, kw)``, no longer than x on either axis.

    Returns:
        ``(h - kh + 1, w - kw + 1)`` of ``result_type(x, kernel)``.

    Raises:
        TypeError: a list, a bool array, or arrays of two libraries.
        ValueError: not two axes, or a kernel longer than x.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> ac.corr2d(np.arange(9.0).reshape(3, 3), np.arange(4.0).reshape(2, 2))
    array([[19., 25.],
           [37., 43.]])
    """
    return call_linear(read_corr2d, "corr2d", x, kernel, None, None, _PLAIN)


def correlate(
    x: Array,
    kernel: Array,
    *,
    axes: PerAxis | None = None,
    stride: PerAxis = 1,
    padding: Padding = "valid",
    dilation: PerAxis = 1,
    boundary: str = "constant",
    dtype: Any = None,
    algorithm: str = "auto",
) -> Array:
    """N-dimensional cross-correlation; axes of x that the kernel doesn't have are a batch.

    ``y[..., j] = sum_t x[..., j * stride + t * dilation - low] * kernel[t]`` for every spatial axis. Nothing is
    conjugated, where `scipy.signal.correlate` and `numpy.correlate` conjugate a complex kernel.

    Args:
        x: any shape.
        kernel: one axis for each spatial axis of x.
        axes: the spatial axes of x, in the kernel's order; the last ones by default.
        stride: step of the window, one int or one an axis.
        padding: an int (each side), one int or ``(low, high)`` pair an axis (negative crops), or ``"valid"``,
            ``"same"`` (``ceil(n / stride)`` outputs, the odd element at the end), ``"same_lower"`` (at the front, as
            NumPy and SciPy do), ``"full"``, ``"causal"`` (all in front).
        dilation: distance of neighbouring taps.
        boundary: what the padding holds: ``"constant"`` (zero), ``"edge"``, ``"reflect"``, ``"symmetric"``, ``"wrap"``.
        dtype: accumulate and return in this type instead of ``result_type(x, kernel)``. Integers are exact as long as
            that type holds them; float16 and bfloat16 are summed in float32.
        algorithm: ``"auto"``, ``"native"`` or a name from `algorithms`.

    Returns:
        x's shape with ``floor((n + low + high - dilation * (k - 1) - 1) / stride) + 1`` on each spatial axis.

    Raises:
        TypeError: a list, a bool array, arrays of two libraries or devices, a dtype that would lose part of x.
        ValueError: options that don't fit the shapes, an unknown word, an algorithm that can't serve.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> ac.correlate(np.array([1, 2, 3, 4]), np.array([1, 10]))
    array([21, 32, 43])
    >>> ac.correlate(np.array([1, 2, 3, 4]), np.array([1, 1, 1]), padding="same", boundary="wrap")
    array([7, 6, 9, 8])
    """
    options = Options(
        freeze("correlate", "stride", stride),
        freeze("correlate", "padding", padding),
        freeze("correlate", "dilation", dilation),
        boundary,
        algorithm,
        axes=freeze("correlate", "axes", axes),
    )
    return call_linear(read_correlate, "correlate", x, kernel, None, dtype, options)


def convolve(
    x: Array,
    kernel: Array,
    *,
    axes: PerAxis | None = None,
    stride: PerAxis = 1,
    padding: Padding = "valid",
    dilation: PerAxis = 1,
    boundary: str = "constant",
    dtype: Any = None,
    algorithm: str = "auto",
) -> Array:
    """N-dimensional convolution: `correlate` with the kernel flipped on every axis.

    ``y[..., j] = sum_t x[..., j * stride + t * dilation - low] * kernel[k - 1 - t]``; arguments, result and errors are
    those of `correlate`. ``padding="full"`` and ``"same_lower"`` are `numpy.convolve`'s and SciPy's modes "full" and
    "same".

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> ac.convolve(np.array([1, 2, 3]), np.array([0, 1, 10]), padding="full")
    array([ 0,  1, 12, 23, 30])
    """
    options = Options(
        freeze("convolve", "stride", stride),
        freeze("convolve", "padding", padding),
        freeze("convolve", "dilation", dilation),
        boundary,
        algorithm,
        axes=freeze("convolve", "axes", axes),
    )
    return call_linear(read_convolve, "convolve", x, kernel, None, dtype, options)
