"""A window as large as the image, and few outputs: each is one sum of products of x's slice with the whole kernel.

That is what a convolution's kernel gradient is. `direct` runs through the taps, here the loop is over the outputs.
Those that lie together are summed in one pass over x and the kernel, so that a processor has many sums to work on at
once, and memory is read for all of them.
(A variadic reduction: XLA's ``Reduce`` with several operands.)
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

from ..backend import Backend
from ..geometry import Geometry
from ..primitives import HELD, split_ranges, tap_slice
from ..program import Problem, Program
from .algorithm import Algorithm, base_dilated, block_shape, budget_of, in_floats, positions
from .rates import Counts
from .tiles import Tile, Tiling, make_tiling, run_tiled

Array = Any

#: Outputs of one pass; more sums than a processor has registers for are slower.
TOGETHER = 25

#: Elements of a row of the only axis: rows are summed each for itself, by several threads and with small errors.
ROW = 1024


def unsupported(problem: Problem, backend: Backend) -> str | None:
    if backend.sum_each is None:
        return f"{backend.name} can't sum several products in one pass"
    if (reason := base_dilated(problem)) is not None:
        return reason
    places = prod(problem.geometry.out)
    if places > backend.most_slices:
        return f"{places} places of the window; {backend.name} takes {backend.most_slices} slices"
    least = fixed(problem, backend, (1,))
    if least > problem.settings.workspace:
        return f"one padded image and its products take {least} bytes; settings(workspace=...) admits more"
    count = slices(problem, backend)
    if count > backend.most_slices:
        return f"{count} places of the window in all tiles; {backend.name} takes {backend.most_slices} slices"
    return None


def slices(problem: Problem, backend: Backend) -> int:
    """Slices of x in all tiles: each tile of images has one for every output."""
    geometry = problem.geometry
    images = block(problem, backend, budget_of(problem))[0]
    return prod(geometry.out) * -(-geometry.batch // max(1, images))


def rows(geometry: Geometry) -> int:
    """Partial sums of one output."""
    first = geometry.axes[0].kernel
    return first if geometry.ndim > 1 else 1 + first // ROW


def unit(problem: Problem, backend: Backend) -> int:
    """Bytes a position: the partial sums, and again while they are stacked."""
    geometry = problem.geometry
    return 2 * geometry.groups * geometry.outputs * rows(geometry) * problem.itemsize


def fixed(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """Bytes of the padded images, and of the products that are held at once."""
    geometry = problem.geometry
    channels = block[0] * geometry.groups * geometry.inputs
    padded = channels * prod(axis.padded for axis in geometry.axes) if geometry.is_padded else 0
    return (padded + min(HELD, channels * geometry.outputs * geometry.taps)) * problem.itemsize


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    images = max(1, 3 * budget // 4 // max(1, fixed(problem, backend, (1,))))
    batch, *out = block_shape(problem.geometry, unit(problem, backend), budget // 4)
    return (min(batch, images), *out)


def counts(problem: Problem, backend: Backend) -> Counts:
    """Short rows of the window cost more: by their number."""
    geometry, size = problem.geometry, in_floats(problem)
    products = positions(geometry) * geometry.groups * geometry.outputs * geometry.terms * size
    last, moved = geometry.axes[-1], prod(geometry.x_shape) + prod(geometry.kernel_shape)
    return {
        "call": 1.0,
        "slice": float(slices(problem, backend)),
        "product" if last.window_dilation == 1 else "strided product": products,
        "run": products / max(1, last.kernel),
        "moved": -(-prod(geometry.out) // together(geometry)) * moved * size,
    }


def least(problem: Problem, backend: Backend) -> Counts:
    """All images in one tile."""
    geometry, size = problem.geometry, in_floats(problem)
    products = prod(geometry.y_shape) * geometry.terms * size
    unit = "product" if geometry.axes[-1].window_dilation == 1 else "strided product"
    return {"call": 1.0, "slice": float(prod(geometry.out)), unit: products}


def together(geometry: Geometry) -> int:
    """Outputs of one pass: whole rows of them where those are short, and about as many in each."""
    outputs, row = prod(geometry.out), geometry.out[-1]
    row = row if 2 * row <= TOGETHER else 1
    count, most = outputs // row, TOGETHER // row
    return row * -(-count // -(-count // most))


def passes(geometry: Geometry) -> tuple[tuple[Any, ...], ...]:
    """The slices of x, one an output, of each pass; `tap_slice` with stride and dilation in each other's place."""
    stride = [axis.stride for axis in geometry.axes]
    dilation = [axis.window_dilation for axis in geometry.axes]
    slices = [tap_slice(place, geometry.window, dilation, stride) for place in product(*map(range, geometry.out))]
    return tuple(tuple(slices[i] for i in part) for part in split_ranges(len(slices), together(geometry)))


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    return make_tiling(problem, backend, block, passes)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    geometry, xp = program.geometry, backend.xp
    groups, inputs = geometry.groups, geometry.inputs
    kernel = xp.reshape(kernel, (1, groups, geometry.outputs, inputs, *geometry.window))

    def compute(tile: Tile, x: Array, kernel: Array) -> Array:
        own = tile.geometry
        x = xp.reshape(x, (own.batch, groups, 1, inputs, *own.sizes))
        sums = [y for slices in tile.details for y in summed(backend, [x[part] for part in slices], kernel)]
        return xp.reshape(xp.stack(sums, axis=-1), own.y_shape)

    return run_tiled(program, backend, x, kernel, compute)


def summed(backend: Backend, parts: list[Array], kernel: Array) -> list[Array]:
    """Each ``part (N, G, 1, I, *k)`` with ``kernel (1, G, O, I, *k)`` to ``(N, G, O)``: rows first, then their sums."""
    xp, sum_each = backend.xp, backend.sum_each
    assert sum_each is not None
    if kernel.ndim > 5:
        return totals(xp, sum_each(parts, kernel, (3, *range(5, kernel.ndim))))
    whole = kernel.shape[-1] // ROW * ROW
    pieces = [slice(0, whole), slice(whole, None)] if 0 < whole < kernel.shape[-1] else [slice(None)]
    found = []
    for piece in pieces:
        rows = [split(xp, part[..., piece]) for part in parts]
        found.append(totals(xp, sum_each(rows, split(xp, kernel[..., piece]), (3, 5))))
    return [sum(own[1:], own[0]) for own in zip(*found, strict=True)]


def split(xp: Any, array: Array) -> Array:
    """The last axis as rows."""
    row = min(ROW, array.shape[-1])
    return xp.reshape(array, (*array.shape[:-1], array.shape[-1] // row, row))


def totals(xp: Any, partial: list[Array]) -> list[Array]:
    return [xp.sum(rows, axis=-1, dtype=rows.dtype) for rows in partial]


REDUCE = Algorithm("reduce", unsupported, counts, execute, unit, prepare, block=block, fixed=fixed, least=least)
