"""torch's own gradient of a kernel: what its autograd calls, as a correlation by `Geometry.kernel_transpose`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch

from ..backend import namespace
from ..geometry import Geometry, WindowDimension, dilated
from ..layout import Layout
from ..primitives import Widths
from ..program import Problem
from ..transposes import input_kernel_layout, swap_leading, wgrad_geometry, x_for_kernel
from .torch_native import CONVOLUTIONS, pad

Tensor = torch.Tensor
XP = namespace("torch")


def wgrad_unsupported(problem: Problem) -> str | None:
    geometry = problem.geometry
    if geometry.ndim not in CONVOLUTIONS:
        return f"torch convolves 1 to 3 spatial axes, not {geometry.ndim}"
    if problem.is_exact or problem.is_complex:
        return "torch has gradients of real floating point numbers only"
    if wgrad_geometry(geometry) is None:
        return "torch's transposed convolution takes no stride of the window"
    return None


class Wgrad(NamedTuple):
    """Zeros that its x gets before the call, the shape of its kernel, the arguments after the bias; and the layout of
    the kernel where the call is that of a transposed convolution, of which x and y trade places.
    """

    widths: Widths | None
    shape: tuple[int, ...]
    arguments: tuple[Any, ...]
    transposed: Layout | None

    def __call__(self, x: Tensor, dy: Tensor) -> Tensor:
        """Of x and the gradient of y, as they are: that of the kernel."""
        if self.transposed is not None:
            x, dy = dy, x
        if self.widths is not None:
            x = pad(x, self.widths)
        like = x.new_empty(1).expand(self.shape)  # of which only the shape is read
        dk: Tensor = torch.ops.aten.convolution_backward(dy, x, like, None, *self.arguments)[1]
        return dk if self.transposed is None else self.transposed.undo(XP, dk)


def is_even(axis: WindowDimension) -> bool:
    """Whether the same zeros on both sides give the right number of outputs."""
    rest = axis.size + 2 * axis.low - axis.window
    return axis.low >= 0 and rest >= 0 and rest // axis.stride + 1 == axis.output


@lru_cache(maxsize=1024)
def make_wgrad(geometry: Geometry) -> Wgrad:
    """For a `Geometry.kernel_transpose`."""
    forward, own = geometry.kernel_transpose(), wgrad_geometry(geometry)
    assert own is not None, geometry
    axes = own.axes
    padding, widths = [axis.low for axis in axes], None
    if not all(map(is_even, axes)):
        ends = [dilated(axis.output, axis.stride) + axis.window - 1 - axis.size - axis.low for axis in axes]
        padding, widths = [0] * len(axes), tuple(zip(padding, ends, strict=True))
    stride, dilation = [axis.stride for axis in axes], [axis.window_dilation for axis in axes]
    arguments = stride, padding, dilation, False, [0] * len(axes), own.groups, (False, True, False)
    return Wgrad(widths, own.kernel_shape, arguments, None if own == forward else input_kernel_layout(forward))


def wgrad_prepare(problem: Problem) -> tuple[Geometry, Wgrad]:
    return problem.geometry, make_wgrad(problem.geometry)


def wgrad_execute(own: tuple[Geometry, Wgrad], x: Tensor, kernel: Tensor) -> Tensor:
    """x and kernel as `Geometry.kernel_transpose` has them: those of the call and the gradient of y, permuted."""
    geometry, call = own
    swapped: Tensor = swap_leading(XP, call(x_for_kernel(XP, geometry, x), swap_leading(XP, kernel)))
    return swapped
