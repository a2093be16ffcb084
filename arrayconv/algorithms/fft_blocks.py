"""How large the tiles of transforms are, and how many of them a piece holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import inf, prod, sqrt
from typing import Any

import numpy as np

from ..backend import Backend
from ..geometry import Geometry, WindowDimension
from ..program import Problem
from .algorithm import budget_of, count_of, tiles_of
from .fft_tiles import lengths_of, line_of, lines_of, slowness
from .sweep import read_by

NumPyArray = np.ndarray[Any, Any]

#: Points of a tile at which each takes twice its time, since caches hold it no more: where each thread has a tile of
#: its own, and for libraries whose threads share one. And of one axis, which is passed over once.
CACHED, SHARED, CACHED_LINE, SHARED_LINE = 700_000, 2**23, 1_400_000, 2**22

#: Elements of the last axis that are copied in the time of beginning another row.
ROW = 8

#: Points that are transformed in the time of a tile's calls, and products of spectra in the time of a point.
CALL, PRODUCTS = 16_000, 10

#: Points that a thread transforms while others wake up: a tenth of a millisecond.
MEET = 16_000

#: Pieces into which an axis may be cut.
PIECES = (*range(1, 7), *(m << n for n in range(10) for m in (8, 10, 12, 14)))

#: The points of a tile where tiles are swept, by a library whose threads share each; and of one axis, whose threads
#: share several.
SWEPT, SWEPT_LINE = 2**18, 2**14

#: Bytes of tiles that are swept: an allocator that takes more from the system, and gives it back, at each call (glibc's
#: from 32 MiB on) makes that as slow as the transforms.
SWEPT_BYTES = 3 * 2**23


def mean_channels(geometry: Geometry) -> float:
    """Of a group: of what is transformed, and of what is transformed back."""
    return (geometry.inputs + geometry.outputs) / 2


def fixed(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """Bytes of the kernel's spectrum, and of the tiles computed at once twice, since a transform makes a copy.

    A tile's bytes are those of its whole transforms, of which long windows leave few outputs.
    """
    geometry, own = problem.geometry, groups(problem, backend, block)
    lines = lines_of(backend, geometry, block)
    images = 2 * block[0] * own * (geometry.inputs + geometry.outputs) * prod([line.lines for line in lines])
    images *= min(count_of(backend.workers) * rows_of(problem, backend, block), tiles_of(geometry, block, max(1, own)))
    return bytes_of(problem, prod([line.length for line in lines]), images)


def fits(problem: Problem, backend: Backend) -> bool:
    """Whether a tile of one output fits whatever its lengths are, as it mostly does: no transform is twice as long as
    what it reads.
    """
    geometry = problem.geometry
    images = 2 * geometry.groups * (geometry.inputs + geometry.outputs) * count_of(backend.workers)
    images *= rows_of(problem, backend, (1,) * (1 + geometry.ndim))
    return bytes_of(problem, prod([2 * axis.window for axis in geometry.axes]), images) <= budget_of(problem)


def bytes_of(problem: Problem, points: int, images: int) -> int:
    """Of the kernel's spectrum, and of so many others or, while it is made, of its copy; all of so many points."""
    geometry = problem.geometry
    kernels = geometry.groups * geometry.inputs * geometry.outputs
    return number_of(problem) * points * (kernels + max(kernels, images))


def number_of(problem: Problem) -> int:
    """Bytes of a point."""
    return 16 if problem.is_complex else 8


def growth_of(problem: Problem, backend: Backend) -> float:
    """Points of a tile at which each takes twice its time. An accelerator has no such cache."""
    if not problem.is_on_cpu:
        return inf
    is_line = problem.geometry.ndim == 1
    if backend.workers is not None:
        return CACHED_LINE if is_line else CACHED
    return (SHARED_LINE if is_line else SHARED) if backend.short_lines else inf


def images_of(problem: Problem, backend: Backend, points: Any, tiles: Any) -> Any:
    """Groups of images, all of so many points each, that a tile of one of them is worth having beside, against calls
    and caches: even parts, of which each worker has as many as the others if an image is one tile.
    """
    geometry, crew = problem.geometry, count_of(backend.workers)
    count = float(geometry.batch * geometry.groups)
    least = 1 if backend.workers is not None else geometry.groups
    together = sqrt(CALL * growth_of(problem, backend)) / (mean_channels(geometry) * points)
    parts = np.ceil(count / np.maximum(least, np.minimum(count, together)))
    return count / np.where(tiles == 1, np.minimum(np.ceil(parts / crew) * crew, count // least), parts)


def groups(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """Of a tile: all, unless each thread has a tile of its own, which then is of one image."""
    geometry = problem.geometry
    if block[0] > 1 or backend.workers is None or geometry.groups < 2:
        return geometry.groups
    points = prod([line.length * line.lines for line in lines_of(backend, geometry, block)])
    images = int(images_of(problem, backend, points, tiles_of(geometry, (geometry.batch, *block[1:]))))
    return -(-geometry.groups // -(-geometry.groups // max(1, min(geometry.groups, images))))


@lru_cache(maxsize=1024)
def cuts_of(backend: Backend, axis: WindowDimension) -> NumPyArray:
    """Ways to cut an axis: outputs of a piece, pieces, a transform's length, all points of a piece, and these by their
    time; none is much shorter than the window.
    """
    found = []
    for pieces in PIECES:
        own = -(-max(1, axis.output) // pieces)
        if pieces > 1 and (own == 1 or 2 * own * axis.stride < axis.window):
            break
        line = line_of(backend, axis, own)
        points = line.length * line.lines
        found.append((own, -(-axis.output // own), line.length, points, points * slowness(line.length)))
    return np.asarray(found, dtype=float).T


@lru_cache(maxsize=1024)  # whether it serves, what it costs and how it runs all ask for it
def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """The cut of the axes at which all transforms cost least: their points and products, the calls of each tile, what a
    cache does not hold, and workers without a tile.

    All tiles share one spectrum of the kernel. Those of a library of ``short_lines`` are cut into lines once more.
    """
    if backend.sweep is not None:
        return swept_block(problem, backend, budget)
    geometry, crew, channels = problem.geometry, count_of(backend.workers), mean_channels(problem.geometry)
    outputs, *others = zip(*[cuts_of(backend, axis) for axis in geometry.axes], strict=True)
    tiles, lengths, points, times = map(product_of, others)
    images, products = images_of(problem, backend, points, tiles), float(geometry.inputs * geometry.outputs)
    total = tiles * float(geometry.batch * geometry.groups) / images
    times = times * (1 + ROW / outputs[-1])
    each = images * (times * channels + (points * products / PRODUCTS if geometry.inputs > 1 else 0))
    efforts = np.ceil(total / crew) * (each + CALL) * (1 + images * channels * points / growth_of(problem, backend))
    efforts[total > 1] += MEET if crew > 1 else 0
    kernels = geometry.groups * products
    efforts += kernels * lengths / 2  # by one thread
    spectra = 4 * images * channels * points * np.minimum(crew, total)
    held = number_of(problem) * (kernels * lengths + np.maximum(kernels * lengths, spectra))
    efforts[held > budget * crew] = inf
    place = np.unravel_index(np.argmin(efforts), efforts.shape)
    own = [int(n[i]) for n, i in zip(outputs, place, strict=True)]
    some = max(1, int(images[place] // max(1, geometry.groups)))
    return fitting(problem, backend, [-(-geometry.batch // -(-geometry.batch // some)), *own], budget * crew)


def product_of(axes: Sequence[NumPyArray]) -> NumPyArray:
    """Of one number of each axis, for all of them."""
    return np.asarray(prod(np.ix_(*axes)))


def fitting(problem: Problem, backend: Backend, block: list[int], room: int) -> tuple[int, ...]:
    """A block, or less of it until it fits: the batch is halved, then the longest axis."""
    while fixed(problem, backend, tuple(block)) > room and max(block) > 1:
        longest = 0 if block[0] > 1 else block.index(max(block))
        block[longest] = -(-block[longest] // 2)
    return tuple(block)


def rows_of(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """Tiles of one axis that are transformed together."""
    geometry = problem.geometry
    if backend.sweep is None or geometry.ndim > 1:
        return 1
    channels = block[0] * geometry.groups * mean_channels(geometry)
    wish = max(1, int(SWEPT / channels / lengths_of(backend, geometry, block)[0]))
    count = -(-geometry.out[0] // max(1, block[1]))
    return -(-count // -(-count // wish))


def swept_block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """The batch is cut first, then each time the axis whose cut adds least to the transforms, till a tile is small; one
    no longer than three windows is cut only if it does not fit the budget.
    """
    geometry = problem.geometry
    counts = (geometry.batch, *geometry.out)
    limit = (SWEPT if geometry.ndim > 1 else SWEPT_LINE) if problem.is_on_cpu else inf
    limit /= geometry.groups * mean_channels(geometry)

    def block_of(tiles: Sequence[int]) -> tuple[int, ...]:
        return tuple([-(-max(1, n) // tile) for n, tile in zip(counts, tiles, strict=True)])

    def cuts(tiles: Sequence[int], windows: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Points of all transforms and the tiles along each axis, for one more cut of each that may be cut."""
        block = block_of(tiles)
        for i in range(1) if block[0] > 1 else range(1, len(tiles)):
            more = (*tiles[:i], tiles[i] + max(1, tiles[i] // 4), *tiles[i + 1 :])
            own = block_of(more)
            if block[i] > 1 and (
                not i or read_by(geometry.axes[i - 1], own[i]) >= windows * geometry.axes[i - 1].window
            ):
                yield prod(more[1:]) * prod(lengths_of(backend, geometry, own)), more

    def is_large(block: tuple[int, ...]) -> bool:
        points, held = block[0] * prod(lengths_of(backend, geometry, block)), fixed(problem, backend, block)
        return points > limit or held > SWEPT_BYTES

    tiles: tuple[int, ...] = (1,) * len(counts)
    while is_large(block_of(tiles)) and (more := min(cuts(tiles, 3), default=None)):
        tiles = more[1]
    while fixed(problem, backend, block_of(tiles)) > budget and (more := min(cuts(tiles, 0), default=None)):
        tiles = more[1]
    return block_of(tiles)
