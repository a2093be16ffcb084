"""The rewrite for a base dilation (the gradient of a stride, a transposed convolution): no zero is inserted.

Output ``j = r + P * m`` meets only the taps ``t = t0 + T * u`` with ``j * stride + t * wd - low`` divisible by the base
dilation ``b``; with ``P = b / gcd(stride, b)`` and ``T = b / gcd(wd, b)`` each residue ``r`` is a correlation of the
undilated x with every T-th tap, at stride ``stride / gcd(stride, b)`` and window dilation ``wd / gcd(wd, b)``. The
results interleave (sub-pixel decomposition: Shi et al. 2016, "Is the deconvolution layer the same as a convolutional
layer?").
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import gcd, prod
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry, WindowDimension, dilated
from ..program import Problem, Program, problems_of
from .algorithm import Algorithm, in_floats
from .interleave import interleave, run_settled
from .rates import Counts

Array = Any


class Phase(NamedTuple):
    """One residue of the outputs of an axis: which taps it meets, and the axis that computes it."""

    taps: slice
    axis: WindowDimension


def axis_phases(axis: WindowDimension) -> tuple[Phase, ...]:
    """The residues of one axis in order, each padded to the same number of outputs."""
    base, window_dilation = axis.base_dilation, axis.window_dilation
    shared, period = gcd(window_dilation, base), base // gcd(axis.stride, base)
    every, steps, stride = base // shared, window_dilation // shared, axis.stride // gcd(axis.stride, base)
    count = -(-axis.output // period)
    phases = []
    inverse = pow(steps, -1, every)
    for residue in range(period):
        # the least t with (first + t * window_dilation) % base == 0, if there is one
        first = residue * axis.stride - axis.low
        start = axis.kernel if first % shared else min(axis.kernel, -(first // shared) * inverse % every)
        kernel = len(range(start, axis.kernel, every))
        low = -((first + start * window_dilation) // base)
        high = dilated(count, stride) + dilated(kernel, steps) - 1 - axis.size - low
        sub = WindowDimension(axis.size, kernel, stride, low, high, steps)
        phases.append(Phase(slice(start, None, every), sub))
    return tuple(phases)


def residues(geometry: Geometry) -> int:
    """Of all axes together."""
    return prod([axis.base_dilation // gcd(axis.stride, axis.base_dilation) for axis in geometry.axes])


#: Residues that are worth a program each.
MOST_PARTS = 2**16


def phases(geometry: Geometry) -> Iterator[tuple[Phase, ...]]:
    """All combinations of the axes' residues, the last axis fastest."""
    return product(*map(axis_phases, geometry.axes))


def parts(geometry: Geometry) -> tuple[Geometry, ...]:
    channels = geometry.batch, geometry.groups, geometry.inputs, geometry.outputs
    return tuple([Geometry(*channels, tuple([phase.axis for phase in own])) for own in phases(geometry)])


def unsupported(problem: Problem, backend: Backend) -> str | None:
    if not problem.geometry.is_base_dilated:
        return "no axis has a base dilation"
    if (count := residues(problem.geometry)) > MOST_PARTS:
        return f"{count} residues; it takes {MOST_PARTS}"
    return None


def counts(problem: Problem, backend: Backend) -> Counts:
    """Of the interleaving; the planner adds the parts."""
    return {"call": 1.0, "part": float(residues(problem.geometry)), **woven(problem)}


def woven(problem: Problem) -> Counts:
    """Elements that are interleaved, one axis after the other on most libraries."""
    return {"output": prod(problem.geometry.y_shape) * in_floats(problem)}


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    geometry, results = program.geometry, list[Array]()
    for combination, part in zip(phases(geometry), program.parts, strict=True):
        taps = kernel[(..., *(phase.taps for phase in combination))]
        results.append(run_settled(part, backend, x, taps))
    y = interleave(backend, results, [len(axis_phases(axis)) for axis in geometry.axes])
    return y[(..., *(slice(0, n) for n in geometry.out))]


PHASES = Algorithm("phases", unsupported, counts, execute, parts=problems_of(parts))
