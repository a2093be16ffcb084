"""A tile of deformable convolution: multilinear samples gathered from a table of rows, one product, and the way back.

A sample at position p is the sum of x over the 2**D corners of p's cell, ``x[floor(p) + bits]``, each weighted by the
product over the axes of ``f`` (bit 1) or ``1 - f`` (bit 0), with ``f = p - floor(p)``; beyond x lie zeros. Positions
are ``base + offset`` with an integer base, so ``f`` is taken from the offset alone and loses nothing far from the
origin. ``floor`` is a constant to every derivative: where p is an integer, that is the derivative from the right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import product
from math import lcm, prod
from operator import and_, mul
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry, WindowDimension
from ..primitives import full

Array = Any


class Grid(NamedTuple):
    """Where samples lie: a convolution's geometry, the number of offset groups, and the types of the arithmetic.

    Convolution groups and offset groups divide the channels independently; blocks are the runs of channels that lie
    within one of each.
    """

    geometry: Geometry
    fields: int
    compute: Any
    real: Any
    coordinate: Any

    @property
    def size(self) -> int:
        """Elements of one image and channel."""
        return prod(self.geometry.sizes)

    @property
    def positions(self) -> int:
        """Elements of one output and channel."""
        return prod(self.geometry.out)

    @property
    def channel_count(self) -> int:
        """Channels of x."""
        return self.geometry.groups * self.geometry.inputs

    @property
    def channels(self) -> int:
        """Channels that share an offset."""
        return self.channel_count // self.fields

    @property
    def blocks(self) -> int:
        return lcm(self.geometry.groups, self.fields)

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        """Blocks by group, taps times channels of a block, outputs of a group."""
        groups = self.geometry.groups
        height = self.geometry.taps * (self.channel_count // self.blocks)
        return groups, self.blocks // groups, height, self.geometry.outputs

    def rows(self, images: int) -> int:
        """Rows of the table that hold x."""
        return images * self.size * self.fields


class Corner(NamedTuple):
    """One neighbour of every sample, each array ``(fields, images, outputs, taps)``.

    ``row`` is its row of x where it is ``inside``; its weight is the product of the ``factors``, one an axis.
    """

    bits: tuple[int, ...]
    row: Array
    inside: Array
    factors: tuple[Array, ...]

    @property
    def weight(self) -> Array:
        return reduce(mul, self.factors)

    def slope(self, axis: int) -> Array:
        """The derivative of the weight along one axis; in one dimension a constant, or NaN where the position is."""
        others = [factor for i, factor in enumerate(self.factors) if i != axis]
        sign = 1.0 if self.bits[axis] else -1.0
        return reduce(mul, others) * sign if others else self.factors[axis] * 0.0 + sign


class Side(NamedTuple):
    """The lower or upper neighbour along one axis."""

    index: Array
    inside: Array
    factor: Array


def row_table(backend: Backend, grid: Grid, x: Array) -> Array:
    """``x (images, size, channels)`` as rows: x, x once more with zeros for what is not finite, and one row of zeros.

    A corner outside reads the zeros, one of weight zero reads the finite copy: ``0 * nan`` would carry a NaN into
    samples that do not touch it. (Leaving that corner out would do as well for the value, but not for its derivative.)
    """
    xp = backend.xp
    rows = xp.reshape(backend.cast(x, grid.compute), (grid.rows(x.shape[0]), grid.channels))
    finite = xp.where(xp.isfinite(rows), rows, xp.zeros_like(rows))
    return xp.concat([rows, finite, full(xp, rows, (1, grid.channels))], axis=0)


def corners(backend: Backend, grid: Grid, offset: Array, outputs: range) -> Iterator[Corner]:
    """The 2**D corners for ``offset (D, fields, images, outputs, taps)``; ``outputs`` counts positions row by row."""
    geometry = grid.geometry
    positions = unravel(_count(backend, offset, outputs), geometry.out)
    taps = unravel(_count(backend, offset, range(geometry.taps)), geometry.window)
    sides = []
    for i, (axis, j, t) in enumerate(zip(geometry.axes, positions, taps, strict=True)):
        base = (j * axis.stride - axis.low)[:, None] + (t * axis.window_dilation)[None, :]
        sides.append(_sides(backend, grid, axis, base, backend.cast(offset[i, ...], grid.coordinate)))
    images = _count(backend, offset, range(offset.shape[2]))[None, :, None, None]
    fields = _count(backend, offset, range(grid.fields))[:, None, None, None]
    for bits in product((0, 1), repeat=geometry.ndim):
        chosen = [pair[bit] for pair, bit in zip(sides, bits, strict=True)]
        place = images
        for side, axis in zip(chosen, geometry.axes, strict=True):
            place = place * axis.size + side.index
        inside = reduce(and_, [side.inside for side in chosen])
        yield Corner(bits, place * grid.fields + fields, inside, tuple(side.factor for side in chosen))


def _sides(backend: Backend, grid: Grid, axis: WindowDimension, base: Array, offset: Array) -> tuple[Side, Side]:
    """Both neighbours along one axis of positions ``base + offset``.

    An offset is cut off where every position is outside anyway, so that it has an integer; a NaN stays in the factors.
    """
    xp = backend.xp
    last = (axis.output - 1) * axis.stride + axis.window - 1
    limit = 2.0 * (abs(axis.low) + last + axis.size + 2)
    offset = xp.clip(offset, -limit, limit)
    below = xp.floor(offset)
    fraction = backend.cast(offset - below, grid.real)
    whole = xp.where(xp.isnan(below), xp.zeros_like(below), below)
    lower = backend.cast(whole, _index_type(backend)) + base
    upper = lower + 1
    return (
        Side(lower, (lower >= 0) & (lower < axis.size), 1.0 - fraction),
        Side(upper, (upper >= 0) & (upper < axis.size), fraction),
    )


def _index_type(backend: Backend) -> Any:
    """Asked when it is used: JAX's 64-bit types can be switched."""
    wide = backend.dtype("int64")
    return backend.dtype("int32") if wide is None else wide


def _count(backend: Backend, like: Array, numbers: range) -> Array:
    """A range as an array beside ``like`` (see `primitives.full` on devices)."""
    xp, dtype = backend.xp, _index_type(backend)
    device = getattr(like, "device", None)
    if device is None or hasattr(device, "device_set"):
        return xp.arange(numbers.start, numbers.stop, dtype=dtype)
    return xp.arange(numbers.start, numbers.stop, dtype=dtype, device=device)


def unravel(index: Array, sizes: Sequence[int]) -> list[Array]:
    """A row-major index as one index an axis."""
    digits = []
    for size in reversed(sizes):
        digits.append(index % size)
        index = index // size
    return digits[::-1]


def corner_rows(xp: Any, grid: Grid, corner: Corner, weight: Array) -> Array:
    """Where the samples of a corner lie in `row_table`, flat."""
    shape = corner.row.shape
    rows = grid.rows(shape[1])
    index = xp.where(weight == 0, corner.row + rows, corner.row)
    index = xp.where(corner.inside, index, xp.full_like(index, 2 * rows))
    return xp.reshape(index, (prod(shape),))


def gather(backend: Backend, grid: Grid, table: Array, corner: Corner, weight: Array) -> Array:
    """The rows at a corner, ``(fields, images, outputs, taps, channels)``, from `row_table`."""
    values = backend.xp.take(table, corner_rows(backend.xp, grid, corner, weight), axis=0)
    return backend.xp.reshape(values, (*corner.row.shape, grid.channels))


def scatter(backend: Backend, grid: Grid, total: Array, corner: Corner, values: Array) -> Array:
    """The transpose of `gather`, added to ``total (rows + 1, channels)``; what is outside goes to its last row."""
    xp, shape = backend.xp, corner.row.shape
    index = xp.where(corner.inside, corner.row, xp.full_like(corner.row, grid.rows(shape[1])))
    index = xp.reshape(index, (prod(shape),))
    values = xp.reshape(values, (prod(shape), grid.channels))
    if backend.scatter_add is not None:
        return backend.scatter_add(total, index, values)
    return total + sum_equal_rows(xp, index, values, total.shape[0])


def sample_columns(backend: Backend, grid: Grid, samples: Array) -> Array:
    """Samples as ``(groups, parts, images * outputs, height)``; a copy only where a field has several blocks."""
    xp = backend.xp
    fields, images, outputs, taps, channels = samples.shape
    each = grid.blocks // fields
    groups, parts, height, _ = grid.kernel_shape
    if each > 1:
        samples = xp.reshape(samples, (fields, images, outputs, taps, each, channels // each))
        samples = xp.permute_dims(samples, (0, 4, 1, 2, 3, 5))
    return xp.reshape(samples, (groups, parts, images * outputs, height))


def column_samples(backend: Backend, grid: Grid, columns: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `sample_columns`, back to ``shape``."""
    xp = backend.xp
    fields, images, outputs, taps, channels = shape
    each = grid.blocks // fields
    if each > 1:
        columns = xp.reshape(columns, (fields, each, images, outputs, taps, channels // each))
        columns = xp.permute_dims(columns, (0, 2, 3, 4, 1, 5))
    return xp.reshape(columns, shape)


def run_tile(
    backend: Backend, grid: Grid, outputs: range, table: Array, offset: Array, kernel: Array, mask: Array | None = None
) -> Array:
    """``y (groups, images, outputs, O / groups)`` from ``kernel`` in `Grid.kernel_shape`."""
    xp, mask = backend.xp, _factors(backend, grid, mask)

    def terms() -> Iterator[tuple[Array, Array]]:
        for corner in corners(backend, grid, offset, outputs):
            weight = corner.weight
            share = weight if mask is None else weight * mask
            yield corner_rows(xp, grid, corner, weight), xp.reshape(share, (prod(share.shape),))

    samples = xp.reshape(backend.sum_rows(table, terms()), (*offset.shape[1:], grid.channels))
    y = backend.matmul(sample_columns(backend, grid, samples), kernel)
    y = y[:, 0, :, :] if y.shape[1] == 1 else xp.sum(y, axis=1, dtype=y.dtype)
    return xp.reshape(y, (y.shape[0], *offset.shape[2:4], y.shape[2]))


class Cotangents(NamedTuple):
    """Of the table (all tiles until now), and of a tile's offset, kernel and mask."""

    total: Array
    offset: Array
    kernel: Array
    mask: Array | None


def pull_tile(
    backend: Backend,
    grid: Grid,
    outputs: range,
    total: Array,
    table: Array,
    kernel: Array,
    offset: Array,
    dy: Array,
    mask: Array | None,
) -> Cotangents:
    """The way back from ``dy (groups, images, outputs, O / groups)``.

    A tile is ``y = (sum over corners of w m v) @ kernel`` with weights w, mask m and gathered v, so with
    ``ds = dy @ kernel^T`` every corner adds ``w m ds`` to the row of x that v came from, ``w <ds, v>`` to dm, and
    ``m <ds, v> dw/dp`` to the offset's cotangent; <,> sums over the channels of a field.
    """
    xp = backend.xp
    shape = (*offset.shape[1:], grid.channels)
    dy = xp.reshape(dy, (dy.shape[0], 1, shape[1] * shape[2], dy.shape[3]))
    back = column_samples(backend, grid, backend.matmul(dy, xp.matrix_transpose(kernel)), shape)
    samples, d_mask, slopes = None, None, [None] * grid.geometry.ndim
    mask = _factors(backend, grid, mask)
    for corner in corners(backend, grid, offset, outputs):
        weight = corner.weight
        values = gather(backend, grid, table, corner, weight)
        inner = xp.sum(back * values, axis=-1, dtype=back.dtype)
        if mask is not None:
            d_mask = _plus(d_mask, weight * inner)
            weight, inner = weight * mask, inner * mask
        slopes = [_plus(slope, corner.slope(i) * inner) for i, slope in enumerate(slopes)]
        samples = _plus(samples, weight[..., None] * values)
        total = scatter(backend, grid, total, corner, weight[..., None] * back)
    columns = xp.matrix_transpose(sample_columns(backend, grid, samples))
    return Cotangents(total, xp.stack(slopes), backend.matmul(columns, dy), d_mask)


def _factors(backend: Backend, grid: Grid, mask: Array | None) -> Array | None:
    return None if mask is None else backend.cast(mask, grid.real)


def _plus(total: Array | None, share: Array) -> Array:
    return share if total is None else total + share


def sum_equal_rows(xp: Any, index: Array, values: Array, count: int) -> Array:
    """``out[i] = sum of values[k] over index[k] == i``, for ``count`` rows, in the array API standard.

    The standard has no scatter. Sorted by index, equal indices are neighbours; each row then adds the one 1, 2, 4, ...
    places before it while that has its index (a segmented scan, Hillis and Steele, CACM 29, 1986), and the last of each
    stretch holds its sum. Differences of one running sum would need fewer steps, but mix and cancel unrelated rows.
    """
    terms = values.shape[0]
    if terms == 0:
        return full(xp, values, (count, values.shape[1]))
    order = xp.argsort(index)
    index, values = xp.take(index, order), xp.take(values, order, axis=0)
    step = 1
    while step < terms:
        same = (index[step:] == index[:-step])[:, None]
        before = xp.where(same, values[:-step, :], xp.zeros_like(values[step:, :]))
        values = xp.concat([values[:step, :], values[step:, :] + before], axis=0)
        step *= 2
    wanted = xp.arange(count, dtype=index.dtype, device=index.device)
    last = xp.searchsorted(index, wanted, side="right") - 1
    last = xp.where(last < 0, xp.zeros_like(last), last)
    found = (xp.take(index, last) == wanted)[:, None]
    sums = xp.take(values, last, axis=0)
    return xp.where(found, sums, xp.zeros_like(sums))
