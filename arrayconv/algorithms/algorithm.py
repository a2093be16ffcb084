"""The record that every algorithm is, and the tiles in which most of them work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..backend import Backend
from ..geometry import Geometry
from ..primitives import join, split_ranges
from ..program import Problem, Program

Array = Any
Tile = Callable[[Geometry, Array, Array], Array]


@dataclass(frozen=True, slots=True)
class Algorithm:
    """``unsupported`` gives the reason why a problem can't be served, or None; ``cost`` seconds, from shapes alone.

    ``execute`` takes canonical arrays, ``x (N, G * I, *s)`` and ``kernel (G * O, I, *k)``, and gives
    ``y (N, G * O, *o)`` of the problem's dtype. ``unit`` is the temporary bytes for each position of the output, from
    which the planner takes the tiles; ``parts`` are the geometries that a rewrite hands on.
    """

    name: str
    unsupported: Callable[[Problem, Backend], str | None]
    cost: Callable[[Problem, Backend], float]
    execute: Callable[[Program, Backend, Array, Array], Array]
    unit: Callable[[Problem], int] = lambda problem: 0
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


def run_tiled(program: Program, backend: Backend, x: Array, kernel: Array, tile: Tile) -> Array:
    """``tile(geometry, x, kernel)`` for blocks of batch and outputs, joined.

    A tile's x is cropped, padded and in the accumulator's type, so its geometry has no padding left.
    """
    problem, geometry = program.problem, program.geometry
    wide = backend.dtype(problem.accumulator)
    result = x.dtype
    kernel = backend.cast(kernel, wide)

    def compute(ranges: tuple[range, ...], x: Array, kernel: Array) -> Array:
        images, *outputs = ranges
        blocks = [axis.block(out, range(axis.kernel)) for axis, out in zip(geometry.axes, outputs, strict=True)]
        part = x[(slice(images.start, images.stop), slice(None), *(piece for piece, _ in blocks))]
        part = backend.pad(backend.cast(part, wide), [(axis.low, axis.high) for _, axis in blocks])
        axes = tuple(replace(axis, size=axis.padded, low=0, high=0) for _, axis in blocks)
        return backend.cast(tile(replace(geometry, batch=len(images), axes=axes), part, kernel), result)

    counts = [split_ranges(n, step) for n, step in zip((geometry.batch, *geometry.out), program.block, strict=True)]
    if all(len(ranges) == 1 for ranges in counts):
        return compute(tuple(ranges[0] for ranges in counts), x, kernel)

    def recomputed(ranges: tuple[range, ...]) -> Array:
        return backend.recompute(partial(compute, ranges), x, kernel)

    images, *spatial = counts
    rows = [join(backend.xp, [[r], *spatial], recomputed, axis=1) for r in images]
    return rows[0] if len(rows) == 1 else backend.xp.concat(rows, axis=0)
