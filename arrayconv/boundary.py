"""What padding holds, as index maps on ints: ``padded[i] = x[map(i - low)]``, and None reads the fill value.

    constant   . . 1 2 3 4 . .        . is the fill value, 0 by default
    edge       1 1 1 2 3 4 4 4
    reflect    3 2 1 2 3 4 3 2        period 2n - 2: the edge element once
    symmetric  2 1 1 2 3 4 4 3        period 2n: the edge element twice
    wrap       3 4 1 2 3 4 1 2        period n

The words and their meaning are `numpy.pad`'s; the maps hold at any depth, however short x is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

IndexMap = Callable[[int, int], int | None]


def constant(i: int, n: int) -> int | None:
    return i if 0 <= i < n else None


def edge(i: int, n: int) -> int:
    return min(max(i, 0), n - 1)


def reflect(i: int, n: int) -> int:
    if n == 1:
        return 0
    i %= 2 * n - 2
    return min(i, 2 * n - 2 - i)


def symmetric(i: int, n: int) -> int:
    i %= 2 * n
    return min(i, 2 * n - 1 - i)


def wrap(i: int, n: int) -> int:
    return i % n


BOUNDARIES: dict[str, IndexMap] = {
    "constant": constant,
    "edge": edge,
    "reflect": reflect,
    "symmetric": symmetric,
    "wrap": wrap,
}


#: A stretch of padded output: ``(start, length, step)`` reads ``x[start], x[start + step], ...``;
#: a start of None is ``length`` fill values.
Run = tuple[int | None, int, int]


#: Folds of a padded axis at most, each of which is a run.
MOST_FOLDS = 2**20


def fold_of(boundary: str, n: int) -> int | None:
    """Elements of padding that are one run; None where all of one side is."""
    if n == 1 or boundary in ("constant", "edge"):
        return None
    return n - 1 if boundary == "reflect" else n


def check_depth(op: str, boundary: str, n: int, low: int, high: int) -> None:
    """Refuses what would take longer to plan than anybody waits."""
    fold = fold_of(boundary, n)
    if fold is not None and max(low, high) > MOST_FOLDS * fold:
        raise ValueError(
            f"{op}: padding {(low, high)} of {n} elements folds boundary={boundary!r} more than {MOST_FOLDS} times; "
            f"pad less or use 'edge' or 'constant'"
        )


def runs(boundary: str, n: int, low: int, high: int) -> tuple[Run, ...]:
    """The padded axis as a few runs of step 1, -1 or 0: slices, where a gather would copy element by element.

    >>> runs("reflect", 4, 2, 2)
    ((2, 2, -1), (0, 4, 1), (2, 2, -1))
    >>> runs("constant", 4, 2, -1)
    ((None, 2, 0), (0, 3, 1))
    """
    index_map, fold = BOUNDARIES[boundary], fold_of(boundary, n)
    below, above = max(0, low), max(0, high)
    step = fold or max(1, below, above)
    cuts = [*range(-below // step * step, 0, step), 0, *range(n, n + above, step), n + above]
    found: list[Run] = []
    for start, stop in pairwise(cuts):
        start, stop = max(start, -low), min(stop, n + high)
        if start < stop:
            first, second = index_map(start, n), index_map(min(start + 1, stop - 1), n)
            turn = 0 if first is None or second is None else second - first
            found.append((first, stop - start, 1 if first is not None and stop - start == 1 else turn))
    return tuple(found)


class Middle(NamedTuple):
    """Where x itself lies in its padded axis, the first element of it that is left, and how many are."""

    offset: int
    start: int
    length: int


def middle_of(runs: Sequence[Run]) -> Middle | None:
    """The longest run in x's own order."""
    offsets = accumulate((length for _, length, _ in runs), initial=0)
    found = [
        Middle(offset, start, length)
        for offset, (start, length, step) in zip(offsets, runs, strict=False)
        if start is not None and step == 1
    ]
    return max(found, key=lambda own: own.length, default=None)
