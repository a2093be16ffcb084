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
from ..geometry import Geometry, WindowDimension
from ..primitives import dilate
from ..program import Problem, Program
from .algorithm import Algorithm, Tile, Tiling, base_dilated, budget_of, make_tiling, prepared, run_tiled
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


class Line(NamedTuple):
    """Lines along one axis of a tile, side by side: the length of a transform, its outputs, and how many there are."""

    length: int
    outputs: int
    lines: int


#: The longest line, beside a window that is not: a table of factors is made for each call, and is to stay in the cache.
LINE = 2**13


def line_of(backend: Backend, axis: WindowDimension, outputs: int) -> Line:
    """One line, or many short ones, which a library of ``shared_lines`` transforms on all cores."""
    length = fast_length(span(axis, outputs))
    most = max(LINE, 8 * axis.window)
    if not backend.shared_lines or length <= most:
        return Line(length, outputs, 1)
    count = -(-outputs // (1 + (most - axis.window) // axis.stride))
    length = fast_length(span(axis, -(-outputs // count)))
    own = 1 + (length - axis.window) // axis.stride
    return Line(length, own, -(-outputs // own))


def span(axis: WindowDimension, outputs: int) -> int:
    """Elements that so many neighbouring outputs meet."""
    return axis.window + (outputs - 1) * axis.stride


def lines_of(backend: Backend, geometry: Geometry, block: tuple[int, ...]) -> tuple[Line, ...]:
    return tuple([line_of(backend, axis, n) for axis, n in zip(geometry.axes, block[1:], strict=True)])


class Details(NamedTuple):
    """Lengths of the transforms, where in them the results lie, and how the tile is cut into lines, if it is."""

    lengths: tuple[int, ...]
    results: tuple[slice, ...]
    cut: Cut | None


class Cut(NamedTuple):
    """Zeros after a tile whose last lines are not full, and lines as windows of its axes: elements, steps, counts."""

    widths: tuple[tuple[int, int], ...]
    spans: tuple[int, ...]
    steps: tuple[int, ...]
    counts: tuple[int, ...]


def details(lines: tuple[Line, ...], geometry: Geometry) -> Details:
    """A correlation is a convolution with the flipped kernel, whose first full window ends at ``window - 1``."""
    pairs, lengths = list(zip(geometry.axes, lines, strict=True)), tuple([line.length for line in lines])
    outputs = [min(axis.output, line.outputs) for axis, line in pairs]
    counts = tuple([-(-axis.output // n) for (axis, _), n in zip(pairs, outputs, strict=True)])
    ends = [slice(axis.window - 1, span(axis, n), axis.stride) for (axis, _), n in zip(pairs, outputs, strict=True)]
    if max(counts) == 1:
        return Details(lengths, tuple(ends), None)
    spans = tuple([span(axis, n) for (axis, _), n in zip(pairs, outputs, strict=True)])
    steps = tuple([axis.stride * n for (axis, _), n in zip(pairs, outputs, strict=True)])
    reaches = [step * (count - 1) + own for own, step, count in zip(spans, steps, counts, strict=True)]
    widths = tuple([(0, reach - axis.size) for (axis, _), reach in zip(pairs, reaches, strict=True)])
    return Details(lengths, tuple(ends), Cut(widths, spans, steps, counts))


def tiles_of(geometry: Geometry, block: tuple[int, ...]) -> int:
    return prod([-(-count // n) for count, n in zip((geometry.batch, *geometry.out), block, strict=True)])


def fixed(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """Bytes of the kernel's spectrum, and of the tiles computed at once twice, since a transform makes a copy.

    A tile's bytes are those of its whole transforms, of which long windows leave few outputs.
    """
    geometry, number = problem.geometry, 16 if problem.is_complex else 8
    kernels = geometry.groups * geometry.inputs * geometry.outputs
    lines = lines_of(backend, geometry, block)
    images = 2 * block[0] * geometry.groups * (geometry.inputs + geometry.outputs)
    images *= min(FFT.workers(backend), tiles_of(geometry, block)) * prod([line.lines for line in lines])
    return number * prod([line.length for line in lines]) * (kernels + max(kernels, images))


#: Points of a tile for each spatial axis: what is transformed stays in the cache while its axes are passed over. The
#: second is for libraries whose threads share a tile.
POINTS, SHARED = 2**16, 2**18


def most_points(problem: Problem, backend: Backend) -> float:
    """Of a tile, over all of its channels, of which half are results. An accelerator has no such cache."""
    geometry = problem.geometry
    if not problem.device.startswith("cpu") or not (backend.shared_lines or backend.workers is not None):
        return inf
    channels = geometry.groups * (geometry.inputs + geometry.outputs) / 2
    return geometry.ndim * (SHARED if backend.shared_lines else POINTS) / channels


@lru_cache(maxsize=1024)  # whether it serves, what it costs and how it runs all ask for it
def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """Overlap-save: the batch is halved, then the first axis, while a tile is long beside its window and too large.

    All tiles share one spectrum of the kernel. Those of a library of ``shared_lines`` are cut into lines once more.
    """
    geometry = problem.geometry
    full = (geometry.batch, *geometry.out)
    own, lengths = [max(1, count) for count in full], [max(1, geometry.batch)]
    lengths += [span(axis, n) for axis, n in zip(geometry.axes, own[1:], strict=True)]
    limit, room = most_points(problem, backend), budget * FFT.workers(backend)

    def resize(i: int, count: int) -> None:
        own[i] = count
        lengths[i] = span(geometry.axes[i - 1], count) if i else count

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
    return make_tiling(problem, block, partial(details, lines_of(backend, problem.geometry, block)))


def counts(problem: Problem, backend: Backend) -> Counts:
    """Points and steps of all transforms, and products of spectra; twice as many where a window as long as the image
    leaves one of two workers without a tile.
    """
    geometry = problem.geometry
    own = FFT.blocks(problem, backend, budget_of(problem))
    lines, tiles = lines_of(backend, geometry, own), tiles_of(geometry, own)
    points, count = prod([line.length for line in lines]), prod([line.lines for line in lines])
    images = geometry.batch * geometry.groups * tiles_of(geometry, (geometry.batch, *own[1:])) * count * points
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


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    problem, geometry, xp = program.problem, program.geometry, backend.xp
    axes = tuple(range(-geometry.ndim, 0))
    wide = backend.dtype(_WIDE[problem.dtype]) or x.dtype
    forward, inverse = (xp.fft.fftn, xp.fft.ifftn) if problem.is_complex else (xp.fft.rfftn, xp.fft.irfftn)
    kernel = xp.flip(dilate(xp, kernel, [axis.window_dilation for axis in geometry.axes]), axis=axes)
    kernel = xp.reshape(kernel, (geometry.groups, geometry.outputs, geometry.inputs, *kernel.shape[2:]))
    taps = spectrum_of(xp, backend.cast(kernel, wide), prepared(program, backend).tiles[0].details.lengths)

    def compute(tile: Tile, x: Array, kernel: Array) -> Array:
        return guarded(backend, tile.geometry, x, lambda x: transformed(tile, x))

    def transformed(tile: Tile, x: Array) -> Array:
        own, (lengths, results, cut) = tile.geometry, tile.details
        if cut is not None:
            x = backend.windows(backend.pad(x, cut.widths), cut.spans, cut.steps, (1,) * own.ndim)
        spectrum = forward(backend.cast(x, wide), s=lengths, axes=axes)
        spectrum = xp.reshape(spectrum, (own.batch, own.groups, own.inputs, *spectrum.shape[2:]))
        y = inverse(mix(backend, spectrum, taps), s=lengths, axes=axes)[(..., *results)]
        y = backend.cast(xp.reshape(y, (own.batch, own.groups * own.outputs, *y.shape[3:])), x.dtype)
        return y if cut is None else united(xp, y, own.out)

    return run_tiled(program, backend, x, kernel, compute)


def spectrum_of(xp: Any, kernel: Array, lengths: tuple[int, ...]) -> Array:
    """``forward`` axis by axis, each padded when it is its turn: few lines of a kernel are more than zeros before."""
    transform = xp.fft.fft if xp.isdtype(kernel.dtype, "complex floating") else xp.fft.rfft
    for axis, length in zip(range(-1, -len(lengths) - 1, -1), reversed(lengths), strict=True):
        kernel, transform = transform(kernel, n=length, axis=axis), xp.fft.fft
    return kernel


def mix(backend: Backend, spectrum: Array, taps: Array) -> Array:
    """``(N, G, I, *lines, *f)`` and ``(G, O, I, *f)`` to ``(N, G, O, *lines, *f)``: a matrix product a frequency."""
    xp = backend.xp
    groups, outputs, inputs, *frequencies = taps.shape
    batch, lines = spectrum.shape[0], spectrum.shape[3 : spectrum.ndim - len(frequencies)]
    if inputs == 1:
        return spectrum * xp.reshape(taps, (1, groups, outputs, *[1] * len(lines), *frequencies))
    count, flat = prod(lines), prod(frequencies)
    left = xp.permute_dims(xp.reshape(spectrum, (batch, groups, inputs, count, flat)), (1, 4, 0, 3, 2))
    left = xp.reshape(left, (groups, flat, batch * count, inputs))
    right = xp.permute_dims(xp.reshape(taps, (groups, outputs, inputs, flat)), (0, 3, 2, 1))
    mixed = xp.reshape(backend.matmul(left, right), (groups, flat, batch, count, outputs))
    return xp.reshape(xp.permute_dims(mixed, (2, 0, 4, 3, 1)), (batch, groups, outputs, *lines, *frequencies))


def united(xp: Any, y: Array, out: tuple[int, ...]) -> Array:
    """Lines ``(N, C, *counts, *n)`` one after the other, without what the last ones have too many: ``(N, C, *out)``."""
    ndim = len(out)
    y = xp.permute_dims(y, (0, 1, *[axis for i in range(2, 2 + ndim) for axis in (i, i + ndim)]))
    y = xp.reshape(y, (*y.shape[:2], *[y.shape[i] * y.shape[i + 1] for i in range(2, y.ndim, 2)]))
    return y[(..., *[slice(0, n) for n in out])]


#: The type of a transform.
_WIDE = {
    "float16": "float64",
    "bfloat16": "float64",
    "float32": "float64",
    "float64": "float64",
    "complex64": "complex128",
    "complex128": "complex128",
}

FFT = Algorithm("fft", unsupported, counts, execute, prepare=prepare, block=block, fixed=fixed, threaded=True)
