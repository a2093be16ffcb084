"""A tile of deformable convolution: multilinear samples gathered from a table of rows, one product, and the way back.

A sample at position p is the sum of x over the 2**D corners of p's cell, ``x[floor(p) + bits]``, each weighted by the
product over the axes of ``f`` (bit 1) or ``1 - f`` (bit 0), with ``f = p - floor(p)``; beyond x lie zeros. Positions
are ``base + offset`` with an integer base, so ``f`` is taken from the offset alone and loses nothing far from the
origin. ``floor`` is a constant to every derivative: where p is an integer, that is the derivative from the right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial, reduce
from itertools import product
from math import lcm, prod
from operator import mul
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry
from ..lattice import Lattice, Places
from ..primitives import placement, sum_equal_rows, sum_products

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
    lattice: Lattice

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
    def kernel_shape(self) -> tuple[int, int, int]:
        """Groups; blocks of a group times taps times channels of a block; outputs of a group."""
        groups, outputs = self.geometry.groups, self.geometry.outputs
        return groups, self.geometry.taps * self.geometry.inputs, outputs

    def rows(self, images: int) -> int:
        """Rows of the table that hold x."""
        return images * self.lattice.image


class Cells(NamedTuple):
    """Where samples lie in the table: ``row (M,)`` of the first corner, and for each axis the weights ``(M,)`` of the
    lower and the upper neighbour. M counts images, outputs, fields and taps.
    """

    row: Array
    weights: list[tuple[Array, Array]]


class Corner(NamedTuple):
    """One neighbour of every sample: the way to its row from the first's, and its weight as one factor an axis."""

    bits: tuple[int, ...]
    shift: int
    factors: list[Array]

    @property
    def weight(self) -> Array:
        return reduce(mul, self.factors)

    def slope(self, axis: int) -> Array:
        """The derivative of the weight along one axis; in one dimension a constant, or NaN where the position is."""
        others = [factor for i, factor in enumerate(self.factors) if i != axis]
        sign = 1.0 if self.bits[axis] else -1.0
        return reduce(mul, others) * sign if others else self.factors[axis] * 0.0 + sign


def row_table(backend: Backend, grid: Grid, x: Array) -> Array:
    """``x (images, *sizes, C)`` among zeros as rows ``(images * pitches * fields, channels)``."""
    padded = backend.pad(backend.cast(x, grid.compute), [*grid.lattice.widths, (0, 0)])
    return backend.xp.reshape(padded, (grid.rows(x.shape[0]), grid.channels))


def table_rows(backend: Backend, grid: Grid, table: Array) -> Array:
    """The transpose of `row_table`."""
    images = table.shape[0] // grid.lattice.image
    padded = backend.xp.reshape(table, (images, *grid.lattice.pitches, grid.channel_count))
    return backend.pad(padded, [*((-low, -high) for low, high in grid.lattice.widths), (0, 0)])


def with_finite(backend: Backend, table: Array, is_finite: bool) -> tuple[Array, int]:
    """The table, and once more with zeros for what is not finite, so many rows on; none where all of it is finite.

    A corner of weight zero reads the copy: ``0 * nan`` would carry a NaN into samples that do not touch it. (Leaving
    that corner out would do as well for the value, but not for its derivative.)
    """
    if is_finite:
        return table, 0
    xp = backend.xp
    return xp.concat([table, xp.where(xp.isfinite(table), table, xp.zeros_like(table))], axis=0), table.shape[0]


def find_places(backend: Backend, grid: Grid, images: int, outputs: range, device: Any) -> Places:
    """``outputs`` counts positions row by row."""
    xp, geometry, lattice, bases = backend.xp, grid.geometry, grid.lattice, []
    new = {"dtype": _index_type(backend, grid, images)} | ({} if device is None else {"device": device})
    positions = unravel(xp.arange(outputs.start, outputs.stop, **new), geometry.out)
    taps = list(product(*map(range, geometry.window)))
    for i, (axis, position) in enumerate(zip(geometry.axes, positions, strict=True)):
        steps = [tap[i] * axis.window_dilation - axis.low for tap in taps]
        bases.append((position * axis.stride)[:, None] + xp.asarray(steps, **new))
    image = xp.arange(images, **new) * lattice.image + lattice.start
    return Places(
        xp.stack(bases)[:, None, :, None, :], image[:, None, None, None] + xp.arange(grid.fields, **new)[:, None]
    )


def own_places(backend: Backend, grid: Grid, outputs: range, offset: Array) -> Places:
    """`find_places` for the offsets of a tile, which a library may have kept."""
    device = placement(offset).get("device")
    places: Places = backend.keep(find_places, backend, grid, offset.shape[1], outputs, device)
    return places


def find_cells(backend: Backend, grid: Grid, places: Places, offset: Array, *, is_finite: bool) -> Cells:
    """For ``offset (D, images, outputs, fields, taps)``.

    An offset is cut off where every position is outside anyway, so that it has an integer; a NaN stays in the weights.
    """
    xp, lattice, (ndim, *shape) = backend.xp, grid.lattice, offset.shape
    offset = xp.reshape(backend.cast(offset, grid.coordinate), (ndim, prod(shape)))
    offset = xp.clip(offset, -float(lattice.reach), float(lattice.reach))
    below = xp.floor(offset)
    upper = backend.cast(offset - below, grid.real)
    lower = 1.0 - upper
    if not is_finite:
        below = xp.where(xp.isnan(below), xp.zeros_like(below), below)
    whole = xp.reshape(backend.cast(below, places.base.dtype), (ndim, *shape)) + places.base
    row = places.start
    for i, (size, step) in enumerate(zip(lattice.sizes, lattice.steps, strict=True)):
        at = xp.clip(whole[i, ...], -2, size)
        row = row + (at if step == 1 else at * step)
    return Cells(xp.reshape(row, (prod(shape),)), [(lower[i, :], upper[i, :]) for i in range(ndim)])


def corners(grid: Grid, cells: Cells) -> Iterator[Corner]:
    """The 2**D of them."""
    for bits, shift in zip(product((0, 1), repeat=grid.geometry.ndim), grid.lattice.shifts, strict=True):
        yield Corner(bits, shift, [pair[bit] for pair, bit in zip(cells.weights, bits, strict=True)])


def _index_type(backend: Backend, grid: Grid, images: int) -> Any:
    """Asked when it is used: JAX's 64-bit types can be switched."""
    wide = backend.dtype("int64")
    fits = max(2 * grid.lattice.reach, grid.rows(images)) < 2**31
    return backend.dtype("int32") if fits or wide is None else wide


def unravel(index: Array, sizes: Sequence[int]) -> list[Array]:
    """A row-major index as one index an axis."""
    digits = []
    for size in reversed(sizes[1:]):
        digits.append(index % size)
        index = index // size
    return [index, *digits[::-1]]


def corner_rows(xp: Any, cells: Cells, corner: Corner, weight: Array, apart: int) -> Array:
    """Where the samples of a corner lie in the table, or, where their weight is zero, in a copy that lies ``apart``."""
    row = cells.row + corner.shift if corner.shift else cells.row
    return xp.where(weight == 0, row + apart, row) if apart else row


def scatter(backend: Backend, total: Array, index: Array, values: Array) -> Array:
    """``values`` added to the rows of ``total`` that they were read from."""
    if backend.scatter_add is not None:
        return backend.scatter_add(total, index, values)
    return total + sum_equal_rows(backend.xp, index, values, total.shape[0])


def sample_columns(backend: Backend, grid: Grid, samples: Array) -> Array:
    """``(M, channels)`` as ``(groups, images * outputs, height)``: a copy only where there are groups."""
    xp, (groups, height, _) = backend.xp, grid.kernel_shape
    count = samples.shape[0] // (grid.fields * grid.geometry.taps)
    if groups > 1:
        fields, taps, each = grid.fields, grid.geometry.taps, grid.blocks // grid.fields
        samples = xp.reshape(samples, (count, fields, taps, each, grid.channels // each))
        samples = xp.permute_dims(samples, (1, 3, 0, 2, 4))
        samples = xp.reshape(samples, (groups, grid.blocks // groups, count, taps * grid.channels // each))
        samples = xp.permute_dims(samples, (0, 2, 1, 3))
    return xp.reshape(samples, (groups, count, height))


def column_samples(backend: Backend, grid: Grid, columns: Array) -> Array:
    """The inverse of `sample_columns`."""
    xp, (groups, count, _) = backend.xp, columns.shape
    fields, taps, each = grid.fields, grid.geometry.taps, grid.blocks // grid.fields
    if groups > 1:
        columns = xp.reshape(columns, (groups, count, grid.blocks // groups, taps * grid.channels // each))
        columns = xp.permute_dims(columns, (0, 2, 1, 3))
        columns = xp.reshape(columns, (fields, each, count, taps, grid.channels // each))
        columns = xp.permute_dims(columns, (2, 0, 3, 1, 4))
    return xp.reshape(columns, (count * fields * taps, grid.channels))


def sample(
    backend: Backend, grid: Grid, places: Places, is_finite: bool, table: Array, offset: Array, *mask: Array
) -> Array:
    """``(M, channels)`` from `row_table`; where all arrays are finite, zero weights need no care."""
    xp, cells = backend.xp, find_cells(backend, grid, places, offset, is_finite=is_finite)
    own = list(corners(grid, cells))
    weights = shares = [corner.weight for corner in own]
    for factor in mask:
        factor = xp.reshape(backend.cast(factor, grid.real), cells.row.shape)
        shares = [weight * factor for weight in weights]
    table, apart = with_finite(backend, table, is_finite)
    rows = [corner_rows(xp, cells, corner, weight, apart) for corner, weight in zip(own, weights, strict=True)]
    terms = zip(shares, rows, strict=True)
    return sum_products((share[:, None], backend.take_rows(table, row)) for share, row in terms)


def run_tile(
    backend: Backend,
    grid: Grid,
    outputs: range,
    channels: str,
    table: Array,
    offset: Array,
    kernel: Array,
    mask: Array | None = None,
) -> Array:
    """``y (images, O, outputs)``, or with channels "last" its transpose, from ``kernel`` in `Grid.kernel_shape`."""
    places = own_places(backend, grid, outputs, offset)
    plain, careful = (partial(sample, backend, grid, places, is_finite) for is_finite in (True, False))
    simple = partial(backend.sample, plain, grid.lattice, places)
    arrays = (table, offset) if mask is None else (table, offset, mask)
    multiply = partial(multiply_samples, backend, grid, kernel, offset.shape[1:3], channels)
    if backend.compiled is not None:  # XLA shares no product out that lies within a branch
        return multiply(backend.if_finite(simple, careful, *arrays))
    ways = [lambda *arrays, own=own: multiply(own(*arrays)) for own in (simple, careful)]
    return backend.if_finite(*ways, *arrays, shown=partial(first_outputs, grid, channels))


def first_outputs(grid: Grid, channels: str, y: Array) -> Array:
    """Of each group one channel: a sample that is not finite leaves none of them finite, whatever its factors."""
    step = max(1, grid.geometry.outputs)
    return y[..., ::step] if channels == "last" else y[:, ::step, :]


def multiply_samples(
    backend: Backend, grid: Grid, kernel: Array, shape: tuple[int, int], channels: str, samples: Array
) -> Array:
    """Of ``shape (images, outputs)``, in the order of ``channels``.

    Each image's product is written with channels first; one of all images would be permuted in a copy, which only a
    compiler takes together with what comes next.
    """
    (groups, height, count), xp, is_last = kernel.shape, backend.xp, channels == "last"
    columns = sample_columns(backend, grid, samples)
    if is_last or backend.compiled is not None:
        y = xp.reshape(backend.matmul(columns, kernel), (groups, *shape, count))
        y = xp.permute_dims(y, (1, 2, 0, 3) if is_last else (1, 0, 3, 2))
    else:
        columns = xp.permute_dims(xp.reshape(columns, (groups, *shape, height)), (1, 0, 3, 2))
        y = backend.matmul(xp.matrix_transpose(kernel), columns)
    images, outputs = shape
    return xp.reshape(y, (images, outputs, groups * count) if is_last else (images, groups * count, outputs))


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
    dy = xp.reshape(dy, (dy.shape[0], dy.shape[1] * dy.shape[2], dy.shape[3]))
    back = column_samples(backend, grid, backend.matmul(dy, xp.matrix_transpose(kernel)))
    pull = partial(_pull_samples, backend, grid, own_places(backend, grid, outputs, offset), total, back, mask)
    total, samples, d_offset, d_mask = backend.if_finite(partial(pull, True), partial(pull, False), table, offset)
    columns = xp.matrix_transpose(sample_columns(backend, grid, samples))
    d_mask = None if mask is None else xp.reshape(d_mask, mask.shape)
    return Cotangents(total, xp.reshape(d_offset, offset.shape), backend.matmul(columns, dy), d_mask)


def _pull_samples(
    backend: Backend,
    grid: Grid,
    places: Places,
    total: Array,
    back: Array,
    mask: Array | None,
    is_finite: bool,
    table: Array,
    offset: Array,
) -> tuple[Array, Array, Array, Array]:
    """The table's cotangent, the samples, and the cotangents of the offset and of a mask, flat."""
    xp, cells = backend.xp, find_cells(backend, grid, places, offset, is_finite=is_finite)
    table, apart = with_finite(backend, table, is_finite)
    factor = None if mask is None else xp.reshape(backend.cast(mask, grid.real), cells.row.shape)
    samples, d_mask, slopes = None, xp.zeros_like(cells.weights[0][0]), [None] * grid.geometry.ndim
    for corner in corners(grid, cells):
        weight = corner.weight
        values = backend.take_rows(table, corner_rows(xp, cells, corner, weight, apart))
        inner = xp.sum(back * values, axis=-1, dtype=back.dtype)
        if factor is not None:
            d_mask = d_mask + weight * inner
            weight, inner = weight * factor, inner * factor
        slopes = [_plus(slope, corner.slope(i) * inner) for i, slope in enumerate(slopes)]
        samples = _plus(samples, weight[:, None] * values)
        total = scatter(backend, total, cells.row + corner.shift, weight[:, None] * back)
    return total, samples, xp.stack(slopes), d_mask


def _plus(total: Array | None, share: Array) -> Array:
    return share if total is None else total + share
