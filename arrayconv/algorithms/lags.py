"""A window as large as the image, and few outputs: products of rows with rows, whose diagonals are the lags.

That is what a convolution's kernel gradient is. The last axis of the window is cut into segments of R elements. With A
elements of x for each, ``M[a, b] = sum_s x[s * R + a] * kernel[s * R + b]`` is one matrix product, over all segments of
all rows, and output t is ``sum_b M[t * stride + b, b]``: R + (T - 1) * stride products for each T that are wanted, at
the speed of a matrix product. The other axes' outputs are products of their own, of other rows of x.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry, WindowDimension
from ..primitives import concat, split_ranges, tap_slice
from ..program import Problem, Program
from .algorithm import Algorithm, base_dilated, in_floats
from .guard import guarded
from .rates import Counts
from .tiles import Tile, Tiling, make_tiling, run_tiled

Array = Any

#: Elements of a segment, and those at which a product costs twice its multiply-adds.
SEGMENTS, HALF = (1, 2, 4, 8, 16, 32, 64, 128, 256), 24

#: Elements of x and the kernel in one matrix product, which stay in a core's cache, and in those of a part of the work:
#: some for each core, in a cache while all places are passed over.
PIECE, PART = 2**16, 2**21


class Lags(NamedTuple):
    """Elements of a segment and of x for it, segments of a row, and rows (of one axis: segments) in pieces.

    Rows are those of the last axis but one; ``out`` the places of the window along all axes but the last.
    """

    own: int
    reach: int
    segments: int
    pieces: int
    rows: int
    window: tuple[int, ...]
    out: tuple[int, ...]

    def products(self, geometry: Geometry) -> int:
        """Matrix products for one place of the other axes."""
        return geometry.groups * geometry.inputs * prod(self.window[:-1]) * self.pieces


@lru_cache(maxsize=1024)  # a bound of its cost asks for it, too
def segment(axis: WindowDimension, outputs: int) -> int:
    """A product's work grows with the segment, its speed too; the last segments are to be full."""
    most = (axis.output - 1) * axis.stride
    best = min((n for n in SEGMENTS), key=lambda n: (n + most) * (1 + HALF / (n * outputs)))
    return -(-axis.kernel // -(-axis.kernel // best))


@lru_cache(maxsize=1024)  # whether it serves, what it costs and how it runs all ask for it
def lags_of(geometry: Geometry) -> Lags:
    *others, last = geometry.axes
    own = segment(last, geometry.outputs)
    reach, segments = own + (last.output - 1) * last.stride, -(-last.kernel // own)
    window = tuple([axis.kernel for axis in others]) or (segments,)
    segments = segments if others else 1
    row = segments * (geometry.batch * reach + geometry.outputs * own)
    rows = min(window[-1], max(1, PIECE // row))
    pieces = -(-window[-1] // rows)
    return Lags(own, reach, segments, pieces, -(-window[-1] // pieces), window, geometry.out[:-1] or (1,))


class Part(NamedTuple):
    """Some groups, and some rows of the window's first axis: the parts of a group's window are added up."""

    x: tuple[slice, ...]
    kernel: tuple[slice, ...]
    geometry: Geometry


def steps(geometry: Geometry) -> tuple[int, int]:
    """Groups and rows of a part."""
    group = sum(moved(replace(geometry, groups=1)))
    count = -(-group // PART)
    return max(1, PART // group), -(-geometry.window[0] // count)


def parts_of(geometry: Geometry) -> tuple[tuple[Part, ...], ...]:
    """A tuple for some groups each."""
    step, rows = steps(geometry)
    cut = split_ranges(geometry.window[0], rows)
    return tuple(tuple(part_of(geometry, groups, r) for r in cut) for groups in split_ranges(geometry.groups, step))


def part_of(geometry: Geometry, groups: range, rows: range) -> Part:
    axis, inputs, outputs = geometry.axes[0], geometry.inputs, geometry.outputs
    start = rows.start * axis.window_dilation
    stop = start + (len(rows) - 1) * axis.window_dilation + (axis.output - 1) * axis.stride + 1
    own = replace(axis, size=stop - start, kernel=len(rows), low=0, high=0)
    return Part(
        (slice(None), slice(groups.start * inputs, groups.stop * inputs), slice(start, stop)),
        (slice(groups.start * outputs, groups.stop * outputs), slice(None), slice(rows.start, rows.stop)),
        replace(geometry, groups=len(groups), axes=(own, *geometry.axes[1:])),
    )


def unsupported(problem: Problem, backend: Backend) -> str | None:
    geometry = problem.geometry
    if problem.is_integer:
        return "no library has a fast matrix product of integers"
    if (reason := base_dilated(problem)) is not None:
        return reason
    if geometry.axes[-1].window_dilation != 1:
        return f"a window dilation of {geometry.axes[-1].window_dilation} along the last axis leaves no segments"
    if (count := places(geometry)) > backend.most_slices:
        return f"{count} places of the window along an axis and its rows; {backend.name} takes {backend.most_slices}"
    if (least := fixed(problem, backend)) > problem.settings.workspace:
        return f"its rows take {least} bytes; settings(workspace=...) admits more"
    return None


def places(geometry: Geometry) -> int:
    """Slices: of x, one for each product, and of the products, one for each lag."""
    return prod(geometry.out[:-1]) + geometry.out[-1]


def moved(geometry: Geometry) -> tuple[int, int]:
    """Elements of x and of the kernel as rows of segments."""
    lags, channels = lags_of(geometry), geometry.groups * geometry.inputs
    reached = [dilated + extra for dilated, extra in zip(lags.window, extents(geometry, lags), strict=True)]
    x = channels * geometry.batch * prod(reached) * lags.segments * lags.reach
    kernel = channels * geometry.outputs * prod(lags.window[:-1]) * lags.pieces * lags.rows * lags.segments * lags.own
    return x, kernel


def extents(geometry: Geometry, lags: Lags) -> list[int]:
    """Rows of x beyond the window's own, an axis."""
    more = [axis.padded - axis.kernel for axis in geometry.axes[:-1]] or [0]
    more[-1] += extra(geometry, lags)
    return more


def extra(geometry: Geometry, lags: Lags) -> int:
    """Rows of zeros that full pieces need after x's own."""
    dilation = geometry.axes[-2].window_dilation if geometry.ndim > 1 else 1
    return dilation * (lags.pieces * lags.rows - lags.window[-1])


def partial(geometry: Geometry) -> int:
    """Elements of the products of one place, before they are summed."""
    lags = lags_of(geometry)
    return lags.products(geometry) * geometry.batch * lags.reach * geometry.outputs * lags.own


def fixed(problem: Problem, backend: Backend, block: tuple[int, ...] = ()) -> int:
    """Bytes of the padded images; of a part, padded and as rows, its products at one place, all sums."""
    geometry = problem.geometry
    step, rows = steps(geometry)
    own = part_of(geometry, range(min(step, geometry.groups)), range(rows)).geometry
    lags = lags_of(own)
    sums = prod(lags.out) * own.groups * own.batch * lags.reach * own.outputs * lags.own
    held = 2 * sum(moved(own)) + partial(own) + 2 * sums + 2 * prod(geometry.y_shape)
    return (held + (geometry.padded_size if geometry.is_padded else 0)) * problem.itemsize


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    return (problem.geometry.batch, *problem.geometry.out)


def counts(problem: Problem, backend: Backend) -> Counts:
    geometry, size = problem.geometry, in_floats(problem)
    lags, (step, rows) = lags_of(geometry), steps(geometry)
    parts = -(-geometry.groups // step) * -(-geometry.window[0] // rows)
    matrices = prod(lags.out) * lags.products(geometry)
    products = prod(lags.out) * partial(geometry) * lags.rows * lags.segments
    return {
        "call": 1.0,
        "slice": float(parts * places(geometry)),
        "matrix": float(matrices),
        "product": products * size,
        "moved": sum(moved(geometry)) * size,
        "partial": prod(lags.out) * partial(geometry) * size,
        "output": prod(geometry.y_shape) * size,
    }


def least(problem: Problem, backend: Backend) -> Counts:
    """Of rows without the zeros that fill segments and pieces, in one piece."""
    geometry, size = problem.geometry, in_floats(problem)
    last, images = geometry.axes[-1], geometry.groups * geometry.inputs
    own = segment(last, geometry.outputs)
    reach, rows = own + (last.output - 1) * last.stride, prod(geometry.window[:-1])
    products = prod(geometry.out[:-1]) * images * geometry.batch * reach * geometry.outputs
    segments = images * geometry.batch * rows * -(-last.kernel // own) * reach
    return {
        "call": 1.0,
        "slice": float(places(geometry)),
        "product": products * rows * last.kernel * size,
        "moved": (segments + prod(geometry.kernel_shape)) * size,
        "partial": products * own * size,
    }


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    return make_tiling(problem, backend, block, parts_of)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    def one(part: Part, x: Array, kernel: Array) -> Array:
        geometry, lags = part.geometry, lags_of(part.geometry)
        kernel = kernel_rows(backend, geometry, lags, kernel[(*part.kernel, ...)])
        return guarded(backend, geometry, x[(*part.x, ...)], lambda x: correlate(backend, geometry, lags, x, kernel))

    def compute(tile: Tile, x: Array, kernel: Array) -> Array:
        sums = []
        for first, *others in tile.details:
            total = one(first, x, kernel)
            for part in others:
                total = total + one(part, x, kernel)
            sums.append(total)
        return concat(backend.xp, sums, 1)

    return run_tiled(program, backend, x, kernel, compute)


def kernel_rows(backend: Backend, geometry: Geometry, lags: Lags, kernel: Array) -> Array:
    """``(G * O, I, *k)`` as ``(G, I, *others, pieces, rows * segments, O * R)``, with zeros where none is full."""
    xp, groups, outputs, inputs = backend.xp, geometry.groups, geometry.outputs, geometry.inputs
    more = lags.pieces * lags.rows - lags.window[-1]
    if geometry.ndim > 1:
        widths = [(0, 0)] * (geometry.ndim - 2) + [(0, more), (0, lags.segments * lags.own - geometry.window[-1])]
    else:
        widths = [(0, lags.pieces * lags.rows * lags.own - geometry.window[-1])]
    kernel = backend.pad(kernel, widths)
    rows = (*lags.window[:-1], lags.pieces * lags.rows, lags.segments)
    kernel = xp.reshape(kernel, (groups, outputs, inputs, *rows, lags.own))
    kernel = xp.permute_dims(kernel, (0, 2, *range(3, 3 + len(rows)), 1, 3 + len(rows)))
    shape = (groups, inputs, *lags.window[:-1], lags.pieces, lags.rows * lags.segments, outputs * lags.own)
    return xp.reshape(kernel, shape)


def x_rows(backend: Backend, geometry: Geometry, lags: Lags, x: Array) -> Array:
    """``(N, G * I, *s)`` as ``(G, I, *others, rows, segments, N * A)``: those of a segment and its lags together."""
    xp, last = backend.xp, geometry.axes[-1]
    segments = lags.segments if geometry.ndim > 1 else lags.pieces * lags.rows
    widths = [(0, 0)] * geometry.ndim
    widths[-1] = (0, (segments - 1) * lags.own + lags.reach - last.size)
    if geometry.ndim > 1:
        widths[-2] = (0, extra(geometry, lags))
    x = backend.windows(backend.pad(x, widths), (lags.reach,), (lags.own,), (1,))
    sizes = x.shape[2:-2] if geometry.ndim > 1 else x.shape[2:-1]
    x = xp.reshape(x, (geometry.batch, geometry.groups, geometry.inputs, *sizes, lags.segments, lags.reach))
    x = xp.permute_dims(x, (1, 2, *range(3, 4 + len(sizes)), 0, 4 + len(sizes)))
    rows = xp.reshape(x, (*x.shape[:-2], geometry.batch * lags.reach))
    return backend.copy(rows) if geometry.batch == 1 else rows  # one copy of a view, not one for each place


def correlate(backend: Backend, geometry: Geometry, lags: Lags, x: Array, kernel: Array) -> Array:
    """``M (places, G, N * A, O * R)``, summed over all rows and inputs, and its diagonals."""
    xp, x = backend.xp, x_rows(backend, geometry, lags, x)
    summed = (1, *range(2, 2 + len(lags.window)))
    is_sum = lags.products(geometry) > geometry.groups

    def at_place(rows: Array) -> Array:
        """NumPy's sum over a single term of each is slower than the product."""
        product = backend.matmul(rows, kernel)
        return xp.sum(product, axis=summed, dtype=x.dtype) if is_sum else product

    products = [at_place(rows) for rows in places_of(xp, geometry, lags, x)]
    shape = (*geometry.out[:-1], geometry.groups, geometry.batch, lags.reach, geometry.outputs, lags.own)
    table = xp.reshape(xp.stack(products), shape)
    d = geometry.ndim - 1
    table = xp.permute_dims(table, (d + 1, d, d + 3, *range(d), d + 2, d + 4))
    table = xp.reshape(table, (*table.shape[:-2], lags.reach * lags.own))
    step, stride = lags.own + 1, geometry.axes[-1].stride * lags.own
    lines = [table[..., t * stride : t * stride + (lags.own - 1) * step + 1 : step] for t in range(geometry.out[-1])]
    return xp.reshape(xp.stack([xp.sum(line, axis=-1, dtype=x.dtype) for line in lines], axis=-1), geometry.y_shape)


def places_of(xp: Any, geometry: Geometry, lags: Lags, x: Array) -> Iterator[Array]:
    """Rows of x for each place of the other axes, ``(G, I, *others, pieces, N * A, rows * segments)``."""
    window = (*lags.window[:-1], lags.pieces * lags.rows)
    stride = [axis.stride for axis in geometry.axes[:-1]] or [1]
    dilation = [axis.window_dilation for axis in geometry.axes[:-1]] or [1]
    for place in product(*map(range, lags.out)):
        index = tap_slice(place, window, dilation, stride)
        rows = x[(*index, slice(None), slice(None))]
        rows = xp.reshape(rows, (*rows.shape[:-3], lags.pieces, lags.rows * lags.segments, x.shape[-1]))
        yield xp.permute_dims(rows, (*range(rows.ndim - 2), rows.ndim - 1, rows.ndim - 2))


LAGS = Algorithm("lags", unsupported, counts, execute, prepare=prepare, block=block, fixed=fixed, least=least)
