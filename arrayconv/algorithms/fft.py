"""Products of spectra, block by block: each tile is padded to a length that the FFT likes (overlap-save).

Half and single precision are transformed in double: the error of a transform is relative to the largest element of a
block, and in double that is below the rounding of single precision (DFT error growth: Higham 2002, section 24.1). What
is not finite would spread over its whole block, so it is taken out and put back where a window holds it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import log2, prod
from typing import Any, NamedTuple

from ..backend import Backend
from ..primitives import dilate, split_ranges
from ..program import ROUNDED, Problem, Program
from .algorithm import Algorithm, base_dilated, budget_of, count_of, loops_on, prepared, tiles_of
from .fft_blocks import block, fits, fixed, groups, rows_of
from .fft_tiles import Details, details, lengths_of, lines_of, wraps_of
from .guard import guarded
from .rates import Counts
from .sweep import Sweep, make_sweep, read_by, run_swept
from .tiles import Tile, Tiling, make_tiling, run_tiled, tile_kernel

Array = Any


def unsupported(problem: Problem, backend: Backend) -> str | None:
    if problem.is_exact and problem.settings.accuracy != ROUNDED:
        return "a transform of integers is not exact"
    is_wide = problem.accumulator in _WIDE.values() or backend.has_double(problem.device)
    if not is_wide and problem.settings.accuracy != "normwise":
        return f"{backend.name} has no float64 on {problem.device}; accuracy='normwise' admits float32 transforms"
    if not hasattr(backend.xp, "fft"):
        return f"{backend.name} has no Fourier transforms"
    if (reason := base_dilated(problem)) is not None:
        return reason
    if fits(problem, backend):
        return None
    geometry = problem.geometry
    ways = (1,) * (1 + geometry.ndim), (geometry.batch, *geometry.out)  # one tile is on one thread
    least = min([fixed(problem, backend, own) for own in ways])
    if least > budget_of(problem):
        return f"the transforms of one window take {least} bytes; settings(workspace=...) admits more"
    return None


class Rows(NamedTuple):
    """A sweep over pieces, and the tiles of a piece: how many there are, what each reads and how far it is to the next.

    Only a line has several tiles a piece.
    """

    sweep: Sweep
    details: Details
    rows: int
    window: int
    step: int


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling | Rows:
    """One length for all tiles, so that the kernel has one spectrum."""
    geometry = problem.geometry
    own = partial(details, lines_of(backend, geometry, block), wraps_of(backend, geometry, block))
    if backend.sweep is None or tiles_of(geometry, block) < 2:
        return make_tiling(problem, backend, block, own, pads=False, groups=groups(problem, backend, block))
    rows, axis = rows_of(problem, backend, block), geometry.axes[-1]
    sweep = make_sweep(geometry, block, rows)
    tile = sweep.piece if rows == 1 else make_sweep(geometry, block).piece
    return Rows(sweep, own(tile), rows, read_by(axis, block[-1]), block[-1] * axis.stride)


def counts(problem: Problem, backend: Backend) -> Counts:
    """Lines, points and steps of all transforms, and products of spectra; twice as many if one of two workers has no
    tile.
    """
    geometry = problem.geometry
    own = FFT.blocks(problem, backend, budget_of(problem))
    lines, tiles = lines_of(backend, geometry, own), tiles_of(geometry, own, max(1, groups(problem, backend, own)))
    points, count = prod([line.length for line in lines]), prod([line.lines for line in lines])
    images = geometry.batch * geometry.groups * tiles_of(geometry, (geometry.batch, *own[1:])) * count * points
    kernels = geometry.groups * geometry.inputs * geometry.outputs
    idle = max(1.0, count_of(backend.workers) / tiles)
    transformed = (images * (geometry.inputs + geometry.outputs) + kernels * points) * idle
    return {
        "call": 1.0,
        "tile": tiles / rows_of(problem, backend, own),
        "line": transformed * sum([1 / line.length for line in lines]),
        "step": transformed * log2(points + 1),
        "point": transformed,
        "product" if geometry.inputs > 1 else "plain product": float(images * geometry.inputs * geometry.outputs),
    }


def least(problem: Problem, backend: Backend) -> Counts:
    """Tiles that don't overlap, in transforms as short as the window."""
    geometry = problem.geometry
    inputs, axes = geometry.inputs, geometry.axes
    taps, kernels = prod([axis.window for axis in axes]), geometry.groups * inputs * geometry.outputs
    places = float(geometry.batch)
    for axis in axes:
        places *= max(axis.window, axis.output * min(axis.window, axis.stride))
    transformed = geometry.groups * (inputs + geometry.outputs) * places + kernels * taps
    return {
        "call": 1.0,
        "step": transformed * log2(taps + 1),
        "point": transformed,
        "product" if inputs > 1 else "plain product": places * kernels,
    }


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    if backend.has_double(program.problem.device):
        return backend.in_double(partial(correlate, program, backend), x, kernel)
    return correlate(program, backend, x, kernel)


def correlate(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    """In float64 where the backend has it."""
    problem, geometry, xp = program.problem, program.geometry, backend.xp
    wide = backend.dtype(_WIDE[problem.accumulator]) or x.dtype
    kernel = xp.flip(
        dilate(xp, kernel, [axis.window_dilation for axis in geometry.axes]), axis=tuple(range(-geometry.ndim, 0))
    )
    kernel = xp.reshape(kernel, (geometry.groups, geometry.outputs, geometry.inputs, *kernel.shape[2:]))
    taps = spectrum_of(problem, xp, backend.cast(kernel, wide), lengths_of(backend, geometry, program.block))

    def compute(tile: Tile, x: Array, kernel: Array) -> Array:
        own = tile_kernel(program, tile, taps)
        return guarded(backend, tile.geometry, x, partial(transformed, tile.details, own))

    def transformed(own: Details, taps: Array, x: Array) -> Array:
        if any(map(any, own.widths)):
            x = backend.pad(x, own.widths)
        if own.cut is not None:
            x = backend.windows(x, own.cut.spans, own.cut.steps, (1,) * geometry.ndim)
        spectrum = backend.forward(backend.cast(x, wide), own.lengths)
        spectrum = xp.reshape(spectrum, (x.shape[0], taps.shape[0], geometry.inputs, *spectrum.shape[2:]))
        y = backend.inverse(mix(backend, spectrum, taps), own.lengths, own.results, problem.is_complex)
        y = xp.round(y) if problem.is_exact else y
        y = backend.cast(xp.reshape(y, (x.shape[0], taps.shape[0] * geometry.outputs, *y.shape[3:])), x.dtype)
        return y if own.cut is None else united(xp, y, own.cut.out)

    made = prepared(program, backend)
    if not isinstance(made, Rows):
        return run_tiled(program, backend, x, kernel, compute)
    together = partial(in_rows, backend, made, lambda own, x: transformed(own, taps, x))
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


def spectrum_of(problem: Problem, xp: Any, kernel: Array, lengths: tuple[int, ...]) -> Array:
    """``forward`` axis by axis, each padded when it is its turn: few lines of a kernel are more than zeros before."""
    transform = xp.fft.fft if problem.is_complex else xp.fft.rfft
    for axis, length in zip(range(-1, -len(lengths) - 1, -1), reversed(lengths), strict=True):
        kernel, transform = transform(kernel, n=length, axis=axis), xp.fft.fft
    return kernel


#: Terms of a sum that XLA fuses with their products; of more it makes a tree, and holds the products (40 channels to 40
#: of 20,000 elements, 129 taps: 152 ms and 82 MiB, and 53 ms and 12 MiB so; ``TreeReductionRewriter``).
FUSED = 32


def mix(backend: Backend, spectrum: Array, taps: Array) -> Array:
    """``(N, G, I, *lines, *f)`` and ``(G, O, I, *f)`` to ``(N, G, O, *lines, *f)``: a matrix product a frequency.

    Compiled loops fuse products with their sum, and so take a fourth of the time of small matrices.
    """
    xp = backend.xp
    groups, outputs, inputs, *frequencies = taps.shape
    batch, lines = spectrum.shape[0], spectrum.shape[3 : spectrum.ndim - len(frequencies)]
    if inputs == 1:
        return spectrum * xp.reshape(taps, (1, groups, outputs, *[1] * len(lines), *frequencies))
    if backend.sweep is not None:
        spectrum = xp.expand_dims(spectrum, axis=2)
        some = [slice(part.start, part.stop) for part in split_ranges(inputs, FUSED)]
        sums = [xp.sum(spectrum[:, :, :, own, ...] * taps[:, :, own, ...], axis=3) for own in some]
        return sum(sums[1:], sums[0])
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
    "float32": "float64",
    "float64": "float64",
    "complex64": "complex128",
    "complex128": "complex128",
}

FFT = Algorithm(
    "fft",
    unsupported,
    counts,
    execute,
    prepare=prepare,
    block=block,
    fixed=fixed,
    groups=groups,
    crew=loops_on,
    least=least,
)
