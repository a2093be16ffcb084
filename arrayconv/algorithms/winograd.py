"""Winograd's minimal filtering, for 3 taps an axis: few products of sums instead of many products.

A tile of m outputs an axis takes ``m + 2`` products where `gemm` takes ``3 * m``: for 3x3 taps F(4, 3) saves three of
four, F(2, 3) more than half (Lavin & Gray 2016, arXiv:1509.09308). Each transform is one matrix product an axis, with
a band that holds the small matrix once for every tile of the axis; written as ``T X^T`` on the way in and ``M^T A^T``
on the way out, it rotates the axes so that no element is moved in between. For two axes::

    x (n, c, h, w) -> (j, tw, n, c, h) -> (j, i, th, tw, n, c)       points i, j and tiles th, tw of the axes h, w
    times the transformed kernel (j, i, o, c)^T: one product for each pair of points
    (j, i, th, tw, n, o) -> (j, tw, n, o, h) -> y (n, o, h, w)

The products are larger than their sums and cancel, so an error is relative to the largest possible output, not to each
output's own terms: ``accuracy="normwise"``. A tile mixes its inputs, so what is not finite is guarded.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry
from ..primitives import split_ranges
from ..program import NORMWISE, Problem, Program
from .algorithm import Algorithm, base_dilated, cache_budget, count_of, in_floats, prepared, products_on, shared_block
from .guard import guarded
from .rates import Counts, rates_of
from .tiles import Tile, Tiling, each_on, make_tiling, run_tiled
from .winograd_transforms import POINTS, TAPS, Bands, bands, cut, even, growth, kernel_band

Array = Any


def unsupported(problem: Problem, backend: Backend) -> str | None:
    geometry = problem.geometry
    if any((axis.kernel, axis.stride, axis.window_dilation) != (TAPS, 1, 1) for axis in geometry.axes):
        return f"it takes {TAPS} taps an axis, stride 1 and dilation 1"
    if problem.is_exact:
        return "its fractions are not exact in integers"
    if problem.settings.accuracy != "normwise":
        return "its errors are relative to the largest output; accuracy='normwise' admits them"
    if not any(is_accurate(geometry, m) for m in POINTS):
        return f"its errors would be too large over {geometry.ndim} axes of {geometry.inputs} channels"
    if not sizes(problem):
        least = min(kernel_bytes(problem, m) for m in POINTS)
        return f"the transformed kernel alone takes {least} bytes; settings(workspace=...) admits more"
    return base_dilated(problem)


# Errors


def rounding(geometry: Geometry, m: int) -> float:
    """A bound of the error of F(m, 3), in units of ``eps / 2 * max|x| * sum|kernel|``.

    Roundings on the longest path, each at most ``eps / 2`` of what `growth` bounds: sums of n products for each axis on
    the way in and out, of all taps (and that matrix is rounded itself), and of the input channels. (After Barabasz et
    al. 2020, section 3, who bound the error in the two-norm.)
    """
    steps = 2 * geometry.ndim * (m + TAPS - 1) + geometry.taps + 1 + geometry.inputs
    return steps * growth(m) ** geometry.ndim


def is_accurate(geometry: Geometry, m: int) -> bool:
    """Whether F(m, 3) keeps the promise; half of that is left for complex products, which round more often."""
    return rounding(geometry, m) <= NORMWISE * geometry.terms


# Choice of the tile


def kernel_bytes(problem: Problem, m: int) -> int:
    geometry = problem.geometry
    pairs = geometry.groups * geometry.inputs * geometry.outputs
    return int(pairs * (m + TAPS - 1) ** geometry.ndim) * problem.itemsize


def sizes(problem: Problem) -> list[int]:
    """The tiles that are accurate, and whose transformed kernel leaves half of the workspace."""
    room = problem.settings.workspace // 2
    return [m for m in POINTS if is_accurate(problem.geometry, m) and kernel_bytes(problem, m) <= room]


def work(problem: Problem, backend: Backend, m: int) -> Counts:
    """Every step writes its result once: each axis on the way in, the products, and each axis on the way out."""
    geometry, n, floats = problem.geometry, m + TAPS - 1, in_floats(problem)
    tiles = [-(-axis.output // m) for axis in geometry.axes]
    images, moved = geometry.batch * geometry.groups, 0
    for channels in (geometry.inputs, geometry.outputs):
        for step in range(geometry.ndim):
            moved += channels * prod(m * count for count in tiles[:step]) * prod(n * count for count in tiles[step:])
    own = piece(problem, backend, problem.settings.workspace // 2, m)
    pieces = prod(-(-count // step) for count, step in zip((geometry.batch, *geometry.out), own, strict=True))
    products = prod(n * count for count in tiles) * geometry.inputs * geometry.outputs
    return {
        "call": 1.0,
        "tile": float(pieces),
        "matrix": float(pieces * geometry.groups * n**geometry.ndim),
        "product": images * products * floats,
        "moved": images * moved * floats,
        "input": prod(geometry.x_shape) * floats,
        "output": prod(geometry.y_shape) * floats,
        "kernel": kernel_bytes(problem, m) / 4,
    }


def size(problem: Problem, backend: Backend) -> int:
    """The fastest of the tiles that serve."""
    rates = rates_of(problem, "winograd")

    def seconds(m: int) -> float:
        return sum(count * rates.get(unit, 0.0) for unit, count in work(problem, backend, m).items())

    return min(sizes(problem), key=seconds)


def counts(problem: Problem, backend: Backend) -> Counts:
    return work(problem, backend, size(problem, backend))


# Pieces

#: Outputs of a block of tiles, and of the rows of a piece: where a product can be written into a permuted buffer, and
#: where blocks are copied. Caches that the temporaries of a piece may fill.
SHORT, LONG, CACHES = 16, 32, 4


def bytes_of(problem: Problem, m: int) -> int:
    """Bytes a position: x and its finite part, and two arrays of transformed numbers at a time."""
    geometry = problem.geometry
    spread = prod((m + TAPS - 1) * -(-axis.output // m) / axis.output for axis in geometry.axes)
    return int(spread * geometry.groups * (3 * geometry.inputs + 2 * geometry.outputs) * problem.itemsize) + 1


def piece(problem: Problem, backend: Backend, budget: int, m: int) -> tuple[int, ...]:
    """Whole tiles: a few rows of every axis but the last, then as much of that and of the batch as the budget takes.

    All of the crew share the transformed kernel. A piece, which reads all of it, is no smaller than that.
    """
    geometry, read = problem.geometry, kernel_bytes(problem, m)
    budget -= read // count_of(backend.multipliers)
    budget = max(cache_budget(problem, backend, budget, CACHES), min(budget, read))
    *others, last = (-(-count // m) for count in geometry.out)
    rows = [m * cut(tiles, SHORT // m) for tiles in others]
    room = max(1, budget // (bytes_of(problem, m) * m * prod(rows)))
    tiles = even(last, room)
    batch = even(geometry.batch, room // tiles)
    own = (batch, *map(min, (*rows, m * tiles), geometry.out))
    return shared_block(geometry, own, count_of(backend.multipliers), m)


def unit(problem: Problem, backend: Backend) -> int:
    return bytes_of(problem, size(problem, backend))


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    return piece(problem, backend, budget, size(problem, backend))


def fixed(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    return kernel_bytes(problem, size(problem, backend))


class Details(NamedTuple):
    """Tile size, the matrix that transforms kernels, and the bands of every axis."""

    m: int
    kernel: Array
    bands: tuple[Bands, ...]


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    m, length = size(problem, backend), LONG if backend.empty is None else SHORT

    kernel = kernel_band(m, problem.geometry.ndim, problem.accumulator)

    def details(geometry: Geometry) -> Details:
        return Details(m, kernel, tuple(bands(m, count, length, problem.accumulator) for count in geometry.out))

    return make_tiling(problem, backend, block, details)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    xp, geometry, accumulator = backend.xp, program.geometry, program.problem.accumulator
    groups, inputs, outputs = geometry.groups, geometry.inputs, geometry.outputs
    evaluation = backend.from_numpy(prepared(program, backend).tiles[0].details.kernel, kernel)
    kernel = xp.reshape(backend.cast(kernel, backend.dtype(accumulator)), (-1, geometry.taps))
    kernel = transformed(program, backend, evaluation, xp.matrix_transpose(kernel))
    kernel = xp.matrix_transpose(xp.reshape(kernel, (-1, groups, outputs, inputs)))

    def compute(tile: Tile, x: Array, kernel: Array) -> Array:
        return guarded(backend, tile.geometry, x, lambda x: filtered(backend, tile.geometry, tile.details, x, kernel))

    return run_tiled(program, backend, x, kernel, compute)


def transformed(program: Program, backend: Backend, evaluation: Array, kernel: Array) -> Array:
    """Their product, by the crew of the tiles where there is one: threads of BLAS would still spin beside it."""
    count, pairs = WINOGRAD.workers(backend), kernel.shape[1]
    if count == 1 or len(prepared(program, backend).tiles) == 1 or backend.empty is None:
        return backend.matmul(evaluation, kernel)
    y = backend.empty((evaluation.shape[0], pairs), kernel.dtype)

    def multiply(own: range) -> None:
        part = slice(own.start, own.stop)
        backend.matmul(evaluation, kernel[:, part], out=y[:, part])

    each_on(products_on(backend), multiply, split_ranges(pairs, -(-pairs // count)), count)
    return y


def filtered(backend: Backend, geometry: Geometry, details: Details, x: Array, kernel: Array) -> Array:
    """The steps of the file's head, each over the result of the one before, which is then given up."""
    xp, n, cuts = backend.xp, details.m + TAPS - 1, details.bands
    whole = [band.blocks * band.step for band in cuts]
    x = backend.pad(x, [(0, longer - out) for longer, out in zip(whole, geometry.out, strict=True)])
    points = 1
    for length, band in zip(reversed(whole), reversed(cuts), strict=True):
        x = xp.reshape(x, (points, -1, length + TAPS - 1))
        x = xp.permute_dims(halos(backend, x, band), (0, 2, 3, 1))
        x = product(backend, spread(backend, band.inputs, x), x)
        points *= n
    x = xp.permute_dims(xp.reshape(x, (points, -1, geometry.groups, geometry.inputs)), (0, 2, 1, 3))
    x = xp.permute_dims(backend.matmul(x, kernel), (0, 2, 1, 3))
    for band in cuts:
        points //= n
        x = xp.permute_dims(xp.reshape(x, (points, band.outputs.shape[1], band.blocks, -1)), (0, 2, 3, 1))
        x = product(backend, x, xp.matrix_transpose(spread(backend, band.outputs, x)))
    y = xp.reshape(x, (*geometry.y_shape[:2], *whole))
    return y if whole == [*geometry.out] else y[(..., *(slice(0, out) for out in geometry.out))]


def halos(backend: Backend, x: Array, band: Bands) -> Array:
    """The last axis in blocks, each with the elements that follow it: ``(p, r, s)`` to ``(p, r, blocks, step + 2)``."""
    xp, step, blocks = backend.xp, band.step, band.blocks
    if blocks == 1:
        return xp.expand_dims(x, axis=2)
    if backend.empty is not None:
        return backend.windows(x, (step + TAPS - 1,), (step,), (1,))
    own = xp.reshape(x[..., : blocks * step], (*x.shape[:2], blocks, step))
    return xp.concat([own, xp.stack([x[..., step + i :: step] for i in range(TAPS - 1)], axis=-1)], axis=-1)


def spread(backend: Backend, band: Array, x: Array) -> Array:
    """A band beside x, once for each of its products: one product with all of them would first merge its axes."""
    band = backend.from_numpy(band, x)
    return backend.xp.broadcast_to(band, (*x.shape[:2], *band.shape))


def product(backend: Backend, a: Array, b: Array) -> Array:
    """``a @ b``, whose axes are ``(p, q, r, c)``, as ``(p, r, q, c)``; written there at once into a buffer."""
    if backend.empty is None:
        return backend.xp.permute_dims(backend.matmul(a, b), (0, 2, 1, 3))
    y = backend.empty((a.shape[0], a.shape[2], a.shape[1], b.shape[3]), b.dtype)
    backend.xp.matmul(a, b, out=backend.xp.permute_dims(y, (0, 2, 1, 3)))
    return y


WINOGRAD = Algorithm(
    "winograd", unsupported, counts, execute, unit, prepare, block=block, fixed=fixed, crew=products_on
)
