"""What padding holds, as index maps on ints: ``padded[i] = x[map(i - low)]``, and None reads the fill value.

    constant   . . 1 2 3 4 . .        . is the fill value, 0 by default
    edge       1 1 1 2 3 4 4 4
    reflect    3 2 1 2 3 4 3 2        period 2n - 2: the edge element once
    symmetric  2 1 1 2 3 4 4 3        period 2n: the edge element twice
    wrap       3 4 1 2 3 4 1 2        period n

The words and their meaning are `numpy.pad`'s; the maps hold at any depth, however short x is.
"""

from __future__ import annotations

from collections.abc import Callable

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


def runs(boundary: str, n: int, low: int, high: int) -> tuple[Run, ...]:
    """The padded axis as a few runs of step 1, -1 or 0: slices, where a gather would copy element by element.

    >>> runs("reflect", 4, 2, 2)
    ((2, 2, -1), (0, 4, 1), (2, 2, -1))
    >>> runs("constant", 4, 2, -1)
    ((None, 2, 0), (0, 3, 1))
    """
    index_map = BOUNDARIES[boundary]
    inside_start, inside_stop = max(0, -low), n - max(0, -high)
    if inside_start < inside_stop:
        below = _merge([index_map(i, n) for i in range(-low, 0)])
        above = _merge([index_map(i, n) for i in range(n, n + high)])
        return (*below, (inside_start, inside_stop - inside_start, 1), *above)
    return _merge([index_map(i, n) for i in range(-low, n + high)])


def zero_runs(n: int, low: int, high: int) -> tuple[Run, ...]:
    """`runs` of zeros, without a look at every element of the padding."""
    total = n + low + high
    before = min(max(0, low), total)
    inside = max(0, min(total, low + n) - before)
    pieces = ((None, before, 0), (max(0, -low), inside, 1), (None, total - before - inside, 0))
    return tuple(run for run in pieces if run[1])


def _merge(indices: list[int | None]) -> tuple[Run, ...]:
    """Consecutive indices of equal step, gathered greedily."""
    merged: list[Run] = []
    for i in indices:
        if merged:
            start, length, step = merged[-1]
            if i is None and start is None:
                merged[-1] = (None, length + 1, 0)
                continue
            if i is not None and start is not None:
                last = start + (length - 1) * step
                if length == 1 and abs(i - start) <= 1:
                    merged[-1] = (start, 2, i - start)
                    continue
                if length > 1 and i - last == step:
                    merged[-1] = (start, length + 1, step)
                    continue
        merged.append((i, 1, 0 if i is None else 1))
    return tuple(merged)
