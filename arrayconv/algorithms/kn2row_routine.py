"""`kn2row` by a library's own routine (`Backend.col2im`), which takes base dilations too."""

from __future__ import annotations

from math import prod
from typing import Any

from ..backend import Backend, Native
from ..program import Problem, Program
from .algorithm import Algorithm, block_shape, budget_of, in_floats, tiles_of
from .kn2row_tiles import CACHED, refused, starts, too_wide
from .rates import Counts
from .tiles import Tiling, make_tiling, run_tiled

Array = Any


def routine(backend: Backend) -> Native:
    assert backend.col2im is not None, backend.name
    return backend.col2im


def unsupported(problem: Problem, backend: Backend) -> str | None:
    wide = None if problem.geometry.is_base_dilated else too_wide(problem.geometry)
    return refused(problem) or wide or routine(backend).unsupported(problem)


def unit(problem: Problem, backend: Backend) -> int:
    """Bytes a position: its products, and the sums twice."""
    geometry = problem.geometry
    columns = geometry.taps * geometry.outputs // prod([axis.base_dilation for axis in geometry.axes])
    return (columns + 2 * geometry.outputs) * problem.itemsize


def places(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """It makes the products of one image after the other."""
    return prod(block[1:])


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """All images, and as much of each as fits."""
    return (problem.geometry.batch, *block_shape(problem.geometry, unit(problem, backend), budget)[1:])


def counts(problem: Problem, backend: Backend) -> Counts:
    """All products are added up, with those beside the result; of three axes by loops of their own."""
    geometry, size = problem.geometry, in_floats(problem)
    own = block(problem, backend, budget_of(problem))
    tiles, places = tiles_of(geometry, own), starts(geometry, own) * size
    images, made = max(tiles, geometry.batch), places * geometry.outputs * geometry.taps
    return {
        "call": 1.0,
        "tile": float(tiles),
        "matrix": float(geometry.batch),
        "product": made * geometry.inputs,
        column(problem): made,
        "run": made / max(1, geometry.out[-1]),
        "memory": max(0.0, made - images * CACHED),
        "input": places * geometry.inputs,
        "kernel": images * prod(geometry.kernel_shape) * size,
        "output": prod(geometry.y_shape) * size,
    }


def column(problem: Problem) -> str:
    """The word for what is added up."""
    return "column" + " 3d" * (problem.geometry.ndim > 2)


def least(problem: Problem, backend: Backend) -> Counts:
    """Of a single tile."""
    geometry = problem.geometry
    places = starts(geometry, (geometry.batch, *geometry.out)) * in_floats(problem)
    return {"call": 1.0, column(problem): places * geometry.outputs * geometry.taps}


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    own = routine(backend)
    return make_tiling(problem, backend, block, lambda part: own.prepare(problem.with_geometry(part)), pads=False)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    own = routine(backend)
    return run_tiled(program, backend, x, kernel, lambda tile, *arrays: own.execute(tile.details, *arrays))


ROUTINE = Algorithm("kn2row", unsupported, counts, execute, unit, prepare, block=block, places=places, least=least)
