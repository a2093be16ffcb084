"""`kn2row` of a transposed convolution, for a compiler: products of x with all taps, summed for each residue of y.

x is padded once for all residues (`subpixel.merge`), and multiplied by the taps that there are; `subpixel` multiplies
as many zeros as make all residues alike, and copies x for each of their places.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from math import prod
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry
from ..program import Problem, Program
from ..transposes import VECTOR
from .algorithm import Algorithm, budget_of, fresh, in_floats
from .gemm_cuts import divisor
from .gemm_stacks import rows_of
from .interleave import interleave
from .kn2row_tiles import products_of, refused, too_wide
from .rates import Counts
from .subpixel import merge, parts
from .tiles import Tile, Tiling, make_tiling, run_tiled

Array = Any

#: Floats of an image, its zeros and products included, from which a loop over images is the faster way: these stay in
#: caches (4 images of 32 channels of 128 x 128 to 4, 4 x 4 taps: 5.8 ms at once, 4.6 so), and each is worth all threads
#: (32 of 128 channels of 32 x 32 to 3, 5 x 5 taps: 12 ms at once, 18 in a loop).
LOOPED = 2**18


class Residues(NamedTuple):
    """Zeros around x, how many residues each axis has, and of each of them the taps and where their products lie."""

    widths: tuple[tuple[int, int], ...]
    counts: tuple[int, ...]
    out: tuple[int, ...]
    parts: tuple[tuple[tuple[int, tuple[Any, ...]], ...], ...]
    images: int


def residues_of(problem: Problem, geometry: Geometry) -> Residues:
    """Taps are numbered as the kernel has them, the last axis fastest."""
    merged, numbers = [merge(axis) for axis in geometry.axes], range(geometry.taps)
    taps = dict(zip(product(*map(range, geometry.window)), numbers, strict=True))
    out, residues = tuple([own.axis.output for own in merged]), []
    for rows in product(*[own.taps for own in merged]):
        met = [
            [(place, tap) for place, tap in enumerate(row) if tap < axis.kernel]
            for row, axis in zip(rows, geometry.axes, strict=True)
        ]
        found = []
        for pairs in product(*met):
            source = [slice(place, place + n) for (place, _), n in zip(pairs, out, strict=True)]
            found.append((taps[tuple(tap for _, tap in pairs)], (..., *source)))
        residues.append(tuple(found))
    widths = tuple([(own.axis.low, own.axis.high) for own in merged])
    return Residues(widths, tuple([len(own.taps) for own in merged]), out, tuple(residues), images_of(problem))


def read(geometry: Geometry) -> int:
    """Elements of each channel of an image with its zeros."""
    return prod([axis.padded for axis in parts(geometry)[0].axes])


def image_floats(geometry: Geometry) -> int:
    """Of an image: x with its zeros, the products, and the result twice."""
    channels = geometry.inputs + geometry.taps * geometry.outputs
    return geometry.groups * (channels * read(geometry) + 2 * geometry.outputs * prod(geometry.out))


def images_of(problem: Problem) -> int:
    """Images at a time: one that is large alone, or as many as the workspace holds."""
    geometry, floats = problem.geometry, image_floats(problem.geometry)
    room = budget_of(problem) // max(1, floats * problem.itemsize)
    return 1 if floats > LOOPED else max(1, min(geometry.batch, room))


def unsupported(problem: Problem, backend: Backend) -> str | None:
    geometry = problem.geometry
    if not geometry.is_base_dilated:
        return f"gemm adds up the products of the first axis's taps on {backend.name}"
    if geometry.taps > backend.most_slices:
        return f"{geometry.taps} shifted slices; {backend.name} takes {backend.most_slices}"
    if (reason := refused(problem) or too_wide(geometry)) is not None:
        return reason
    if geometry.inputs < VECTOR:
        return f"{geometry.inputs} channels in; it takes {VECTOR}, and fewer are summed without a product"
    if (bytes_held := fixed(problem, backend)) > budget_of(problem):
        return f"the products of an image take {bytes_held} bytes; settings(workspace=...) admits more"
    return None


def fixed(problem: Problem, backend: Backend, block: tuple[int, ...] = ()) -> int:
    """Bytes of the images that are multiplied at a time."""
    return images_of(problem) * image_floats(problem.geometry) * problem.itemsize


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """One piece, which loops over images."""
    return (problem.geometry.batch, *problem.geometry.out)


def counts(problem: Problem, backend: Backend) -> Counts:
    geometry, size = problem.geometry, in_floats(problem)
    places = geometry.batch * geometry.groups * read(geometry) * size
    made, y = places * geometry.outputs * geometry.taps, prod(geometry.y_shape)
    return {
        "call": 1.0,
        "tile": geometry.batch / images_of(problem),
        "matrix": float(geometry.batch * geometry.groups),
        "product": made * geometry.inputs,
        "column": made,
        "input": places * geometry.inputs,
        "kernel": geometry.batch * prod(geometry.kernel_shape) * size,
        "output": y * size,
        "fresh": fresh(size, y),
    }


def least(problem: Problem, backend: Backend) -> Counts:
    """The padded x and its products are counted soon."""
    return {}


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    return make_tiling(problem, backend, block, partial(residues_of, problem), pads=False)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    def compute(tile: Tile, x: Array, rows: Array) -> Array:
        own: Residues = tile.details
        images = divisor(x.shape[0], own.images)
        return backend.each_part(partial(add_residues, backend, tile.geometry, own, rows), x, images)

    return run_tiled(program, backend, x, rows_of(backend, program.geometry, program.geometry.taps, kernel), compute)


def add_residues(backend: Backend, geometry: Geometry, own: Residues, rows: Array, x: Array) -> Array:
    """``(n, G * I, *s)`` as ``(n, G * O, *o)``."""
    xp = backend.xp
    x = backend.hold(backend.pad(x, own.widths)) if any(map(any, own.widths)) else x
    products = products_of(backend, geometry, rows, x)
    shape = (x.shape[0], geometry.groups * geometry.outputs, *own.out)

    def total(residue: Sequence[tuple[int, tuple[Any, ...]]]) -> Array:
        """Of a residue; one may meet no tap."""
        found = [products[:, :, tap, ...][source] for tap, source in residue]
        return xp.reshape(sum(found[1:], found[0]), shape) if found else xp.zeros(shape, dtype=x.dtype)

    y = interleave(backend, [total(residue) for residue in own.parts], own.counts)
    return y[(..., *[slice(0, n) for n in geometry.out])]


RESIDUES = Algorithm("kn2row", unsupported, counts, execute, prepare=prepare, block=block, fixed=fixed, least=least)
