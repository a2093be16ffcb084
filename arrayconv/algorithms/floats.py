"""Integers as floats of double precision, whose matrix products and transforms libraries are fast with.

A sum of integers is exact in float64 while no partial sum exceeds 2^53, in whatever order it is added up; and it needs
no wrapping while its type holds it (small types are widened, and wrap in the end). Neither is more than
``max|x| * sum|kernel|``, which each call looks up; where that is too much, or values are hidden by a transformation,
another program runs. `floats` admits the ways that add up products, `rounded` transforms too, whose results are rounded
to the nearest integer.

A transform of n points errs by no more than ``t * eta`` of its result's 2-norm, with t = log2(n) and eta about 7 units
of rounding u (Higham 2002, "Accuracy and Stability of Numerical Algorithms", theorem 24.2). With X, K the transforms of
a tile of x and of the kernel, the error of their product is ``dX * K + X * dK``, and no element exceeds its 2-norm:
``|K| <= sum|k|``, ``||x|| <= sqrt(n) max|x|``, ``|X| <= n max|x|``. Back in place, with the error of the way back,

    |dy| <= t * eta * max|x| * (2 * sqrt(n) * sum|k| + n * sqrt(sum k^2)).

Passes of 3 and 5 add up more numbers at once than Higham's of 2: `ETA` is twice 7.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import log2, prod, sqrt
from typing import Any, NamedTuple

import numpy as np

from ..backend import Backend
from ..program import ROUNDED as ROUNDED_ACCURACY
from ..program import Problem, Program
from .algorithm import Algorithm, base_dilated, run
from .fft_tiles import lengths_of
from .rates import Counts
from .values import hidden, shown

Array = Any

#: Below the largest integer up to which float64 holds them all: the sum of a kernel is itself one of floats.
LARGEST = 2.0**52

#: A unit of rounding, and those of a transform for each doubling of its length.
UNIT, ETA = 2.0**-53, 14

#: An error that leaves no doubt to which integer a result is rounded.
NEAR = 0.25

#: Types whose sums are wider.
WIDER = dict.fromkeys(("int8", "uint8", "int16", "uint16"), "int32")


class Sizes(NamedTuple):
    """The largest element of x; of the kernel of any output, the sum of magnitudes, and of the 2-norms of channels."""

    x: float
    total: float
    norm: float


def sizes_of(x: np.ndarray[Any, Any], kernel: np.ndarray[Any, Any]) -> Sizes:
    kernel = np.abs(kernel.reshape(*kernel.shape[:2], -1).astype(np.float64))
    norms = np.sqrt(np.sum(kernel * kernel, axis=2))
    largest = max(abs(int(x.min())), abs(int(x.max())))
    return Sizes(float(largest), float(kernel.sum(axis=(1, 2)).max()), float(norms.sum(axis=1).max()))


def error(program: Program, backend: Backend, sizes: Sizes) -> float:
    """Bound of the largest one of a float program; sums of products have none."""
    found = [error(part, backend, sizes) for part in program.parts]
    if program.algorithm == "fft":
        points = prod(lengths_of(backend, program.geometry, program.block))
        reach = 2 * sqrt(points) * sizes.total + points * sizes.norm
        units = ETA * log2(points) + program.geometry.inputs + 4  # of both ways, sums over channels, products
        found.append(units * UNIT * sizes.x * reach)
    return max(found, default=0.0)


def serves(program: Program, backend: Backend, x: Array, kernel: Array) -> bool:
    """Whether floats give these arrays' sums exactly."""
    values = shown(backend, x, kernel)
    if values is None:
        return False
    sizes = sizes_of(*values)
    most = min(LARGEST, float(np.iinfo(program.parts[0].problem.dtype).max))
    return sizes.x * sizes.total < most and error(program.parts[0], backend, sizes) < NEAR


def unsupported(problem: Problem, backend: Backend) -> str | None:
    if not problem.is_integer:
        return "it is for sums of integers"
    if (reason := hidden(problem, backend, "arrays'") or base_dilated(problem)) is not None:
        return reason
    if (least := held(problem, backend)) > problem.settings.workspace // 2:
        return f"a look at the kernel, and wider integers, take {least} bytes; settings(workspace=...) admits more"
    return None


def held(problem: Problem, backend: Backend, block: tuple[int, ...] = ()) -> int:
    """Bytes of the kernel's magnitudes, and of their squares; of what is widened."""
    return 16 * prod(problem.geometry.kernel_shape) + 4 * widened(problem)


def widened(problem: Problem) -> int:
    """Elements of wider types."""
    geometry = problem.geometry
    arrays = geometry.x_shape, geometry.kernel_shape, geometry.y_shape
    return sum(map(prod, arrays)) if problem.dtype in WIDER else 0


def counts(problem: Problem, backend: Backend) -> Counts:
    """Of the look, and of all casts; the planner adds the part."""
    x, y = prod(problem.geometry.x_shape), prod(problem.geometry.y_shape)
    casts = {"input": float(x), "output": float(y), "widened": float(widened(problem))}
    return {"call": 1.0, "byte": float(x * problem.itemsize)} | casts


def in_floats(accuracy: str) -> Callable[[Problem], tuple[Problem, ...]]:
    """The same sums of float64."""

    def parts(problem: Problem) -> tuple[Problem, ...]:
        dtype, settings = WIDER.get(problem.dtype, problem.dtype), problem.settings._replace(accuracy=accuracy)
        return (replace(problem, dtype=dtype, accumulator="float64", settings=settings),)

    return parts


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    assert program.otherwise is not None
    if not serves(program, backend, x, kernel):
        return run(program.otherwise, backend, x, kernel)
    (part,) = program.parts
    if part.problem.dtype == program.problem.dtype:
        return run(part, backend, x, kernel)
    wide = backend.dtype(part.problem.dtype)
    return backend.cast(run(part, backend, backend.cast(x, wide), backend.cast(kernel, wide)), x.dtype)


FLOATS = Algorithm(
    "floats",
    unsupported,
    counts,
    execute,
    parts=in_floats("elementwise"),
    fixed=held,
    condition="while no sum rounds",
)
ROUNDED = FLOATS._replace(name="rounded", parts=in_floats(ROUNDED_ACCURACY))
