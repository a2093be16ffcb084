"""The library's own gradient of a kernel ("wgrad" in cuDNN and oneDNN): `torch.ops.aten.convolution_backward`.

It serves correlations that are one (`Geometry.kernel_transpose`): the kernel is the gradient of a larger result.
"""

from __future__ import annotations

from math import prod
from typing import Any

from ..backend import Backend
from ..program import Problem, Program
from ..transposes import wgrad_geometry
from .algorithm import Algorithm, prepared
from .guard import guarded
from .native import in_accumulator
from .native_counts import wgrad_counts
from .rates import Counts, own_share, rates_of, seconds_of

Array = Any


def unsupported(problem: Problem, backend: Backend) -> str | None:
    if backend.wgrad is None:
        return f"{backend.name} has no call for the gradient of a kernel"
    geometry = problem.geometry
    if geometry.taps <= prod(geometry.out):
        return "only a kernel with more taps than outputs is taken for the gradient of a result"
    return backend.wgrad.unsupported(problem)


def counts(problem: Problem, backend: Backend) -> Counts:
    """Those of the convolution whose kernel's gradient it is, at prices of its own."""
    return wgrad_counts(problem.with_geometry(wgrad_geometry(problem.geometry) or problem.geometry))


def wgrad_seconds(problem: Problem, backend: Backend) -> float:
    """Estimated, for the gradient of a kernel in autograd: there it is the library's own call, as "native" is."""
    own, other = (own_share(problem.library, problem.device, name) for name in ("native", "wgrad"))
    return own / other * seconds_of(rates_of(problem, "wgrad"), wgrad_counts(problem))


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Any:
    return None if backend.wgrad is None else backend.wgrad.prepare(problem)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    wgrad = backend.wgrad
    if wgrad is None:
        raise ValueError(f"{backend.name} has no call for the gradient of a kernel")
    arguments = prepared(program, backend)

    def compute(x: Array, kernel: Array) -> Array:
        """oneDNN's kernels multiply what lies beside a window by zeros (2 x 3 elements with 2 x 2 taps)."""
        return guarded(backend, program.geometry, x, lambda x: wgrad.execute(arguments, x, kernel))

    return in_accumulator(program, backend, compute, x, kernel)


WGRAD = Algorithm("wgrad", unsupported, counts, execute, prepare=prepare)
