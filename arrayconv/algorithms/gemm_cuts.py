"""How JAX's `gemm` is cut, and what that is of work: see `gemm_stacks.py`."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, prod
from typing import NamedTuple

from ..backend import Backend
from ..geometry import Geometry, WindowDimension, dilated
from ..program import Problem
from .algorithm import (
    ALGORITHMS,
    base_dilated,
    beyond_cache,
    block_shape,
    budget_of,
    fresh,
    groups_of,
    in_floats,
    padded,
    positions,
    tiles_of,
)
from .rates import Counts
from .sweep import piece_of

#: What a multiply-add takes of the time in which an element is copied (XLA on two cores: 5 and 170 ps).
SHARE = 0.03

#: Elements of the columns and the kernel that are multiplied at once where products are added up, and bytes of a part
#: of an image: buffers of 32 MiB and more are given back to the system after each call (4 images of 187 x 187, 48 to 16
#: channels, 3 x 3: 31 ms whole, 13 in rows).
MOST_COLUMNS, MOST_BYTES = 2**20, 2**24

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


def step_of(geometry: Geometry) -> int:
    """How far apart a tap's elements of the last axis lie, where other taps read those between."""
    axis = geometry.axes[-1] if geometry.axes else NO_AXIS
    return axis.stride if axis.kernel > 1 else 1


#: Slices that XLA stacks as it makes them; of more it holds every one, and then all once more.
FUSED = 8


def times_held(slices: int) -> int:
    """Copies of the columns."""
    return 1 if slices <= FUSED else 2


#: Of a product of numbers.
NO_AXIS = WindowDimension(1, 1)


class Split(NamedTuple):
    """Taps that are summed after the product, or 0, and elements of one image and group: places of the product, and
    what is held of its columns.
    """

    taps: int
    places: int
    columns: int

    def moved(self, geometry: Geometry) -> float:
        """What is copied, or written and read again, and the products of all rows."""
        again = self.taps * geometry.outputs * self.places
        return self.columns + again + SHARE * geometry.outputs * geometry.terms * self.places

    def held(self, geometry: Geometry) -> int:
        """Elements of one image and group: none where XLA multiplies x as it lies, into the result."""
        if is_viewed(geometry) and not geometry.is_padded:
            return 0
        copies = int(geometry.is_padded) + int(step_of(geometry) > 1)  # which is laid apart
        padded = copies * geometry.inputs * prod([axis.padded for axis in geometry.axes])
        return padded + self.columns + geometry.outputs * (self.taps * self.places + prod(geometry.out))


@lru_cache(maxsize=1024)  # what a call holds, what it costs and how it runs all ask for it
def split_of(geometry: Geometry) -> Split:
    """The taps of the first axis in the columns or not, as less is moved."""
    return min(split_as(geometry, False), split_as(geometry, True), key=lambda split: split.moved(geometry))


def split_as(geometry: Geometry, summed: bool) -> Split:
    """One or the other way, where the other serves: a stride would leave most of a sum unused."""
    places = prod(geometry.out)
    first = geometry.axes[0] if geometry.axes else NO_AXIS
    if not summed or first.stride > 1 or first.kernel == 1:
        return Split(0, places, times_held(geometry.taps) * geometry.terms * places)
    places, taps = first.padded * prod(geometry.out[1:]), geometry.taps // first.kernel
    return Split(first.kernel, places, times_held(taps) * geometry.inputs * taps * places)


def split_at(geometry: Geometry, piece: Geometry) -> Split:
    """Of a piece: rows that are summed are no fewer than the taps that make them overlap."""
    first, own = geometry.axes[0], piece.axes[0]
    is_short = own.output < min(first.output, first.window)
    return split_as(piece, split_of(geometry).taps > 0 and not is_short)


def is_whole(geometry: Geometry) -> bool:
    """Columns of one tap are a slice of x, of all images at once."""
    return geometry.taps == 1


def is_viewed(geometry: Geometry) -> bool:
    """Columns of one tap without a stride are x itself, with its zeros."""
    return is_whole(geometry) and all(axis.stride == 1 for axis in geometry.axes)


class Parts(NamedTuple):
    """Images, and where products are added up inputs and rows of their windows, that are multiplied at a time: divisors
    of all but rows, of which the last are fewer.
    """

    images: int
    inputs: int
    rows: int

    def steps(self, geometry: Geometry) -> int:
        """Products of each group."""
        rows = -(-geometry.window[0] // self.rows)
        return geometry.batch // self.images * max(1, geometry.inputs) // self.inputs * rows

    def share(self, geometry: Geometry) -> float:
        """Of the terms, what is multiplied at a time."""
        return self.inputs * self.rows / max(1, geometry.inputs * geometry.window[0])


def parts_of(geometry: Geometry) -> Parts:
    """One image, or several small ones. Where products are added up, all images and as many inputs as that leaves, or
    rows of one input if its columns are too many, or else one row of some images.
    """
    rows = geometry.window[0] if geometry.axes else 1
    if is_whole(geometry):
        return Parts(geometry.batch, geometry.inputs, rows)
    if is_taps_first(geometry):
        columns = max(1, geometry.groups * split_of(geometry).columns)
        return Parts(divisor(geometry.batch, FEW_COLUMNS // columns), geometry.inputs, rows)
    places, row = prod(geometry.out), geometry.taps // rows
    terms = MOST_COLUMNS // max(1, geometry.groups * (geometry.batch * places + geometry.outputs))
    if terms >= geometry.taps:
        return Parts(geometry.batch, divisor(geometry.inputs, terms // geometry.taps), rows)
    if terms >= row:
        return Parts(geometry.batch, 1, -(-rows // -(-rows // (terms // row))))
    return Parts(divisor(geometry.batch, MOST_COLUMNS // max(1, geometry.groups * places * row)), 1, 1)


#: Ways to cut an axis evenly that are tried.
TRIED = 256


def divisor(count: int, most: int) -> int:
    """The size of equal pieces of up to ``most``: about the largest there is, or 1."""
    least = -(-count // max(1, most))
    return next((count // n for n in range(max(1, least), min(count, least + TRIED)) if count % n == 0), 1)


def unit(problem: Problem, backend: Backend) -> int:
    """Bytes a position: padded inputs, columns and products."""
    geometry = problem.geometry
    if is_taps_first(geometry):
        return unit_of(problem, split_of(geometry))
    places, parts = prod(geometry.out), parts_of(geometry)
    read = parts.inputs * rows_read(geometry.axes[0], parts.rows) * prod([axis.padded for axis in geometry.axes[1:]])
    columns = times_held(places) * places * parts.share(geometry) * geometry.terms
    # a copy for each axis that gets zeros, of which two are held at a time
    padded = 2 * geometry.inputs * prod([axis.padded for axis in geometry.axes]) if pads_first(geometry) else 0
    held = COPIES * read + columns + padded + 2 * geometry.outputs * places
    return ceil(geometry.groups * held / max(1, places)) * problem.itemsize


#: Elements of x with its zeros up to which all of it is padded at once, by all threads; a larger one piece by piece.
PADDED = 2**22


def pads_first(geometry: Geometry) -> bool:
    return geometry.is_padded and geometry.padded_size <= PADDED


#: Of what a step reads of x: as it lies, with its zeros, moved to its place; and some for the loop of the last rows,
#: whose memory XLA may keep beside (its own counts are up to 5 % more with 4).
COPIES = 5


def rows_read(axis: WindowDimension, rows: int) -> int:
    """Elements of x along an axis that so many of the window's meet, at all places."""
    return dilated(rows, axis.window_dilation) + (axis.output - 1) * axis.stride


def unit_of(problem: Problem, split: Split) -> int:
    """Where taps are summed, or are not."""
    geometry = problem.geometry
    return -(-geometry.groups * split.held(geometry) // max(1, prod(geometry.out))) * problem.itemsize


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
    """XLA copies the images that it loops over, and the part of a kernel that a step reads; parts of an image are more
    than their share, since they overlap.
    """
    geometry = problem.geometry
    if is_swept(problem, block):
        return held_swept(problem, block) - prod(block) * unit(problem, backend)
    is_looped = at_once(geometry, block)[0] < block[0]
    part = 0.0 if is_taps_first(geometry) else parts_of(geometry).share(geometry) * prod(geometry.kernel_shape)
    return ceil(part) * problem.itemsize + (block[0] * image_bytes(problem) if is_looped else 0)


def held_swept(problem: Problem, block: tuple[int, ...]) -> int:
    """Bytes of a step, with the part of x that it reads."""
    geometry = problem.geometry
    piece = piece_of(geometry, block)
    read = geometry.inputs * prod(piece.sizes)
    return block[0] * geometry.groups * (read + split_at(geometry, piece).held(piece)) * problem.itemsize


def is_swept(problem: Problem, block: tuple[int, ...]) -> bool:
    """Whether a loop takes parts of images: of tiles that don't wait for each other XLA holds all columns at once."""
    geometry = problem.geometry
    return is_taps_first(geometry) and not is_whole(geometry) and block[1:] != geometry.out and problem.is_on_cpu


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """The images of a step where a loop takes some at a time, or rows of one; else all of some groups, or as much as
    fits of all groups. (`Backend.each_part`, which loops inside of a piece, copies its images: 32 of 128 x 56 x 56 took
    74 MiB and 206 ms, one at a time 10 and 179.)
    """
    geometry, each = problem.geometry, unit(problem, backend)
    whole = (geometry.batch, *geometry.out)
    if is_whole(geometry) or not is_taps_first(geometry) or not problem.is_on_cpu:
        is_small = places(problem, backend, whole) * each + fixed(problem, backend, whole) <= budget
        is_small = is_small or block_shape(geometry, each // max(1, geometry.groups), budget) == whole
        return whole if is_small else block_shape(geometry, each, budget)
    rows = rows_of(problem, min(budget, MOST_BYTES))
    if is_swept(problem, rows):
        return rows
    images = min(parts_of(geometry).images, budget // max(1, prod(rows) * each))
    return (max(1, images), *rows[1:])


@lru_cache(maxsize=1024)  # what it costs and how it runs both ask for it
def rows_of(problem: Problem, room: int) -> tuple[int, ...]:
    """The rows of an image that fit, with what they read beyond their share."""
    geometry = problem.geometry
    if unit_of(problem, split_of(geometry)) * prod(geometry.out) <= room:
        return (1, *geometry.out)
    geometry = Geometry(1, geometry.groups, geometry.inputs, geometry.outputs, geometry.axes)
    for split in (split_of(geometry), split_as(geometry, False)):
        each = unit_of(problem, split)
        rows = block_shape(geometry, each, room)
        if not is_swept(problem, rows):
            return rows
        beyond = held_swept(problem, rows) - prod(rows) * each
        rows = block_shape(geometry, each, room - beyond)
        if split_at(geometry, piece_of(geometry, rows)).taps == split.taps:
            return rows
    return rows


#: Pieces of the groups, which are no loop: a compiler sees each.
MOST_LISTED = 64


def groups(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """Of a piece: all, where it is one of a loop's."""
    geometry = problem.geometry
    if block != (geometry.batch, *geometry.out):
        return geometry.groups
    own = at_once(geometry, block) if problem.is_on_cpu else block
    return max(-(-geometry.groups // MOST_LISTED), groups_of(geometry, unit(problem, backend), own, budget_of(problem)))


def arrays(geometry: Geometry, size: float) -> Counts:
    """Of the kernel and the result, before and after all products."""
    viewed = "viewed " if is_whole(geometry) else ""  # a product is the result as it stands
    return {
        "call": 1.0,
        "kernel": prod(geometry.kernel_shape) * size,
        f"{viewed}output": prod(geometry.y_shape) * size,
        f"{viewed}memory": beyond_cache(geometry, size),
    }


def least(problem: Problem, backend: Backend) -> Counts:
    """Columns without the taps of the first axis, at no more places than there are outputs."""
    geometry, size = problem.geometry, in_floats(problem)
    if is_whole(geometry):
        return arrays(geometry, size)
    copied = positions(geometry) * geometry.groups * geometry.terms / geometry.window[0]
    return arrays(geometry, size) | {"column": copied * size}


def counts(problem: Problem, backend: Backend) -> Counts:
    """Of the slices, in which the last axis lies as a row of elements or of some that are ``step`` apart."""
    geometry, size, images = problem.geometry, in_floats(problem), problem.geometry.batch
    axis, outputs = geometry.axes[-1] if geometry.axes else NO_AXIS, geometry.outputs
    found = arrays(geometry, size)
    if is_taps_first(geometry):
        steps, taken, split = steps_of(problem, backend)
        slices, run, step = geometry.taps // max(1, split.taps), axis.output, axis.stride
        images = steps * taken
        copied = images * geometry.groups * split.columns
        products = images * geometry.groups * split.places * outputs * geometry.terms
        found["summed"] = images * geometry.groups * split.taps * split.places * outputs * size
    else:
        slices, parts = prod(geometry.out), parts_of(geometry)
        steps = parts.steps(geometry)
        run, step = axis.kernel, axis.window_dilation
        copied = times_held(slices) * images * geometry.groups * slices * geometry.terms
        products = images * geometry.groups * slices * geometry.terms * outputs
        found["added"] = steps * parts.images / max(1, geometry.batch) * prod(geometry.y_shape) * size
    is_viewed = is_whole(geometry) and step == 1
    columns = 0 if is_viewed else copied + found.get("summed", 0.0) / size
    held = prod(geometry.y_shape), columns / max(1, steps)  # a loop's steps share their buffers
    copied_x = padded(geometry, size)
    matrices = geometry.groups * (images if is_taps_first(geometry) else steps)
    return found | {
        "fresh": sum([fresh(size, count) for count in held]) + fresh(1.0, copied_x / max(1, steps)),
        "padded": copied_x,
        "loop": float(steps),
        "slice": float(steps * slices),
        "matrix": float(matrices),
        "viewed column" if is_viewed else "column" if step == 1 else "strided column": copied * size,
        "run": 0.0 if is_viewed else copied / max(1, run),
        "large product" if products * size >= LARGE * matrices else "product": products * size,
    }


def steps_of(problem: Problem, backend: Backend) -> tuple[int, int, Split]:
    """Steps of the loop, the images of each, and what these are: whole or rows."""
    geometry = problem.geometry
    own, split = block(problem, backend, budget_of(problem)), split_of(geometry)
    if not is_swept(problem, own):
        taken = parts_of(geometry).images
        return geometry.batch // taken, taken, split
    return tiles_of(geometry, own), own[0], split_at(geometry, piece_of(geometry, own))


#: Multiply-adds of one product from which threads and blocks of caches pay.
LARGE = 2**25
