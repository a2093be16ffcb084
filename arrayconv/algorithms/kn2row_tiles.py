"""`kn2row` step by step: one product for a tile, of which slices are added up in place.

Whole images are tiles as long as caches hold their products; x is read as it lies, without zeros around it.
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
from .gemm_stacks import rows_of
from .rates import Counts
from .tiles import Tile, Tiling, make_tiling, run_tiled

Array = Any


def refused(problem: Problem) -> str | None:
    """What no way of `kn2row` takes."""
    if problem.is_integer or problem.is_complex:
        return "it multiplies real floating point numbers"
    if any(axis.stride > 1 for axis in problem.geometry.axes):
        return "a stride would leave out most of its products"
    return None


def unsupported(problem: Problem, backend: Backend) -> str | None:
    geometry = problem.geometry
    if geometry.taps > backend.most_slices:
        return f"{geometry.taps} shifted slices; {backend.name} takes {backend.most_slices}"
    return refused(problem) or base_dilated(problem) or too_wide(geometry)


def too_wide(geometry: Geometry) -> str | None:
    """The reason of ways that `gemm` is faster than."""
    return "it is for fewer channels out than in" if geometry.outputs >= geometry.inputs else None


def unit(problem: Problem, backend: Backend) -> int:
    """Bytes a position: its products, a copy of the inputs, and the sums twice."""
    geometry = problem.geometry
    channels = (geometry.taps + 2) * geometry.outputs + geometry.inputs
    return geometry.groups * channels * problem.itemsize


#: A tile less of products reads elements of x again and packs the kernels anew (NumPy, 64 channels of 136 x 136 to 3,
#: 9 x 9 taps: 16 MB of products 7.3 ms, in halves 6.6, in quarters 7.9).
CACHES = 4


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """Whole images as long as caches hold them, and as many tiles as there are threads."""
    geometry = problem.geometry
    own = block_shape(geometry, unit(problem, backend), cache_budget(problem, backend, budget, CACHES))
    return shared_block(geometry, own, count_of(backend.multipliers))


def starts(geometry: Geometry, block: tuple[int, ...]) -> float:
    """Elements of each channel of x that meet all taps: of tiles that lie side by side some twice."""
    reads = 1.0
    for axis, n in zip(geometry.axes, block[1:], strict=True):
        pieces, more = -(-axis.output // max(1, n)), (axis.window - 1) / axis.base_dilation
        reads *= min(axis.output / axis.base_dilation + pieces * more, axis.size + (pieces - 1) * more)
    return geometry.batch * geometry.groups * reads


#: Floats of a tile's products that a cache holds while they are added up.
CACHED = 2**18


def counts(problem: Problem, backend: Backend) -> Counts:
    """Products of few kernels take what packing x takes; each image packs the kernels."""
    geometry, size = problem.geometry, in_floats(problem)
    own = block(problem, backend, budget_of(problem) // count_of(products_on(backend)))
    tiles, places, summed = tiles_of(geometry, own), starts(geometry, own) * size, sums(problem)
    made, word = places * geometry.outputs * geometry.taps, shared(products_on(backend), tiles)
    return {
        "call": 1.0,
        "tile": float(tiles),
        "slice": float(tiles * geometry.taps),
        "matrix": float(geometry.batch * geometry.groups),
        f"{word}product": made * geometry.inputs,
        f"{word}column": summed,
        f"{word}run": summed / max(1, geometry.out[-1]),
        "memory": max(0.0, made - tiles * CACHED),
        "input": places * geometry.inputs,
        "kernel": max(tiles, geometry.batch) * prod(geometry.kernel_shape) * size,
        "output": prod(geometry.y_shape) * size,
    }


def sums(problem: Problem) -> float:
    """Floats of the products that meet an output."""
    geometry = problem.geometry
    share = prod([met(axis) for axis in geometry.axes])
    return prod(geometry.y_shape) * geometry.taps * share * in_floats(problem)


def least(problem: Problem, backend: Backend) -> Counts:
    """The sums, at the price of as many tiles as threads share."""
    return {"call": 1.0, shared(products_on(backend), inf) + "column": sums(problem)}


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


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    return make_tiling(problem, backend, block, shifts, pads=False)


def products_of(backend: Backend, geometry: Geometry, rows: Array, x: Array) -> Array:
    """``(N, G * I, *s)`` as ``(N, G, taps, O, *s)``."""
    images, sizes, xp = x.shape[0], x.shape[2:], backend.xp
    products = backend.matmul(rows, xp.reshape(x, (images, geometry.groups, geometry.inputs, prod(sizes))))
    return xp.reshape(products, (images, geometry.groups, geometry.taps, geometry.outputs, *sizes))


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    def compute(tile: Tile, x: Array, rows: Array) -> Array:
        products = products_of(backend, tile.geometry, rows, x)
        return backend.xp.reshape(add_up(backend, tile.geometry, tile.details, products), tile.geometry.y_shape)

    return run_tiled(program, backend, x, rows_of(backend, program.geometry, program.geometry.taps, kernel), compute)


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


TILED = Algorithm("kn2row", unsupported, counts, execute, unit, prepare, block=block, least=least)
