"""Sums over all windows of x: of the products of their elements, ``W^H W``, and of these with y, ``W^H y``.

A row of W is a window of x, one for each output, and neighbouring rows share nearly all their elements. So outputs are
taken in blocks of L along an axis: block m reads the ``E = (L - 1) * stride + window`` elements ``V[m]``, of which
output a of the block and tap t meet ``V[m, a * stride + t * dilation]``, and

    (W^H W)[t, u] = sum_m sum_a conj(V[m, a * stride + t * dilation]) * V[m, a * stride + u * dilation]

is a sum of L slices of ``V^H V``. That is E^2 / L multiply-adds an output in place of k^2, and E / L copied elements in
place of k: for 7 x 7 taps and L = 7 on both axes 583 and 3.4 in place of 2,401 and 49. Nothing is approximated.
Long windows of a stride of 1 are less work in `autocorrelation`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any, NamedTuple

from ..algorithms.algorithm import block_shape
from ..backend import Backend
from ..geometry import Geometry, WindowDimension, dilated
from ..primitives import dilate, placement, split_ranges
from ..program import ITEM_SIZES

Array = Any
Axes = tuple[WindowDimension, ...]

#: Multiply-adds in the time that copying one element of a window takes (measured on CPUs, in double precision).
COPY = 50
#: Lengths of blocks that are tried, as shares of the window.
SHARES = (1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 1, 2)


class Moments(NamedTuple):
    """What to sum over windows of ``x (N, G * I, *s)`` and over ``y (N, G * O, *o)``; with ``bias`` they end in a 1.

    ``accumulator`` names the type of all sums; a tile takes some ``tile`` bytes, and all temporaries some ``room``.
    ``is_unrolled``: a compiler sees each tile by itself, or an accelerator idles in small ones.
    """

    groups: int
    inputs: int
    outputs: int
    bias: bool
    accumulator: str
    tile: int
    room: int
    is_unrolled: bool = False

    @property
    def itemsize(self) -> int:
        """Bytes of an element of a sum."""
        return ITEM_SIZES[self.accumulator]

    @property
    def products(self) -> int:
        """Elements of sums that may be held while tiles are added to them."""
        return self.room // (4 * self.itemsize)

    def columns(self, axes: Axes) -> int:
        """Elements of a window, D."""
        return self.inputs * prod([axis.kernel for axis in axes]) + self.bias

    def size(self, axes: Axes) -> int:
        """Length of what `by_tiles` gives."""
        columns = self.columns(axes)
        return self.groups * columns * (columns + self.outputs) + 1

    def split(self, xp: Any, axes: Axes, sums: Array) -> tuple[Array, Array, Array]:
        """What `by_tiles` gives as ``W^H W (G, D, D)``, ``(W^H y)^T (G, O, D)`` and ``|y|^2 ()``."""
        groups, columns, outputs = self.groups, self.columns(axes), self.outputs
        first = groups * columns * columns
        matrix = xp.reshape(sums[:first], (groups, columns, columns))
        return matrix, xp.reshape(sums[first:-1], (groups, outputs, columns)), sums[-1]

    def join(self, xp: Any, matrix: Array, vector: Array, square: Array, ones: Ones | None) -> Array:
        """What `split` takes apart, from what belongs to the kernel, and with a bias to the 1 at the end."""
        is_complex = "complex" in self.accumulator
        if ones is not None:
            column, total = ones.windows, ones.outputs
            corner = xp.zeros_like(column[:, :, :1]) + ones.number
            row = xp.conj(column) if is_complex else column
            matrix = xp.concat([matrix, xp.permute_dims(row, (0, 2, 1))], axis=2)
            matrix = xp.concat([matrix, xp.concat([column, corner], axis=2)], axis=1)
            vector = xp.concat([vector, total], axis=2)
        square = xp.astype(square, matrix.dtype) if is_complex else square
        return xp.concat([xp.reshape(part, (-1,)) for part in (matrix, vector, square)])


class Ones(NamedTuple):
    """The sums of all windows ``(G, 1, D)`` and of y ``(G, O, 1)``, and their number."""

    windows: Array
    outputs: Array
    number: int


def squares(xp: Any, array: Array, is_complex: bool) -> Array:
    """The sum of squared magnitudes."""
    return xp.sum(xp.real(array) ** 2 + xp.imag(array) ** 2) if is_complex else xp.sum(array**2)


def by_tiles(what: Moments, backend: Backend, axes: Axes, x: Array, y: Array) -> Array:
    """All sums, end to end in one array: those of the parts of a set of outputs add up to those of the set."""
    xp = backend.xp
    geometry = Geometry(x.shape[0], what.groups, what.inputs, what.outputs, axes)
    total = xp.zeros((what.size(axes),), dtype=backend.dtype(what.accumulator), **placement(x))
    lengths = block_lengths(geometry, what.products)
    for segments in product(*map(segments_of, axes, lengths)):
        sums: list[Array] | None = None
        for tile in tiles_of(what, geometry, segments):
            parts = _sum_tile(what, backend, tile, x, y)
            sums = parts if sums is None else [a + b for a, b in zip(sums, parts, strict=True)]
        if sums is not None:
            total = total + _fold(what, xp, geometry, segments, sums)
    return total


# Blocks of outputs


class Segment(NamedTuple):
    """Outputs of one axis from ``start`` on: ``number`` blocks of ``length``."""

    start: int
    number: int
    length: int


def segments_of(axis: WindowDimension, length: int) -> list[Segment]:
    """Whole blocks, and one shorter block of what is left."""
    number, rest = divmod(axis.output, length)
    parts = (Segment(0, number, length), Segment(number * length, 1, rest))
    return [part for part in parts if part.number * part.length]


def block_axis(axis: WindowDimension, segment: Segment) -> WindowDimension:
    """The axis whose output m is what block m reads: all elements up to its last, or the taps of its only output."""
    start, number, length = segment
    stride = length * axis.stride
    kernel, dilation = (axis.kernel, axis.window_dilation) if length == 1 else (_extent(axis, length), 1)
    low = axis.low - start * axis.stride
    high = (number - 1) * stride + dilated(kernel, dilation) - axis.base - low
    return WindowDimension(axis.size, kernel, stride, low, high, dilation, axis.base_dilation)


def _extent(axis: WindowDimension, length: int) -> int:
    """Elements that are copied for a block of outputs."""
    return axis.kernel if length == 1 else (length - 1) * axis.stride + axis.window


@lru_cache(maxsize=4096)
def block_lengths(geometry: Geometry, room: int) -> tuple[int, ...]:
    """The lengths of blocks that make the least work with products of ``room`` elements, or with the fewest."""

    def work(lengths: tuple[int, ...]) -> tuple[int, float]:
        columns, rows = _block_size(geometry, lengths)
        return max(room, geometry.groups * columns * (columns + rows)), output_work(geometry, lengths)

    choices = [
        {min(max(1, round(share * axis.window)), max(1, axis.output)) for share in (0, *SHARES)}
        for axis in geometry.axes
    ]
    return min(product(*map(sorted, choices)), key=work)


def _block_size(geometry: Geometry, lengths: Sequence[int]) -> tuple[int, int]:
    """Elements of x and of y that belong to one block and group."""
    extents = [_extent(axis, length) for axis, length in zip(geometry.axes, lengths, strict=True)]
    return geometry.inputs * prod(extents), geometry.outputs * prod(lengths)


def output_work(geometry: Geometry, lengths: Sequence[int]) -> float:
    """Multiply-adds, or their time's worth, for one output position of one group."""
    columns, rows = _block_size(geometry, lengths)
    return (columns * (columns + rows) + COPY * (columns + rows)) / prod(lengths)


def tile_work(what: Moments, geometry: Geometry) -> float:
    """Multiply-adds, or their time's worth, of `by_tiles`."""
    outputs = geometry.batch * geometry.groups * prod(geometry.out)
    return outputs * output_work(geometry, block_lengths(geometry, what.products))


# Tiles of blocks


class Tile(NamedTuple):
    """Some blocks: what they read of x with its padding, which outputs they are, and how many along each axis."""

    source: tuple[slice, ...]
    widths: tuple[tuple[int, int], ...]
    target: tuple[slice, ...]
    geometry: Geometry
    lengths: tuple[int, ...]


def tiles_of(what: Moments, geometry: Geometry, segments: Sequence[Segment]) -> Iterator[Tile]:
    """Tiles whose windows take no more than the room."""
    lengths = tuple(segment.length for segment in segments)
    blocks = replace(geometry, axes=tuple(map(block_axis, geometry.axes, segments)))
    columns, rows = _block_size(geometry, lengths)
    unit = geometry.groups * (columns + rows) * what.itemsize
    # The products of a tile are added to those before: it should have a few times as many rows as they have.
    steps = block_shape(blocks, unit, max(what.tile, min(4 * columns * unit, what.room // 4)))
    ranges = [split_ranges(n, step) for n, step in zip((geometry.batch, *blocks.out), steps, strict=True)]
    for images, *outputs in product(*ranges):
        batch = (slice(images.start, images.stop), slice(None))
        parts = [axis.block(own, range(axis.kernel)) for axis, own in zip(blocks.axes, outputs, strict=True)]
        yield Tile(
            (*batch, *(part for part, _ in parts)),
            tuple((axis.low, axis.high) for _, axis in parts),
            (*batch, *map(_outputs, segments, outputs)),
            replace(blocks, batch=len(images), axes=tuple(axis for _, axis in parts)),
            lengths,
        )


def _outputs(segment: Segment, blocks: range) -> slice:
    return slice(segment.start + blocks.start * segment.length, segment.start + blocks.stop * segment.length)


def _sum_tile(what: Moments, backend: Backend, tile: Tile, x: Array, y: Array) -> list[Array]:
    """``V^H V``, ``Y^T conj(V)``, ``|y|^2`` of a tile, and with a bias the sums of V and of Y."""
    xp, dtype = backend.xp, backend.dtype(what.accumulator)
    windows = _windows(backend, tile, backend.cast(x[tile.source], dtype))
    outputs = _blocks(xp, tile, backend.cast(y[tile.target], dtype))
    is_complex = "complex" in what.accumulator
    conjugate = xp.conj(windows) if is_complex else windows
    sums = [
        backend.matmul(xp.permute_dims(conjugate, (0, 2, 1)), windows),
        backend.matmul(xp.permute_dims(outputs, (0, 2, 1)), conjugate),
        squares(xp, outputs, is_complex),
    ]
    return [*sums, xp.sum(windows, axis=1), xp.sum(outputs, axis=1)] if what.bias else sums


def _windows(backend: Backend, tile: Tile, x: Array) -> Array:
    """``(G, R, I * E)``: a row for each block."""
    xp, geometry = backend.xp, tile.geometry
    if geometry.is_base_dilated:
        x = dilate(xp, x, [axis.base_dilation for axis in geometry.axes])
    if any(low or high for low, high in tile.widths):
        x = backend.pad(x, tile.widths)
    strides, dilations = zip(*((axis.stride, axis.window_dilation) for axis in geometry.axes), strict=True)
    x = xp.reshape(x, (geometry.batch, geometry.groups, geometry.inputs, *x.shape[2:]))
    x = backend.windows(x, geometry.window, strides, dilations)
    first, last = 3 + geometry.ndim, 3 + 2 * geometry.ndim
    x = xp.permute_dims(x, (1, 0, *range(3, first), 2, *range(first, last)))
    return xp.reshape(x, (geometry.groups, geometry.batch * prod(geometry.out), geometry.inputs * geometry.taps))


def _blocks(xp: Any, tile: Tile, y: Array) -> Array:
    """``(G, R, O * L)``: the outputs of each block."""
    geometry, lengths = tile.geometry, tile.lengths
    pairs = [n for pair in zip(geometry.out, lengths, strict=True) for n in pair]
    y = xp.reshape(y, (geometry.batch, geometry.groups, geometry.outputs, *pairs))
    counts, within = range(3, y.ndim, 2), range(4, y.ndim, 2)
    y = xp.permute_dims(y, (1, 0, *counts, 2, *within))
    return xp.reshape(y, (geometry.groups, geometry.batch * prod(geometry.out), geometry.outputs * prod(lengths)))


# From blocks to windows


def _fold(what: Moments, xp: Any, geometry: Geometry, segments: Sequence[Segment], sums: Sequence[Array]) -> Array:
    """The sums of a segment's blocks as those of its outputs' windows, laid out as `by_tiles` gives them."""
    ndim, (groups, inputs, outputs) = geometry.ndim, (geometry.groups, geometry.inputs, geometry.outputs)
    lengths = [segment.length for segment in segments]
    extents = [_extent(axis, length) for axis, length in zip(geometry.axes, lengths, strict=True)]

    def fold(array: Array, shape: Sequence[int], windows: Sequence[int], within: int | None = None) -> Array:
        """Axes of elements begin at ``windows``, those of outputs within a block at ``within``."""
        array = xp.reshape(array, shape)
        for i, (axis, length) in enumerate(zip(geometry.axes, lengths, strict=True)):
            if length > 1:
                shifts = [_shift(array.ndim, axis, a, [i + first for first in windows]) for a in range(length)]
                if within is not None:
                    shifts = [(*s[: within + i], slice(a, a + 1), *s[within + i + 1 :]) for a, s in enumerate(shifts)]
                parts = [array[shift] for shift in shifts]
                array = sum(parts[1:], start=parts[0])
        return array

    products, cross, square, *ones = sums
    columns = inputs * geometry.taps
    matrix = fold(products, (groups, inputs, *extents, inputs, *extents), (2, 3 + ndim))
    vector = fold(cross, (groups, outputs, *lengths, inputs, *extents), (3 + ndim,), 2)
    matrix = xp.reshape(matrix, (groups, columns, columns))
    vector = xp.reshape(vector, (groups, outputs, columns))
    own = None
    if what.bias:
        column = xp.reshape(fold(ones[0], (groups, inputs, *extents), (2,)), (groups, 1, columns))
        total = xp.sum(xp.reshape(ones[1], (groups, outputs, prod(lengths))), axis=2, keepdims=True)
        own = Ones(column, total, geometry.batch * prod([segment.number * segment.length for segment in segments]))
    return what.join(xp, matrix, vector, square, own)


def _shift(ndim: int, axis: WindowDimension, output: int, places: Sequence[int]) -> tuple[slice, ...]:
    """An index that takes the taps of one output of a block on each of the axes at ``places``."""
    start = output * axis.stride
    taps = slice(start, start + axis.window, axis.window_dilation)
    return tuple(taps if place in places else slice(None) for place in range(ndim))
