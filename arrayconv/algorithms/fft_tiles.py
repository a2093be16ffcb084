"""Tiles of overlap-save: their transforms' lengths, and where results lie in them."""

from __future__ import annotations

from bisect import bisect_left
from functools import cache, lru_cache
from typing import NamedTuple

from ..backend import Backend
from ..geometry import Geometry, WindowDimension
from .sweep import read_by


def fast_length(n: int) -> int:
    """The least 2^a 3^b 5^c that is n or more: lengths for which every library's FFT has fast passes."""
    known = fast_lengths(-(-n.bit_length() // 16))
    return known[bisect_left(known, n)]


@lru_cache(maxsize=2**14)
def best_length(n: int) -> int:
    """Among the next of these, the one that is transformed soonest."""
    known = fast_lengths(-(-(2 * n).bit_length() // 16))
    place = bisect_left(known, n)
    return min(known[place : place + AHEAD], key=lambda length: length * slowness(length) * (length > n or AS_IT_IS))


#: Fast lengths that are compared, and the time of a line as it is beside one that is copied to get zeros.
AHEAD, AS_IT_IS = 4, 0.9


@lru_cache(maxsize=2**14)
def slowness(n: int) -> float:
    """Time a point, beside that of a power of two: passes of 3 and 5 take longer than those of 4, and those of odd
    lengths more yet. Measured with NumPy's and PyTorch's transforms of lines up to 1,080; XLA's gain nothing by it.
    """
    twos = (n & -n).bit_length() - 1
    odd, passes = n >> twos, 0
    for prime in (3, 5):
        while odd % prime == 0:
            odd, passes = odd // prime, passes + 1
    return 1 + 0.05 * max(0, passes - 1) + (0.15, 0.05, 0.0)[min(twos, 2)]


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
    length_of = best_length if backend.sweep is None else fast_length
    length = length_of(around(axis) if is_wrapped(axis, outputs) else read_by(axis, outputs))
    most = max(LINE, 8 * axis.window)
    if not backend.short_lines or length <= most:
        return Line(length, outputs, 1)
    count = -(-outputs // (1 + (most - axis.window) // axis.stride))
    length = length_of(read_by(axis, -(-outputs // count)))
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
