"""`gemm` for a compiler where there are fewer outputs than taps, as in a kernel gradient: an output is a slice of x.

Products of some inputs, or of some rows of one input's windows, are added up: the gradient of 64 x 64 kernels of 3 x 3
taps from one image of 224 x 224 is a product of 576 x 50176 with 50176 x 64 elements, of which no cache holds a part
unless its terms are cut (102 ms by channels, 27 by 8 rows).
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry, dilated
from ..primitives import pad_zero, tap_slice
from .gemm_cuts import Parts

Array = Any


class Band(NamedTuple):
    """Rows of windows that are multiplied at a time: the first of each step, and the outputs' slices of what of x they
    read, which is so many rows.
    """

    starts: range
    rows: int
    read: int
    slices: tuple[Any, ...]


class Sums(NamedTuple):
    """A tile's zeros, shapes of x, the kernel and y without the batch, and what is multiplied at a time."""

    widths: tuple[tuple[int, int], ...]
    x: tuple[int, ...]
    kernel: tuple[int, ...]
    y: tuple[int, ...]
    images: int
    inputs: int
    bands: tuple[Band, ...]
    dilation: int


def sums(parts: Parts, geometry: Geometry) -> Sums:
    first, *_ = geometry.axes
    whole = first.kernel // parts.rows * parts.rows
    bands = [band(geometry, range(0, whole, parts.rows), parts.rows)]
    if whole < first.kernel:
        bands.append(band(geometry, range(whole, first.kernel), first.kernel - whole))
    return Sums(
        tuple((axis.low, axis.high) for axis in geometry.axes),
        (geometry.groups, geometry.inputs, *(axis.padded for axis in geometry.axes)),
        (geometry.groups, geometry.outputs, geometry.inputs, *geometry.window),
        geometry.y_shape[1:],
        parts.images,
        parts.inputs,
        tuple(bands),
        first.window_dilation,
    )


def band(geometry: Geometry, places: range, rows: int) -> Band:
    first, out = geometry.axes[0], geometry.out
    window, read = (rows, *geometry.window[1:]), dilated(rows, first.window_dilation) + (out[0] - 1) * first.stride
    stride, dilation = [axis.stride for axis in geometry.axes], [axis.window_dilation for axis in geometry.axes]
    slices = [tap_slice(place, window, dilation, stride) for place in product(*map(range, out))]
    return Band(range(places.start, places.stop, rows), rows, read, tuple(slices))


def padded(backend: Backend, groups: int, widths: tuple[tuple[int, int], ...], x: Array) -> Array:
    """``(N, G I, *s)`` as ``(N, G, I, *padded)``."""
    if any(map(any, widths)):
        x = backend.hold(pad_zero(backend.xp, x, widths))
    return backend.xp.reshape(x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))


def added(backend: Backend, own: Sums, kernel: Array, x: Array) -> Array:
    """Products of some inputs, or rows of one, after the others, of all these images."""
    xp, images, (groups, outputs, inputs, _, *window) = backend.xp, x.shape[0], own.kernel
    x, kernel = padded(backend, groups, own.widths, x), xp.reshape(kernel, own.kernel)
    nothing = (0,) * len(window)
    products = []
    for band in own.bands:
        sizes = (
            (images, groups, own.inputs, band.read, *own.x[3:]),
            (groups, outputs, own.inputs, band.rows, *window),
        )
        corners = [
            ((0, 0, i, own.dilation * row, *nothing), (0, 0, i, row, *nothing))
            for i, row in product(range(0, inputs, own.inputs), band.starts)
        ]
        products.append(backend.add_up(partial(multiply, backend, band.slices), (x, kernel), sizes, corners))
    y = xp.reshape(sum(products[1:], products[0]), (groups, images, -1, outputs))
    return xp.reshape(xp.permute_dims(y, (1, 0, 3, 2)), (images, *own.y))


def multiply(backend: Backend, slices: tuple[Any, ...], x: Array, kernel: Array) -> Array:
    """``(G, N P, i k) @ (G, i k, O)``."""
    xp, (images, groups), outputs = backend.xp, x.shape[:2], kernel.shape[1]
    lead = (groups,) if groups > 1 else ()
    if groups == 1:
        x = x[:, 0, ...]
        columns = xp.stack([x[part] for part in slices], axis=1)
    else:
        x = backend.hold(xp.permute_dims(x, (1, 0, *range(2, x.ndim))))
        columns = xp.stack([x[part] for part in slices], axis=2)
    columns = backend.hold(xp.reshape(columns, (*lead, images * len(slices), -1)))
    return backend.matmul(columns, xp.matrix_transpose(xp.reshape(kernel, (*lead, outputs, -1))))
