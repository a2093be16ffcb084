"""`unfold` and `fold` of arrays that are made of chunks (Dask): one task for each chunk of the first spatial axis.

The windows of a column are in row-major order, so the other spatial axes have to be whole in a task. Slicing the whole
array for each tap instead would cut it into slivers: a chunk boundary for each tap, in each axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import get_backend
from ..chunks import cut, meeting, output_ranges
from ..geometry import WindowDimension
from ..primitives import along

if TYPE_CHECKING:
    from .columns import Columns

Array = Any
Chunks = tuple[int, ...]


def unfold_blocks(xp: Any, columns: Columns, x: Array) -> Array:
    """Columns of x, of which each task has the rows of its chunk and their halo."""
    (axis, *_), at = columns.axes, columns.positions(0)[1]
    x = x.rechunk(dict.fromkeys(whole_axes(columns, at), -1))
    ranges = output_ranges(axis, x.chunks[at])
    parts, own = zip(*(axis.block(part, range(axis.kernel)) for part in ranges), strict=True)
    counts = x.chunks[len(columns.lead)] if columns.channels == "first" else (columns.channel_count,)
    rows = tuple(count * prod(columns.window) for count in counts)
    windows = tuple(len(part) * prod(columns.out[1:]) for part in ranges)
    return run(xp, "unfold", columns, own, join(xp, x, parts, at), in_order(columns, x.chunks, rows, windows))


def fold_blocks(xp: Any, columns: Columns, y: Array) -> Array:
    """The sum of columns, of which each task has all windows that reach into its chunk."""
    axis, taps, inner = columns.axes[0], prod(columns.window), prod(columns.out[1:])
    row_axis, window_axis = (-1, -2) if columns.channels == "last" else (-2, -1)
    row_axis, window_axis = y.ndim + row_axis, y.ndim + window_axis
    if columns.channels == "last" or any(n % taps for n in y.chunks[row_axis]):
        y = y.rechunk({row_axis: -1})
    middle = (axis.window - axis.stride) // 2 - axis.low  # of what two neighbouring windows both hold
    stops = list(accumulate(y.chunks[window_axis]))[:-1]
    ranges = cut(axis.size, (stop // inner * axis.stride + middle for stop in stops))
    reached = [reach(axis, part) for part in ranges]
    parts = [slice(windows.start * inner, windows.stop * inner) for windows, _ in reached]
    y = join(xp, y, parts, window_axis)
    counts = tuple(n // taps for n in y.chunks[row_axis])
    chunks = [tuple(len(part) for part in ranges), *((axis.size,) for axis in columns.axes[1:])]
    return run(xp, "fold", columns, [own for _, own in reached], y, in_order(columns, y.chunks, counts, *chunks))


def reach(axis: WindowDimension, part: range) -> tuple[range, WindowDimension]:
    """The windows that reach into a part of the input, and the axis that is left of both.

    Where none does, one window is taken, and the padding of the axis is all of it.
    """
    windows = meeting(axis, part)
    low = axis.low + part.start - windows.start * axis.stride
    padded = (len(windows) - 1) * axis.stride + axis.window
    return windows, replace(axis, size=len(part), low=low, high=padded - low - len(part))


def whole_axes(columns: Columns, at: int) -> list[int]:
    """Axes of x that a task needs whole: the spatial ones after the first, and the channels where they are the last."""
    return list(range(at + 1, at + len(columns.axes) + (columns.channels == "last")))


def join(xp: Any, array: Array, parts: Sequence[slice], axis: int) -> Array:
    """These parts of an axis, which may overlap, as one chunk each."""
    return xp.concat([array[along(axis, part)].rechunk({axis: -1}) for part in parts], axis=axis)


def in_order(columns: Columns, chunks: tuple[Chunks, ...], channels: Chunks, *others: Chunks) -> tuple[Chunks, ...]:
    """Chunks of a result: its batch, then its channels and its other axes in the caller's order."""
    lead = chunks[: len(columns.lead)]
    return (*lead, *others, channels) if columns.channels == "last" else (*lead, channels, *others)


def run(
    xp: Any, method: str, columns: Columns, own: Sequence[WindowDimension], array: Array, chunks: tuple[Chunks, ...]
) -> Array:
    """One task for each block of ``array``."""
    ndim = len(chunks)
    return xp.map_blocks(
        run_block,
        array,
        method=method,
        columns=columns,
        own=tuple(own),
        drop_axis=list(range(ndim, array.ndim)),
        new_axis=list(range(array.ndim, ndim)) or None,
        chunks=chunks,
        dtype=array.dtype,
        meta=np.empty((0,) * ndim, dtype=array.dtype),
    )


def run_block(array: Array, method: str, columns: Columns, own: Any, block_id: tuple[int, ...]) -> Array:
    """One block, in a worker, by the library of the block that arrives."""
    lead = len(columns.lead)
    last = columns.channels == "last"
    rows = array.shape[-1 if last else lead]
    count = rows // prod(columns.window) if method == "fold" else rows
    axis = own[block_id[lead if last else lead + 1]]
    part = columns._replace(lead=array.shape[:lead], channel_count=count, axes=(axis, *columns.axes[1:]))
    result: Array = getattr(part, method)(get_backend(array), array)
    return result
