"""A block of neighbouring outputs at once: one product with a banded Toeplitz matrix.

``B`` outputs of one axis meet ``(B - 1) * stride + window`` inputs, so that axis becomes ``B`` output channels of a
correlation with stride ``B * stride``, whose kernel holds the taps on B shifted diagonals and zeros elsewhere. One thin
channel becomes a matrix that fills the machine's registers, at ``1 + (B - 1) * stride / window`` times the products.
(The banded Toeplitz form of a convolution: Golub & Van Loan 2013, section 4.7.)
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry, WindowDimension
from ..primitives import dilate, pad_zero
from ..program import Problem, Program
from .algorithm import (
    ALGORITHMS,
    Algorithm,
    Tile,
    Tiling,
    base_dilated,
    block_shape,
    cache_budget,
    in_floats,
    make_tiling,
    pieces,
    run,
    run_tiled,
)
from .gemm import product_counts
from .guard import guarded
from .native import convolution_counts
from .rates import Counts

Array = Any

#: Outputs folded at once; vectors of 16 floats are the widest that CPUs have.
BLOCKS = (4, 8, 16, 32, 64, 128, 256)


#: Rows of a product at which it runs at half its rate.
HALF_ROWS = 16


class Fold(NamedTuple):
    """The spatial axis whose outputs become channels, and how many at once."""

    axis: int
    block: int


def inner(problem: Problem, backend: Backend) -> str:
    """What runs the folded correlation: the library's own convolution where it has one."""
    native = ALGORITHMS["native"].unsupported(problem, backend) is None
    return "native" if native else "gemm"


def fold_of(problem: Problem, backend: Backend) -> Fold:
    """The last axis for a native convolution, which then writes whole vectors; the first for `gemm`, which copies rows.

    The block weighs the zeros of the band against the rate of a product with few rows.
    """
    geometry = problem.geometry
    position = geometry.ndim - 1 if inner(problem, backend) == "native" else 0
    axis = geometry.axes[position]
    return Fold(position, best_block(axis.output, axis.stride, axis.window, geometry.outputs))


@lru_cache(maxsize=1024)
def best_block(count: int, stride: int, window: int, channels: int) -> int:
    def effort(block: int) -> float:
        blocks = -(-count // block)
        return blocks * block * ((block - 1) * stride + window) * (1 + HALF_ROWS / (channels * block))

    return min(reversed(BLOCKS), key=effort)


def folded_axis(axis: WindowDimension, block: int) -> WindowDimension:
    """The axis whose outputs are blocks; the last one may reach beyond the padding, into more zeros."""
    stride, count = axis.stride * block, -(-axis.output // block)
    kernel = (block - 1) * axis.stride + axis.window
    high = (count - 1) * stride + kernel - axis.size - axis.low
    return WindowDimension(axis.size, kernel, stride, axis.low, high)


def folded(geometry: Geometry, fold: Fold) -> Geometry:
    """The correlation with ``block`` times the output channels."""
    axes = list(geometry.axes)
    axes[fold.axis] = folded_axis(axes[fold.axis], fold.block)
    return replace(geometry, outputs=geometry.outputs * fold.block, axes=tuple(axes))


def band(xp: Any, geometry: Geometry, kernel: Array, fold: Fold) -> Array:
    """``(G * O, I, *k)`` as ``(G * O * B, I, *k)`` with the folded axis longer: row b is shifted by ``b * stride``.

    A row of taps and ``B * stride`` zeros, repeated and cut into rows shorter by one stride, steps on by it every row.
    """
    axis, place = geometry.axes[fold.axis], 2 + fold.axis
    steps = [1] * geometry.ndim
    steps[fold.axis] = axis.window_dilation
    kernel = dilate(xp, kernel, steps)
    order = [i for i in range(kernel.ndim) if i != place]
    taps = pad_zero(xp, xp.permute_dims(kernel, (*order, place)), [(0, fold.block * axis.stride)])
    lead, length = taps.shape[:-1], taps.shape[-1]
    rows = xp.broadcast_to(xp.expand_dims(taps, axis=-2), (*lead, fold.block, length))
    span = length - axis.stride
    rows = xp.reshape(rows, (*lead, fold.block * length))[..., : fold.block * span]
    rows = xp.reshape(rows, (*lead, fold.block, span))
    # axes are now (O, I, *others, B, span)
    others = list(range(2, kernel.ndim - 1))
    others.insert(fold.axis, kernel.ndim)
    rows = xp.permute_dims(rows, (0, kernel.ndim - 1, 1, *others))
    return xp.reshape(rows, (rows.shape[0] * fold.block, *rows.shape[2:]))


def unfold(xp: Any, geometry: Geometry, y: Array, fold: Fold) -> Array:
    """``(N, G * O * B, *o)`` as ``(N, G * O, *o)`` with the folded axis at its own length."""
    place = 2 + fold.axis
    batch, channels, *out = y.shape
    y = xp.reshape(y, (batch, channels // fold.block, fold.block, *out))
    order = [0, 1, *range(3, y.ndim)]
    order.insert(place + 1, 2)
    out[fold.axis] *= fold.block
    y = xp.reshape(xp.permute_dims(y, tuple(order)), (batch, channels // fold.block, *out))
    length = geometry.axes[fold.axis].output
    return y if length == out[fold.axis] else y[(slice(None),) * place + (slice(0, length), ...)]


def unsupported(problem: Problem, backend: Backend) -> str | None:
    if problem.is_integer:
        return "products of integers with a band's zeros gain nothing"
    if fixed(problem, backend) > problem.settings.workspace // 2:
        return f"the banded kernel takes {fixed(problem, backend)} bytes; settings(workspace=...) admits more"
    return base_dilated(problem)


def fixed(problem: Problem, backend: Backend, block: tuple[int, ...] = ()) -> int:
    """Bytes of the banded kernel, and of a copy while it is made."""
    return 2 * prod(folded(problem.geometry, fold_of(problem, backend)).kernel_shape) * problem.itemsize


def unit(problem: Problem, backend: Backend) -> int:
    """Bytes a position: what `inner` holds of it, and the result twice."""
    fold = fold_of(problem, backend)
    own = replace(problem, geometry=folded(problem.geometry, fold), dtype=problem.accumulator)
    held = ALGORITHMS[inner(problem, backend)].unit(own, backend)
    return -(-held // fold.block) + 2 * problem.geometry.groups * problem.geometry.outputs * problem.itemsize


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """Whole blocks of the folded axis."""
    fold = fold_of(problem, backend)
    budget -= fixed(problem, backend)
    if inner(problem, backend) == "gemm":
        budget = cache_budget(backend, budget)
    pieces = block_shape(folded(problem.geometry, fold), fold.block * unit(problem, backend), budget)
    pieces = tuple(n * fold.block if i == 1 + fold.axis else n for i, n in enumerate(pieces))
    return tuple(map(min, pieces, (problem.geometry.batch, *problem.geometry.out)))


def counts(problem: Problem, backend: Backend) -> Counts:
    """Those of the folded correlation, and of making and undoing the fold."""
    fold = fold_of(problem, backend)
    own = problem.with_geometry(folded(problem.geometry, fold))
    size = in_floats(problem)
    if inner(problem, backend) == "native":
        found = convolution_counts(own)
    else:
        found = product_counts(own, pieces(problem, backend, unit(problem, backend)))
    return {
        **found,
        "band": prod(own.geometry.kernel_shape) * size,
        "unfolded": prod(own.geometry.y_shape) * size,
    }


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    """Tiles that pad themselves, each with the program of its folded correlation."""
    fold, name = fold_of(problem, backend), inner(problem, backend)

    def details(geometry: Geometry) -> Program:
        own = replace(problem, geometry=folded(geometry, fold), dtype=problem.accumulator)
        shape = (own.geometry.batch, *own.geometry.out)
        program = Program(own, name, block=shape)
        return replace(program, prepared=ALGORITHMS[name].prepare(own, backend, shape))

    return make_tiling(problem, block, details, pads=False)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    xp = backend.xp
    fold = fold_of(program.problem, backend)

    def compute(tile: Tile, x: Array, bands: Array) -> Array:
        def correlation(x: Array) -> Array:
            return unfold(xp, tile.geometry, run(tile.details, backend, x, bands), fold)

        return guarded(backend, tile.geometry, x, correlation)

    return run_tiled(program, backend, x, band(xp, program.geometry, kernel, fold), compute)


TOEPLITZ = Algorithm("toeplitz", unsupported, counts, execute, unit, prepare, block=block, fixed=fixed)
