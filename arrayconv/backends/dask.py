"""Dask: each block of the output is a planned call on the block of the input that it needs; nothing is merged.

The halo of a block is `WindowDimension.block`: the same integers as everywhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
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
MODULE = namespace("dask.array")


class Namespace:
    """Dask's namespace, with the reshape of empty arrays that Dask can't do."""

    def __getattr__(self, name: str) -> Any:
        return getattr(MODULE, name)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        return da.zeros(shape, dtype=x.dtype) if 0 in x.shape else MODULE.reshape(x, shape)


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


def run_tap_chunk(planning: Planning, program: Program, x: Array, kernel: Array, taps: tuple[range, ...]) -> Array:
    """The share of one chunk of kernel taps in the whole output; ``kernel`` is that chunk, as one block."""
    x = x.rechunk({1: -1})
    axes, out_chunks = [], []
    for i, (axis, part) in enumerate(zip(program.geometry.axes, taps, strict=True), 2):
        outputs = output_ranges(axis, x.chunks[i])
        slices, blocks = zip(*(axis.block(out, part) for out in outputs), strict=True)
        pieces = [x[along(i, piece)].rechunk({i: -1}) for piece in slices]
        x = pieces[0] if len(pieces) == 1 else da.concatenate(pieces, axis=i)
        axes.append(blocks)
        out_chunks.append(tuple(len(out) for out in outputs))
    geometry = program.geometry
    return da.map_blocks(
        run_block,
        x,
        kernel=kernel,
        planning=planning,
        program=program,
        axes=tuple(axes),
        chunks=(x.chunks[0], (geometry.groups * geometry.outputs,), *out_chunks),
        dtype=x.dtype,
        meta=np.empty((0,) * x.ndim, dtype=x.dtype),
    )


def kernel_chunks(kernel: Array) -> Iterator[tuple[range, ...]]:
    """The chunks of input channels and taps."""
    yield from product(*map(ranges_of, kernel.chunks[1:]))


def close(backend: Backend, planning: Planning) -> Run:
    """A sum over the kernel's chunks (one, but for the gradient of a kernel), each over all blocks of the output."""

    def run(program: Program, x: Array, kernel: Array) -> Array:
        geometry = program.geometry
        if 0 in (*geometry.x_shape, *geometry.kernel_shape, *geometry.y_shape):
            return da.zeros(geometry.y_shape, dtype=x.dtype)
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
)
