"""Products of spectra, block by block: each tile is padded to a length that the FFT likes (overlap-save).

Half and single precision are transformed in double: the error of a transform is relative to the largest element of a
block, and in double that is below the rounding of single precision (DFT error growth: Higham 2002, section 24.1). What
is not finite would spread over its whole block, so it is taken out and put back where a window holds it.
"""

from __future__ import annotations

from math import inf, log2, prod
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry
from ..primitives import dilate
from ..program import Problem, Program
from .algorithm import Algorithm, Tile, Tiling, base_dilated, block_shape, make_tiling, run_tiled, tiling
from .guard import guarded
from .rates import Counts

Array = Any


def unsupported(problem: Problem, backend: Backend) -> str | None:
    if problem.is_integer:
        return "a transform of integers is not exact"
    if problem.dtype == "float64" or problem.dtype == "complex128":
        exact = True
    else:
        exact = problem.settings.accuracy == "normwise" or backend.dtype("float64") is not None
    if not exact:
        return f"{backend.name} has no float64 here; accuracy='normwise' admits float32 transforms"
    if not hasattr(backend.xp, "fft"):
        return f"{backend.name} has no Fourier transforms"
    least = fixed(problem, backend, (1,) * (1 + problem.geometry.ndim))
    if least > budget_of(problem) // 2:
        return f"the kernel's transform alone takes {least} bytes; settings(workspace=...) admits more"
    return base_dilated(problem)


def budget_of(problem: Problem) -> int:
    """Bytes that the planner gives to all tiles together."""
    return 3 * problem.settings.workspace // 4


def fast_length(n: int) -> int:
    """The least 2^a 3^b 5^c that is n or more: lengths for which every library's FFT has fast passes."""
    best = 1 << max(0, n - 1).bit_length()
    power5 = 1
    while power5 < best:
        power35 = power5
        while power35 < best:
            quotient = -(-n // power35)
            best = min(best, power35 << max(0, quotient - 1).bit_length())
            power35 *= 3
        power5 *= 5
    return best


class Details(NamedTuple):
    """Lengths of the transform, and where in it the results lie."""

    lengths: tuple[int, ...]
    results: tuple[slice, ...]


def details(geometry: Geometry) -> Details:
    """A correlation is a convolution with the flipped kernel, whose first full window ends at ``window - 1``."""
    return Details(
        tuple(fast_length(axis.size) for axis in geometry.axes),
        tuple(
            slice(axis.window - 1, axis.window + (axis.output - 1) * axis.stride, axis.stride) for axis in geometry.axes
        ),
    )


def unit(problem: Problem, backend: Backend) -> int:
    """Bytes a position: spectra of inputs and outputs, twice (a transform makes a copy)."""
    geometry = problem.geometry
    spread = prod([axis.stride for axis in geometry.axes])
    return geometry.groups * (geometry.inputs + geometry.outputs) * spread * 32


def fixed(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """Bytes of the kernel's spectrum, twice."""
    geometry = problem.geometry
    sizes = [axis.window + (n - 1) * axis.stride for axis, n in zip(geometry.axes, block[1:], strict=True)]
    return geometry.groups * geometry.outputs * geometry.inputs * prod(map(fast_length, sizes)) * 16


#: Points of a tile for each spatial axis: what is transformed stays in the cache while its axes are passed over.
POINTS = 2**16


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """Overlap-save: the batch is halved, then the first axis, while a tile is long beside its window and too large.

    A library with threads of its own transforms all at once, as far as the memory goes. All tiles share one spectrum of
    the kernel.
    """
    geometry = problem.geometry
    own = list(block_shape(geometry, unit(problem, backend), budget // 2))
    channels = geometry.groups * (geometry.inputs + geometry.outputs) / 2
    limit = geometry.ndim * POINTS / channels if backend.workers is not None else inf

    def length(i: int) -> int:
        axis = geometry.axes[i - 1]
        return axis.window + (own[i] - 1) * axis.stride if i else own[0]

    def halve(i: int) -> None:
        own[i] = -(-own[i] // 2)

    for i, full_size in enumerate((geometry.batch, *geometry.out)):
        least = 3 * geometry.axes[i - 1].window if i else 1
        while prod(map(length, range(len(own)))) > limit and own[i] > 1 and length(i) // 2 >= least:
            halve(i)
        own[i] = -(-full_size // -(-full_size // own[i]))
    shared = budget * (backend.workers.count if backend.workers is not None else 1)
    while fixed(problem, backend, tuple(own)) > shared // 2 and max(own[1:]) > 1:
        halve(own.index(max(own[1:]), 1))
    return tuple(own)


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    return make_tiling(problem, block, details)


def counts(problem: Problem, backend: Backend) -> Counts:
    """Points and steps of all transforms, and products of spectra; twice as many where a window as long as the image
    leaves one of two workers without a tile.
    """
    geometry = problem.geometry
    own = FFT.blocks(problem, backend, budget_of(problem))
    sizes = [axis.window + (n - 1) * axis.stride for axis, n in zip(geometry.axes, own[1:], strict=True)]
    points = prod(map(fast_length, sizes))
    blocks = prod([-(-axis.output // n) for axis, n in zip(geometry.axes, own[1:], strict=True)])
    images = geometry.batch * geometry.groups * blocks * points
    kernels = geometry.groups * geometry.inputs * geometry.outputs
    tiles = blocks * -(-geometry.batch // own[0])
    idle = max(1.0, min(FFT.workers(backend), points / POINTS) / tiles)
    transformed = (images * (geometry.inputs + geometry.outputs) + kernels * points) * idle
    return {
        "call": 1.0,
        "tile": float(tiles),
        "step": transformed * log2(points + 1),
        "point": transformed,
        "product" if geometry.inputs > 1 else "plain product": float(images * geometry.inputs * geometry.outputs),
    }


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    problem, geometry, xp = program.problem, program.geometry, backend.xp
    axes = tuple(range(-geometry.ndim, 0))
    wide = backend.dtype(_WIDE[problem.dtype]) or x.dtype
    forward, inverse = (xp.fft.fftn, xp.fft.ifftn) if problem.is_complex else (xp.fft.rfftn, xp.fft.irfftn)
    kernel = xp.flip(dilate(xp, kernel, [axis.window_dilation for axis in geometry.axes]), axis=axes)
    kernel = xp.reshape(kernel, (geometry.groups, geometry.outputs, geometry.inputs, *kernel.shape[2:]))
    spectra = {
        lengths: forward(backend.cast(kernel, wide), s=lengths, axes=axes)
        for lengths in sorted({tile.details.lengths for tile in tiling(program, backend).tiles})
    }

    def compute(tile: Tile, x: Array, kernel: Array) -> Array:
        return guarded(backend, tile.geometry, x, lambda x: transformed(tile, x))

    def transformed(tile: Tile, x: Array) -> Array:
        own, (lengths, results) = tile.geometry, tile.details
        spectrum = forward(backend.cast(x, wide), s=lengths, axes=axes)
        spectrum = xp.reshape(spectrum, (own.batch, own.groups, own.inputs, *spectrum.shape[2:]))
        mixed = mix(backend, spectrum, spectra[lengths])
        y = xp.reshape(inverse(mixed, s=lengths, axes=axes), (own.batch, own.groups * own.outputs, *lengths))
        return backend.cast(y[(slice(None), slice(None), *results)], x.dtype)

    return run_tiled(program, backend, x, kernel, compute)


def mix(backend: Backend, spectrum: Array, taps: Array) -> Array:
    """``(N, G, I, *f)`` and ``(G, O, I, *f)`` to ``(N, G, O, *f)``: a matrix product a frequency."""
    xp = backend.xp
    batch, groups, inputs, *frequencies = spectrum.shape
    outputs = taps.shape[1]
    if inputs == 1:
        return spectrum * xp.reshape(taps, (1, groups, outputs, *frequencies))
    flat = prod(frequencies)
    left = xp.permute_dims(xp.reshape(spectrum, (batch, groups, inputs, flat)), (1, 3, 0, 2))
    right = xp.permute_dims(xp.reshape(taps, (groups, outputs, inputs, flat)), (0, 3, 2, 1))
    mixed = xp.permute_dims(backend.matmul(left, right), (2, 0, 3, 1))
    return xp.reshape(mixed, (batch, groups, outputs, *frequencies))


#: The type of a transform.
_WIDE = {
    "float16": "float64",
    "bfloat16": "float64",
    "float32": "float64",
    "float64": "float64",
    "complex64": "complex128",
    "complex128": "complex128",
}

FFT = Algorithm("fft", unsupported, counts, execute, unit, prepare, block=block, fixed=fixed, threaded=True)
