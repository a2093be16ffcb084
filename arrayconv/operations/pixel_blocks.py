"""Pixel shuffles of arrays that are made of chunks (Dask): one task a block, since no element leaves its block.

Dask's own ``reshape`` would merge and split chunks along every axis that is moved.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from math import prod
from typing import Any

import numpy as np

Array = Any
Shape = tuple[int, ...]


def shuffle_blocks(xp: Any, task: Any, x: Array, factor: Shape, channels: str, *, grows: bool) -> Array:
    """``task(block, factor, channels)`` of every block; ``grows``: channels become positions."""
    first = x.ndim - len(factor) - 1
    ratios = (prod(factor), *factor) if channels == "first" else (*factor, prod(factor))
    place = 0 if channels == "first" else len(factor)
    shrinks = [grows == (i == place) for i in range(len(ratios))]
    cut = {
        first + i: align(x.chunks[first + i], ratio)
        for i, (ratio, shrinking) in enumerate(zip(ratios, shrinks, strict=True))
        if shrinking
    }
    x = x.rechunk(cut)
    chunks = list(x.chunks)
    for i, (ratio, shrinking) in enumerate(zip(ratios, shrinks, strict=True), first):
        chunks[i] = tuple(n // ratio if shrinking else n * ratio for n in x.chunks[i])
    meta = np.empty((0,) * x.ndim, dtype=x.dtype)
    return xp.map_blocks(task, x, factor=factor, channels=channels, chunks=tuple(chunks), dtype=x.dtype, meta=meta)


def align(chunks: Shape, step: int) -> Shape:
    """The chunks with their edges at the multiples of ``step`` that are nearest."""
    edges = sorted({0, sum(chunks), *(round(edge / step) * step for edge in list(accumulate(chunks))[:-1])})
    return tuple(b - a for a, b in pairwise(edges))
