"""The rewrite for a base dilation as one correlation: each residue of the outputs becomes an output channel.

`phases` runs one small correlation a residue; a stride of 128 would make 128 of them. Here their taps stand side by
side in one kernel, aligned by the inputs that they meet, zeros where a residue has none; a pixel shuffle interleaves
the channels (Shi et al. 2016, "Real-time single image and video super-resolution ...": the sub-pixel convolution).
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..backend import Backend
from ..geometry import Geometry, WindowDimension, dilated
from ..primitives import pad_zero
from ..program import Problem, Program, problems_of
from .algorithm import Algorithm
from .guard import guarded
from .interleave import interleave, run_settled, unfold
from .phases import axis_phases, woven
from .rates import Counts

Array = Any


class Merged(NamedTuple):
    """One axis: the tap of each residue and place (``kernel`` where it has none), and the axis of all residues."""

    taps: tuple[tuple[int, ...], ...]
    axis: WindowDimension


def merge(axis: WindowDimension) -> Merged:
    """Residues aligned at the earliest input that any of them meets."""
    found = axis_phases(axis)
    step = found[0].axis.window_dilation
    low = max(phase.axis.low for phase in found)
    starts = [low - phase.axis.low for phase in found]
    # No residue of an axis may meet a tap; one place without any keeps the kernel from being empty.
    length = max(1, *(start + dilated(phase.axis.kernel, step) for start, phase in zip(starts, found, strict=True)))
    rows = []
    for start, phase in zip(starts, found, strict=True):
        row = [axis.kernel] * length
        for place, tap in enumerate(range(axis.kernel)[phase.taps]):
            row[start + place * step] = tap
        rows.append(tuple(row))
    count = -(-axis.output // len(found))
    stride = found[0].axis.stride
    high = dilated(count, stride) + length - 1 - axis.size - low
    return Merged(tuple(rows), WindowDimension(axis.size, length, stride, low, high))


@lru_cache(maxsize=1024)  # whether it serves and what it costs ask for it too
def parts(geometry: Geometry) -> tuple[Geometry, ...]:
    merged = [merge(axis) for axis in geometry.axes]
    residues = prod(len(entry.taps) for entry in merged)
    axes = tuple([entry.axis for entry in merged])
    return (Geometry(geometry.batch, geometry.groups, geometry.inputs, geometry.outputs * residues, axes),)


#: The longest base dilation; each residue of an axis is a row of the kernel.
MOST = 2**16


def unsupported(problem: Problem, backend: Backend) -> str | None:
    if not problem.geometry.is_base_dilated:
        return "no axis has a base dilation"
    if (most := max(axis.base_dilation for axis in problem.geometry.axes)) > MOST:
        return f"a base dilation of {most}; it takes {MOST}"
    if (held := fixed(problem, backend)) > problem.settings.workspace // 2:
        return f"the kernel of all residues takes {held} bytes; settings(workspace=...) admits more"
    return None


def fixed(problem: Problem, backend: Backend, block: tuple[int, ...] = ()) -> int:
    """Bytes of the kernel of all residues, and of a copy while it is made."""
    return 2 * prod(parts(problem.geometry)[0].kernel_shape) * problem.itemsize


def counts(problem: Problem, backend: Backend) -> Counts:
    """Of the kernel and the interleaving; the planner adds the part."""
    return {"call": 1.0, "kernel": fixed(problem, backend) / 8, **woven(problem)}


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    geometry = program.geometry
    merged = [merge(axis) for axis in geometry.axes]
    (part,) = program.parts
    kernel = spread(backend, kernel, merged)

    def correlation(x: Array) -> Array:
        y = run_settled(part, backend, x, kernel)
        return shuffle(backend, geometry, y, [len(entry.taps) for entry in merged])

    if program.problem.is_integer:
        return correlation(x)
    return guarded(backend, geometry, x, correlation)


def spread(backend: Backend, kernel: Array, merged: list[Merged]) -> Array:
    """``(G * O, I, *k)`` as ``(G * O * R, I, *places)``, residues of all axes side by side."""
    xp, ndim = backend.xp, len(merged)
    kernel = pad_zero(xp, kernel, [(0, 1)] * ndim)
    for i, entry in enumerate(merged, 2):
        index = backend.from_numpy(np.asarray(entry.taps).reshape(-1), kernel)
        kernel = xp.take(kernel, index, axis=i)
    outputs, inputs = kernel.shape[:2]
    shape = [n for entry in merged for n in (len(entry.taps), len(entry.taps[0]))]
    kernel = xp.reshape(kernel, (outputs, inputs, *shape))
    kernel = xp.permute_dims(kernel, (0, *range(2, 2 + 2 * ndim, 2), 1, *range(3, 2 + 2 * ndim, 2)))
    return xp.reshape(kernel, (outputs * prod(shape[::2]), inputs, *shape[1::2]))


#: Residues of an axis beyond which their places are runs that are worth one copy in another order.
FEW = 8


def shuffle(backend: Backend, geometry: Geometry, y: Array, residues: list[int]) -> Array:
    """``(N, G * O * R, *m)`` as ``(N, G * O, *o)``."""
    if max(residues) > FEW:
        return unfold(backend.xp, geometry, y, residues)
    count = prod(residues)
    y = interleave(backend, [y[:, residue::count, ...] for residue in range(count)], residues)
    return y[(..., *(slice(0, n) for n in geometry.out))]


SUBPIXEL = Algorithm("subpixel", unsupported, counts, execute, parts=problems_of(parts), fixed=fixed)
