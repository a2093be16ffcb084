"""`gemm` for a compiler: columns are stacked from slices of x, for one image or one input channel after the other.

With fewer taps than outputs a tap is a slice of x, and an image's columns are one matrix. The taps of the first axis
may be left out of it: these are output channels of a wider product, ``P[t, o, r]`` for all rows r of x, and
``y[o, r] = sum over t of P[t, o, r + t * dilation]`` adds up what lies a few rows apart. Columns are as many times
fewer. (kn2row: Anderson et al. 2017, "Low-memory GEMM-based convolution algorithms", arXiv:1709.03395.)

With fewer outputs than taps, as a kernel gradient has them, an output is a slice of x, and products of some input
channels at a time are added up.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from math import prod
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry, WindowDimension
from ..primitives import pad_zero, tap_slice
from ..program import Problem, Program
from .algorithm import (
    ALGORITHMS,
    Algorithm,
    Tiling,
    base_dilated,
    beyond_cache,
    block_shape,
    budget_of,
    fresh,
    groups_of,
    in_floats,
    make_tiling,
    prepared,
    run_tiled,
)
from .rates import Counts

Array = Any

#: What a multiply-add takes of the time in which an element is copied (XLA on two cores: 5 and 170 ps).
SHARE = 0.03

#: Elements of the columns that are made at once where products are added up, and bytes of a part of an image: buffers
#: of 32 MiB and more are given back to the system after each step (4 images of 187 x 187, 48 to 16 channels, 3 x 3: 31
#: ms whole, 13 in rows).
MOST_COLUMNS, MOST_BYTES = 2**21, 2**24

#: Elements of the columns of several small images that are made at once: a step of a loop takes some 20 us.
FEW_COLUMNS = 2**15


def unsupported(problem: Problem, backend: Backend) -> str | None:
    count = slice_count(problem.geometry)
    if count > backend.most_slices and ALGORITHMS["native"].unsupported(problem, backend) is None:
        return f"{count} shifted slices; {backend.name} takes {backend.most_slices}"
    return base_dilated(problem)


def is_taps_first(geometry: Geometry) -> bool:
    """Whether a slice is a tap at all places, or an output's window."""
    return geometry.taps <= prod(geometry.out)


def slice_count(geometry: Geometry) -> int:
    """Slices of an image or a part of the inputs, but for those that are left out."""
    return min(geometry.taps, prod(geometry.out))


#: Of a product of numbers.
NO_AXIS = WindowDimension(1, 1)


class Split(NamedTuple):
    """Taps that are summed after the product, or 0, and elements of one image and group: places of the product, and
    its columns.
    """

    taps: int
    places: int
    columns: int

    def moved(self, geometry: Geometry) -> float:
        """What is copied, or written and read again, and the products of all rows."""
        again = self.taps * geometry.outputs * self.places
        return self.columns + again + SHARE * geometry.outputs * geometry.terms * self.places


def split_of(geometry: Geometry) -> Split:
    """The taps of the first axis in the columns or not, as less is moved; a stride would leave most of a sum unused."""
    places = prod(geometry.out)
    whole = Split(0, places, geometry.terms * places)
    first = geometry.axes[0] if geometry.axes else NO_AXIS
    if first.stride > 1 or first.kernel == 1:
        return whole
    places = first.padded * prod(geometry.out[1:])
    rows = Split(first.kernel, places, geometry.terms // first.kernel * places)
    return min(whole, rows, key=lambda split: split.moved(geometry))


def is_whole(geometry: Geometry) -> bool:
    """Columns of one tap are a slice of x, of all images at once."""
    return geometry.taps == 1


class Parts(NamedTuple):
    """Images, and inputs where products are added up, that are multiplied at a time: divisors of all."""

    images: int
    inputs: int


def parts_of(geometry: Geometry) -> Parts:
    """One image, or several small ones. Where products are added up, all images if their columns of one input are few
    enough, then as many inputs as that leaves.
    """
    if is_whole(geometry):
        return Parts(geometry.batch, geometry.inputs)
    if is_taps_first(geometry):
        columns = max(1, geometry.groups * split_of(geometry).columns)
        return Parts(divisor(geometry.batch, FEW_COLUMNS // columns), geometry.inputs)
    one = max(1, geometry.groups * prod(geometry.out) * geometry.taps)
    images = divisor(geometry.batch, MOST_COLUMNS // one)
    return Parts(images, divisor(geometry.inputs, MOST_COLUMNS // (one * images)))


#: Ways to cut an axis evenly that are tried.
TRIED = 256


def divisor(count: int, most: int) -> int:
    """The size of equal pieces of up to ``most``: about the largest there is, or 1."""
    least = -(-count // max(1, most))
    return next((count // n for n in range(max(1, least), min(count, least + TRIED)) if count % n == 0), 1)


def unit(problem: Problem, backend: Backend) -> int:
    """Bytes a position: padded inputs, columns and products."""
    geometry = problem.geometry
    places = max(1, prod(geometry.out))
    if is_taps_first(geometry):
        split = split_of(geometry)
        held = geometry.inputs * prod([axis.padded for axis in geometry.axes]) + split.columns
        held += geometry.outputs * (split.taps * split.places + places)
    else:
        held = parts_of(geometry).inputs * (prod([axis.padded for axis in geometry.axes]) + places * geometry.taps)
        held += 2 * geometry.outputs * places
    return -(-geometry.groups * held // places) * problem.itemsize


def at_once(geometry: Geometry, block: tuple[int, ...]) -> tuple[int, ...]:
    """The images of a block that its loop takes together."""
    return (min(parts_of(geometry).images, block[0]), *block[1:])


def places(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    return prod(at_once(problem.geometry, block) if problem.is_on_cpu else block)


def image_bytes(problem: Problem) -> int:
    """Of x."""
    geometry = problem.geometry
    return geometry.groups * geometry.inputs * prod(geometry.sizes) * problem.itemsize


def fixed(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """XLA copies what it loops over."""
    is_looped = at_once(problem.geometry, block)[0] < block[0]
    return block[0] * image_bytes(problem) if is_looped else 0


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """As many images as fit where a loop holds some at a time, or some rows of it; else as much as fits, of few groups
    first.
    """
    geometry, each = problem.geometry, unit(problem, backend)
    whole = (geometry.batch, *geometry.out)
    if is_whole(geometry) or not is_taps_first(geometry) or not problem.is_on_cpu:
        is_small = places(problem, backend, whole) * each + fixed(problem, backend, whole) <= budget
        return whole if is_small else block_shape(geometry, each // max(1, geometry.groups), budget)
    rows = block_shape(replace(geometry, batch=1), each, min(budget, MOST_BYTES))
    held, copied = prod(rows) * each, max(1, image_bytes(problem))
    together = parts_of(geometry).images * held
    images = (budget - together) // copied if together < budget else budget // (held + copied)
    return (max(1, min(geometry.batch, images)), *rows[1:])


def groups(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    own = at_once(problem.geometry, block) if problem.is_on_cpu else block
    return groups_of(problem.geometry, unit(problem, backend), own, budget_of(problem))


def counts(problem: Problem, backend: Backend) -> Counts:
    """Of the slices, in which the last axis lies as a row of elements or of some that are ``step`` apart."""
    geometry, size, images = problem.geometry, in_floats(problem), problem.geometry.batch
    axis, outputs = geometry.axes[-1] if geometry.axes else NO_AXIS, geometry.outputs
    parts = parts_of(geometry)
    all_places = images * geometry.groups * prod(geometry.out)
    found = {
        "call": 1.0,
        "kernel": prod(geometry.kernel_shape) * size,
        "output": prod(geometry.y_shape) * size,
        "memory": beyond_cache(geometry, size),
    }
    if is_taps_first(geometry):
        split = split_of(geometry)
        steps = images // parts.images
        slices, run, step = geometry.taps // max(1, split.taps), axis.output, axis.stride
        copied = images * geometry.groups * split.columns
        products = images * geometry.groups * split.places * outputs * geometry.terms
        found["summed"] = images * geometry.groups * split.taps * split.places * outputs * size
    else:
        slices = prod(geometry.out)
        steps = geometry.batch // parts.images * max(1, geometry.inputs) // parts.inputs
        run, step = axis.kernel, axis.window_dilation
        copied = all_places * geometry.terms
        products = copied * outputs
        found["added"] = max(1, geometry.inputs) // parts.inputs * prod(geometry.y_shape) * size
    is_viewed = is_whole(geometry) and step == 1
    held = [prod(geometry.y_shape), 0 if is_viewed else copied + found.get("summed", 0.0) / size]
    matrices = geometry.groups * (images if is_taps_first(geometry) else steps)
    return found | {
        "fresh": fresh(size, held[0]) + steps * fresh(size, held[1] / max(1, steps)),
        "loop": float(steps),
        "slice": float(steps * slices),
        "matrix": float(matrices),
        "viewed column" if is_viewed else "column" if step == 1 else "strided column": copied * size,
        "run": 0.0 if is_viewed else copied / max(1, run),
        product_kind(problem, products * size / max(1.0, matrices)): products * size,
    }


#: Multiply-adds of one product from which threads and blocks of caches pay.
LARGE = 2**25


def product_kind(problem: Problem, each: float) -> str:
    """Of products of so many multiply-adds."""
    return "integer product" if problem.is_integer else "large product" if each >= LARGE else "product"


class Stacks(NamedTuple):
    """A tile's zeros, the slices of one image or of some inputs, and how products are added up.

    ``x`` and ``y`` are shapes without the batch, ``sums`` the places of a product for each tap of the first axis, none
    where these are in the columns. ``parts`` are multiplied at a time.
    """

    widths: tuple[tuple[int, int], ...]
    x: tuple[int, ...]
    slices: tuple[Any, ...]
    sums: tuple[slice, ...]
    y: tuple[int, ...]
    parts: Parts


def details(taps_first: bool, summed: bool, parts: Parts, geometry: Geometry) -> Stacks:
    axes, sums = geometry.axes, list[slice]()
    if summed:  # the product has a place for every row of x
        first, row, places = axes[0], prod(geometry.out[1:]), prod(geometry.out)
        starts = [tap * first.window_dilation * row for tap in range(first.kernel)]
        sums = [slice(start, start + places) for start in starts]
        axes = (WindowDimension(first.padded, 1), *axes[1:])
    window, out = [axis.kernel for axis in axes], [axis.output for axis in axes]
    stride, dilation = [axis.stride for axis in axes], [axis.window_dilation for axis in axes]
    if taps_first:
        slices = [tap_slice(tap, out, stride, dilation) for tap in product(*map(range, window))]
    else:
        slices = [tap_slice(place, window, dilation, stride) for place in product(*map(range, out))]
    return Stacks(
        tuple((axis.low, axis.high) for axis in geometry.axes),
        (geometry.groups, geometry.inputs, *(axis.padded for axis in geometry.axes)),
        tuple(slices),
        tuple(sums),
        geometry.y_shape[1:],
        parts,
    )


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    """All tiles in one order, since they share the kernel's rows."""
    geometry = problem.geometry
    taps_first = is_taps_first(geometry)
    summed = taps_first and split_of(geometry).taps > 0
    own = partial(details, taps_first, summed, parts_of(geometry))
    return make_tiling(problem, block, own, pads=False, groups=groups(problem, backend, block))


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    """``rows (G, t O, I r)``: t taps are summed after the product, r are in the columns."""
    xp, geometry = backend.xp, program.geometry
    own: Stacks = prepared(program, backend).tiles[0].details
    shape = (geometry.groups, geometry.outputs, geometry.inputs, len(own.sums) or 1, -1)
    rows = xp.permute_dims(xp.reshape(kernel, shape), (0, 3, 1, 2, 4))
    rows = xp.reshape(rows, (geometry.groups, shape[3] * geometry.outputs, geometry.terms // shape[3]))
    taps_first = is_taps_first(geometry)

    def compute(tile: Any, x: Array, rows: Array) -> Array:
        own: Stacks = tile.details
        some = partial(image if taps_first else added, backend, own, rows)
        return backend.each_part(some, x, divisor(x.shape[0], own.parts.images))

    return run_tiled(program, backend, x, rows, compute)


def image(backend: Backend, own: Stacks, rows: Array, x: Array) -> Array:
    """Products of all images with the columns of each.

    Without axes of one element, for whose reshapes XLA copies the columns once more.
    """
    xp, images, groups = backend.xp, x.shape[0], rows.shape[0]
    lead = tuple(n for n in (images, groups) if n > 1)
    x = xp.reshape(padded(backend, own, x), (*lead, *own.x[1:]))
    parts = [x[part] for part in own.slices]
    columns = parts[0] if len(parts) == 1 else xp.stack(parts, axis=len(lead) + 1)
    columns = backend.hold(xp.reshape(columns, (*lead, rows.shape[2], -1)))
    y = backend.matmul(rows if groups > 1 else rows[0, ...], columns)
    if own.sums:
        y = backend.hold(y)
        each = rows.shape[1] // len(own.sums)
        y = backend.hold(sum_taps([y[..., i * each : (i + 1) * each, part] for i, part in enumerate(own.sums)]))
    return xp.reshape(y, (images, *own.y))


def sum_taps(parts: list[Array]) -> Array:
    return sum(parts[1:], parts[0])


def padded(backend: Backend, own: Stacks, x: Array) -> Array:
    """``(N, G I, *s)`` as ``(N, G, I, *padded)``."""
    if any(map(any, own.widths)):
        x = backend.hold(pad_zero(backend.xp, x, own.widths))
    groups, _, *sizes = own.x
    return backend.xp.reshape(x, (x.shape[0], groups, x.shape[1] // groups, *sizes))


def added(backend: Backend, own: Stacks, rows: Array, x: Array) -> Array:
    """Products of some inputs after the others, of all these images: ``(G, N P, i k) @ (G, i k, O)``."""
    xp, images, (groups, inputs, *sizes) = backend.xp, x.shape[0], own.x
    step = divisor(inputs, own.parts.inputs)
    count = max(1, inputs) // step

    def some(x: Array, rows: Array) -> Array:
        x = padded(backend, own, x)
        if groups == 1:
            parts = [xp.reshape(x, (images, -1, *sizes))[part] for part in own.slices]
            columns, rows = xp.stack(parts, axis=1), rows[0, ...]
        else:
            x = backend.hold(xp.permute_dims(x, (1, 0, *range(2, x.ndim))))
            columns = xp.stack([x[part] for part in own.slices], axis=2)
        lead = (groups,) if groups > 1 else ()
        columns = backend.hold(xp.reshape(columns, (*lead, images * len(own.slices), -1)))
        return backend.matmul(columns, xp.matrix_transpose(rows))

    if count > 1:
        x = xp.reshape(x, (images, groups, count, step, *x.shape[2:]))
        x = xp.permute_dims(x, (2, 0, 1, *range(3, x.ndim)))
        x = xp.reshape(x, (count, images, groups * step, *x.shape[4:]))
        rows = xp.permute_dims(xp.reshape(rows, (*rows.shape[:2], count, -1)), (2, 0, 1, 3))
        y = backend.add_up(some, x, rows)
    else:
        y = some(x, rows)
    y = xp.reshape(y, (groups, images, len(own.slices), -1))
    return xp.reshape(xp.permute_dims(y, (1, 0, 3, 2)), (images, *own.y))


STACKED = Algorithm(
    "gemm", unsupported, counts, execute, unit, prepare, block=block, groups=groups, places=places, fixed=fixed
)
