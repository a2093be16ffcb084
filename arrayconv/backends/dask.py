"""Dask: each block of the output is a planned call on the block of the input that it needs; nothing is merged.

The halo of a block is `WindowDimension.block`: the same integers as everywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from itertools import product
from math import isnan
from typing import Any

import dask.array as da
import numpy as np

from .. import primitives
from ..backend import Backend, Planning, get_backend, namespace, standard_backend
from ..boundary import Run, runs
from ..chunks import (
    added_runs,
    meeting,
    output_ranges,
    padded_chunks,
    ranges_of,
    read_runs,
    unpadded_chunks,
)
from ..geometry import Geometry, WindowDimension
from ..program import Program
from .dask_parts import map_parts, whole

Array = Any
Windowed = Callable[..., Array]
MODULE = namespace("dask.array")


class Namespace:
    """Dask's namespace, with the empty arrays that Dask can't make or reshape."""

    def __getattr__(self, name: str) -> Any:
        return getattr(MODULE, name)

    def full(self, shape: tuple[int, ...], value: Any, dtype: Any) -> Array:
        """Dask's automatic chunks divide by zero where an axis is empty."""
        return da.full(shape, value, dtype=dtype, chunks=-1 if 0 in shape else "auto")

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        return self.full(shape, 0, x.dtype) if 0 in x.shape else MODULE.reshape(x, shape)


XP = Namespace()


def needs(
    axes: Sequence[WindowDimension], outputs: Sequence[Sequence[range]], taps: Sequence[range]
) -> tuple[list[list[tuple[range, ...]]], list[list[WindowDimension]]]:
    """What each block of outputs needs of x along each axis, and the axis that computes it from that."""
    parts: list[list[tuple[range, ...]]] = []
    own: list[list[WindowDimension]] = []
    for axis, ranges, part in zip(axes, outputs, taps, strict=True):
        slices, blocks = zip(*(axis.block(out, part) for out in ranges), strict=True)
        parts.append([(range(piece.start, piece.stop),) for piece in slices])
        own.append(list(blocks))
    return parts, own


def sizes_of(ranges: Sequence[Sequence[range]]) -> list[tuple[int, ...]]:
    return [tuple(map(len, row)) for row in ranges]


def run_block(x: Array, kernel: Array, planning: Planning, program: Program, axes: Any) -> Array:
    """One block, in a worker: planned for the library of the block that arrives."""
    geometry = replace(program.geometry, batch=x.shape[0], axes=axes)
    backend = get_backend(x)
    return planning.execute(planning.replan(program, geometry, backend.name), backend, x, kernel)


def run_tap_chunk(planning: Planning, program: Program, x: Array, kernel: Array, taps: tuple[range, ...]) -> Array:
    """The share of one chunk of kernel taps in the whole output; ``kernel`` is that chunk, as one block."""
    geometry = program.geometry
    outputs = [output_ranges(axis, chunks) for axis, chunks in zip(geometry.axes, x.chunks[2:], strict=True)]
    parts, own = needs(geometry.axes, outputs, taps)
    chunks = [x.chunks[0], (geometry.groups * geometry.outputs,), *sizes_of(outputs)]
    operand = x, [None, whole(x.shape[1]), *parts]
    return map_parts(
        run_block, [operand], chunks, x.dtype, kernel, tables={"axes": own}, planning=planning, program=program
    )


def map_windows(
    backend: Backend, function: Windowed, axes: Sequence[WindowDimension], x: Array, more: tuple[int, ...] = ()
) -> Array:
    """A function of windows, ``function(backend, axes, x)``, block by block; it adds axes of sizes ``more``."""
    first = x.ndim - len(axes)
    outputs = [output_ranges(axis, chunks) for axis, chunks in zip(axes, x.chunks[first:], strict=True)]
    chunks = [*x.chunks[:first], *sizes_of(outputs), *((n,) for n in more)]
    if 0 in x.shape:
        return XP.full(tuple(map(sum, chunks)), 0, x.dtype)
    parts, own = needs(axes, outputs, [range(axis.kernel) for axis in axes])
    operand = x, [*(None,) * first, *parts]
    return map_parts(run_windows, [operand], chunks, x.dtype, tables={"axes": own}, function=function)


def run_windows(x: Array, function: Windowed, axes: Any) -> Array:
    """One block of `map_windows`, in a worker."""
    return function(get_backend(x), axes, x)


def pull_windows(backend: Backend, function: Windowed, axes: Sequence[WindowDimension], x: Array, dy: Array) -> Array:
    """Its transpose at x, ``function(backend, axes, x, dy)``: a block is a chunk of x.

    It gets the windows that meet the chunk and all elements of x that those hold, and crops what is another's.
    """
    first, chunks = x.ndim - len(axes), x.chunks
    if 0 in x.shape:
        return XP.full(x.shape, 0, dy.dtype)
    inner = [ranges_of(sizes) for sizes in chunks[first:]]
    outputs = [[meeting(axis, part) for part in row] for axis, row in zip(axes, inner, strict=True)]
    parts, own = needs(axes, outputs, [range(axis.kernel) for axis in axes])
    widths = [
        [(held.start - chunk.start, chunk.stop - held.stop) for chunk, (held,) in zip(row, needed, strict=True)]
        for row, needed in zip(inner, parts, strict=True)
    ]
    dy = dy.rechunk(dict(enumerate(chunks[:first])))
    met = [[(out,) for out in row] for row in outputs]
    operands = [
        (x, [*(None,) * first, *parts]),
        (dy, [*(None,) * first, *met, *map(whole, dy.shape[x.ndim :])]),
    ]
    tables: dict[str, Any] = {"axes": own, "widths": widths}
    return map_parts(run_pull_windows, operands, chunks, dy.dtype, tables=tables, function=function)


def run_pull_windows(x: Array, dy: Array, function: Windowed, axes: Any, widths: Any) -> Array:
    """One block of `pull_windows`, in a worker."""
    backend = get_backend(x)
    return backend.pad(function(backend, axes, x, dy), widths)


def windows(x: Array, window: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Array:
    """Sliding windows, whose chunks are those of x; the axes of the windows are whole."""
    axes = [
        WindowDimension(n, k, s, window_dilation=d)
        for n, k, s, d in zip(x.shape[x.ndim - len(window) :], window, stride, dilation, strict=True)
    ]
    return map_windows(BACKEND, slide, axes, x, tuple(window))


def slide(backend: Backend, axes: Sequence[WindowDimension], x: Array) -> Array:
    """The windows of one block."""
    columns = [(axis.kernel, axis.stride, axis.window_dilation) for axis in axes]
    return backend.windows(x, *zip(*columns, strict=True))


def pad_runs(x: Array, runs: Sequence[Sequence[Run]], value: Any = 0) -> Array:
    """Padding of the last axes; its chunks are those of x, the border belongs to the first and the last."""
    first = x.ndim - len(runs)
    if all(row == ((0, n, 1),) for row, n in zip(runs, x.shape[first:], strict=True)):
        return x
    if 0 in x.shape:
        return primitives.pad_runs(XP, x, runs, value)
    ranges = [padded_chunks(row, chunks) for row, chunks in zip(runs, x.chunks[first:], strict=True)]
    parts, own = read_all(read_runs, runs, ranges)
    chunks = [*x.chunks[:first], *sizes_of(ranges)]
    operand = x, [*(None,) * first, *parts]
    return map_parts(run_pad, [operand], chunks, x.dtype, tables={"runs": own}, value=value)


def pad(x: Array, widths: Sequence[tuple[int, int]]) -> Array:
    """Zero padding of the last axes."""
    sizes = x.shape[x.ndim - len(widths) :]
    return pad_runs(x, [runs("constant", n, low, high) for n, (low, high) in zip(sizes, widths, strict=True)])


def run_pad(x: Array, runs: Any, value: Any) -> Array:
    """One block of `pad_runs`, in a worker."""
    return get_backend(x).pad_runs(x, runs, value)


def pad_runs_transpose(dy: Array, runs: Sequence[Sequence[Run]], sizes: Sequence[int]) -> Array:
    """The transpose of `pad_runs`, in the chunks of the array that was padded."""
    first = dy.ndim - len(runs)
    if 0 in (*dy.shape, *sizes):
        return XP.full((*dy.shape[:first], *sizes), 0, dy.dtype)
    rows = zip(runs, dy.chunks[first:], sizes, strict=True)
    ranges = [unpadded_chunks(row, chunks, size) for row, chunks, size in rows]
    parts, own = read_all(added_runs, runs, ranges)
    chunks = [*dy.chunks[:first], *sizes_of(ranges)]
    operand = dy, [*(None,) * first, *parts]
    tables: dict[str, Any] = {"runs": own, "sizes": chunks[first:]}
    return map_parts(run_pad_transpose, [operand], chunks, dy.dtype, tables=tables)


def run_pad_transpose(dy: Array, runs: Any, sizes: Any) -> Array:
    """One block of `pad_runs_transpose`, in a worker."""
    return get_backend(dy).pad_runs_transpose(dy, runs, sizes)


def read_all(
    read: Callable[..., Any], runs: Sequence[Sequence[Run]], ranges: Sequence[Sequence[range]]
) -> tuple[list[Any], list[Any]]:
    """`chunks.read_runs` or its transpose for every block of every axis: what is needed, and the runs of that."""
    found = [[read(row, part) for part in parts] for row, parts in zip(runs, ranges, strict=True)]
    return [[need for need, _ in row] for row in found], [[own for _, own in row] for row in found]


def sum_windows(function: Windowed, what: Any, backend: Backend, axes: Any, x: Array, y: Array) -> Array:
    """One pass over the chunks of x, each with the outputs in its middle; the sums are added in a tree."""
    outputs = [output_ranges(axis, chunks) for axis, chunks in zip(axes, x.chunks[2:], strict=True)]
    dtype = backend.dtype(what.accumulator)
    if 0 in (*x.shape, *y.shape):
        return XP.full((what.size(axes),), 0, dtype)
    parts, own = needs(axes, outputs, [range(axis.kernel) for axis in axes])
    y = y.rechunk({0: x.chunks[0]})
    found = [[(out,) for out in row] for row in outputs]
    operands: list[Any] = [(x, [None, whole(x.shape[1]), *parts]), (y, [None, whole(y.shape[1]), *found])]
    chunks = [(1,) * len(x.chunks[0]), (1,), *((1,) * len(row) for row in outputs), (what.size(axes),)]
    sums = map_parts(run_sum_windows, operands, chunks, dtype, tables={"axes": own}, function=function, what=what)
    return sums.sum(axis=tuple(range(x.ndim)))


def run_sum_windows(x: Array, y: Array, function: Windowed, what: Any, axes: Any) -> Array:
    """One block of `sum_windows`, in a worker."""
    return function(what, get_backend(x), axes, x, y)[(None,) * x.ndim]


def local(arrays: Sequence[Array]) -> Sequence[Array]:
    """Computed in one pass."""
    computed: Sequence[Array] = da.compute(*arrays)
    return computed


def kernel_chunks(kernel: Array) -> Iterator[tuple[range, ...]]:
    """The chunks of input channels and taps."""
    yield from product(*map(ranges_of, kernel.chunks[1:]))


def close(backend: Backend, planning: Planning) -> Callable[[Program, Array, Array], Array]:
    """A sum over the kernel's chunks (one, but for the gradient of a kernel), each over all blocks of the output."""

    def run(program: Program, x: Array, kernel: Array) -> Array:
        geometry = program.geometry
        if 0 in (*geometry.x_shape, *geometry.kernel_shape, *geometry.y_shape):
            return XP.full(geometry.y_shape, 0, x.dtype)
        dtype, problem = x.dtype, program.problem
        if problem.accumulator != problem.dtype:  # shares are summed, so they may not be rounded
            x, kernel = x.astype(problem.accumulator), kernel.astype(problem.accumulator)
            program = replace(program, problem=replace(problem, dtype=problem.accumulator))
        kernel = kernel.rechunk({0: -1})
        shares = []
        for channels, *taps in kernel_chunks(kernel):
            part = kernel[(slice(None), *(slice(r.start, r.stop) for r in (channels, *taps)))]
            own = planning.replan(program, replace(geometry, inputs=len(channels)))
            shares.append(run_tap_chunk(planning, own, _take_channels(geometry, x, channels), part, tuple(taps)))
        return _tree_sum(shares).astype(dtype)

    return run


def _take_channels(geometry: Geometry, x: Array, channels: range) -> Array:
    """These channels of every group."""
    if len(channels) == geometry.inputs:
        return x
    x = XP.reshape(x, (geometry.batch, geometry.groups, geometry.inputs, *geometry.sizes))
    x = x[:, :, channels.start : channels.stop]
    return XP.reshape(x, (geometry.batch, geometry.groups * len(channels), *geometry.sizes))


def _tree_sum(shares: list[Array]) -> Array:
    """Neighbours first, so that the sum's depth and the partial results alive at once stay small."""
    while len(shares) > 1:
        shares = [reduce(da.add, shares[i : i + 2]) for i in range(0, len(shares), 2)]
    return shares[0]


def admit(array: Array) -> Array:
    """Chunk sizes are what everything here is computed from; empty ones, which selections leave, are dropped."""
    if any(isnan(n) for n in array.shape):
        raise ValueError(
            f"of shape {array.shape} has unknown chunk sizes, and blocks are computed from them: "
            f"call its compute_chunk_sizes() first"
        )
    for i, chunks in enumerate(array.chunks):
        if 0 in chunks and len(chunks) > 1:
            held = [place for place, n in enumerate(chunks) if n] or [0]
            array = array.blocks[(slice(None),) * i + (held,)]
    return array


BACKEND = standard_backend(
    "dask",
    XP,
    owns=lambda array: isinstance(array, da.Array),
    from_numpy=lambda array, like: da.from_array(array, chunks=-1),
    to_numpy=lambda array: np.asarray(array.compute()),
    dtype=lambda name: np.dtype(name) if name != "bfloat16" else None,
    promote=lambda a, b: np.result_type(a.dtype, b.dtype),
    cast=lambda array, dtype: array.astype(dtype),
    admit=admit,
    copy=lambda array: array,
    close=close,
    map_windows=map_windows,
    pull_windows=pull_windows,
    windows=windows,
    pad=pad,
    pad_runs=pad_runs,
    pad_runs_transpose=pad_runs_transpose,
    sum_windows=sum_windows,
    local=local,
)
