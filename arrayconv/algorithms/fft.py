"""Products of spectra, block by block: each tile is padded to a length that the FFT likes (overlap-save).

Half and single precision are transformed in double: the error of a transform is relative to the largest element of a
block, and in double that is below the rounding of single precision (DFT error growth: Higham 2002, section 24.1). What
is not finite would spread over its whole block, so it is taken out and put back where a window holds it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache, partial
from math import inf, log2, prod
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry, WindowDimension
from ..primitives import dilate
from ..program import Problem, Program
from .algorithm import Algorithm, Tile, Tiling, base_dilated, budget_of, make_tiling, prepared, run_tiled, tiles_of
from .guard import guarded
from .rates import Counts
from .sweep import Sweep, make_sweep, read_by, run_swept

Array = Any


def unsupported(problem: Problem, backend: Backend) -> str | None:
    if problem.is_integer:
        return "a transform of integers is not exact"
    is_exact = problem.dtype in _WIDE.values() or backend.has_double(problem.device)
    if not is_exact and problem.settings.accuracy != "normwise":
        return f"{backend.name} has no float64 on {problem.device}; accuracy='normwise' admits float32 transforms"
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
    """Zeros to add to a tile, lengths of its transform, and where in that the results lie."""

    widths: tuple[tuple[int, int], ...]
    lengths: tuple[int, ...]
    results: tuple[slice, ...]


def details(lengths: tuple[int, ...], wraps: tuple[bool, ...], geometry: Geometry) -> Details:
    """A correlation is a convolution with the flipped kernel, whose first full window ends at ``window - 1``."""
    widths, results = [], []
    for axis, is_wrapped in zip(geometry.axes, wraps, strict=True):
        low, high = (0, 0) if is_wrapped else (axis.low, axis.high)
        first = axis.window - 1 - axis.low + low
        widths.append((low, high))
        results.append(slice(first, first + (axis.output - 1) * axis.stride + 1, axis.stride))
    return Details(tuple(widths), lengths, tuple(results))


def is_wrapped(axis: WindowDimension, count: int) -> bool:
    """Whether ``count`` outputs need no zeros: a transform is of a period, and what goes around its end falls on
    results outside of ``window - 1 - low`` to ``size + high``, if it is as long as x and the longer of its paddings.
    """
    is_usual = count == axis.output and 0 <= axis.low < axis.window and axis.high >= 0
    return is_usual and around(axis) < read_by(axis, count)


def around(axis: WindowDimension) -> int:
    return max(axis.size + max(axis.low, axis.high), axis.window)


def wraps_of(geometry: Geometry, block: tuple[int, ...]) -> tuple[bool, ...]:
    return tuple([is_wrapped(axis, n) for axis, n in zip(geometry.axes, block[1:], strict=True)])


def lengths_of(geometry: Geometry, block: tuple[int, ...]) -> tuple[int, ...]:
    """Lengths of the transform of a tile, from its outputs."""
    axes = zip(geometry.axes, block[1:], strict=True)
    return tuple([fast_length(around(axis) if is_wrapped(axis, n) else read_by(axis, n)) for axis, n in axes])


def fixed(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """Bytes of the kernel's spectrum, and of the tiles computed at once twice, since a transform makes a copy.

    A tile's bytes are those of its whole transform, of which long windows leave few outputs.
    """
    geometry, number = problem.geometry, 16 if problem.is_complex else 8
    kernels = geometry.groups * geometry.inputs * geometry.outputs
    images = 2 * block[0] * geometry.groups * (geometry.inputs + geometry.outputs)
    at_once = min(FFT.workers(backend) * rows_of(problem, backend, block), tiles_of(geometry, block))
    return number * prod(lengths_of(geometry, block)) * (kernels + max(kernels, images * at_once))


#: Points of a tile for each spatial axis: what is transformed stays in the cache while its axes are passed over.
POINTS = 2**16


#: The same where tiles are swept, by a library whose threads share each; and of one axis, whose threads share several.
SWEPT, SWEPT_LINE = 2**18, 2**14

#: Bytes of tiles that are swept: an allocator that takes more from the system, and gives it back, at each call (glibc's
#: from 32 MiB on) makes that as slow as the transforms.
SWEPT_BYTES = 3 * 2**23


def limit_of(backend: Backend, geometry: Geometry) -> float:
    """Points of a tile with all its channels; a library with threads of its own and no loop transforms all at once."""
    channels = geometry.groups * (geometry.inputs + geometry.outputs) / 2
    if backend.workers is not None:
        return geometry.ndim * POINTS / channels
    if backend.sweep is not None:
        return (SWEPT if geometry.ndim > 1 else SWEPT_LINE) / channels
    return inf


def rows_of(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """Tiles of one axis that are transformed together."""
    geometry = problem.geometry
    if backend.sweep is None or geometry.ndim > 1:
        return 1
    channels = block[0] * geometry.groups * (geometry.inputs + geometry.outputs) / 2
    wish = max(1, int(SWEPT / channels / lengths_of(geometry, block)[0]))
    count = -(-geometry.out[0] // max(1, block[1]))
    return -(-count // -(-count // wish))


@lru_cache(maxsize=1024)  # whether it serves, what it costs and how it runs all ask for it
def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """Overlap-save: the batch is halved, then the first axis, while a tile is long beside its window and too large.

    All tiles share one spectrum of the kernel.
    """
    geometry = problem.geometry
    if backend.sweep is not None:
        return swept_block(problem, backend, budget)
    full = (geometry.batch, *geometry.out)
    own, lengths = [max(1, count) for count in full], [max(1, geometry.batch)]
    lengths += [read_by(axis, n) for axis, n in zip(geometry.axes, own[1:], strict=True)]
    limit = limit_of(backend, geometry)
    room = budget * FFT.workers(backend)

    def resize(i: int, count: int) -> None:
        own[i] = count
        lengths[i] = read_by(geometry.axes[i - 1], count) if i else count

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


class Rows(NamedTuple):
    """A sweep over pieces, and the tiles of a piece: how many there are, what each reads and how far it is to the next.

    Only a line has several tiles a piece.
    """

    sweep: Sweep
    details: Details
    rows: int
    window: int
    step: int


def swept_block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """The batch is cut first, then each time the axis whose cut adds least to the transforms, till a tile is small; one
    no longer than three windows is cut only if it does not fit the budget.
    """
    geometry = problem.geometry
    counts, limit = (geometry.batch, *geometry.out), limit_of(backend, geometry)

    def block_of(tiles: Sequence[int]) -> tuple[int, ...]:
        return tuple([-(-max(1, n) // tile) for n, tile in zip(counts, tiles, strict=True)])

    def cuts(tiles: Sequence[int], windows: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Points of all transforms and the tiles along each axis, for one more cut of each that may be cut."""
        block = block_of(tiles)
        for i in range(1) if block[0] > 1 else range(1, len(tiles)):
            more = (*tiles[:i], tiles[i] + max(1, tiles[i] // 4), *tiles[i + 1 :])
            own = block_of(more)
            if block[i] > 1 and (
                not i or read_by(geometry.axes[i - 1], own[i]) >= windows * geometry.axes[i - 1].window
            ):
                yield prod(more[1:]) * prod(lengths_of(geometry, own)), more

    def is_large(block: tuple[int, ...]) -> bool:
        points, held = block[0] * prod(lengths_of(geometry, block)), fixed(problem, backend, block)
        return points > limit or held > SWEPT_BYTES

    tiles: tuple[int, ...] = (1,) * len(counts)
    while is_large(block_of(tiles)) and (more := min(cuts(tiles, 3), default=None)):
        tiles = more[1]
    while fixed(problem, backend, block_of(tiles)) > budget and (more := min(cuts(tiles, 0), default=None)):
        tiles = more[1]
    return block_of(tiles)


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling | Rows:
    """One length for all tiles, so that the kernel has one spectrum."""
    geometry = problem.geometry
    own = partial(details, lengths_of(geometry, block), wraps_of(geometry, block))
    if backend.sweep is None or tiles_of(geometry, block) < 2:
        return make_tiling(problem, block, own, pads=False)
    rows, axis = rows_of(problem, backend, block), geometry.axes[-1]
    sweep, tile = make_sweep(geometry, block, rows), make_sweep(geometry, block).piece
    return Rows(sweep, own(tile), rows, read_by(axis, block[-1]), block[-1] * axis.stride)


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
        "tile": tiles / rows_of(problem, backend, own),
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
    if backend.has_double(program.problem.device):
        return backend.in_double(partial(correlate, program, backend), x, kernel)
    return correlate(program, backend, x, kernel)


def correlate(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    """In float64 where the backend has it."""
    problem, geometry, xp = program.problem, program.geometry, backend.xp
    axes = tuple(range(-geometry.ndim, 0))
    wide = backend.dtype(_WIDE[problem.dtype]) or x.dtype
    forward, inverse = (xp.fft.fftn, xp.fft.ifftn) if problem.is_complex else (xp.fft.rfftn, xp.fft.irfftn)
    kernel = xp.flip(dilate(xp, kernel, [axis.window_dilation for axis in geometry.axes]), axis=axes)
    kernel = xp.reshape(kernel, (geometry.groups, geometry.outputs, geometry.inputs, *kernel.shape[2:]))
    taps = forward(backend.cast(kernel, wide), s=lengths_of(geometry, program.block), axes=axes)

    def compute(tile: Tile, x: Array, kernel: Array) -> Array:
        return guarded(backend, tile.geometry, x, partial(transformed, tile.details))

    def transformed(own: Details, x: Array) -> Array:
        if any(map(any, own.widths)):
            x = backend.pad(x, own.widths)
        spectrum = forward(backend.cast(x, wide), s=own.lengths, axes=axes)
        spectrum = xp.reshape(spectrum, (x.shape[0], geometry.groups, geometry.inputs, *spectrum.shape[2:]))
        y = inverse(mix(backend, spectrum, taps), s=own.lengths, axes=axes)
        y = xp.reshape(y, (x.shape[0], geometry.groups * geometry.outputs, *own.lengths))
        return backend.cast(y[(slice(None), slice(None), *own.results)], x.dtype)

    made = prepared(program, backend)
    if not isinstance(made, Rows):
        return run_tiled(program, backend, x, kernel, compute)
    together = partial(in_rows, backend, made, transformed)
    return run_swept(problem, made.sweep, backend, x, lambda x: guarded(backend, made.sweep.piece, x, together))


def in_rows(backend: Backend, made: Rows, transformed: Callable[[Details, Array], Array], x: Array) -> Array:
    """A piece whose tiles are rows of the batch: ``(N, C, s)`` to ``(N * rows, C, window)`` and back."""
    rows, own, xp = made.rows, made.details, backend.xp
    if rows == 1:
        return transformed(own, x)
    x = xp.permute_dims(backend.windows(x, (made.window,), (made.step,), (1,)), (0, 2, 1, 3))
    y = transformed(own, xp.reshape(x, (-1, *x.shape[2:])))
    y = xp.permute_dims(xp.reshape(y, (-1, rows, *y.shape[1:])), (0, 2, 1, 3))
    return xp.reshape(y, (*y.shape[:2], -1))


def mix(backend: Backend, spectrum: Array, taps: Array) -> Array:
    """``(N, G, I, *f)`` and ``(G, O, I, *f)`` to ``(N, G, O, *f)``: a matrix product a frequency.

    Compiled loops fuse products with their sum, and so take a fourth of the time of small matrices.
    """
    xp = backend.xp
    batch, groups, inputs, *frequencies = spectrum.shape
    outputs = taps.shape[1]
    if inputs == 1:
        return spectrum * xp.reshape(taps, (1, groups, outputs, *frequencies))
    if backend.sweep is not None:
        return xp.sum(xp.expand_dims(spectrum, axis=2) * taps, axis=3)
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
