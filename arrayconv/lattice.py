"""How an image lies in a table of its rows, among zeros, so that every corner of a sample's cell is one row away."""

from __future__ import annotations

from itertools import product
from math import prod
from operator import mul
from typing import Any, NamedTuple

from .geometry import Geometry

Array = Any


class Lattice(NamedTuple):
    """How x lies in the table of its rows, one an element and field, among zeros; in numbers of rows.

    ``sizes`` are those of x's axes, ``widths`` the zeros beside each axis and ``pitches`` its size with them, ``steps``
    the way from an element to the next along each axis, ``shifts`` that from the first corner of a cell to each,
    ``image`` that to the next image, and ``start`` that to the first element.
    From an offset of ``reach`` on, every position lies outside.
    """

    sizes: tuple[int, ...]
    widths: tuple[tuple[int, int], ...]
    pitches: tuple[int, ...]
    steps: tuple[int, ...]
    shifts: tuple[int, ...]
    image: int
    start: int
    reach: int


class Places(NamedTuple):
    """What depends on shapes alone: the integer position of each tap, ``(D, 1, outputs, 1, taps)``, and the row where
    each image and field starts, ``(images, 1, fields, 1)``.
    """

    base: Array
    start: Array


def make_lattice(geometry: Geometry, fields: int) -> Lattice:
    """Two zeros after an axis serve corners on both sides of it: those before it are those after the element before
    along the axis before. The first axis has its own, and a third, where the other axes' come before them.
    """
    widths = tuple((0 if axis else 3, 2) for axis in range(geometry.ndim))
    pitches = tuple(low + n + high for n, (low, high) in zip(geometry.sizes, widths, strict=True))
    steps = tuple(fields * prod(pitches[axis + 1 :]) for axis in range(geometry.ndim))
    shifts = tuple(sum(map(mul, bits, steps)) for bits in product((0, 1), repeat=geometry.ndim))
    reach = max(abs(axis.low) + axis.output * axis.stride + axis.window + axis.size for axis in geometry.axes)
    image, start = fields * prod(pitches), widths[0][0] * steps[0]
    return Lattice(geometry.sizes, widths, pitches, steps, shifts, image, start, 2 * reach + 8)
