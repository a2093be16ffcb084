"""A block of neighbouring outputs at once: one product with a banded Toeplitz matrix.

``B`` outputs of one axis meet ``(B - 1) * stride + window`` inputs, so that axis becomes ``B`` output channels of a
correlation with stride ``B * stride``, whose kernel holds the taps on B shifted diagonals and zeros elsewhere. One thin
channel becomes a matrix that fills the machine's registers, at ``1 + (B - 1) * stride / window`` times the products for
every axis that is folded.
(The banded Toeplitz form of a convolution: Golub & Van Loan 2013, section 4.7.)
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import inf, prod
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry, WindowDimension
from ..program import Problem, Program
from .algorithm import (
    ALGORITHMS,
    Algorithm,
    base_dilated,
    block_shape,
    budget_of,
    cache_budget,
    count_of,
    fresh,
    groups_of,
    in_floats,
    positions,
    prepare_all,
    products_on,
    run,
    shared_block,
)
from .gemm import CACHES, product_counts
from .guard import guarded
from .interleave import unfold
from .native_counts import convolution_counts, moved_counts, scratch
from .rates import Counts
from .tiles import Tile, Tiling, make_tiling, run_tiled
from .torch_counts import in_vectors

Array = Any

#: Outputs of one axis folded at once; vectors of 16 floats are the widest that CPUs have.
BLOCKS = (1, 4, 8, 16, 32, 64, 128, 256)

#: Outputs of a product at which it costs twice its multiply-adds: in a library's own convolution that doesn't compute
#: whole vectors of them; after a copy of whole rows of positions; and after a copy of each window of a signal, or of an
#: image, which is shorter.
NATIVE, ROWS, WINDOWS = 16, 20, (45, 150)

#: Multiply-adds that it takes a product to pack an element of the band, once for each tile.
PACK = 50

#: How many outputs of each spatial axis become channels at once.
Fold = tuple[int, ...]


def inner(problem: Problem, backend: Backend) -> str:
    """What runs the folded correlation: the library's own convolution where it has one of several channels."""
    own = backend.native
    return "native" if own is not None and own.has_layers and own.unsupported(problem) is None else "gemm"


class Folding(NamedTuple):
    """Outputs of each axis that become channels, the correlation that comes of it, what runs that, and the bytes of
    one position: what this holds of it, and the result twice.
    """

    fold: Fold
    problem: Problem
    inner: str
    unit: int


@lru_cache(maxsize=1024)  # whether it serves, what it costs and how it runs all ask for it
def folding(problem: Problem, backend: Backend) -> Folding:
    geometry, name = problem.geometry, inner(problem, backend)
    if name == "gemm":
        tile = cache_budget(problem, backend, budget_of(problem), CACHES) // problem.itemsize
        fold = best_fold(geometry, max(1, tile))
        own = problem.with_geometry(folded(geometry, fold))
        held = ALGORITHMS[name].unit(own, backend)
    else:
        vector = 1 if backend.native is None else backend.native.vector(problem)
        fold = (1,) * (geometry.ndim - 1) + (best_row(geometry, vector),)
        own = problem.with_geometry(folded(geometry, fold))
        held = -(-scratch(own) // max(1, positions(own.geometry)))
    outputs = geometry.groups * geometry.outputs * problem.itemsize
    return Folding(fold, own, name, -(-held // prod(fold)) + 2 * outputs)


def best_row(geometry: Geometry, vector: int) -> int:
    """The block of the last axis for a library's own convolution, which computes a vector of output channels at the
    cost of one: they are filled, since whole ones are written too (2048 x 2048, 3 x 3 taps, blocks of 4, 8, 16, 32: 13,
    12, 9.6 and 13 ms). Threads share vectors and rows, of which one alone leaves them idle.
    """
    axis, outputs = geometry.axes[-1], geometry.outputs
    rows = geometry.batch * geometry.groups * prod(geometry.out[:-1])

    def effort(block: tuple[int, int, int]) -> float:
        n, products, _ = block
        if vector == 1:
            return products * (1 + NATIVE / (n * outputs))
        computed = in_vectors(n * outputs, vector)
        return products * computed / (n * outputs) * (2 if rows * computed == vector else 1)

    return min(bands(axis)[1:], key=effort)[0]


def best_fold(geometry: Geometry, tile: int) -> Fold:
    """For `gemm` and its tiles of so many elements: the first axis, of which it copies rows, or the last two, whose
    windows meet many outputs each.
    """
    ndim = geometry.ndim
    ways = [(max(0, ndim - 2), ndim, WINDOWS[ndim > 1]), (0, 1, ROWS)][:ndim]
    found = []
    for first, stop, half in ways:
        rest, axes = geometry.axes[:first] + geometry.axes[stop:], geometry.axes[first:stop]
        others = prod([axis.output * axis.window for axis in rest])
        # packed: the band, ``n`` rows of a span, as often as its columns, a row's products, fill a tile
        pack = PACK * prod([axis.window for axis in rest])
        effort, blocks = best_blocks(axes, others, half / geometry.outputs, pack, geometry.inputs / tile)
        found.append((effort, (1,) * first + blocks + (1,) * (ndim - stop)))
    return min(found)[1]


def best_blocks(
    axes: tuple[WindowDimension, ...], others: int, half: float, pack: int, fill: float
) -> tuple[float, Fold]:
    """The least effort, and the blocks of one or two axes with it. Products are no fewer in a larger block, so a
    search ends where they alone are above the best, at their best rate.
    """
    lasts = bands(axes[-1])
    firsts = bands(axes[0]) if len(axes) > 1 else ((1, 1, 1),)
    best, share, found = inf, 1 + half / BLOCKS[-1], (1, 1)
    for n, one, high in firsts:
        some, packed = others * one, pack * high
        for m, last, wide in lasts:
            count, products = n * m, some * last
            if products * share >= best or count > BLOCKS[-1]:
                break
            filled = fill * products
            effort = products * (1 + half / count) + packed * wide * (count if count > filled else filled)
            if effort < best and count > 1:
                best, found = effort, (n, m)
    return best, found[-len(axes) :]


@lru_cache(maxsize=1024)  # most images have two axes alike
def bands(axis: WindowDimension) -> list[tuple[int, int, int]]:
    """Outputs of a block, the multiply-adds of an axis in such blocks, zeros of the bands among them, and the inputs
    that one block meets.
    """
    output, stride, rest = axis.output, axis.stride, axis.window - axis.stride
    return [(n, -(-output // n) * n * (span := n * stride + rest), span) for n in BLOCKS]


def folded_axis(axis: WindowDimension, block: int) -> WindowDimension:
    """The axis whose outputs are blocks; the last one may reach beyond the padding, into more zeros."""
    stride, count = axis.stride * block, -(-axis.output // block)
    kernel = (block - 1) * axis.stride + axis.window
    high = (count - 1) * stride + kernel - axis.size - axis.low
    return WindowDimension(axis.size, kernel, stride, axis.low, high)


def folded(geometry: Geometry, fold: Fold) -> Geometry:
    """The correlation with ``prod(fold)`` times the output channels."""
    blocks = zip(geometry.axes, fold, strict=True)
    axes = tuple([axis if block == 1 else folded_axis(axis, block) for axis, block in blocks])
    return Geometry(geometry.batch, geometry.groups, geometry.inputs, geometry.outputs * prod(fold), axes)


def band(backend: Backend, geometry: Geometry, kernel: Array, fold: Fold) -> Array:
    """``(G * O, I, *k)`` as ``(G * O * prod(fold), I, *k)`` with the folded axes longer, one axis after the other."""
    for place, (axis, block) in enumerate(zip(geometry.axes, fold, strict=True), 2):
        if block > 1:
            kernel = backend.band(kernel, place, block, axis.stride, axis.window_dilation)
    return kernel


def unsupported(problem: Problem, backend: Backend) -> str | None:
    if problem.is_integer:
        return "products of integers with a band's zeros gain nothing"
    if (reason := base_dilated(problem)) is not None:
        return reason
    if (held := fixed(problem, backend)) > problem.settings.workspace // 2:
        return f"the banded kernel takes {held} bytes; settings(workspace=...) admits more"
    if backend.sweep is not None and folding(problem, backend).inner == "native" and is_cut(problem, backend, held):
        return f"{backend.name}'s own convolution is slow in a loop over tiles; settings(workspace=...) admits one tile"
    return None


def is_cut(problem: Problem, backend: Backend, held: int) -> bool:
    """Whether one tile would hold too much beside the banded kernel."""
    return positions(problem.geometry) * unit(problem, backend) > budget_of(problem) - held


def fixed(problem: Problem, backend: Backend, block: tuple[int, ...] = ()) -> int:
    """Bytes of the banded kernel, and of a copy while it is made."""
    return 2 * prod(folding(problem, backend).problem.geometry.kernel_shape) * problem.itemsize


def unit(problem: Problem, backend: Backend) -> int:
    return folding(problem, backend).unit


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """Whole blocks of the folded axes."""
    own, budget = folding(problem, backend), room(problem, backend, budget)
    each, geometry = prod(own.fold) * own.unit, own.problem.geometry
    if own.inner == "gemm":
        pieces = block_shape(geometry, each // max(1, geometry.groups), budget)
        pieces = shared_block(geometry, pieces, count_of(backend.multipliers))
    else:
        pieces = block_shape(geometry, each, budget)
    pieces = tuple(n * block for n, block in zip(pieces, (1, *own.fold), strict=True))
    return tuple(map(min, pieces, (problem.geometry.batch, *problem.geometry.out)))


#: Bytes of a tile by a library's own convolution, which copies it. Of more, the C library gives some back to the
#: system, which clears it again for the next call (3000 x 3000, 3 x 3 taps: 34 ms whole, 14 in tiles). And images of
#: 1024, 2048 or more come to pieces whose rows are no power of two, so that channels don't meet in the caches.
TILE = 18 * 2**20


def room(problem: Problem, backend: Backend, budget: int) -> int:
    """Bytes of a tile, of which a budget is left to each of the crew; all share the banded kernel."""
    held = fixed(problem, backend)
    if folding(problem, backend).inner == "native":
        return min(budget - held, TILE) if backend.sweep is None and problem.is_on_cpu else budget - held
    return cache_budget(problem, backend, budget - held // count_of(backend.multipliers), CACHES)


def groups(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """As `gemm` has them; a library's own convolution takes all."""
    own = folding(problem, backend)
    if own.inner == "native":
        return problem.geometry.groups
    budget = room(problem, backend, budget_of(problem) // count_of(backend.multipliers))
    return groups_of(problem.geometry, own.unit, block, budget)


def counts(problem: Problem, backend: Backend) -> Counts:
    """Those of the folded correlation, and of making and undoing the fold."""
    own, size = folding(problem, backend), in_floats(problem)
    geometry = own.problem.geometry
    if own.inner == "native":
        found = convolution_counts(own.problem)
        if backend.sweep is None:  # tiles keep their pages
            found["fresh"] = fresh(size, prod(problem.geometry.y_shape))
    else:
        found = product_counts(problem, backend, geometry, own.unit)
    found["band"], found["woven"] = prod(geometry.kernel_shape) * size, prod(geometry.y_shape) * size
    return found


def least(problem: Problem, backend: Backend) -> Counts:
    """One axis at least has a band of the smallest block."""
    geometry, size = problem.geometry, in_floats(problem)
    outputs, first = prod(geometry.y_shape) * size, BLOCKS[1]
    spans = min([((first - 1) * axis.stride + axis.window) / axis.kernel for axis in geometry.axes])
    bands = prod(geometry.kernel_shape) * first * spans * size
    if inner(problem, backend) == "native":
        found = moved_counts(problem, prod(geometry.x_shape) * size, bands, outputs)
    else:
        found = {"call": 1.0, "tile": 1.0, "kernel": bands, "output": outputs}
        found["product"] = outputs * geometry.terms * spans
    return {**found, "band": bands, "woven": outputs}


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    """Tiles that pad themselves, each with the program of its folded correlation."""
    fold, _, name, _ = folding(problem, backend)

    def details(geometry: Geometry) -> Program:
        own = replace(problem, geometry=folded(geometry, fold), dtype=problem.accumulator)
        shape = (own.geometry.batch, *own.geometry.out)
        program = Program(own, name, block=shape)
        prepare_all(program, backend)
        return program

    return make_tiling(problem, backend, block, details, pads=False, groups=groups(problem, backend, block))


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    xp = backend.xp
    fold = folding(program.problem, backend).fold

    def compute(tile: Tile, x: Array, bands: Array) -> Array:
        def correlation(x: Array) -> Array:
            return unfold(xp, tile.geometry, run(tile.details, backend, x, bands), fold)

        return guarded(backend, tile.geometry, x, correlation)

    return run_tiled(program, backend, x, band(backend, program.geometry, kernel, fold), compute)


TOEPLITZ = Algorithm(
    "toeplitz",
    unsupported,
    counts,
    execute,
    unit,
    prepare,
    block=block,
    fixed=fixed,
    groups=groups,
    least=least,
    crew=products_on,
    inner=inner,
    units=("call", "band", "woven"),
)
