"""`gemm` in tiles, where buffers may be written: columns in one that is used again, products straight into the result.

A thread multiplies the columns that it has copied, so that these stay in its cache.

Columns are ``(n, G, I k, P)``, for one product an image; or ``(G, I k, n P)`` where an image has few positions P, and a
product would pack the kernel's rows for each image anew.
"""

from __future__ import annotations

from math import gcd, prod
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry, WindowDimension
from ..program import Program
from .algorithm import prepared
from .tiles import Tile, each_tile, tile_input

Array = Any

#: Positions of an image below which a product takes those of several.
FEW = 128

#: Stride from which a copy of neighbouring positions reads a cache line for hardly more than one element.
SPARSE = 4


class Phase(NamedTuple):
    """Taps of the last axis that read every s-th element from ``start`` on, ``offset`` of these later, and so forth."""

    start: int
    offset: int
    taps: slice
    dilation: int


class Columns(NamedTuple):
    """Shapes of a tile: of x, its windows, and of the columns with all axes in their ``order`` and as a matrix."""

    x: tuple[int, ...]
    windows: tuple[tuple[int, ...], ...]
    phases: tuple[Phase, ...]
    order: tuple[int, ...]
    full: tuple[int, ...]
    matrix: tuple[int, ...]
    is_view: bool
    merged: bool
    taps_first: bool
    places: int


def phases(axis: WindowDimension) -> tuple[Phase, ...]:
    """The taps by the residue of the elements that they read: of these alone, positions are neighbours."""
    stride, dilation = axis.stride, axis.window_dilation
    every = stride // gcd(stride, dilation)
    return tuple(
        Phase(
            first * dilation % stride, first * dilation // stride, slice(first, None, every), every * dilation // stride
        )
        for first in range(min(every, axis.kernel))
    )


def buffered_details(taps_first: bool, geometry: Geometry) -> Columns:
    """Axes of the windows are ``(N, G, I, *out, *window)``."""
    batch, groups, inputs, ndim = geometry.batch, geometry.groups, geometry.inputs, geometry.ndim
    places = prod(geometry.out)
    out, window = range(3, 3 + ndim), range(3 + ndim, 3 + 2 * ndim)
    merged = places < FEW and batch > 1
    if taps_first:
        order = (1, 2, *window, 0, *out) if merged else (0, 1, 2, *window, *out)
    else:
        order = (1, 0, *out, 2, *window) if merged else (0, 1, *out, 2, *window)
    sizes = (batch, groups, inputs, *geometry.out, *geometry.window)
    lead, many = ((groups,), batch * places) if merged else ((batch, groups), places)
    last = geometry.axes[-1]
    return Columns(
        (batch, groups, inputs, *geometry.sizes),
        (geometry.window, *zip(*[(axis.stride, axis.window_dilation) for axis in geometry.axes], strict=True)),
        phases(last) if taps_first and 1 < last.stride < SPARSE else (),
        order,
        tuple(sizes[axis] for axis in order),
        (*lead, geometry.terms, many) if taps_first else (*lead, many, geometry.terms),
        not merged and (places == 1 or geometry.taps == 1) and geometry.sizes in (geometry.out, geometry.window),
        merged,
        taps_first,
        places,
    )


def fill(backend: Backend, own: Columns, x: Array, scratch: Array) -> Array:
    """The columns of a tile's x, in the scratch unless they are x itself."""
    xp, (window, stride, dilation) = backend.xp, own.windows
    if own.is_view:
        return xp.reshape(x, own.matrix)
    columns = xp.reshape(scratch[: prod(own.full)], own.full)
    if not own.phases:
        columns[...] = xp.permute_dims(backend.windows(x, window, stride, dilation), own.order)
        return xp.reshape(columns, own.matrix)
    tap = own.order.index(2 + 2 * len(window))  # where the last axis of the window stands
    for phase in own.phases:
        part = xp.asarray(x[..., phase.start :: stride[-1]], copy=True)[..., phase.offset :]
        count = len(range(window[-1])[phase.taps])
        part = backend.windows(part, (*window[:-1], count), (*stride[:-1], 1), (*dilation[:-1], phase.dilation))
        part = part[(*(slice(None),) * (2 + len(window)), slice(0, own.full[-1]))]
        columns[(*(slice(None),) * tap, phase.taps)] = xp.permute_dims(part, own.order)
    return xp.reshape(columns, own.matrix)


def multiply(backend: Backend, own: Columns, rows: Array, columns: Array, y: Array) -> None:
    """Into ``y (n, G, O, P)``."""
    xp = backend.xp
    if own.merged:
        product = (
            backend.matmul(rows, columns) if own.taps_first else xp.matrix_transpose(backend.matmul(columns, rows))
        )
        product = xp.reshape(product, (*product.shape[:2], y.shape[0], y.shape[3]))
        y[...] = xp.permute_dims(product, (2, 0, 1, 3))
    elif not own.taps_first:
        y[...] = xp.matrix_transpose(backend.matmul(columns, rows))
    elif y.dtype == rows.dtype:
        backend.matmul(rows, columns, out=y)
    else:
        y[...] = backend.matmul(rows, columns)


def execute_buffered(program: Program, backend: Backend, x: Array, rows: Array) -> Array:
    """All tiles, with one scratch for the columns of each that is computed at once."""
    xp, geometry, tiles, empty = backend.xp, program.geometry, prepared(program, backend).tiles, backend.empty
    assert empty is not None  # `gemm` asks before it comes here
    y = empty(geometry.y_shape, x.dtype)
    flat = xp.reshape(y, (geometry.batch, geometry.groups, geometry.outputs, prod(geometry.out)))
    rows = backend.cast(rows, backend.dtype(program.problem.accumulator))
    most = max(0 if tile.details.is_view else prod(tile.details.full) for tile in tiles)
    free = list[Array]()

    def take() -> Array:
        try:
            return free.pop()
        except IndexError:  # as many are in use as tiles are computed
            return empty(most, rows.dtype)

    def place(tile: Tile) -> None:
        own, scratch = tile.details, take()
        columns = fill(backend, own, xp.reshape(tile_input(program, backend, tile, x), own.x), scratch)
        start = 0
        for part, count in zip(tile.target[2:], geometry.out, strict=True):
            start = start * count + part.start
        y = flat[tile.target[0], tile.groups, :, start : start + own.places]
        multiply(backend, own, rows[tile.groups], columns, y)
        free.append(scratch)

    each_tile(program, backend, place, tiles)
    return y
