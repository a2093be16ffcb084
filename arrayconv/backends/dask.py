"""Dask: each block of the output is a planned call on the block of the input that it needs; nothing is merged.

The halo of a block is `WindowDimension.block`: the same integers as everywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from itertools import accumulate, pairwise, product
from math import isnan
from typing import Any

import dask.array as da
import numpy as np

from ..backend import Backend, Planning, Run, get_backend, namespace, standard_backend
from ..geometry import Geometry, WindowDimension
from ..primitives import along
from ..program import Program

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


def ranges_of(chunks: tuple[int, ...]) -> list[range]:
    """Chunk sizes as ranges of indices."""
    stops = list(accumulate(chunks))
    return [range(stop - n, stop) for stop, n in zip(stops, chunks, strict=True)]


def output_ranges(axis: WindowDimension, chunks: tuple[int, ...]) -> list[range]:
    """Outputs by the input chunk in which the middle of their window lies, so that chunks stay where they were."""
    middle = (axis.window - 1) // 2 - axis.low
    stops = [-(-(stop * axis.base_dilation - middle) // axis.stride) for stop in accumulate(chunks)]
    stops = [min(max(stop, 0), axis.output) for stop in stops[:-1]]
    edges = [0, *stops, axis.output]
    ranges = [range(start, stop) for start, stop in pairwise(edges) if stop > start]
    return ranges or [range(0)]


def run_block(
    x: Array, kernel: Array, planning: Planning, program: Program, axes: Any, block_id: tuple[int, ...] = ()
) -> Array:
    """One block, in a worker: planned for the library of the block that arrives."""
    own = tuple(blocks[i] for blocks, i in zip(axes, block_id[2:], strict=True))
    geometry = replace(program.geometry, batch=x.shape[0], axes=own)
    backend = get_backend(x)
    return planning.execute(planning.replan(program, geometry, backend.name), backend, x, kernel)


def with_halos(
    x: Array, axes: Sequence[WindowDimension], outputs: Sequence[Sequence[range]], taps: Sequence[range]
) -> tuple[Array, tuple[tuple[WindowDimension, ...], ...]]:
    """x with a chunk for each range of outputs, holding what they need of it, and the axes of those chunks."""
    own, first = [], x.ndim - len(axes)
    for i, (axis, ranges, part) in enumerate(zip(axes, outputs, taps, strict=True), first):
        slices, blocks = zip(*(axis.block(out, part) for out in ranges), strict=True)
        pieces = [x[along(i, piece)].rechunk({i: -1}) for piece in slices]
        x = pieces[0] if len(pieces) == 1 else da.concatenate(pieces, axis=i)
        own.append(blocks)
    return x, tuple(own)


def run_tap_chunk(planning: Planning, program: Program, x: Array, kernel: Array, taps: tuple[range, ...]) -> Array:
    """The share of one chunk of kernel taps in the whole output; ``kernel`` is that chunk, as one block."""
    x = x.rechunk({1: -1})
    geometry = program.geometry
    outputs = [output_ranges(axis, chunks) for axis, chunks in zip(geometry.axes, x.chunks[2:], strict=True)]
    x, axes = with_halos(x, geometry.axes, outputs, taps)
    return da.map_blocks(
        run_block,
        x,
        kernel=kernel,
        planning=planning,
        program=program,
        axes=axes,
        chunks=(x.chunks[0], (geometry.groups * geometry.outputs,), *(tuple(map(len, ranges)) for ranges in outputs)),
        dtype=x.dtype,
        meta=np.empty((0,) * x.ndim, dtype=x.dtype),
    )


def map_windows(backend: Backend, function: Windowed, axes: Sequence[WindowDimension], x: Array) -> Array:
    """A reduction of windows, ``function(backend, axes, x)``, block by block."""
    first = x.ndim - len(axes)
    outputs = [output_ranges(axis, chunks) for axis, chunks in zip(axes, x.chunks[first:], strict=True)]
    chunks = (*x.chunks[:first], *(tuple(map(len, ranges)) for ranges in outputs))
    if 0 in x.shape:
        return XP.full(tuple(map(sum, chunks)), 0, x.dtype)
    x, own = with_halos(x, axes, outputs, [range(axis.kernel) for axis in axes])
    meta = np.empty((0,) * x.ndim, dtype=x.dtype)
    return da.map_blocks(run_windows, x, function=function, axes=own, chunks=chunks, dtype=x.dtype, meta=meta)


def run_windows(x: Array, function: Windowed, axes: Any, block_id: tuple[int, ...] = ()) -> Array:
    """One block of `map_windows`, in a worker."""
    return function(get_backend(x), blocks_at(axes, block_id), x)


def pull_windows(backend: Backend, function: Windowed, axes: Sequence[WindowDimension], x: Array, dy: Array) -> Array:
    """Its transpose at x, ``function(backend, axes, x, dy)``: a block is a chunk of x.

    It gets the windows that meet the chunk and all elements of x that those hold, and crops what is another's.
    """
    first, chunks = x.ndim - len(axes), x.chunks
    if 0 in x.shape:
        return XP.full(x.shape, 0, dy.dtype)
    outputs = [meeting(axis, sizes) for axis, sizes in zip(axes, chunks[first:], strict=True)]
    dy = dy.rechunk(dict(enumerate(chunks[:first])))
    for i, ranges in enumerate(outputs, first):
        pieces = [dy[along(i, slice(out.start, out.stop))].rechunk({i: -1}) for out in ranges]
        dy = pieces[0] if len(pieces) == 1 else da.concatenate(pieces, axis=i)
    x, own = with_halos(x, axes, outputs, [range(axis.kernel) for axis in axes])
    widths = tuple(
        tuple(
            (part.start - chunk.start, chunk.stop - part.stop)
            for chunk, out in zip(ranges_of(sizes), ranges, strict=True)
            for part, _ in [axis.block(out, range(axis.kernel))]
        )
        for axis, sizes, ranges in zip(axes, chunks[first:], outputs, strict=True)
    )
    return da.map_blocks(
        run_pull_windows,
        x,
        dy,
        function=function,
        axes=own,
        widths=widths,
        chunks=chunks,
        dtype=dy.dtype,
        meta=np.empty((0,) * x.ndim, dtype=dy.dtype),
    )


def meeting(axis: WindowDimension, chunks: tuple[int, ...]) -> list[range]:
    """For each chunk of the input the outputs whose windows meet it, or, where none does, any one."""
    found = []
    for chunk in ranges_of(chunks):
        start = max(0, -(-(chunk.start + axis.low - axis.window + 1) // axis.stride))
        stop = min(axis.output, (chunk.stop - 1 + axis.low) // axis.stride + 1)
        start = min(start, axis.output - 1)
        found.append(range(start, max(stop, start + 1)))
    return found


def run_pull_windows(
    x: Array, dy: Array, function: Windowed, axes: Any, widths: Any, block_id: tuple[int, ...] = ()
) -> Array:
    """One block of `pull_windows`, in a worker."""
    backend = get_backend(x)
    dx = function(backend, blocks_at(axes, block_id), x, dy)
    return backend.pad(dx, blocks_at(widths, block_id))


def sum_windows(function: Windowed, what: Any, backend: Backend, axes: Any, x: Array, y: Array) -> Array:
    """One pass over the chunks of x, each with the outputs in its middle; the sums are added in a tree."""
    x = x.rechunk({1: -1})
    outputs = [output_ranges(axis, chunks) for axis, chunks in zip(axes, x.chunks[2:], strict=True)]
    if 0 in (*x.shape, *y.shape):
        return XP.full((what.size(axes),), 0, backend.dtype(what.accumulator))
    y = y.rechunk((x.chunks[0], (y.shape[1],), *(tuple(map(len, ranges)) for ranges in outputs)))
    x, own = with_halos(x, axes, outputs, [range(axis.kernel) for axis in axes])
    dtype = backend.dtype(what.accumulator)
    sums = da.map_blocks(
        run_sum_windows,
        x,
        y,
        function=function,
        what=what,
        axes=own,
        chunks=(*((1,) * len(sizes) for sizes in x.chunks), (what.size(axes),)),
        new_axis=x.ndim,
        dtype=dtype,
        meta=np.empty((0,) * (x.ndim + 1), dtype=dtype),
    )
    return sums.sum(axis=tuple(range(x.ndim)))


def run_sum_windows(
    x: Array, y: Array, function: Windowed, what: Any, axes: Any, block_id: tuple[int, ...] = ()
) -> Array:
    """One block of `sum_windows`, in a worker."""
    sums = function(what, get_backend(x), tuple(blocks_at(axes, block_id[: x.ndim])), x, y)
    return sums[(None,) * x.ndim]


def local(arrays: Sequence[Array]) -> Sequence[Array]:
    """Computed in one pass."""
    computed: Sequence[Array] = da.compute(*arrays)
    return computed


def blocks_at(table: Any, block_id: tuple[int, ...]) -> list[Any]:
    """The entries of a block in a table with one row for each of the last axes."""
    return [row[i] for row, i in zip(table, block_id[len(block_id) - len(table) :], strict=True)]


def kernel_chunks(kernel: Array) -> Iterator[tuple[range, ...]]:
    """The chunks of input channels and taps."""
    yield from product(*map(ranges_of, kernel.chunks[1:]))


def close(backend: Backend, planning: Planning) -> Run:
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
    """Chunk sizes are what everything here is computed from."""
    if any(isnan(n) for n in array.shape):
        raise ValueError(
            f"of shape {array.shape} has unknown chunk sizes, and blocks are computed from them: "
            f"call its compute_chunk_sizes() first"
        )
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
    prepares=False,
    map_windows=map_windows,
    pull_windows=pull_windows,
    sum_windows=sum_windows,
    local=local,
)
