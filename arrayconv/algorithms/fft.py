"""Products of spectra, block by block: each tile is padded to a length that the FFT likes (overlap-save).

Half and single precision are transformed in double: the error of a transform is relative to the largest element of a
block, and in double that is below the rounding of single precision (DFT error growth: Higham 2002, section 24.1). What
is not finite would spread over its whole block, so it is taken out and put back where a window holds it.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cache, lru_cache, partial
from math import inf, log2, prod
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry
from ..primitives import dilate
from ..program import Problem, Program
from .algorithm import Algorithm, Tile, Tiling, base_dilated, budget_of, make_tiling, prepared, run_tiled, tiles_of
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
    if (reason := base_dilated(problem)) is not None:
        return reason
    least = fixed(problem, backend, FFT.blocks(problem, backend, budget_of(problem)))
    if least > budget_of(problem):
        return f"the transforms of one window take {least} bytes; settings(workspace=...) admits more"
    return None


def fast_length(n: int) -> int:
    """The least 2^a 3^b 5^c that is n or more: lengths for which every library's FFT has fast passes."""
    known = fast_lengths(-(-n.bit_length() // 16))
    return known[bisect_left(known, n)]


@cache
def fast_lengths(words: int) -> list[int]:
    """All of them up to ``2 ** (16 * words)``."""
    found, most = [1], 2 ** (16 * words)
    for prime in (2, 3, 5):
        for n in found:  # those that are appended, too
            if n * prime <= most:
                found.append(n * prime)
    return sorted(found)


class Details(NamedTuple):
    """Lengths of the transform, and where in it the results lie."""

    lengths: tuple[int, ...]
    results: tuple[slice, ...]


def details(lengths: tuple[int, ...], geometry: Geometry) -> Details:
    """A correlation is a convolution with the flipped kernel, whose first full window ends at ``window - 1``."""
    return Details(
        lengths,
        tuple(
            slice(axis.window - 1, axis.window + (axis.output - 1) * axis.stride, axis.stride) for axis in geometry.axes
        ),
    )


def lengths_of(geometry: Geometry, block: tuple[int, ...]) -> tuple[int, ...]:
    """Lengths of the transform of a tile, from its outputs."""
    axes = zip(geometry.axes, block[1:], strict=True)
    return tuple([fast_length(axis.window + (n - 1) * axis.stride) for axis, n in axes])


def fixed(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """Bytes of the kernel's spectrum, and of the tiles computed at once twice, since a transform makes a copy.

    A tile's bytes are those of its whole transform, of which long windows leave few outputs.
    """
    geometry, number = problem.geometry, 16 if problem.is_complex else 8
    kernels = geometry.groups * geometry.inputs * geometry.outputs
    images = 2 * block[0] * geometry.groups * (geometry.inputs + geometry.outputs)
    at_once = min(FFT.workers(backend), tiles_of(geometry, block))
    return number * prod(lengths_of(geometry, block)) * (kernels + max(kernels, images * at_once))


#: Points of a tile for each spatial axis: what is transformed stays in the cache while its axes are passed over.
POINTS = 2**16


@lru_cache(maxsize=1024)  # whether it serves, what it costs and how it runs all ask for it
def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """Overlap-save: the batch is halved, then the first axis, while a tile is long beside its window and too large.

    A library with threads of its own transforms all at once, as far as the memory goes. All tiles share one spectrum of
    the kernel.
    """
    geometry = problem.geometry
    full = (geometry.batch, *geometry.out)
    own, lengths = [max(1, count) for count in full], [max(1, geometry.batch)]
    lengths += [axis.window + (n - 1) * axis.stride for axis, n in zip(geometry.axes, own[1:], strict=True)]
    channels = geometry.groups * (geometry.inputs + geometry.outputs) / 2
    limit = geometry.ndim * POINTS / channels if backend.workers is not None else inf
    room = budget * FFT.workers(backend)

    def resize(i: int, count: int) -> None:
        own[i] = count
        lengths[i] = geometry.axes[i - 1].window + (count - 1) * geometry.axes[i - 1].stride if i else count

    def fits() -> bool:
        return fixed(problem, backend, tuple(own)) <= room

    for i in range(len(own)):
        least = 3 * geometry.axes[i - 1].window if i else 1
        while own[i] > 1 and lengths[i] // 2 >= least and not (prod(lengths) <= limit and fits()):
            resize(i, -(-own[i] // 2))
        resize(i, -(-full[i] // -(-full[i] // own[i])) if full[i] else 1)
    while not fits() and max(own) > 1:
        longest = 0 if own[0] > 1 else own.index(max(own))
        resize(longest, -(-own[longest] // 2))
    return tuple(own)


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    """One length for all tiles, so that the kernel has one spectrum."""
    return make_tiling(problem, block, partial(details, lengths_of(problem.geometry, block)))


def counts(problem: Problem, backend: Backend) -> Counts:
    """Points and steps of all transforms, and products of spectra; twice as many where a window as long as the image
    leaves one of two workers without a tile.
    """
    geometry = problem.geometry
    own = FFT.blocks(problem, backend, budget_of(problem))
    points = prod(lengths_of(geometry, own))
    tiles = tiles_of(geometry, own)
    images = geometry.batch * geometry.groups * tiles_of(geometry, (geometry.batch, *own[1:])) * points
    kernels = geometry.groups * geometry.inputs * geometry.outputs
    idle = max(1.0, min(FFT.workers(backend), points / POINTS) / tiles)
    transformed = (images * (geometry.inputs + geometry.outputs) + kernels * points) * idle
    return {
        "call": 1.0,
        "tile": float(tiles),
        "step": transformed * log2(points + 1),
        "point": transformed,
        "product" if geometry.inputs > 1 else "plain product": float(images * geometry.inputs * geometry.outputs),
    }


def least(problem: Problem, backend: Backend) -> Counts:
    """A tile of n outputs is ``window + (n - 1) * stride`` long: all tiles together are no shorter than this."""
    geometry = problem.geometry
    inputs, outputs, axes = geometry.inputs, geometry.outputs, geometry.axes
    window = prod([axis.window for axis in axes])
    images = prod([max(axis.window, axis.output * min(axis.window, axis.stride)) for axis in axes])
    images *= geometry.batch * geometry.groups
    transformed = images * (inputs + outputs) + geometry.groups * inputs * outputs * window
    return {
        "call": 1.0,
        "step": transformed * log2(window + 1),
        "point": transformed,
        "product" if inputs > 1 else "plain product": float(images * inputs * outputs),
    }


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    problem, geometry, xp = program.problem, program.geometry, backend.xp
    axes = tuple(range(-geometry.ndim, 0))
    wide = backend.dtype(_WIDE[problem.dtype]) or x.dtype
    forward, inverse = (xp.fft.fftn, xp.fft.ifftn) if problem.is_complex else (xp.fft.rfftn, xp.fft.irfftn)
    kernel = xp.flip(dilate(xp, kernel, [axis.window_dilation for axis in geometry.axes]), axis=axes)
    kernel = xp.reshape(kernel, (geometry.groups, geometry.outputs, geometry.inputs, *kernel.shape[2:]))
    taps = forward(backend.cast(kernel, wide), s=prepared(program, backend).tiles[0].details.lengths, axes=axes)

    def compute(tile: Tile, x: Array, kernel: Array) -> Array:
        return guarded(backend, tile.geometry, x, lambda x: transformed(tile, x))

    def transformed(tile: Tile, x: Array) -> Array:
        own, (lengths, results) = tile.geometry, tile.details
        spectrum = forward(backend.cast(x, wide), s=lengths, axes=axes)
        spectrum = xp.reshape(spectrum, (own.batch, own.groups, own.inputs, *spectrum.shape[2:]))
        mixed = mix(backend, spectrum, taps)
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

FFT = Algorithm(
    "fft", unsupported, counts, execute, prepare=prepare, block=block, fixed=fixed, threaded=True, least=least
)
