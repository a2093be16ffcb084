"""Axes in chunks, as ranges of ints: which outputs a chunk of the input gets, and what a part of a result is read from.

Beside `WindowDimension.block`, which gives the part of the input that some outputs need.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

from .boundary import Run, middle_of
from .geometry import WindowDimension

Chunks = tuple[int, ...]


def ranges_of(chunks: Chunks) -> list[range]:
    """Chunk sizes as ranges of indices."""
    return [range(start, stop) for start, stop in pairwise((0, *accumulate(chunks)))]


def cut(size: int, stops: Iterable[int]) -> list[range]:
    """``range(size)`` cut at the stops, without empty pieces but where all of it is empty."""
    inside = sorted({min(max(stop, 0), size) for stop in stops})
    return [range(start, stop) for start, stop in pairwise((0, *inside, size)) if stop > start] or [range(0)]


def output_ranges(axis: WindowDimension, chunks: Chunks) -> list[range]:
    """Outputs by the input chunk in which the middle of their window lies, so that chunks stay where they were.

    Of the zeros that a base dilation inserts between two chunks, each chunk has half.
    """
    middle = (axis.window - 1) // 2 - axis.low + axis.base_dilation // 2
    edges = list(accumulate(chunks))[:-1]
    return cut(axis.output, (-((middle - edge * axis.base_dilation) // axis.stride) for edge in edges))


def meeting(axis: WindowDimension, part: range) -> range:
    """The outputs whose windows meet a part of the input (without base dilation), or, where none does, any one."""
    start = max(0, -((axis.window - 1 - axis.low - part.start) // axis.stride))
    stop = min(axis.output, (part.stop - 1 + axis.low) // axis.stride + 1)
    start = min(start, axis.output - 1)
    return range(start, max(stop, start + 1))


def unpadded_chunks(runs: Sequence[Run], chunks: Chunks, size: int) -> list[range]:
    """The axis before its padding, ``size`` long, cut where the padded one is."""
    middle = middle_of(runs)
    if middle is None:
        return cut(size, ())
    offset, start, length = middle
    return cut(size, [start + edge - offset for edge in accumulate(chunks) if offset < edge < offset + length])


#: What a part of a result needs of an axis, in order, and how it is read from just that.
Reading = tuple[tuple[range, ...], tuple[Run, ...]]


def padded_chunks(runs: Sequence[Run], chunks: Chunks) -> list[range]:
    """The padded axis cut where x is, its border joined to the first and last chunk while it is shorter than one."""
    size, longest, middle = sum(length for _, length, _ in runs), max(chunks), middle_of(runs)
    stops: list[int] = []
    if middle is not None:
        offset, start, length = middle
        stops = [offset + edge - start for edge in accumulate(chunks) if start < edge < start + length]
        stops += _even(0, offset, longest) + _even(offset + length, size, longest)
    return cut(size, stops or _even(0, size, longest))


def _even(start: int, stop: int, length: int) -> list[int]:
    """The edges of pieces at least that long; none where all is shorter."""
    count = (stop - start) // length
    return [start + (stop - start) * i // count for i in range(count + 1)] if count else []


def read_runs(runs: Sequence[Run], part: range) -> Reading:
    """What ``part`` of the axis padded by `boundary.runs` needs of x, and the runs of that.

    >>> read_runs(((2, 2, -1), (0, 4, 1)), range(1, 4))
    ((range(1, 2), range(0, 2)), ((0, 1, 1), (1, 2, 1)))
    """
    needed: list[range] = []
    own: list[Run] = []
    offset, place = 0, 0
    for start, length, step in runs:
        first, stop = max(part.start, offset), min(part.stop, offset + length)
        count = stop - first
        if count > 0 and start is None:
            own.append((None, count, 0))
        elif count > 0 and start is not None:
            begin = start + (first - offset) * step
            if step < 0:
                needed.append(range(begin - count + 1, begin + 1))
            else:
                needed.append(range(begin, begin + (count if step else 1)))
            width = len(needed[-1])
            own.append((place + width - 1 if step < 0 else place, count, step if count > 1 else 1))
            place += width
        offset += length
    return tuple(needed or [range(1)]), tuple(own)


def added_runs(runs: Sequence[Run], part: range) -> Reading:
    """What ``part`` of x needs of the cotangent of the padded axis, and the runs in which it stands there."""
    needed: list[range] = []
    own: list[Run] = []
    offset = 0
    for start, length, step in runs:
        if start is not None:
            low, high = (start - length + 1, start) if step < 0 else (start, start + (length - 1) * step)
            low, high = max(low, part.start), min(high, part.stop - 1)
            if low <= high:
                count = high - low + 1 if step else length
                before = 0 if not step else (start - high if step < 0 else low - start)
                needed.append(range(offset + before, offset + before + count))
                own.append(((high if step < 0 else low) - part.start, count, step))
        offset += length
    if not needed:
        return (range(1),), ((None, 1, 0),)
    return tuple(needed), tuple(own)
