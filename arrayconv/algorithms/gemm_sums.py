"""`gemm` for a compiler where there are fewer outputs than taps, as in a kernel gradient: an output is a slice of x.

Products of some inputs, or of some rows of one input's windows, are added up: the gradient of 64 x 64 kernels of 3 x 3
taps from one image of 224 x 224 is a product of 576 x 50176 with 50176 x 64 elements, of which no cache holds a part
unless its terms are cut (102 ms by channels, 33 by 7 rows).
"""

from __future__ import annotations

from functools import partial
from itertools import product
from math import prod
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry
from ..primitives import pad_zero, tap_slice
from .gemm_cuts import Parts, pads_first, rows_read

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
    """The zeros of x, or those before its pieces, shapes of x with its zeros, the kernel and y, without the batch, and
    what is multiplied at a time.
    """

    widths: tuple[tuple[int, int], ...]
    low: tuple[int, ...]
    x: tuple[int, ...]
    kernel: tuple[int, ...]
    y: tuple[int, ...]
    images: int
    inputs: int
    bands: tuple[Band, ...]
    dilation: int


def sums_of(parts: Parts, geometry: Geometry) -> Sums:
    first, *_ = geometry.axes
    whole = first.kernel // parts.rows * parts.rows
    bands = [band(geometry, range(0, whole, parts.rows), parts.rows)]
    if whole < first.kernel:
        bands.append(band(geometry, range(whole, first.kernel), first.kernel - whole))
    zeros = tuple((axis.low, axis.high) for axis in geometry.axes)
    is_first = pads_first(geometry)
    return Sums(
        zeros if is_first else (),
        tuple(0 if is_first else low for low, _ in zeros),
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
    window, read = (rows, *geometry.window[1:]), rows_read(first, rows)
    stride, dilation = [axis.stride for axis in geometry.axes], [axis.window_dilation for axis in geometry.axes]
    slices = [tap_slice(place, window, dilation, stride) for place in product(*map(range, out))]
    return Band(range(places.start, places.stop, rows), rows, read, tuple(slices))


def added(backend: Backend, own: Sums, kernel: Array, x: Array) -> Array:
    """Products of some inputs, or rows of one, after the others, of all these images.

    A loop reads arrays as they are, if it can: of one that was reshaped, axes of one element above all, XLA makes a
    copy beside.
    """
    assert backend.add_up is not None
    xp, images, (groups, outputs, inputs, _, *window) = backend.xp, x.shape[0], own.kernel
    x = backend.hold(pad_zero(xp, x, own.widths)) if own.widths else x
    is_split = groups > 1 and own.inputs < inputs  # what is read of a channel axis is not one piece
    of_x: tuple[int, ...] = (groups * own.inputs,)
    of_kernel: tuple[int, ...] = (groups * outputs, own.inputs)
    if is_split:
        x, kernel = xp.reshape(x, (images, groups, inputs, *x.shape[2:])), xp.reshape(kernel, own.kernel)
        of_x, of_kernel = (groups, own.inputs), (groups, outputs, own.inputs)
    none, nothing, products = (0,) * int(is_split), (0,) * len(window), []
    (first, *others), sizes_of_x = own.low, own.x[3:]
    for band in own.bands:
        sizes = (images, *of_x, band.read, *sizes_of_x), (*of_kernel, band.rows, *window)
        corners = [
            ((0, *none, i, own.dilation * row - first, *[-n for n in others]), (0, *none, i, row, *nothing))
            for i, row in product(range(0, inputs, own.inputs), band.starts)
        ]
        step = partial(multiply, backend, groups, 1 + len(window), band.slices)
        products.append(backend.add_up(step, (x, kernel), sizes, corners))
    y = xp.reshape(sum(products[1:], products[0]), (groups, images, -1, outputs))
    return xp.reshape(xp.permute_dims(y, (1, 0, 3, 2)), (images, *own.y))


def multiply(backend: Backend, groups: int, ndim: int, slices: tuple[Any, ...], x: Array, kernel: Array) -> Array:
    """``(G, N P, i k) @ (G, i k, O)``, for one group without its axis."""
    xp, images, sizes, lead = backend.xp, x.shape[0], x.shape[x.ndim - ndim :], (groups,) if groups > 1 else ()
    x = xp.reshape(x, (images, *lead, -1, *sizes))
    if groups > 1:
        x = backend.hold(xp.permute_dims(x, (1, 0, *range(2, x.ndim))))
    columns = xp.stack([x[part] for part in slices], axis=1 + len(lead))
    columns = backend.hold(xp.reshape(columns, (*lead, images * len(slices), -1)))
    rows = xp.reshape(kernel, (*lead, prod(kernel.shape[: kernel.ndim - ndim - 1]) // groups, -1))
    return backend.matmul(columns, xp.matrix_transpose(rows))
