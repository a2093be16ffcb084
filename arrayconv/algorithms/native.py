"""The library's own convolution: `torch.nn.functional.conv2d`, `jax.lax.conv_general_dilated`, `numpy.convolve`.

Its errors and its scratch memory are the library's affair (TF32 on CUDA, for example), but for the time that this
takes: copies of large arrays lie on pages that the system clears for each call. Some images at a time, or rows of one,
have small copies (PyTorch, 32 images of 64 channels of 112 x 112, 3 x 3 taps: depthwise 101 ms whole and 25 so, to 64
channels 225 and 165).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import Backend
from ..geometry import Geometry
from ..program import Problem, Program
from .algorithm import Algorithm, block_shape, positions, prepared
from .native_counts import convolution_counts, pieced
from .rates import Counts, seconds_of
from .tiles import Tile, Tiling, make_tiling, run_tiled
from .torch_counts import torch_back_counts

Array = Any


def unsupported(problem: Problem, backend: Backend) -> str | None:
    if backend.native is None:
        return f"{backend.name} has no convolution of its own"
    return problem.too_large or backend.native.unsupported(problem)


def counts(problem: Problem, backend: Backend) -> Counts:
    return convolution_counts(problem)


#: Bytes of a piece, copies and result. Small ones leave a thread without an image, and copy the kernel more often (32
#: depthwise images of 64 channels of 112 x 112: one at a time 46 ms, two 26; 8 signals of 384 channels: 65 and 61).
PIECE = 20 * 2**20


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    """All of it, unless the library's copies are large."""
    geometry, held = problem.geometry, pieced(problem)
    if held == 0:
        return (geometry.batch, *geometry.out)
    return block_shape(geometry, held // max(1, positions(geometry)), PIECE)


def arguments(problem: Problem, backend: Backend) -> Any:
    """The library's, for all at once."""
    return None if backend.native is None else backend.native.prepare(problem)


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Any:
    """The library's arguments, or a `Tiling` with those of each piece."""
    if block == (problem.geometry.batch, *problem.geometry.out):
        return arguments(problem, backend)

    def details(geometry: Geometry) -> Any:
        return arguments(problem.with_geometry(geometry), backend)

    return make_tiling(problem, backend, block, details, pads=False)


def in_accumulator(
    program: Program, backend: Backend, function: Callable[[Array, Array], Array], x: Array, kernel: Array
) -> Array:
    """``function(x, kernel)`` of a library that sums in its arguments' type: in the accumulator's, then as x's."""
    problem = program.problem
    if problem.accumulator == problem.dtype:
        return function(x, kernel)
    wide = backend.dtype(problem.accumulator)
    return backend.cast(function(backend.cast(x, wide), backend.cast(kernel, wide)), x.dtype)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    native = backend.native
    if native is None:
        raise ValueError(f"{backend.name} has no convolution of its own")
    made = prepared(program, backend)
    if not isinstance(made, Tiling):
        return in_accumulator(program, backend, lambda *arrays: native.execute(made, *arrays), x, kernel)

    def compute(tile: Tile, x: Array, kernel: Array) -> Array:
        return native.execute(tile.details, x, kernel)

    return run_tiled(program, backend, x, kernel, compute)


NATIVE = Algorithm("native", unsupported, counts, execute, prepare=prepare, block=block)


def dgrad_seconds(problem: Problem, backend: Backend) -> float:
    """Estimated, for the gradient of a convolution's x in autograd ("dgrad" in cuDNN), by torch's rules."""
    return seconds_of(NATIVE.rates(problem, backend), torch_back_counts(problem))


def inner(problem: Problem, backend: Backend) -> str:
    """The `Algorithm.inner` of those that are a call of it."""
    return NATIVE.name
