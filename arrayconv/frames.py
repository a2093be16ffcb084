"""Padding into one buffer: x is copied once, and what lies beside it is copied from there, one axis after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

from .boundary import Run, middle_of

Array = Any
Runs = Sequence[tuple[Run, ...]]


class Edge(NamedTuple):
    """A piece beside x: where it lies, and what of the buffer it repeats, None of the fill value; ``axis`` is the one
    along which it does so backwards, if any.
    """

    target: tuple[Any, ...]
    source: tuple[Any, ...] | None
    axis: int | None


class Frame(NamedTuple):
    """The buffer's shape, where x lies in it, what is left of x, and the pieces in their order."""

    shape: tuple[int, ...]
    middle: tuple[Any, ...]
    left: tuple[Any, ...]
    edges: tuple[Edge, ...]


#: Runs of an axis from which a copy of each takes longer to plan than to join.
MOST_RUNS = 8


def pad_into(
    empty: Callable[..., Array], flip: Callable[[Array, int], Array], x: Array, runs: Runs, value: Any
) -> Array | None:
    """`primitives.pad_runs` where arrays can be written; None where nothing is added, or what was cropped is read."""
    if max(map(len, runs), default=0) > MOST_RUNS:
        return None
    frame = make_frame(tuple(x.shape), tuple(runs))
    if frame is None:
        return None
    out = empty(frame.shape, dtype=x.dtype)
    out[frame.middle] = x[frame.left]
    for target, source, axis in frame.edges:
        piece = value if source is None else out[source]
        out[target] = piece if axis is None else flip(piece, axis)
    return out


@lru_cache(maxsize=1024)
def make_frame(shape: tuple[int, ...], runs: tuple[tuple[Run, ...], ...]) -> Frame | None:
    """The pieces of an axis span those before it with their padding, and of those after it x alone."""
    first, edges = len(shape) - len(runs), list[Edge]()
    middles = [middle for middle in map(middle_of, runs) if middle is not None]
    if len(middles) < len(runs):
        return None
    sizes = [sum(length for _, length, _ in own) for own in runs]
    index = [slice(offset, offset + length) for offset, _, length in middles]
    left = [slice(start, start + length) for _, start, length in middles]
    inside = tuple(index)
    for axis, own in enumerate(runs):
        for offset, run in zip(accumulate((length for _, length, _ in own), initial=0), own, strict=False):
            if offset == inside[axis].start:
                continue
            source = source_of(run, left[axis], inside[axis].start)
            if run[0] is not None and source is None:
                return None
            target = slice(offset, offset + run[1])
            own_source = None if source is None else (..., *index[:axis], source, *index[axis + 1 :])
            backwards = first + axis if run[2] < 0 else None
            edges.append(Edge((..., *index[:axis], target, *index[axis + 1 :]), own_source, backwards))
        index[axis] = slice(0, sizes[axis])
    return Frame((*shape[:first], *sizes), (..., *inside), (..., *left), tuple(edges)) if edges else None


def source_of(run: Run, left: slice, offset: int) -> slice | None:
    """Where the buffer holds the elements of x that a run reads; None where they aren't among those left."""
    start, length, step = run
    if start is None:
        return None
    low, high = sorted((start, start + step * (length - 1)))
    if low < left.start or high >= left.stop:
        return None
    return slice(low - left.start + offset, high + 1 - left.start + offset)
