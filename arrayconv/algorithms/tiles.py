"""A call in tiles: blocks of batch, groups and outputs, each with what it reads of x."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import product
from typing import Any, NamedTuple

from ..backend import Backend, Workers
from ..geometry import Geometry, WindowDimension
from ..primitives import join, split_ranges
from ..program import Problem, Program
from .algorithm import ALGORITHMS, prepared, tiles_of
from .sweep import Sweep, make_sweep, run_swept

Array = Any


class Tile(NamedTuple):
    """A block of batch, groups and outputs: where it lies in y, what it reads of x, which groups these are, the zeros
    around that, its own geometry.
    """

    target: tuple[slice, ...]
    source: tuple[slice, ...]
    groups: slice
    widths: tuple[tuple[int, int], ...] | None
    geometry: Geometry
    details: Any


class Tiling(NamedTuple):
    """All tiles, the last axis fastest, and how many there are along each axis of y; or a sweep, and the one tile that
    each of its pieces is.
    """

    counts: tuple[int, ...]
    tiles: tuple[Tile, ...]
    sweep: Sweep | None = None


#: Tiles of a result that no memory holds; a list of them wouldn't fit either.
MOST_TILES = 2**22


def padded_axis(axis: WindowDimension) -> WindowDimension:
    """The same window over an input that holds its padding."""
    if not axis.low and not axis.high:
        return axis
    return WindowDimension(axis.padded, axis.kernel, axis.stride, 0, 0, axis.window_dilation, axis.base_dilation)


def make_tiling(
    problem: Problem,
    backend: Backend,
    block: tuple[int, ...],
    prepare: Callable[[Geometry], Any],
    *,
    pads: bool = True,
    groups: int | None = None,
) -> Tiling:
    """Tiles of ``block`` and so many groups, or all; ``prepare`` derives details from a tile's own geometry.

    `run_tiled` adds a tile's zeros first, so that its own geometry has no padding; without ``pads`` it keeps it. A
    library that has loops sweeps over the tiles of all groups.
    """
    geometry = problem.geometry
    groups = max(1, geometry.groups) if groups is None else groups
    if tiles_of(geometry, block, groups) > MOST_TILES:
        raise ValueError(
            f"a result of {geometry.y_shape} takes more than {MOST_TILES} tiles of {block}; pad less, or admit larger "
            f"tiles by settings(workspace=...)"
        )

    @cache
    def shared(count: int, groups: int, axes: tuple[WindowDimension, ...]) -> tuple[Any, Geometry, Any]:
        """What tiles that are alike have in common."""
        widths = tuple([(axis.low, axis.high) for axis in axes]) if pads else ()
        axes = tuple(map(padded_axis, axes)) if pads else axes
        own = Geometry(count, groups, geometry.inputs, geometry.outputs, axes)
        return widths if any(map(any, widths)) else None, own, prepare(own)

    if backend.sweep is not None and groups >= geometry.groups and tiles_of(geometry, block) > 1:
        sweep = make_sweep(geometry, block, pads=pads)
        piece, every = sweep.piece, slice(0, geometry.groups)
        tile = Tile((), (), every, *shared(piece.batch, piece.groups, piece.axes))
        return Tiling((1,) * (2 + geometry.ndim), (tile,), sweep)
    images, *outputs = (split_ranges(n, step) for n, step in zip((geometry.batch, *geometry.out), block, strict=True))
    known: dict[WindowDimension, WindowDimension] = {}  # inner pieces of an axis are alike

    def cut(axis: WindowDimension, out: range) -> tuple[slice, slice, WindowDimension]:
        source, own = axis.block(out, range(axis.kernel))
        return slice(out.start, out.stop), source, known.setdefault(own, own)

    pieces = [[cut(axis, out) for out in ranges] for axis, ranges in zip(geometry.axes, outputs, strict=True)]
    channels = split_ranges(geometry.groups, groups)
    tiles = []
    for some, own, *rest in product(images, channels, *pieces):
        targets, sources, axes = zip(*rest, strict=True)
        batch, every = slice(some.start, some.stop), slice(own.start, own.stop)
        y, x = (slice(n * own.start, n * own.stop) for n in (geometry.outputs, geometry.inputs))
        tiles.append(Tile((batch, y, *targets), (batch, x, *sources), every, *shared(len(some), len(own), axes)))
    return Tiling(tuple(map(len, (images, channels, *outputs))), tuple(tiles))


def tile_input(program: Program, backend: Backend, tile: Tile, x: Array) -> Array:
    """What a tile reads of x, with its zeros, in the accumulator's type."""
    problem, x = program.problem, x[tile.source]
    if problem.accumulator != problem.dtype:
        x = backend.cast(x, backend.dtype(problem.accumulator))
    return x if tile.widths is None else backend.pad(x, tile.widths)


Compute = Callable[[Tile, Array, Array], Array]


def tile_kernel(program: Program, tile: Tile, kernel: Array) -> Array:
    """The rows of a tile's groups, which its leading axis holds one after the other."""
    groups = program.geometry.groups
    if tile.geometry.groups == groups:
        return kernel
    each = kernel.shape[0] // groups
    return kernel[each * tile.groups.start : each * tile.groups.stop, ...]


def each_on(crew: Workers | None, function: Callable[[Any], None], items: Sequence[Any], most: int) -> None:
    """``function`` of every item, by the crew if there is one, and of so many at the same time."""
    if crew is not None:
        crew.each(function, items, most)
    else:
        for item in items:
            function(item)


def each_tile(program: Program, backend: Backend, place: Callable[[Tile], None], tiles: Sequence[Tile]) -> None:
    """``place`` every tile, as many at once as the program is planned for."""
    each_on(ALGORITHMS[program.algorithm].crew(backend), place, tiles, program.at_once)


def run_tiled(
    program: Program,
    backend: Backend,
    x: Array,
    kernel: Array,
    compute: Compute,
    into: Callable[[Tile, Array, Array, Array], Array] | None = None,
) -> Array:
    """``compute(tile, x, kernel)`` for every tile, whose x is cropped, padded and in the accumulator's type.

    The kernel's leading axis is as long as there are groups, or a multiple of that. Tiles are written into the result,
    or joined where that is not allowed: parts would lie beside it, on pages of their own. ``into(tile, x, kernel, y)``
    computes the tile in its place, where the library takes one.
    """
    problem = program.problem
    tiling: Tiling = prepared(program, backend)
    counts, tiles, sweep = tiling
    is_wide = problem.accumulator != problem.dtype
    result, wide = x.dtype, backend.dtype(problem.accumulator) if is_wide else None
    if is_wide:
        kernel = backend.cast(kernel, wide)

    def one(tile: Tile, x: Array, kernel: Array) -> Array:
        y = compute(tile, tile_input(program, backend, tile, x), tile_kernel(program, tile, kernel))
        return backend.cast(y, result) if is_wide else y

    if sweep is not None:
        return run_swept(problem, sweep, backend, x, lambda x: one(tiles[0], x, kernel))
    if len(tiles) == 1:
        return one(tiles[0], x, kernel)
    if not (backend.is_writable(x) and backend.is_writable(kernel)):
        parts = [backend.recompute(partial(one, tile), x, kernel) for tile in tiles]
        return join(backend.xp, parts, counts, tuple(range(x.ndim)))
    y = backend.make(x, problem.geometry.y_shape, result)

    def place(tile: Tile) -> None:
        if into is None or is_wide:
            y[tile.target] = one(tile, x, kernel)
        else:
            own = tile_input(program, backend, tile, x), tile_kernel(program, tile, kernel)
            into(tile, *own, y[tile.target])

    each_tile(program, backend, place, tiles)
    return y
