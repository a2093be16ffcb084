"""Calls that autograd records: by torch's own convolution, whose derivatives are torch's own, or by planned steps.

`torch_gradient` plans the derivatives of these; this is the choice, by what forward and derivatives take in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import prod
from typing import NamedTuple

import torch
from torch.autograd import forward_ad
from torch.autograd.forward_ad import unpack_dual

from ..backend import Backend, Planning, Steps
from ..geometry import Geometry
from ..layout import Layout
from ..onednn import is_lone_volume
from ..program import Problem, Program
from ..transposes import VECTOR, input_kernel_layout
from .torch_native import (
    Convolution,
    Transposed,
    convolution_of,
    native_prepare,
    native_unsupported,
    pad,
    transposed_of,
)

Tensor = torch.Tensor

#: Seconds of a `torch.autograd.Function` and of the Python in its backward, which torch's own convolution has not.
FUNCTION = 1e-4

#: The share of its own convolution's seconds that planned steps must stay below. Each of these estimates is the least
#: of several, and so too low more often than not: of 300 calls, 3.7 % lost by this choice, and 21 % without it.
SHARE = 0.7

#: The same where all planned steps are its own convolution too, of channels that mix: the kernel's gradient alone is
#: computed in another way, and slower more often than not (of 7 such layers of known networks planned at 0.7 of the
#: estimate, one was faster).
OWN_SHARE = 0.5


#: Types of tensors that autograd records; a subclass may do what it likes.
OWN = (Tensor, torch.nn.Parameter)


class Way(NamedTuple):
    """A call of torch's, and the convolution that its derivatives are those of."""

    call: Convolution | Transposed
    geometry: Geometry

    def direct(self, layout: Layout, problem: Problem) -> Steps | None:
        """The call with a kernel before this layout and a bias, if it takes them as they are."""
        (function, *_), arguments, widths = self.call, self.call.arguments, self.call.widths
        if isinstance(self.call, Transposed):
            is_own = widths is None and layout == input_kernel_layout(problem.geometry.input_transpose())
            return (lambda x, kernel, bias: function(x, kernel, bias, *arguments)) if is_own else None
        if not layout.is_reshape:
            return None
        shape = layout.merged

        def convolution(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
            kernel = kernel if shape is None else kernel.reshape(shape)
            y: Tensor = function(x if widths is None else pad(x, widths), kernel, bias, *arguments)
            return y

        return convolution


def is_recorded(x: Tensor, kernel: Tensor) -> bool:
    """By autograd alone."""
    if not torch.is_grad_enabled() or not (x.requires_grad or kernel.requires_grad):
        return False
    if torch._C._are_functorch_transforms_active():
        return False
    if type(x) not in OWN or type(kernel) not in OWN:
        return False
    return forward_ad._current_level < 0 or all(unpack_dual(array).tangent is None for array in (x, kernel))


def ways(problem: Problem) -> tuple[Way, ...]:
    """Those that autograd takes: a lone volume it copies window by window, and so it does in the backward."""
    geometry = problem.geometry
    if native_unsupported(problem) is not None or is_lone_volume(geometry):
        return ()
    back, found = geometry.input_transpose(), []
    if not geometry.is_base_dilated:
        found.append(Way(convolution_of(problem), geometry))
    if all(axis.stride == 1 for axis in geometry.axes):
        found.append(Way(transposed_of(problem), back))
    return tuple(found)


def choose(
    planning: Planning, backend: Backend, program: Program, found: Sequence[Way], to_x: bool, to_kernel: bool
) -> Way | None:
    """The fastest of these, or None where planned derivatives are faster, of x and the kernel or of one of them."""
    if not found:
        return None
    problem, geometry = program.problem, program.geometry
    back = geometry.input_transpose()

    def taps(way: Way) -> float:
        return to_kernel * planning.wgrad_seconds(problem.with_geometry(way.geometry), backend)

    own = planning.seconds(Program(problem, "native"), backend, to_kernel)
    own += to_x * planning.dgrad_seconds(problem, backend)
    best = min(found, key=taps)
    parts = [geometry, *[back] * to_x, *[geometry.kernel_transpose()] * to_kernel]
    programs = [planning.replan(program, part) for part in parts]
    steps = sum([planning.seconds(part, backend, to_kernel) for part in programs])
    is_own = geometry.groups == 1 and all(part.algorithm == "native" for part in programs)
    share = OWN_SHARE if is_own else SHARE
    return best if share * (own + taps(best)) <= steps + FUNCTION else None


#: Seconds an element of a kernel that is turned over: a copy, whose elements lie far apart, and what reads it (512 to
#: 256 channels, 4 x 4 taps, 4 x 4 places: phases 10.6 ms, of a kernel in their order 5.2, torch's own call 3.6).
LAYING = 2.5e-9


def laying(problem: Problem, layout: Layout) -> float:
    """What all but torch's own call take for a kernel that this reads as it lies."""
    if layout.is_reshape or all(way.direct(layout, problem) is None for way in ways(problem)):
        return 0.0
    return LAYING * prod(layout.shape)


def native_call(problem: Problem, layout: Layout, found: Sequence[Way]) -> Steps | None:
    """torch's convolution, or its transposed one of the same work, whose kernel needs no mirrored copy: a tenth faster
    where x has whole vectors of channels, and up to ten times slower where it has few or is in groups.
    """
    geometry = problem.geometry
    own = Way(native_prepare(problem), geometry).direct(layout, problem)
    if own is None and geometry.groups == 1 and geometry.inputs >= VECTOR and found:
        return found[0].direct(layout, problem)
    return own


def whole(planning: Planning, backend: Backend, program: Program, layout: Layout, otherwise: Steps) -> Steps | None:
    """torch's own call of a kernel before ``layout``: where the program is that, and where autograd records it and that
    has the fastest derivatives.
    """
    problem = program.problem
    if problem.accumulator != problem.dtype or program.requested not in ("auto", "native"):
        return None
    found = [way for way in ways(problem) if way.direct(layout, problem) is not None]
    native = native_call(problem, layout, found) if program.algorithm == "native" else None
    if native is None and not found:
        return None
    plain = native if program.block == (problem.geometry.batch, *problem.geometry.out) else None  # all at once

    @cache
    def recorded(to_x: bool, to_kernel: bool) -> Steps | None:
        if program.requested == "native":
            return native
        way = choose(planning, backend, program, found, to_x, to_kernel)
        return None if way is None else way.direct(layout, problem)

    def call(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
        own = recorded(x.requires_grad, kernel.requires_grad) if is_recorded(x, kernel) else plain
        if own is None or torch._C._is_any_autocast_enabled():
            y: Tensor = otherwise(x, kernel) if bias is None else otherwise(x, kernel, bias)
        else:
            y = own(x, kernel, bias)
        return y

    return call
