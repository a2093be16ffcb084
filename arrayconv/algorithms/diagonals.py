"""Rows of x multiplied by the columns of a kernel, whose products are summed along diagonals.

Of a window of k x l taps, k rows of x lie in memory as the matrix ``X[r] (k, W)`` of a row r of outputs, which overlaps
that of the next: nothing is copied. ``P[r] = transpose(kernel) @ X[r]`` has a line for each of the l columns of taps,
and ``y[r, j] = sum over t of P[r][t, j + t]``. `gemm` copies an element for each of k x l taps, `kn2row` adds up as
many lines; this adds up l, for each channel that is read.
(Overlapping views in place of im2col: Cho & Brand 2017, "MEC: Memory-Efficient Convolution for Deep Neural Network",
arXiv:1706.06873. Sums after the product: Anderson et al. 2017, arXiv:1709.03395.)
"""

from __future__ import annotations

from functools import partial
from math import inf, prod
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry, WindowDimension
from ..program import Problem, Program
from .algorithm import (
    Algorithm,
    base_dilated,
    block_shape,
    budget_of,
    cache_budget,
    count_of,
    groups_of,
    in_floats,
    padded,
    products_on,
    shared,
    shared_block,
    tiles_of,
)
from .guard import guarded
from .rates import Counts
from .tiles import Tile, Tiling, make_tiling, run_tiled

Array = Any

#: Rows of outputs of one product, by a band of the kernel, where rows are no longer than so many elements: a product
#: takes a third of a microsecond at least, and one of longer rows as much as its multiply-adds. A band has a look at
#: the results, too (8 x 64 images of 56 x 56, 3 x 3 taps: 2.7 ms, one row at a time 4; 32 of 247 x 247: 4.0 and 2.4).
ROWS, SHORT = 4, 80

#: Half caches that a tile has. One of less costs more calls than it saves misses, one of more is read from memory.
CACHES = 3


def unsupported(problem: Problem, backend: Backend) -> str | None:
    geometry = problem.geometry
    if backend.sum_view is None:
        return f"{backend.name} can't sum a view of overlapping lines in one pass"
    if problem.is_integer:
        return "it is for products of floating point numbers"
    if geometry.ndim < 2:
        return "it takes two spatial axes or more"
    if geometry.axes[-1].stride > 1:
        return "a stride of the last axis would leave out most of its products"
    if (reason := base_dilated(problem)) is not None:
        return reason
    least = places(problem, backend, (1,) * (1 + geometry.ndim)) * problem.itemsize
    if least > budget_of(problem) // count_of(products_on(backend)):
        return f"the products of one output take {least} bytes; settings(workspace=...) admits more"
    return None


def joined(geometry: Geometry) -> int:
    """The axis whose taps are the terms of the products: of all but the last the one with the longest window, the first
    of those, along which tiles are cut: of the others, pieces have products in common.
    """
    return max(range(geometry.ndim - 1), key=lambda i: (geometry.axes[i].kernel, -i))


def lines(geometry: Geometry) -> int:
    """Those that are summed for an output."""
    return geometry.terms // geometry.axes[joined(geometry)].kernel if geometry.ndim > 1 else geometry.terms


def rows_at_once(geometry: Geometry) -> int:
    """Rows of outputs of one product."""
    return ROWS if geometry.axes[-1].padded <= SHORT else 1


def read(axis: WindowDimension, count: int) -> int:
    """Elements of an axis that so many outputs read."""
    return (count - 1) * axis.stride + axis.window


def terms_of(axis: WindowDimension, rows: int, is_banded: bool) -> tuple[int, int]:
    """Terms of the products of so many rows, and the elements from one to the next. A band has zeros for what a
    dilation leaves out.
    """
    return (read(axis, rows), 1) if is_banded else (axis.kernel, axis.window_dilation)


def matrices(geometry: Geometry, block: tuple[int, ...]) -> int:
    """Products of a tile, for each of its groups: one for so many rows."""
    at, places = joined(geometry), list(map(read, geometry.axes, block[1:]))
    return block[0] * geometry.inputs * prod(places[:-1]) // places[at] * -(-block[1 + at] // rows_at_once(geometry))


def line(geometry: Geometry, block: tuple[int, ...]) -> int:
    """Elements of a product of one term, for each of its rows."""
    taps = prod([axis.kernel for i, axis in enumerate(geometry.axes) if i != joined(geometry)])
    return rows_at_once(geometry) * geometry.outputs * taps * read(geometry.axes[-1], block[-1])


def places(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """Elements of a tile of one group: its products, what it reads, and its outputs."""
    geometry = problem.geometry
    sources = geometry.inputs * prod(map(read, geometry.axes, block[1:])) + geometry.outputs * prod(block[1:])
    return matrices(geometry, block) * line(geometry, block) + block[0] * sources


def unit(problem: Problem, backend: Backend) -> int:
    """Bytes of an element of each group."""
    return problem.geometry.groups * problem.itemsize


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """Whole rows of one group, if a cache has room for them, and as many tiles as there are threads."""
    geometry = problem.geometry
    aim = budget = room(problem, backend, budget) // problem.itemsize
    whole = (geometry.batch, *geometry.out)
    each = -(-places(problem, backend, whole) // max(1, prod(whole)))
    own = block_shape(geometry, each, aim)
    while max(own) > 1 and (held := places(problem, backend, own)) > budget:
        aim = min(aim * budget // held, aim - 1)
        own = block_shape(geometry, each, aim)
    return shared_block(geometry, own, count_of(products_on(backend)))


def room(problem: Problem, backend: Backend, budget: int) -> int:
    """Bytes of a tile within a budget."""
    return min(budget, cache_budget(problem, backend, 2 * budget, CACHES) // 2)


def groups(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """As many as a tile has room for."""
    own = room(problem, backend, budget_of(problem) // count_of(products_on(backend))) // problem.itemsize
    return groups_of(problem.geometry, problem.geometry.groups * places(problem, backend, block), (), own)


def counts(problem: Problem, backend: Backend) -> Counts:
    """Short products and short lines take what their number takes."""
    geometry, size, crew = problem.geometry, in_floats(problem), products_on(backend)
    own = block(problem, backend, budget_of(problem) // count_of(crew))
    tiles, axis = tiles_of(geometry, own), geometry.axes[joined(geometry)]
    rows = rows_at_once(geometry)
    terms, _ = terms_of(axis, rows, rows > 1)
    made, word = tiles * geometry.groups * matrices(geometry, own), shared(crew, tiles)
    summed = prod(geometry.y_shape) * lines(geometry)
    return {
        "call": 1.0,
        "tile": float(tiles_of(geometry, own, groups(problem, backend, own))),
        f"{word}matrix": float(made),
        f"{word}product": made * line(geometry, own) * terms * size,
        f"{word}column": summed * size,
        f"{word}run": summed / max(1, geometry.out[-1]),
        "padded": padded(geometry, size),
        "output": prod(geometry.y_shape) * size,
    }


def least(problem: Problem, backend: Backend) -> Counts:
    """The sums, at the price of as many tiles as threads share."""
    summed = prod(problem.geometry.y_shape) * lines(problem.geometry) * in_floats(problem)
    return {"call": 1.0, shared(products_on(backend), inf) + "column": summed}


class Part(NamedTuple):
    """Outputs of a tile, so many ``rows`` in one product of so many ``terms``: where they lie in y, what of x they
    read, its windows along the joined axis, which axes of these are ``picked``, being more than one element long, and
    in which order they make matrices; the sizes of the diagonals of the products, and their steps in elements, of which
    the first axes are ``summed``.
    """

    rows: int
    terms: int
    target: tuple[Any, ...]
    source: tuple[Any, ...]
    windows: tuple[tuple[int, ...], ...]
    picked: tuple[Any, ...]
    order: tuple[int, ...]
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    summed: int


def parts_of(at_once: int, at: int, geometry: Geometry) -> tuple[Part, ...]:
    """As many rows ``at_once`` as the band of a call has, and those that are left."""
    output = geometry.out[at]
    whole = output // at_once * at_once
    pieces = (range(whole), at_once), (range(whole, output), output - whole)
    return tuple([part_of(geometry, at, places, rows, at_once > 1) for places, rows in pieces if places])


def part_of(geometry: Geometry, at: int, places: range, rows: int, is_banded: bool) -> Part:
    ndim, count, axis, every = geometry.ndim, len(places) // rows, geometry.axes[at], (slice(None),) * (2 + at)
    terms, dilation = terms_of(axis, rows, is_banded)
    first, stride = places.start * axis.stride, rows * axis.stride
    stop = first + (count - 1) * stride + (terms - 1) * dilation + 1
    before, after = (1,) * at, (1,) * (ndim - 1 - at)
    return Part(
        rows,
        terms,
        (*every, slice(places.start, places.stop)),
        (*every, slice(first, stop)),
        tuple([(*before, n, *after) for n in (terms, stride, dilation)]),
        (*(slice(None),) * (2 + ndim), *[slice(None) if i == at else 0 for i in range(ndim)]),
        (0, 1, *[2 + i for i in range(ndim - 1) if i != at], 2 + at, 2 + ndim, 1 + ndim),
        *diagonals(geometry, at, count, rows),
    )


def diagonals(geometry: Geometry, at: int, count: int, rows: int) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Sizes and steps of those of the products of ``count`` matrices, which lie as inputs, places of other axes, the
    matrices, outputs, taps of other axes, rows, and places of the last axis. The first so many axes are summed.
    """
    axes = geometry.axes
    *others, last = [i for i in range(geometry.ndim) if i != at]
    lying: dict[Any, int] = {"image": geometry.batch, "group": geometry.groups, "input": geometry.inputs}
    lying |= {("place", i): axes[i].padded for i in others} | {"matrix": count, "output": geometry.outputs}
    lying |= {("tap", i): axes[i].kernel for i in (*others, last)} | {"row": rows, ("place", last): axes[last].padded}
    steps, step = dict[Any, int](), 1
    for name in reversed(lying):
        steps[name], step = step, step * lying[name]

    def as_they_lie(*names: str) -> list[tuple[int, int]]:
        return [(lying[name], steps[name]) for name in names]

    summed = as_they_lie("input")
    for i in (*others, last):
        summed.append((axes[i].kernel, steps["tap", i] + axes[i].window_dilation * steps["place", i]))
    kept = as_they_lie("image", "group", "output")
    for i, axis in enumerate(axes):
        kept += as_they_lie("matrix", "row") if i == at else [(axis.output, axis.stride * steps["place", i])]
    found = [*summed, *kept]
    return tuple([size for size, _ in found]), tuple([step for _, step in found]), len(summed)


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    """Pieces of an image have the rows and the joined axis of the whole, since they share a band."""
    details = partial(parts_of, rows_at_once(problem.geometry), joined(problem.geometry))
    return make_tiling(problem, backend, block, details, groups=groups(problem, backend, block))


def bands(backend: Backend, geometry: Geometry, kernel: Array) -> Array:
    """``(G * O, I, *k)`` as ``(G * I, O * taps, rows, terms)``."""
    xp, at, rows, ndim = backend.xp, joined(geometry), rows_at_once(geometry), geometry.ndim
    axis = geometry.axes[at]
    if rows > 1:
        kernel = backend.band(kernel, 2 + at, rows, axis.stride, axis.window_dilation)
    kernel = xp.reshape(kernel, (geometry.groups, geometry.outputs, rows, geometry.inputs, *kernel.shape[2:]))
    kernel = xp.permute_dims(kernel, (0, 3, 1, *[4 + i for i in range(ndim) if i != at], 2, 4 + at))
    return xp.reshape(kernel, (geometry.groups * geometry.inputs, -1, rows, kernel.shape[-1]))


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    xp, sum_view, empty = backend.xp, backend.sum_view, backend.empty
    assert sum_view is not None and empty is not None

    def add_up(tile: Tile, rows: Array, y: Array, x: Array) -> Array:
        for part in tile.details:
            columns = xp.permute_dims(backend.windows(x[part.source], *part.windows)[part.picked], part.order)
            some = rows[:, :, : part.rows, : part.terms]
            some = xp.reshape(some, (some.shape[0], *(1,) * (columns.ndim - 4), -1, part.terms))
            products = empty((*columns.shape[:-2], *some.shape[-2:-1], *columns.shape[-1:]), x.dtype)
            backend.matmul(some, columns, out=products)
            out = xp.reshape(y[part.target], part.sizes[part.summed :])
            sum_view(products, part.sizes, part.steps, part.summed, out)
        return y

    def into(tile: Tile, x: Array, rows: Array, y: Array) -> Array:
        if rows_at_once(program.geometry) == 1:
            return add_up(tile, rows, y, x)
        found = guarded(backend, tile.geometry, x, partial(add_up, tile, rows, y))  # a band's zeros meet neighbours
        if found is not y:
            y[...] = found
        return y

    def compute(tile: Tile, x: Array, rows: Array) -> Array:
        return into(tile, x, rows, empty(tile.geometry.y_shape, x.dtype))

    return run_tiled(program, backend, x, bands(backend, program.geometry, kernel), compute, into)


DIAGONALS = Algorithm(
    "diagonals",
    unsupported,
    counts,
    execute,
    unit,
    prepare,
    block=block,
    places=places,
    groups=groups,
    crew=products_on,
    least=least,
)
