"""Graphs of Dask arrays: one task a block, and one for each piece of another block that it needs.

`dask.array.overlap` knows halos of one width only and trims after; `dask.array.concatenate` of slices leaves slivers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, product
from math import prod
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from ..backend import get_backend
from .blas import one_of_many

Array = Any

#: Chunks that a part may be put together from in one step; beyond, an axis is put together before the others.
MOST_PIECES = 3

#: Bytes of a chunk that a block is given whole rather than through a task that slices it. A task costs Dask from 0.1 ms
#: (threads) to 1 ms (a cluster), in which a network of 1 Gbit/s sends 12 to 120 kB.
SMALL_CHUNK = 2**16

#: For each axis of an array what each block needs of it, as ranges in order; None: its own chunk.
Parts = Sequence[Sequence[tuple[range, ...]] | None]

#: A row for each of the last axes, with an entry for each block.
Tables = Sequence[Sequence[Any]]

Task = Callable[..., Array]
Index = tuple[slice, ...]


def map_parts(
    task: Task,
    operands: Sequence[tuple[Array, Parts]],
    chunks: Sequence[Sequence[int]],
    dtype: Any,
    *shared: Array,
    tables: Mapping[str, Tables] | None = None,
    **static: Any,
) -> Array:
    """One task for each block of the result: ``task(*parts, *shared, **entries, **static)``.

    Beside it there is a task for each piece of another chunk that a part holds, so that a worker is sent no more than
    it needs, unless chunks are small. ``shared`` arrays are one chunk each; ``entries`` are those of the block in each
    of the tables.
    """
    operands = [gather_long_axes(array, parts) for array, parts in operands]
    return submit(task, operands, chunks, dtype, *shared, tables=tables or {}, static=static)


def submit(
    task: Task,
    operands: Sequence[tuple[Array, Parts]],
    chunks: Sequence[Sequence[int]],
    dtype: Any,
    *shared: Array,
    tables: Mapping[str, Tables],
    static: dict[str, Any],
) -> Array:
    """The graph of `map_parts`."""
    given = [(array.name, parts) for array, parts in operands], [array.name for array in shared]
    token = tokenize(task, given, chunks, dtype, tables, static)
    name, graph = f"{task.__name__.replace('_', '-')}-{token}", dict[Any, Any]()
    located = [locate(array, parts) for array, parts in operands]
    keys = [(array.name, *(0,) * array.ndim) for array in shared]
    for index in product(*(range(len(row)) for row in located[0])):
        found: list[Any] = []
        parts = []
        for i, ((array, _), rows) in enumerate(zip(operands, located, strict=True)):
            own = entries_at(rows, fit(index, array.ndim))
            sources, part = pieces_of(graph, (f"halo-{token}", i, *index), array, own)
            found += sources
            parts.append(part)
        options = static | {key: entries_at(table, index) for key, table in tables.items()}
        graph[name, *fit(index, len(chunks))] = (partial(run_task, task, options, parts), *found, *keys)
    layer = HighLevelGraph.from_collections(name, graph, [*(array for array, _ in operands), *shared])
    meta = np.empty((0,) * len(chunks), dtype=dtype)
    return da.Array(layer, name, tuple(map(tuple, chunks)), dtype=dtype, meta=meta)


def fit(index: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    """A block's place in an array with other last axes, of one chunk each."""
    return (*index, *(0,) * ndim)[:ndim]


class Part(NamedTuple):
    """How many pieces a block's part has along each axis, and what is taken of each; None: all of it.

    The pieces themselves are arguments in C order: Dask makes a task of every list among them.
    """

    counts: tuple[int, ...]
    taken: list[Index | None]

    def join(self, blocks: Sequence[Array]) -> Array:
        """The part."""
        pieces: Any = [
            block if index is None else block[index] for block, index in zip(blocks, self.taken, strict=True)
        ]
        if len(pieces) == 1:
            return pieces[0]
        backend = get_backend(pieces[0])
        for count in reversed(self.counts):
            pieces = [pieces[i : i + count] for i in range(0, len(pieces), count)]
        return np.block(pieces[0]) if backend.name == "numpy" else _concat(backend.xp, pieces[0], 0)


def run_task(task: Task, options: dict[str, Any], parts: Sequence[Part], *arrays: Array) -> Array:
    """One task of `map_parts`."""
    edges = (0, *accumulate(len(part.taken) for part in parts))
    joined = (part.join(arrays[start:stop]) for part, start, stop in zip(parts, edges, edges[1:], strict=False))
    with one_of_many():
        return task(*joined, *arrays[edges[-1] :], **options)


def _concat(xp: Any, pieces: Any, axis: int) -> Array:
    if not isinstance(pieces, list):
        return pieces
    parts = [_concat(xp, piece, axis + 1) for piece in pieces]
    return parts[0] if len(parts) == 1 else xp.concat(parts, axis=axis)


#: A chunk's number, and the part of it; None: all of it.
Piece = tuple[int, slice | None]


def locate(array: Array, parts: Parts) -> list[list[list[Piece]]]:
    """Where the parts are: for each axis and block the pieces of chunks."""
    found: list[list[list[Piece]]] = []
    for chunks, row in zip(array.chunks, parts, strict=True):
        if row is None:
            found.append([[(i, None)] for i in range(len(chunks))])
            continue
        edges = (0, *accumulate(chunks))
        found.append([[piece for part in ranges for piece in cut_range(edges, part)] for ranges in row])
    return found


def cut_range(edges: Sequence[int], part: range) -> Iterator[Piece]:
    """The chunks that hold a range of indices."""
    i = bisect_right(edges, part.start) - 1
    while i < len(edges) - 1 and edges[i] < part.stop:
        own = slice(max(part.start, edges[i]) - edges[i], min(part.stop, edges[i + 1]) - edges[i])
        if own.stop > own.start:
            yield i, None if own.stop - own.start == edges[i + 1] - edges[i] else own
        i += 1


def pieces_of(
    graph: dict[Any, Any], key: tuple[Any, ...], array: Array, rows: Sequence[list[Piece]]
) -> tuple[list[Any], Part]:
    """The keys of a part's pieces; tasks that slice large chunks go into the graph."""
    sources: list[Any] = []
    taken: list[Index | None] = []
    for place, chosen in enumerate(product(*rows)):
        source: tuple[Any, ...] = (array.name, *(i for i, _ in chosen))
        index = None
        if any(own is not None for _, own in chosen):
            index = tuple([slice(None) if own is None else own for _, own in chosen])
            size = prod(chunks[i] for chunks, (i, _) in zip(array.chunks, chosen, strict=True))
            if size * array.dtype.itemsize > SMALL_CHUNK:
                graph[*key, place] = (partial(take, index), source)
                source, index = (*key, place), None
        sources.append(source)
        taken.append(index)
    return sources, Part(tuple(map(len, rows)), taken)


def take(index: Index, block: Array) -> Array:
    """A piece of a block; a small one is a copy, since a view would keep the whole block in memory."""
    piece = block[index]
    return get_backend(block).copy(piece) if 4 * piece.size < block.size else piece


def gather_long_axes(array: Array, parts: Parts) -> tuple[Array, Parts]:
    """The array with a chunk for each part of the axes that have chunks much shorter than the parts."""
    rest = list(parts)
    for axis, rows in enumerate(locate(array, parts)):
        row = rest[axis]
        if row is not None and max(map(len, rows)) > MOST_PIECES:
            chunks, alone = list(array.chunks), list[Any]([None] * array.ndim)
            chunks[axis], alone[axis] = tuple(sum(map(len, ranges)) for ranges in row), row
            array, rest[axis] = submit(gather, [(array, alone)], chunks, array.dtype, tables={}, static={}), None
    return array, rest


def gather(part: Array) -> Array:
    """What is put together is all that is wanted."""
    return part


def entries_at(table: Any, index: tuple[int, ...]) -> tuple[Any, ...]:
    """The entries of a block in a table with one row for each of the last axes."""
    return tuple(row[i] for row, i in zip(table, index[len(index) - len(table) :], strict=True))


def whole(n: int) -> list[tuple[range, ...]]:
    """All of an axis for the one block that there is."""
    return [(range(n),)]
