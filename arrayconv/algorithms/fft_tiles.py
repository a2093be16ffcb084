"""Tiles of overlap-save: their transforms' lengths, where results lie in them, and how large they are."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from math import inf, prod
from typing import NamedTuple

from ..backend import Backend
from ..geometry import Geometry, WindowDimension
from ..program import Problem
from .algorithm import count_of, tiles_of
from .sweep import read_by


def fast_length(n: int) -> int:
    """The least 2^a 3^b 5^c that is n or more: lengths for which every library's FFT has fast passes."""
    known = fast_lengths(-(-n.bit_length() // 16))
    return known[bisect_left(known, n)]


@cache
def fast_lengths(words: int) -> list[int]:
    """All of them up to ``2 ** (16 * words)``."""
    found, most = [1], 2 ** (16 * words)
    for prime in (2, 3, 5):
        for n in found:  # those that are appended, too
            if n * prime <= most:
                found.append(n * prime)
    return sorted(found)


class Line(NamedTuple):
    """Lines along one axis of a tile, side by side: the length of a transform, its outputs, and how many there are."""

    length: int
    outputs: int
    lines: int


#: The longest line, beside a window that is not: its table of factors is to stay in the cache.
LINE = 2**13


def line_of(backend: Backend, axis: WindowDimension, outputs: int) -> Line:
    """One line, or many short ones, where a library prefers them."""
    length = fast_length(around(axis) if is_wrapped(axis, outputs) else read_by(axis, outputs))
    most = max(LINE, 8 * axis.window)
    if not backend.short_lines or length <= most:
        return Line(length, outputs, 1)
    count = -(-outputs // (1 + (most - axis.window) // axis.stride))
    length = fast_length(read_by(axis, -(-outputs // count)))
    own = 1 + (length - axis.window) // axis.stride
    return Line(length, own, -(-outputs // own))


def lines_of(backend: Backend, geometry: Geometry, block: tuple[int, ...]) -> tuple[Line, ...]:
    """Of a tile, from its outputs."""
    return tuple([line_of(backend, axis, n) for axis, n in zip(geometry.axes, block[1:], strict=True)])


def lengths_of(backend: Backend, geometry: Geometry, block: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([line.length for line in lines_of(backend, geometry, block)])


def wraps_of(backend: Backend, geometry: Geometry, block: tuple[int, ...]) -> tuple[bool, ...]:
    """Which axes of a tile are transformed without zeros."""
    lines = lines_of(backend, geometry, block)
    return tuple(
        [line.lines == 1 and is_wrapped(axis, n) for line, axis, n in zip(lines, geometry.axes, block[1:], strict=True)]
    )


def is_wrapped(axis: WindowDimension, count: int) -> bool:
    """Whether ``count`` outputs need no zeros: a transform is of a period, and what goes around its end falls on
    results outside of ``window - 1 - low`` to ``size + high``, if it is as long as x and the longer of its paddings.
    """
    is_usual = count == axis.output and 0 <= axis.low < axis.window and axis.high >= 0
    return is_usual and around(axis) < read_by(axis, count)


def around(axis: WindowDimension) -> int:
    return max(axis.size + max(axis.low, axis.high), axis.window)


class Cut(NamedTuple):
    """Lines as windows of a tile's axes, elements, steps and counts, and the outputs that they come to."""

    spans: tuple[int, ...]
    steps: tuple[int, ...]
    counts: tuple[int, ...]
    out: tuple[int, ...]


class Details(NamedTuple):
    """Zeros to add to a tile, lengths of its transforms, where in them the results lie, and its lines, if it is cut."""

    widths: tuple[tuple[int, int], ...]
    lengths: tuple[int, ...]
    results: tuple[slice, ...]
    cut: Cut | None


def details(lines: tuple[Line, ...], wraps: tuple[bool, ...], geometry: Geometry) -> Details:
    """A correlation is a convolution with the flipped kernel, whose first full window ends at ``window - 1``; what a
    wrapped axis doesn't pad, its results don't wait for. Zeros after a tile fill its last lines.
    """
    widths, results, windows = [], [], []
    for axis, line, is_wrapped in zip(geometry.axes, lines, wraps, strict=True):
        n = min(axis.output, line.outputs)
        count, span, step = -(-axis.output // n) if n else 1, read_by(axis, n), n * axis.stride
        low, high = (0, 0) if is_wrapped else (axis.low, axis.high)
        if count > 1:
            high = step * (count - 1) + span - axis.size - low
        else:
            span = axis.size + low + high
        first = axis.window - 1 - axis.low + low
        widths.append((low, high))
        results.append(slice(first, first + (n - 1) * axis.stride + 1, axis.stride))
        windows.append((span, max(1, step), count))
    spans, steps, counts = zip(*windows, strict=True)
    cut = Cut(spans, steps, counts, geometry.out) if max(counts) > 1 else None
    return Details(tuple(widths), tuple([line.length for line in lines]), tuple(results), cut)


def fixed(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """Bytes of the kernel's spectrum, and of the tiles computed at once twice, since a transform makes a copy.

    A tile's bytes are those of its whole transforms, of which long windows leave few outputs.
    """
    geometry, number = problem.geometry, 16 if problem.is_complex else 8
    kernels = geometry.groups * geometry.inputs * geometry.outputs
    lines = lines_of(backend, geometry, block)
    images = 2 * block[0] * geometry.groups * (geometry.inputs + geometry.outputs)
    images *= prod([line.lines for line in lines])
    images *= min(count_of(backend.workers) * rows_of(problem, backend, block), tiles_of(geometry, block))
    return number * prod([line.length for line in lines]) * (kernels + max(kernels, images))


#: Points of a tile for each spatial axis: what is transformed stays in the cache while its axes are passed over. One
#: axis has those of two, being cut into short lines. The second is for libraries whose threads share a tile.
POINTS, SHARED = 2**16, 2**18

#: The same where tiles are swept, by a library whose threads share each; and of one axis, whose threads share several.
SWEPT, SWEPT_LINE = 2**18, 2**14

#: Bytes of tiles that are swept: an allocator that takes more from the system, and gives it back, at each call (glibc's
#: from 32 MiB on) makes that as slow as the transforms.
SWEPT_BYTES = 3 * 2**23


def limit_of(problem: Problem, backend: Backend) -> float:
    """Points of a tile with all its channels. An accelerator has no such cache."""
    geometry = problem.geometry
    if not problem.is_on_cpu:
        return inf
    if backend.workers is not None:
        points: float = max(2, geometry.ndim) * POINTS
    elif backend.sweep is not None:
        points = SWEPT if geometry.ndim > 1 else SWEPT_LINE
    else:
        points = geometry.ndim * SHARED if backend.short_lines else inf
    return points / mean_channels(geometry)


def mean_channels(geometry: Geometry) -> float:
    """Of what is transformed, and of what is transformed back."""
    return geometry.groups * (geometry.inputs + geometry.outputs) / 2


def rows_of(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """Tiles of one axis that are transformed together."""
    geometry = problem.geometry
    if backend.sweep is None or geometry.ndim > 1:
        return 1
    channels = block[0] * mean_channels(geometry)
    wish = max(1, int(SWEPT / channels / lengths_of(backend, geometry, block)[0]))
    count = -(-geometry.out[0] // max(1, block[1]))
    return -(-count // -(-count // wish))


@lru_cache(maxsize=1024)  # whether it serves, what it costs and how it runs all ask for it
def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """Overlap-save: the batch is halved, then the first axis, while a tile is long beside its window and too large.

    All tiles share one spectrum of the kernel. Those of a library of ``short_lines`` are cut into lines once more.
    """
    geometry = problem.geometry
    if backend.sweep is not None:
        return swept_block(problem, backend, budget)
    full = (geometry.batch, *geometry.out)
    own, lengths = [max(1, count) for count in full], [max(1, geometry.batch)]
    lengths += [read_by(axis, n) for axis, n in zip(geometry.axes, own[1:], strict=True)]
    limit = limit_of(problem, backend)
    room = budget * count_of(backend.workers)

    def resize(i: int, count: int) -> None:
        own[i] = count
        lengths[i] = read_by(geometry.axes[i - 1], count) if i else count

    def fits() -> bool:
        return fixed(problem, backend, tuple(own)) <= room

    for i in range(len(own)):
        least = 3 * geometry.axes[i - 1].window if i else 1
        while own[i] > 1 and lengths[i] // 2 >= least and not (prod(lengths) <= limit and fits()):
            resize(i, -(-own[i] // 2))
        resize(i, -(-full[i] // -(-full[i] // own[i])) if full[i] else 1)
    while not fits() and max(own) > 1:
        longest = 0 if own[0] > 1 else own.index(max(own))
        resize(longest, -(-own[longest] // 2))
    return tuple(own)


def swept_block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """The batch is cut first, then each time the axis whose cut adds least to the transforms, till a tile is small; one
    no longer than three windows is cut only if it does not fit the budget.
    """
    geometry = problem.geometry
    counts, limit = (geometry.batch, *geometry.out), limit_of(problem, backend)

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
