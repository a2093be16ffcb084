"""A planned deformable convolution: its arguments read into static values, and the loop over its tiles."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

from ..arguments import read_word
from ..backend import Backend, dtype_name, library_backend
from ..geometry import Geometry
from ..lattice import make_lattice
from ..layout import Layout, identity_or
from ..planner import ACCUMULATORS, current_settings
from ..primitives import concat, full, split_ranges
from ..program import ITEM_SIZES, Settings
from .conv import channel_shape, read_conv, read_ranks
from .linear import WORDS, Options, promote, read_dtype
from .sampling import Grid, pull_tile, row_table, run_tile, table_rows

Array = Any
Shape = tuple[int, ...]
OP = "deform_conv"


class Arrays(NamedTuple):
    """The array arguments of a call."""

    x: Array
    offset: Array
    kernel: Array
    bias: Array | None
    mask: Array | None


class Layouts(NamedTuple):
    """``x (N, *sizes, C)``, ``offset (D, N, L, fields, K)``, ``mask (1, N, L, fields, K)``,
    ``y (groups, N, L, O / groups)`` and the kernel in `Grid.kernel_shape`, with L outputs, K taps, and a field for each
    offset group.
    """

    x: Layout
    offset: Layout
    kernel: Layout
    mask: Layout
    y: Layout


class DeformCall(NamedTuple):
    """Static, hashable, and the same for equal shapes, dtypes and options.

    ``block`` is the images and outputs of a tile, ``pull_block`` those of a tile on the way back.
    """

    grid: Grid
    layouts: Layouts
    channels: str
    dtype: Any
    chosen: Settings
    block: tuple[int, int]
    pull_block: tuple[int, int]

    def run(self, backend: Backend, arrays: Arrays) -> Array:
        """The result in the caller's layout; where autograd records, several tiles are recomputed."""
        xp, x, offset, kernel, mask = backend.xp, *self._canonical(backend, arrays)
        bias = None if arrays.bias is None else backend.cast(arrays.bias, self.grid.compute)
        rows = []
        for images, spans in self._tiles(self.block):
            table = row_table(backend, self.grid, x[images.start : images.stop, ...])
            parts = []
            for span in spans:
                own = [table, cut(offset, images, span), kernel]
                own += [] if mask is None else [cut(mask, images, span)]
                tile = partial(run_tile, backend, self.grid, span, self.channels)
                y = tile(*own) if self._is_whole else backend.recompute(tile, *own)
                parts.append(self._finish(backend, y, bias))
            rows.append(concat(xp, parts, 2 if self.channels == "first" else 1))
        return xp.reshape(concat(xp, rows, 0), self.layouts.y.shape)

    def cotangents(self, backend: Backend, arrays: Arrays, dy: Array) -> Arrays:
        """One for each array, in the type of the arithmetic."""
        xp, x, offset, kernel, mask = backend.xp, *self._canonical(backend, arrays)
        dy = self.layouts.y.apply(xp, backend.cast(dy, self.grid.compute))
        d_x, d_offset, d_mask, d_kernel = [], [], [], full(xp, kernel, kernel.shape)
        for images, spans in self._tiles(self.pull_block):
            table = row_table(backend, self.grid, x[images.start : images.stop, ...])
            total, offsets, masks = xp.zeros_like(table), [], []
            for span in spans:
                own = [cut(array, images, span) for array in (offset, dy)]
                own.append(None if mask is None else cut(mask, images, span))
                part = pull_tile(backend, self.grid, span, total, table, kernel, *own)
                total, d_kernel = part.total, d_kernel + part.kernel
                offsets.append(part.offset)
                masks.append(part.mask)
            d_x.append(table_rows(backend, self.grid, total))
            d_offset.append(concat(xp, offsets, 2))
            d_mask.append(None if mask is None else concat(xp, masks, 2))
        return Arrays(
            self.layouts.x.undo(xp, concat(xp, d_x, 0)),
            self.layouts.offset.undo(xp, concat(xp, d_offset, 1)),
            self.layouts.kernel.undo(xp, d_kernel),
            None if arrays.bias is None else xp.reshape(xp.sum(dy, axis=(1, 2), dtype=dy.dtype), arrays.bias.shape),
            None if mask is None else self.layouts.mask.undo(xp, concat(xp, d_mask, 1)),
        )

    @property
    def _is_whole(self) -> bool:
        images, outputs = self.block
        return images >= self.grid.geometry.batch and outputs >= self.grid.positions

    def _tiles(self, block: tuple[int, int]) -> Iterator[tuple[range, list[range]]]:
        """Images, and the outputs in which they are computed; one empty tile where there are no images."""
        for images in split_ranges(self.grid.geometry.batch, block[0]) or [range(0)]:
            yield images, split_ranges(self.grid.positions, block[1])

    def _canonical(self, backend: Backend, arrays: Arrays) -> tuple[Array, Array, Array, Array | None]:
        """x, offset, kernel and mask; all but the kernel are cast tile by tile."""
        xp, layouts = backend.xp, self.layouts
        return (
            layouts.x.apply(xp, arrays.x),
            layouts.offset.apply(xp, arrays.offset),
            layouts.kernel.apply(xp, backend.cast(arrays.kernel, self.grid.compute)),
            None if arrays.mask is None else layouts.mask.apply(xp, arrays.mask),
        )

    def _finish(self, backend: Backend, y: Array, bias: Array | None) -> Array:
        """A tile with the bias, rounded once."""
        if bias is not None:
            y = y + (bias[:, None] if self.channels == "first" else bias)
        return backend.cast(y, self.dtype)


def run_call(backend: Backend, call: DeformCall, arrays: Arrays) -> Array:
    """`DeformCall.run`, as one operation where a library compiles: its branches would be traced anew in every call."""
    if backend.compiled is None:
        return call.run(backend, arrays)
    return backend.compiled(_run, (backend.name, call), arrays)


def pull_call(backend: Backend, call: DeformCall, arrays: Arrays, dy: Array) -> Arrays:
    """`DeformCall.cotangents`, in the same way."""
    if backend.compiled is None:
        return call.cotangents(backend, arrays, dy)
    cotangents: Arrays = backend.compiled(_pull, (backend.name, call), (arrays, dy))
    return cotangents


def _run(known: tuple[str, DeformCall], arrays: Arrays) -> Array:
    name, call = known
    return call.run(library_backend(name), arrays)


def _pull(known: tuple[str, DeformCall], arrays: tuple[Arrays, Array]) -> Arrays:
    name, call = known
    return call.cotangents(library_backend(name), *arrays)


def cut(array: Array, images: range, outputs: range) -> Array:
    """The part of ``array (first, N, L, ...)`` that a tile needs."""
    if array.shape[1:3] == (len(images), len(outputs)):
        return array
    return array[:, images.start : images.stop, outputs.start : outputs.stop, ...]


def call_key(backend: Backend, arrays: Arrays, options: Options) -> tuple[Any, ...]:
    """What a plan depends on beside the settings."""
    shapes = [None if array is None else tuple(array.shape) for array in arrays]
    dtypes = [None if array is None else array.dtype for array in arrays]
    return (backend.name, promote(OP, backend, arrays.x, arrays.kernel), *options, *shapes, *dtypes)


def find_deform(*key: Any) -> DeformCall:
    """The cached plan, under the settings in force."""
    return plan_deform(current_settings(), *key)


@lru_cache(maxsize=4096)
def plan_deform(chosen: Settings, library: str, result: Any, *given: Any) -> DeformCall:
    """``given`` are the options, then the shapes and the dtypes of `Arrays`, all checked here."""
    backend = library_backend(library)
    options, shapes, dtypes = Options(*given[:-10]), Arrays(*given[-10:-5]), Arrays(*given[-5:])
    name = read_types(backend, dtypes, result)
    read_word(OP, "channels", options.channels, WORDS["channels"])
    ndim = read_ranks(OP, shapes.x, shapes.kernel)
    if ndim > 3:
        raise ValueError(
            f"{OP}: kernel of shape {shapes.kernel} has {ndim} spatial axes, deformable convolution serves 1, 2 or 3; "
            f"move the others into the batch"
        )
    geometry = read_conv(OP, shapes.x, shapes.kernel, options)[-1]
    outputs = geometry.groups * geometry.outputs
    if shapes.bias not in (None, (outputs,)):
        raise ValueError(f"{OP}: bias must have shape ({outputs},), one number an output channel, got {shapes.bias}")
    real = _REAL_OF.get(name, name)
    wide = max(real, dtype_name(dtypes.offset), key=ITEM_SIZES.__getitem__)
    fields = read_fields(shapes, geometry, options.channels)
    compute, precise, coordinate = (backend.dtype(kind) for kind in (name, real, wide))
    grid = Grid(geometry, fields, compute, precise, coordinate, make_lattice(geometry, fields))
    item, room = ITEM_SIZES[name], chosen.workspace
    return DeformCall(
        grid,
        make_layouts(grid, shapes, options.channels),
        options.channels,
        result,
        chosen,
        tile_shape(grid, item, room, tables=3, samples=4),
        tile_shape(grid, item, room, tables=4, samples=8),
    )


_REAL_OF = {"complex64": "float32", "complex128": "float64"}


def read_types(backend: Backend, dtypes: Arrays, result: Any) -> str:
    """The name of the type of the arithmetic."""
    for name, real in (("x", False), ("kernel", False), ("offset", True), ("mask", True)):
        own = getattr(dtypes, name)
        if own is not None and ("int" in dtype_name(own) or (real and "complex" in dtype_name(own))):
            kind = "real floating" if real else "floating"
            raise TypeError(
                f"{OP}: {name} has dtype {dtype_name(own)}, samples between elements need a {kind} type; "
                f"cast {name} to float32, for example"
            )
    if dtypes.bias is not None:
        read_dtype(OP, result, backend, [("bias", dtypes.bias)])
    return ACCUMULATORS.get(dtype_name(result), dtype_name(result))


def read_fields(shapes: Arrays, geometry: Geometry, channels: str) -> int:
    """The number of offset groups, from the shape of the offsets; the mask must agree."""
    lead = shapes.x[: len(shapes.x) - geometry.ndim - 1]
    unit = geometry.taps * geometry.ndim
    found = _channels(shapes.offset, lead, geometry, channels)
    if found is None:
        like = channel_shape(lead, unit, geometry.out, channels)
        raise ValueError(
            f"{OP}: offset has shape {shapes.offset}, expected {like} for one offset group: x's batch, {geometry.taps} "
            f"taps * {geometry.ndim} axes, and the sizes of the output; compute it with the stride, padding and "
            f"dilation of this call"
        )
    if found == 0 or found % unit:
        raise ValueError(
            f"{OP}: offset has {found} channels, expected a multiple of {unit}: {geometry.taps} taps * "
            f"{geometry.ndim} axes for each offset group (offset: {shapes.offset}, kernel: {shapes.kernel}, "
            f"channels={channels!r})"
        )
    fields, count = found // unit, geometry.groups * geometry.inputs
    if count % fields:
        raise ValueError(
            f"{OP}: offset has {found} channels, which is {fields} offset groups ({geometry.taps} taps * "
            f"{geometry.ndim} axes each), and they must divide x's {count} channels"
        )
    expected = channel_shape(lead, fields * geometry.taps, geometry.out, channels)
    if shapes.mask not in (None, expected):
        raise ValueError(
            f"{OP}: mask must have shape {expected}, one factor for each of {geometry.taps} taps in {fields} offset "
            f"groups, got {shapes.mask}"
        )
    return fields


def _channels(shape: Shape, lead: Shape, geometry: Geometry, channels: str) -> int | None:
    """Channels of an array in y's layout; None where batch or sizes differ."""
    if len(shape) != len(lead) + 1 + geometry.ndim:
        return None
    count = shape[len(lead)] if channels == "first" else shape[-1]
    return count if shape == channel_shape(lead, count, geometry.out, channels) else None


def make_layouts(grid: Grid, shapes: Arrays, channels: str) -> Layouts:
    """Splits of the caller's axes, and the permutation of the parts."""
    geometry, fields = grid.geometry, grid.fields
    batch, taps, ndim, positions = geometry.batch, geometry.taps, geometry.ndim, grid.positions
    groups, _, outputs = grid.kernel_shape
    parts, inner = grid.blocks // groups, grid.channel_count // grid.blocks
    to_last = (0, *range(2, ndim + 2), 1)
    steps: dict[str, tuple[Shape, Shape]] = {
        "x": ((batch, grid.channel_count, *geometry.sizes), to_last),
        "offset": ((batch, fields, taps, ndim, positions), (3, 0, 4, 1, 2)),
        "kernel": ((groups, outputs, parts, inner, taps), (0, 2, 4, 3, 1)),
        "mask": ((1, batch, fields, taps, positions), (0, 1, 4, 2, 3)),
        "y": ((batch, groups, outputs, positions), (1, 0, 3, 2)),
    }
    if channels == "last":
        steps = {
            "x": ((batch, *geometry.sizes, grid.channel_count), tuple(range(ndim + 2))),
            "offset": ((batch, positions, fields, taps, ndim), (4, 0, 1, 2, 3)),
            "kernel": ((taps, parts, inner, groups, outputs), (3, 1, 0, 2, 4)),
            "mask": ((1, batch, positions, fields, taps), (0, 1, 2, 3, 4)),
            "y": ((batch, positions, groups, outputs), (2, 0, 1, 3)),
        }
    lead = shapes.x[: len(shapes.x) - ndim - 1]
    own = shapes._asdict() | {
        "mask": channel_shape(lead, fields * taps, geometry.out, channels),
        "y": channel_shape(lead, groups * outputs, geometry.out, channels),
    }
    merged = {"kernel": grid.kernel_shape}
    return Layouts(
        **{
            name: identity_or(own[name], split=split, axes=axes, merged=merged.get(name))
            for name, (split, axes) in steps.items()
        }
    )


def tile_shape(grid: Grid, item: int, room: int, *, tables: int, samples: int) -> tuple[int, int]:
    """Images and outputs of a tile, so that ``tables`` copies of its images and ``samples`` of its samples fit.

    The images' tables are needed whatever the tile, so where they fill the room, a quarter of it serves the outputs.
    """
    geometry = grid.geometry
    _, _, outputs = grid.kernel_shape
    indices = 8 * grid.fields * geometry.taps * (6 * geometry.ndim + 8 + 3 * 2**geometry.ndim)  # of every corner
    columns = item * (samples * grid.channel_count * geometry.taps + geometry.groups * outputs * 4)
    table, unit = tables * grid.rows(1) * grid.channels * item, indices + columns
    images = room // (table + grid.positions * unit)
    if images:
        return min(images, max(1, geometry.batch)), grid.positions
    return 1, max(1, min(grid.positions, max(room - table, room // 4) // unit))
