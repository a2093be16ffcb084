"""im2col and one matrix product a tile (cuDNN's name for it is GEMM): serves every geometry without base dilation.

Here tiles as libraries run them step by step; a compiler's loops are those of `gemm_stacks.py`.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry
from ..program import Problem, Program
from .algorithm import (
    ALGORITHMS,
    CACHED,
    CHOSEN,
    Algorithm,
    base_dilated,
    beyond_cache,
    block_shape,
    budget_of,
    by_backend,
    cache_budget,
    count_of,
    fresh,
    groups_of,
    in_floats,
    padded,
    pieces,
    positions,
    prepared,
    shared,
    shared_block,
    tiles_of,
)
from .gemm_buffers import SPARSE, buffered_details, execute_buffered
from .gemm_cuts import is_viewed
from .gemm_stacks import STACKED
from .rates import Counts
from .tiles import Tile, Tiling, make_tiling, run_tiled

Array = Any


def unsupported(problem: Problem, backend: Backend) -> str | None:
    taps = problem.geometry.taps
    if taps > backend.most_slices and ALGORITHMS["native"].unsupported(problem, backend) is None:
        return f"{taps} shifted slices; {backend.name} takes {backend.most_slices}"
    return base_dilated(problem)


def unit(problem: Problem, backend: Backend) -> int:
    """Bytes a position: the padded inputs, the column and the result, which windows give in the other order first."""
    geometry = problem.geometry
    spread = prod(axis.stride for axis in geometry.axes)
    outputs = geometry.outputs * (1 if is_taps_first(geometry) else 2)
    return geometry.groups * (geometry.terms + geometry.inputs * spread + outputs) * problem.itemsize


def counts(problem: Problem, backend: Backend) -> Counts:
    return product_counts(problem, backend, problem.geometry, unit(problem, backend))


#: A product packs what it reads, and a larger one is faster: its columns may fill the next level of the cache too.
CACHES = 3

#: Terms from which a product is one of matrices; and outputs or positions up to which it may be one thread's.
THIN, FEW = 4, 32


def is_taps_first(geometry: Geometry) -> bool:
    """Columns are copied in the longer runs: of neighbouring positions of one tap, or of taps of one position."""
    axis = geometry.axes[-1]
    positions_run = axis.output if axis.stride < SPARSE else 1
    taps_run = axis.kernel if axis.window_dilation < SPARSE else 1
    return positions_run >= taps_run


def runs(geometry: Geometry, is_first: bool) -> tuple[int, int]:
    """How many elements a library copies at once, each as far from the one before, and how many times it does in one
    loop: those of several axes at once where rows are read as they lie, and along another axis where one has one place.
    """
    loops, row = list[tuple[int, int]](), 1
    for axis in reversed(geometry.axes):
        count, step = (axis.output, axis.stride) if is_first else (axis.kernel, axis.window_dilation)
        if count != 1:
            loops.append((count, step * row))
        row *= axis.padded
    loops.append((geometry.window[-1] if is_first else geometry.out[-1], 0))
    (run, step), *loops = loops
    while loops and loops[0][1] == step * run:
        run *= loops.pop(0)[0]
    return run, loops[0][0] if loops else 1


def product_counts(problem: Problem, backend: Backend, geometry: Geometry, unit: int) -> Counts:
    """Of the problem, or of the one that it is folded to, in tiles of ``unit`` bytes a position of the problem's own.

    A product of few rows, or of short ones, is slower: by the columns and the outputs that it moves; one of few
    positions by the kernel, which each packs. Columns of one tap without a stride are views of x, which products of few
    terms read no faster than others copy. Products of integers are no faster where these are smaller: loops without
    vectors.
    """
    size = in_floats(problem)
    tiles = pieces(problem, backend, unit, CACHES)
    products = max(1.0, (tiles - 1) / max(1, geometry.batch * geometry.groups)) * geometry.batch
    columns = positions(geometry) * geometry.groups * geometry.terms
    viewed = columns if is_viewed(geometry) else 0
    copied = columns - viewed
    axis, is_first = geometry.axes[-1], is_taps_first(geometry)
    (run, lines), step = runs(geometry, is_first), axis.stride if is_first else axis.window_dilation
    word = shared(backend.multipliers, tiles)
    thin = "" if word or min(geometry.outputs, prod(geometry.out)) > FEW else "thin "
    return {
        "call": 1.0,
        "tile": tiles,
        "thin column" if geometry.inputs < THIN else "viewed column": viewed * size,
        "matrix": products * geometry.groups,
        "kernel": products * prod(geometry.kernel_shape) * size,
        "far column": max(0.0, copied * size - CACHED),
        word + ("column" if step == 1 else "strided column"): copied * size,
        word + "run": copied / max(1, run),
        **({"block": copied / max(1, run * lines)} if backend.copies_blocks else {}),
        word + thin + "product": columns * geometry.outputs * (1.0 if problem.is_integer else size),
        "padded": padded(geometry, size),
        "output": prod(geometry.y_shape) * size,
        "fresh": fresh(size, prod(geometry.y_shape)),
        "memory": beyond_cache(geometry, size),
    }


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """Tiles whose columns stay in the cache. Those of one group are filled first: a product of few positions packs the
    kernel's rows for hardly anything.
    """
    geometry, each = problem.geometry, unit(problem, backend)
    room = cache_budget(problem, backend, budget, CACHES)
    own = block_shape(geometry, each // max(1, geometry.groups), room)
    return shared_block(geometry, own, count_of(backend.multipliers))


def groups(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    room = cache_budget(problem, backend, budget_of(problem) // count_of(backend.multipliers), CACHES)
    return groups_of(problem.geometry, unit(problem, backend), block, room)


class Columns(NamedTuple):
    """Shapes of an image, and orders: ``rows (O, I k) @ columns (I k, P)``, or ``columns (P, I k) @ rows (I k, O)``."""

    x: tuple[int, ...]
    windows: tuple[tuple[int, ...], ...]
    taps_first: bool
    order: tuple[int, ...]
    columns: tuple[int, ...]
    y: tuple[int, ...]


def details(taps_first: bool, geometry: Geometry) -> Columns:
    """Axes of the windows are ``(N, G, I, *out, *window)``."""
    groups, inputs, terms, ndim = geometry.groups, geometry.inputs, geometry.terms, geometry.ndim
    places = prod(geometry.out)
    out, window = range(3, 3 + ndim), range(3 + ndim, 3 + 2 * ndim)
    steps = [(axis.stride, axis.window_dilation) for axis in geometry.axes]
    return Columns(
        (groups, inputs, *geometry.sizes),
        (geometry.window, *zip(*steps, strict=True)) if steps else ((), (), ()),
        taps_first,
        (0, 1, 2, *window, *out) if taps_first else (0, 1, *out, 2, *window),
        (groups, terms, places) if taps_first else (groups, places, terms),
        geometry.y_shape[1:],
    )


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    """All tiles in one order, which their sizes alone might not agree on: they share the kernel's rows."""
    step = groups(problem, backend, block)
    is_buffered = backend.empty is not None and tiles_of(problem.geometry, block, step) > 1
    own = partial(buffered_details if is_buffered else details, is_taps_first(problem.geometry))
    return make_tiling(problem, backend, block, own, groups=step)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    xp, geometry, tiles = backend.xp, program.geometry, prepared(program, backend).tiles
    own = tiles[0].details
    rows = xp.reshape(kernel, (geometry.groups, geometry.outputs, geometry.terms))
    rows = rows if own.taps_first else xp.matrix_transpose(rows)
    if len(tiles) > 1 and backend.empty is not None:
        return execute_buffered(program, backend, x, rows)

    def compute(tile: Tile, x: Array, rows: Array) -> Array:
        own: Columns = tile.details
        images = x.shape[:1]
        columns = xp.permute_dims(backend.windows(xp.reshape(x, images + own.x), *own.windows), own.order)
        columns = xp.reshape(columns, images + own.columns)
        y = backend.matmul(rows, columns) if own.taps_first else xp.matrix_transpose(backend.matmul(columns, rows))
        return xp.reshape(y, images + own.y)

    return run_tiled(program, backend, x, rows, compute)


def least(problem: Problem, backend: Backend) -> Counts:
    """These counts don't take long."""
    return {}


TILED = Algorithm("gemm", unsupported, counts, execute, unit, prepare, block=block, groups=groups, least=least)


def way(backend: Backend) -> Algorithm:
    """The record that suits a backend."""
    return STACKED if backend.stacks_columns else TILED


GEMM = by_backend("gemm", way, (*CHOSEN, "groups"))
