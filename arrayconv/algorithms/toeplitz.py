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
from math import prod
from typing import Any

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
    prepare_all,
    run,
    run_tiled,
)
from .gemm import CACHES, product_counts
from .guard import guarded
from .native_counts import convolution_counts
from .rates import Counts

Array = Any

#: Outputs of one axis folded at once; vectors of 16 floats are the widest that CPUs have.
BLOCKS = (1, 4, 8, 16, 32, 64, 128, 256)

#: Outputs of a product at which it costs twice its multiply-adds: in the library's own convolution; after a copy of
#: whole rows of positions; and after a copy of each window, which is shorter.
NATIVE, ROWS, WINDOWS = 16, 40, 150

#: How many outputs of each spatial axis become channels at once.
Fold = tuple[int, ...]


def inner(problem: Problem, backend: Backend) -> str:
    """What runs the folded correlation: the library's own convolution where it has one."""
    native = ALGORITHMS["native"].unsupported(problem, backend) is None
    return "native" if native else "gemm"


def fold_of(problem: Problem, backend: Backend) -> tuple[Fold, Geometry]:
    """The blocks, and the folded correlation."""
    return best_fold(problem.geometry, inner(problem, backend))


@lru_cache(maxsize=1024)  # whether it serves, what it costs and how it runs all ask for it
def best_fold(geometry: Geometry, runner: str) -> tuple[Fold, Geometry]:
    """The last axis for a native convolution, which then writes whole vectors.

    For `gemm` the first axis, of which it copies rows, or the last two: their windows meet many outputs each.
    """
    ndim, found = geometry.ndim, []
    if runner == "native":
        ways = [(ndim - 1, ndim, NATIVE)]
    else:
        ways = [(max(0, ndim - 2), ndim, WINDOWS), (0, 1, ROWS)][:ndim]
    for first, stop, half in ways:
        others = geometry.axes[:first] + geometry.axes[stop:]
        choices = [(prod([axis.output * axis.window for axis in others]), 1, (1,) * first)]
        for axis in geometry.axes[first:stop]:
            choices = spread_choices(choices, axis)
        shares = {n: 1 + half / (geometry.outputs * n) for n in BLOCKS}
        found += [(products * shares[n], fold + (1,) * (ndim - stop)) for products, n, fold in choices if n > 1]
    fold = min(found)[1]
    return fold, folded(geometry, fold)


#: Multiply-adds, outputs at once, blocks.
Choice = tuple[int, int, Fold]


def spread_choices(choices: list[Choice], axis: WindowDimension) -> list[Choice]:
    """Each with each block of one axis more: a band's zeros are to be weighed against a product with few outputs."""
    blocks = [(n, -(-axis.output // n) * n * ((n - 1) * axis.stride + axis.window)) for n in BLOCKS]
    return [
        (products * more, outputs * n, (*fold, n))
        for products, outputs, fold in choices
        for n, more in blocks
        if outputs * n <= BLOCKS[-1]
    ]


def folded_axis(axis: WindowDimension, block: int) -> WindowDimension:
    """The axis whose outputs are blocks; the last one may reach beyond the padding, into more zeros."""
    stride, count = axis.stride * block, -(-axis.output // block)
    kernel = (block - 1) * axis.stride + axis.window
    high = (count - 1) * stride + kernel - axis.size - axis.low
    return WindowDimension(axis.size, kernel, stride, axis.low, high)


def folded(geometry: Geometry, fold: Fold) -> Geometry:
    """The correlation with ``prod(fold)`` times the output channels."""
    axes = tuple(
        axis if block == 1 else folded_axis(axis, block) for axis, block in zip(geometry.axes, fold, strict=True)
    )
    return replace(geometry, outputs=geometry.outputs * prod(fold), axes=axes)


def band(xp: Any, geometry: Geometry, kernel: Array, fold: Fold) -> Array:
    """``(G * O, I, *k)`` as ``(G * O * prod(fold), I, *k)`` with the folded axes longer, one axis after the other."""
    for place, (axis, block) in enumerate(zip(geometry.axes, fold, strict=True), 2):
        if block > 1:
            kernel = band_axis(xp, axis, kernel, place, block)
    return kernel


def band_axis(xp: Any, axis: WindowDimension, kernel: Array, place: int, block: int) -> Array:
    """``B`` rows for each output channel, the taps of row b shifted by ``b * stride``.

    A row of taps and ``B * stride`` zeros, repeated and cut into rows shorter by one stride, steps on by it every row.
    """
    steps = [axis.window_dilation if i == place else 1 for i in range(2, kernel.ndim)]
    kernel = dilate(xp, kernel, steps)
    order = [i for i in range(kernel.ndim) if i != place]
    taps = pad_zero(xp, xp.permute_dims(kernel, (*order, place)), [(0, block * axis.stride)])
    lead, length = taps.shape[:-1], taps.shape[-1]
    rows = xp.broadcast_to(xp.expand_dims(taps, axis=-2), (*lead, block, length))
    span = length - axis.stride
    rows = xp.reshape(rows, (*lead, block * length))[..., : block * span]
    rows = xp.reshape(rows, (*lead, block, span))
    # axes are now (O, I, *others, B, span)
    others = list(range(2, kernel.ndim - 1))
    others.insert(place - 2, kernel.ndim)
    rows = xp.permute_dims(rows, (0, kernel.ndim - 1, 1, *others))
    return xp.reshape(rows, (rows.shape[0] * block, *rows.shape[2:]))


def unfold(xp: Any, geometry: Geometry, y: Array, fold: Fold) -> Array:
    """``(N, G * O * prod(fold), *o)`` as ``(N, G * O, *o)`` with the folded axes at their own lengths."""
    ndim = geometry.ndim
    batch, channels, *out = y.shape
    channels //= prod(fold)
    y = xp.reshape(y, (batch, channels, *fold, *out))
    pairs = [axis for i in range(2, 2 + ndim) for axis in (i + ndim, i)]
    y = xp.reshape(
        xp.permute_dims(y, (0, 1, *pairs)), (batch, channels, *[n * b for n, b in zip(out, fold, strict=True)])
    )
    return y if y.shape[2:] == geometry.out else y[(slice(None), slice(None), *[slice(0, n) for n in geometry.out])]


def unsupported(problem: Problem, backend: Backend) -> str | None:
    if problem.is_integer:
        return "products of integers with a band's zeros gain nothing"
    if (reason := base_dilated(problem)) is not None:
        return reason
    if (held := fixed(problem, backend)) > problem.settings.workspace // 2:
        return f"the banded kernel takes {held} bytes; settings(workspace=...) admits more"
    return None


def fixed(problem: Problem, backend: Backend, block: tuple[int, ...] = ()) -> int:
    """Bytes of the banded kernel, and of a copy while it is made."""
    return 2 * prod(fold_of(problem, backend)[1].kernel_shape) * problem.itemsize


def unit(problem: Problem, backend: Backend) -> int:
    """Bytes a position: what `inner` holds of it, and the result twice."""
    fold, geometry = fold_of(problem, backend)
    own = replace(problem, geometry=geometry, dtype=problem.accumulator)
    held = ALGORITHMS[inner(problem, backend)].unit(own, backend)
    return -(-held // prod(fold)) + 2 * problem.geometry.groups * problem.geometry.outputs * problem.itemsize


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """Whole blocks of the folded axes."""
    fold, geometry = fold_of(problem, backend)
    budget -= fixed(problem, backend)
    if inner(problem, backend) == "gemm":
        budget = cache_budget(problem, backend, budget, CACHES)
    pieces = block_shape(geometry, prod(fold) * unit(problem, backend), budget)
    pieces = tuple(n * block for n, block in zip(pieces, (1, *fold), strict=True))
    return tuple(map(min, pieces, (problem.geometry.batch, *problem.geometry.out)))


def counts(problem: Problem, backend: Backend) -> Counts:
    """Those of the folded correlation, and of making and undoing the fold."""
    own = problem.with_geometry(fold_of(problem, backend)[1])
    size = in_floats(problem)
    if inner(problem, backend) == "native":
        found = convolution_counts(own)
    else:
        found = product_counts(own, pieces(problem, backend, unit(problem, backend), CACHES))
    return {
        **found,
        "band": prod(own.geometry.kernel_shape) * size,
        "unfolded": prod(own.geometry.y_shape) * size,
    }


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    """Tiles that pad themselves, each with the program of its folded correlation."""
    fold, name = fold_of(problem, backend)[0], inner(problem, backend)

    def details(geometry: Geometry) -> Program:
        own = replace(problem, geometry=folded(geometry, fold), dtype=problem.accumulator)
        shape = (own.geometry.batch, *own.geometry.out)
        program = Program(own, name, block=shape)
        prepare_all(program, backend)
        return program

    return make_tiling(problem, block, details, pads=False)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    xp = backend.xp
    fold = fold_of(program.problem, backend)[0]

    def compute(tile: Tile, x: Array, bands: Array) -> Array:
        def correlation(x: Array) -> Array:
            return unfold(xp, tile.geometry, run(tile.details, backend, x, bands), fold)

        return guarded(backend, tile.geometry, x, correlation)

    return run_tiled(program, backend, x, band(xp, program.geometry, kernel, fold), compute)


TOEPLITZ = Algorithm("toeplitz", unsupported, counts, execute, unit, prepare, block=block, fixed=fixed)
