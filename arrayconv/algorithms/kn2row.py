"""One matrix product of x as it lies with the kernels of all taps, whose rows are then added up where they fall.

The order of `gemm` the other way round: it copies every element of x for each tap, this adds every element of y up once
a tap, which is less where a layer has fewer channels out than in (Vasudevan, Anderson and Gregg 2017, "Parallel
Multi Channel Convolution using General Matrix Multiplication": kn2row). A library's own routine for it (col2im, as its
transposed convolution has it) takes base dilations too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import inf, prod
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry, WindowDimension
from ..onednn import met
from ..primitives import full
from ..program import Problem, Program
from .algorithm import (
    Algorithm,
    base_dilated,
    block_shape,
    budget_of,
    cache_budget,
    count_of,
    in_floats,
    products_on,
    shared,
    shared_block,
    tiles_of,
)
from .rates import Counts
from .tiles import Tile, Tiling, make_tiling, run_tiled

Array = Any


def unsupported(problem: Problem, backend: Backend) -> str | None:
    geometry = problem.geometry
    if problem.is_integer or problem.is_complex:
        return "it multiplies real floating point numbers"
    if any(axis.stride > 1 for axis in geometry.axes):
        return "a stride would leave out most of its products"
    if geometry.outputs >= geometry.inputs and not geometry.is_base_dilated:
        return "it is for fewer channels out than in"
    if backend.stacks_columns:
        return f"gemm adds up the products of the first axis's taps on {backend.name}"
    if backend.col2im is not None:
        return backend.col2im.unsupported(problem)
    if geometry.taps > backend.most_slices:
        return f"{geometry.taps} shifted slices; {backend.name} takes {backend.most_slices}"
    return base_dilated(problem)


def starts(geometry: Geometry, block: tuple[int, ...]) -> float:
    """Elements of each channel of x that meet all taps: of tiles that lie side by side some twice."""
    reads = 1.0
    for axis, n in zip(geometry.axes, block[1:], strict=True):
        pieces, more = -(-axis.output // max(1, n)), (axis.window - 1) / axis.base_dilation
        reads *= min(axis.output / axis.base_dilation + pieces * more, axis.size + (pieces - 1) * more)
    return geometry.batch * geometry.groups * reads


def unit(problem: Problem, backend: Backend) -> int:
    """Bytes a position: its products, the padded inputs and the sums twice."""
    geometry = problem.geometry
    columns = geometry.taps * geometry.outputs // prod([axis.base_dilation for axis in geometry.axes])
    return geometry.groups * (columns + geometry.inputs + 2 * geometry.outputs) * problem.itemsize


def places(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """A library's routine makes the products of one image after the other."""
    return prod(block if backend.col2im is None else block[1:])


#: Products are passed over a few times, and a tile less of them reads elements of x again and packs the kernels anew
#: (NumPy, 64 channels of 136 x 136 to 3, 9 x 9 taps: 16 MB of products 7.3 ms, in halves 6.6, in quarters 7.9).
CACHES = 4


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """Whole images as long as caches hold them, and as many tiles as there are threads."""
    geometry, each = problem.geometry, unit(problem, backend)
    if backend.col2im is not None:
        return (geometry.batch, *block_shape(geometry, each, budget)[1:])
    own = block_shape(geometry, each, cache_budget(problem, backend, budget, CACHES))
    return shared_block(geometry, own, count_of(backend.multipliers))


#: Floats of an image's products that a cache holds while they are added up.
CACHED = 2**18


def counts(problem: Problem, backend: Backend) -> Counts:
    """Products of few kernels take what packing x takes; each image packs the kernels."""
    geometry, size, is_own = problem.geometry, in_floats(problem), backend.col2im is not None
    own = KN2ROW.blocks(problem, backend, budget_of(problem))
    tiles, places = tiles_of(geometry, own), starts(geometry, own) * size
    made, summed = places * geometry.outputs * geometry.taps, sums(problem, backend, own)
    pieces = max(tiles, geometry.batch) if is_own else tiles
    word = shared(products_on(backend), tiles)
    return {
        "call": 1.0,
        "tile": float(tiles),
        "matrix": float(geometry.batch * geometry.groups),
        f"{word}product": made * geometry.inputs,
        word + column(problem, backend): summed,
        f"{word}run": summed / max(1, geometry.out[-1]),
        "memory": max(0.0, made - pieces * CACHED),
        "input": places * geometry.inputs,
        "kernel": max(tiles, geometry.batch) * prod(geometry.kernel_shape) * size,
        "output": prod(geometry.y_shape) * size,
        **({} if is_own else {"slice": float(tiles * geometry.taps)}),
    }


def sums(problem: Problem, backend: Backend, block: tuple[int, ...]) -> float:
    """Floats that are added up: all products by a library's routine, else those that meet an output."""
    geometry, size = problem.geometry, in_floats(problem)
    if backend.col2im is not None:
        return starts(geometry, block) * geometry.outputs * geometry.taps * size
    return prod(geometry.y_shape) * geometry.taps * prod([met(axis) for axis in geometry.axes]) * size


def column(problem: Problem, backend: Backend) -> str:
    """The word for one of these; of three axes a library has loops of their own."""
    return "column 3d" if backend.col2im is not None and problem.geometry.ndim > 2 else "column"


def least(problem: Problem, backend: Backend) -> Counts:
    """The sums of a single tile, at the price of as many as threads share."""
    geometry = problem.geometry
    word = shared(products_on(backend), inf) + column(problem, backend)
    return {"call": 1.0, word: sums(problem, backend, (geometry.batch, *geometry.out))}


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    """What a tile adds up, without the zeros around x, or the arguments of the library's routine."""
    own = backend.col2im
    details = shifts if own is None else lambda part: own.prepare(problem.with_geometry(part))
    return make_tiling(problem, backend, block, details, pads=False)


class Part(NamedTuple):
    """A tap's products that meet any output: where they lie among its products, and in y, or None for all of it."""

    tap: int
    source: tuple[Any, ...]
    target: tuple[Any, ...] | None


def shifts(geometry: Geometry) -> tuple[Part, ...]:
    """One for each tap, those that meet all outputs first."""
    found = []
    for tap, places in enumerate(product(*map(range, geometry.window))):
        source, target = zip(*map(overlap, geometry.axes, places), strict=True) if places else ((), ())
        if all(part.start < part.stop for part in target):
            is_whole = all(part.stop - part.start == n for part, n in zip(target, geometry.out, strict=True))
            found.append(Part(tap, (..., *source), None if is_whole else (..., *target)))
    return tuple(sorted(found, key=lambda part: part.target is not None))


def overlap(axis: WindowDimension, tap: int) -> tuple[slice, slice]:
    """Elements of an axis that a tap meets, and the outputs of which it does."""
    first = axis.low - tap * axis.window_dilation
    start, stop = max(0, first), min(axis.output, axis.size + first)
    return slice(start - first, stop - first), slice(start, stop)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    own, xp, geometry = backend.col2im, backend.xp, program.geometry
    if own is not None:
        return run_tiled(program, backend, x, kernel, lambda tile, *arrays: own.execute(tile.details, *arrays))
    groups, inputs, outputs, taps = geometry.groups, geometry.inputs, geometry.outputs, geometry.taps
    rows = xp.permute_dims(xp.reshape(kernel, (groups, outputs, inputs, taps)), (0, 3, 1, 2))
    rows = xp.reshape(rows, (groups, taps * outputs, inputs))

    def compute(tile: Tile, x: Array, rows: Array) -> Array:
        own = tile.geometry
        products = backend.matmul(rows, xp.reshape(x, (own.batch, own.groups, inputs, prod(own.sizes))))
        products = xp.reshape(products, (own.batch, own.groups, taps, outputs, *own.sizes))
        return xp.reshape(add_up(backend, own, tile.details, products), own.y_shape)

    return run_tiled(program, backend, x, rows, compute)


def add_up(backend: Backend, geometry: Geometry, parts: Sequence[Part], products: Array) -> Array:
    """``(N, G, taps, O, *s)`` as ``(N, G, O, *o)``."""

    def read(part: Part) -> Array:
        return products[:, :, part.tap, ...][part.source]

    whole = [part for part in parts if part.target is None]
    if len(whole) > 1:
        total = read(whole[0]) + read(whole[1])
    elif whole:
        total = backend.copy(read(whole[0]))
    else:
        total = full(backend.xp, products, (*products.shape[:2], geometry.outputs, *geometry.out))
    for part in whole[2:]:
        total = backend.add_to(total, read(part))
    for part in parts[len(whole) :]:
        total[part.target] += read(part)
    return total


KN2ROW = Algorithm(
    "kn2row", unsupported, counts, execute, unit, prepare, block=block, crew=products_on, places=places, least=least
)
