"""Deformable convolution: every tap reads x where its offset says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from ..arguments import Padding, PerAxis, read_word
from ..backend import Backend, dtype_name, gather_arrays, get_backend, library_backend
from ..layout import Layout, identity_or
from ..planner import ACCUMULATORS, current_settings
from ..primitives import concat, full, split_ranges
from ..program import ITEM_SIZES, Settings
from .conv import channel_shape, read_conv, read_ranks
from .linear import WORDS, Options, Pullback, as_dtype, freeze, promote, read_dtype
from .sampling import Grid, pull_tile, row_table, run_tile

Array = Any
Shape = tuple[int, ...]
OP = "deform_conv"
NAMES = ("x", "offset", "kernel", "bias", "mask")


@dataclass(frozen=True, slots=True)
class DeformCall:
    """A planned call: static, hashable, and the same for equal shapes, dtypes and options.

    The layouts give ``x (N, size, C)``, ``offset (D, fields, N, L, K)``, ``mask (fields, N, L, K)``,
    ``y (groups, N, L, O / groups)`` and the kernel in `Grid.kernel_shape`, with L outputs, K taps and one field an
    offset group. ``block`` is the images and outputs of a tile, ``pull_block`` those of a tile on the way back.
    """

    grid: Grid
    x_layout: Layout
    offset_layout: Layout
    kernel_layout: Layout
    mask_layout: Layout
    y_layout: Layout
    channels: str
    dtype: Any
    compute: Any
    block: tuple[int, int]
    pull_block: tuple[int, int]

    def run(self, backend: Backend, *arrays: Array) -> Array:
        """The result in the caller's layout; under autograd, more tiles than one are recomputed."""
        xp, kernel = backend.xp, self._kernel(backend, arrays[2])
        bias = None if arrays[3] is None else backend.cast(arrays[3], self.compute)
        whole = self.block == (max(1, self.grid.geometry.batch), self.grid.positions)
        rows = []
        for images, spans in self._tiles(self.block):
            table = self._table(backend, arrays[0], images)
            parts = []
            for span in spans:
                offset, mask = self._fields(backend, arrays[1], arrays[4], images, span)
                own = (table, offset, kernel) if mask is None else (table, offset, kernel, mask)
                tile = partial(run_tile, backend, self.grid, span)
                y = tile(*own) if whole else backend.recompute(tile, *own)
                parts.append(self._finish(backend, y, bias))
            rows.append(concat(xp, parts, 2 if self.channels == "first" else 1))
        return xp.reshape(concat(xp, rows, 0), self.y_layout.shape)

    def cotangents(self, backend: Backend, arrays: tuple[Array, ...], dy: Array) -> list[Array]:
        """Those of x, offset, kernel, bias and mask, in the type of the arithmetic; None for an array that is None."""
        xp, grid = backend.xp, self.grid
        kernel = self._kernel(backend, arrays[2])
        dy = self.y_layout.apply(xp, backend.cast(dy, self.compute))
        columns: dict[str, list[Array]] = {"x": [], "offset": [], "mask": []}
        d_kernel = full(xp, kernel, kernel.shape)
        for images, spans in self._tiles(self.pull_block):
            table = self._table(backend, arrays[0], images)
            total = full(xp, table, (grid.rows(len(images)) + 1, grid.channels))
            parts = []
            for span in spans:
                offset, mask = self._fields(backend, arrays[1], arrays[4], images, span)
                own = cut(dy, images, span)
                part = pull_tile(backend, grid, span, total, table, offset, kernel, mask, own)
                total, d_kernel = part.table, d_kernel + part.kernel
                parts.append(part)
            shape = (len(images), grid.size, grid.count)
            columns["x"].append(xp.reshape(total[: grid.rows(len(images)), :], shape))
            columns["offset"].append(concat(xp, [part.offset for part in parts], 3))
            columns["mask"].append(concat(xp, [part.mask for part in parts], 2))
        d_bias = None if arrays[3] is None else xp.reshape(xp.sum(dy, axis=(1, 2), dtype=dy.dtype), arrays[3].shape)
        return [
            self.x_layout.undo(xp, concat(xp, columns["x"], 0)),
            self.offset_layout.undo(xp, concat(xp, columns["offset"], 2)),
            self.kernel_layout.undo(xp, d_kernel),
            d_bias,
            None if arrays[4] is None else self.mask_layout.undo(xp, concat(xp, columns["mask"], 1)),
        ]

    def _tiles(self, block: tuple[int, int]) -> Iterator[tuple[range, list[range]]]:
        """Images, and the outputs in which they are computed; one empty tile where there are no images."""
        for images in split_ranges(self.grid.geometry.batch, block[0]) or [range(0)]:
            yield images, split_ranges(self.grid.positions, block[1])

    def _table(self, backend: Backend, x: Array, images: range) -> Array:
        part = self.x_layout.apply(backend.xp, x)[images.start : images.stop, :, :]
        return row_table(backend, self.grid, backend.cast(part, self.compute))

    def _kernel(self, backend: Backend, kernel: Array) -> Array:
        return self.kernel_layout.apply(backend.xp, backend.cast(kernel, self.compute))

    def _fields(
        self, backend: Backend, offset: Array, mask: Array | None, images: range, span: range
    ) -> tuple[Array, Array | None]:
        """The offsets and the mask of a tile."""
        offset = cut(self.offset_layout.apply(backend.xp, offset), images, span)
        if mask is not None:
            mask = backend.cast(cut(self.mask_layout.apply(backend.xp, mask), images, span), self.grid.real)
        return offset, mask

    def _finish(self, backend: Backend, y: Array, bias: Array | None) -> Array:
        """A tile in the caller's order of axes, with the bias, rounded once."""
        xp = backend.xp
        groups, images, outputs, count = y.shape
        if self.channels == "first":
            y = xp.reshape(xp.permute_dims(y, (1, 0, 3, 2)), (images, groups * count, outputs))
            bias = None if bias is None else bias[:, None]
        else:
            y = xp.reshape(xp.permute_dims(y, (1, 2, 0, 3)), (images, outputs, groups * count))
        return backend.cast(y if bias is None else y + bias, self.dtype)


def cut(array: Array, images: range, outputs: range) -> Array:
    """The part of ``array (..., N, L, rest)`` that a tile needs."""
    return array[..., images.start : images.stop, outputs.start : outputs.stop, :]


# Reading


@lru_cache(maxsize=4096)
def plan_deform(
    chosen: Settings, library: str, shapes: tuple[Shape | None, ...], dtypes: tuple[Any, ...], result: Any, *given: Any
) -> DeformCall:
    """Shapes, dtypes and options checked, and the tiles sized."""
    backend, options = library_backend(library), Options(*given)
    name = read_dtypes(backend, dtypes, result)
    x_shape, offset_shape, kernel_shape, bias_shape, mask_shape = shapes
    assert x_shape is not None and offset_shape is not None and kernel_shape is not None
    read_word(OP, "channels", options.channels, WORDS["channels"])
    ndim = read_ranks(OP, x_shape, kernel_shape)
    if ndim > 3:
        raise ValueError(
            f"{OP}: kernel has {ndim} spatial axes, deformable convolution serves 1, 2 or 3 "
            f"(kernel: {kernel_shape}); move other axes into the batch"
        )
    geometry = read_conv(OP, x_shape, kernel_shape, options)[-1]
    lead = x_shape[: len(x_shape) - ndim - 1]
    fields = read_fields(x_shape, offset_shape, mask_shape, lead, geometry, options.channels)
    count = geometry.groups * geometry.outputs
    if bias_shape not in (None, (count,)):
        raise ValueError(f"{OP}: bias must have shape ({count},), one number an output channel, got {bias_shape}")
    real = {"complex64": "float32", "complex128": "float64"}.get(name, name)
    wide = max(real, dtype_name(dtypes[1]), key=ITEM_SIZES.__getitem__)
    integer = backend.dtype("int64")
    grid = Grid(
        geometry,
        fields,
        backend.dtype(real),
        backend.dtype(wide),
        backend.dtype("int32") if integer is None else integer,
    )
    y_shape = channel_shape(lead, count, geometry.out, options.channels)
    return DeformCall(
        grid,
        *layouts(grid, x_shape, offset_shape, kernel_shape, mask_shape or (), y_shape, options.channels),
        options.channels,
        result,
        backend.dtype(name),
        tile_shape(grid, ITEM_SIZES[name], chosen.workspace, 4, 3),
        tile_shape(grid, ITEM_SIZES[name], chosen.workspace, 8, 4),
    )
