"""The record that every algorithm is, and the tiles in which most of them work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import product
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry
from ..primitives import join, split_ranges
from ..program import Problem, Program

Array = Any


class Algorithm(NamedTuple):
    """``unsupported`` gives the reason why a problem can't be served, or None; ``cost`` seconds, from shapes alone.

    ``execute`` takes canonical arrays, ``x (N, G * I, *s)`` and ``kernel (G * O, I, *k)``, and gives
    ``y (N, G * O, *o)`` of the problem's dtype. ``unit`` is the temporary bytes for each position of the output, from
    which the planner takes the blocks that ``prepare`` makes tiles of; ``parts`` are the geometries that a rewrite
    hands on.
    """

    name: str
    unsupported: Callable[[Problem, Backend], str | None]
    cost: Callable[[Problem, Backend], float]
    execute: Callable[[Program, Backend, Array, Array], Array]
    unit: Callable[[Problem], int] = lambda problem: 0
    prepare: Callable[[Problem, tuple[int, ...]], Any] = lambda problem, block: None
    parts: Callable[[Geometry], tuple[Geometry, ...]] = lambda geometry: ()


#: Every algorithm by name; `algorithms/__init__.py` lists them.
ALGORITHMS: dict[str, Algorithm] = {}


def run(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    """A program on canonical arrays, by the algorithm that it names."""
    return ALGORITHMS[program.algorithm].execute(program, backend, x, kernel)


def base_dilated(problem: Problem) -> str | None:
    """The reason of algorithms that leave a base dilation to the rewrite `phases`."""
    if any(axis.base_dilation != 1 for axis in problem.geometry.axes):
        return "a base dilation is split into phases first"
    return None


def block_shape(geometry: Geometry, unit: int, budget: int) -> tuple[int, ...]:
    """The largest block of outputs, last axes first, whose temporaries of ``unit`` bytes each fit the budget."""
    room = max(1, budget // max(1, unit))
    block: list[int] = []
    for count in reversed((geometry.batch, *geometry.out)):
        block.append(max(1, min(count, room)))
        room = room // block[-1] if block[-1] == count else 1
    return tuple(reversed(block))


class Tile(NamedTuple):
    """A block of batch and outputs: where it lies in y, what it reads of x, the zeros around that, its own geometry."""

    target: tuple[slice, ...]
    source: tuple[slice, ...]
    widths: tuple[tuple[int, int], ...] | None
    geometry: Geometry
    details: Any


class Tiling(NamedTuple):
    """All tiles, the last axis fastest, and how many there are along the batch and each spatial axis."""

    counts: tuple[int, ...]
    tiles: tuple[Tile, ...]


def make_tiling(problem: Problem, block: tuple[int, ...], prepare: Callable[[Geometry], Any]) -> Tiling:
    """Tiles of ``block``; ``prepare`` derives details from a tile's own geometry, which has no padding."""
    geometry = problem.geometry
    counts = [split_ranges(n, step) for n, step in zip((geometry.batch, *geometry.out), block, strict=True)]
    tiles, details = [], cache(prepare)  # inner tiles are alike
    for images, *outputs in product(*counts):
        blocks = [axis.block(out, range(axis.kernel)) for axis, out in zip(geometry.axes, outputs, strict=True)]
        widths = tuple((axis.low, axis.high) for _, axis in blocks)
        axes = tuple(replace(axis, size=axis.padded, low=0, high=0) for _, axis in blocks)
        own = replace(geometry, batch=len(images), axes=axes)
        batch = (slice(images.start, images.stop), slice(None))
        target = (*batch, *(slice(out.start, out.stop) for out in outputs))
        source = (*batch, *(part for part, _ in blocks))
        padding = widths if any(low or high for low, high in widths) else None
        tiles.append(Tile(target, source, padding, own, details(own)))
    return Tiling(tuple(len(ranges) for ranges in counts), tuple(tiles))


Compute = Callable[[Tile, Array, Array], Array]


def run_tiled(program: Program, backend: Backend, x: Array, kernel: Array, compute: Compute) -> Array:
    """``compute(tile, x, kernel)`` for every tile, whose x is cropped, padded and in the accumulator's type; joined."""
    problem = program.problem
    tiling = program.prepared or ALGORITHMS[program.algorithm].prepare(problem, program.block)
    is_wide = problem.accumulator != problem.dtype
    result, wide = x.dtype, backend.dtype(problem.accumulator) if is_wide else None
    if is_wide:
        kernel = backend.cast(kernel, wide)

    def one(tile: Tile, x: Array, kernel: Array) -> Array:
        x = x[tile.source]
        if is_wide:
            x = backend.cast(x, wide)
        if tile.widths is not None:
            x = backend.pad(x, tile.widths)
        y = compute(tile, x, kernel)
        return backend.cast(y, result) if is_wide else y

    if len(tiling.tiles) == 1:
        return one(tiling.tiles[0], x, kernel)
    parts = (backend.recompute(partial(one, tile), x, kernel) for tile in tiling.tiles)
    if backend.empty is None:
        return join(backend.xp, list(parts), tiling.counts, (0, *range(2, x.ndim)))
    y = backend.empty(problem.geometry.y_shape, result)
    for tile, part in zip(tiling.tiles, parts, strict=True):
        y[tile.target] = part
    return y
