"""torch's own convolution: its functions' arguments, and what they are slow with."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn import functional

from ..backend import namespace
from ..geometry import WindowDimension
from ..layout import Layout
from ..onednn import is_lone_volume, is_padding_refused, is_stride_refused
from ..primitives import Widths, crop
from ..program import Problem
from ..transposes import input_kernel_layout
from .torch_values import is_plain

Tensor = torch.Tensor
XP = namespace("torch")


def pad(x: Tensor, widths: Widths) -> Tensor:
    """torch's own constant padding, after the crops that it would refuse."""
    x, widths = crop(x, widths)
    if not any(low or high for low, high in widths):
        return x
    return functional.pad(x, [width for pair in reversed(widths) for width in pair])


def volume(x: Tensor, kernel: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
    """oneDNN's convolution of one volume too, for which `conv3d` copies every window and takes ten times as long.

    (``use_mkldnn`` in torch's aten/src/ATen/native/Convolution.cpp counts elements without the last axis.)
    """
    is_served = all(is_plain(array) for array in (x, kernel, bias) if array is not None) and x.dtype == torch.float32
    if not is_served or not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:
        return functional.conv3d(x, kernel, bias, *options)
    stride, padding, dilation, groups = options
    bias = None if bias is None else bias.contiguous()  # it is read so
    return torch.mkldnn_convolution(x, kernel, bias, padding, stride, dilation, groups)


TRANSPOSED: dict[int, Any] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
CONVOLUTIONS: dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def native_unsupported(problem: Problem) -> str | None:
    geometry = problem.geometry
    if geometry.ndim not in CONVOLUTIONS:
        return f"torch convolves 1 to 3 spatial axes, not {geometry.ndim}"
    if problem.is_integer:
        return "torch's convolution of integers is not exact for every type"
    if geometry.is_base_dilated and any(axis.stride != 1 for axis in geometry.axes):
        return "torch's transposed convolution takes no stride of the window"
    return None


class Convolution(NamedTuple):
    """torch's function, the padding that it doesn't take, and its arguments after the bias."""

    function: Any
    widths: Widths | None
    arguments: tuple[Any, ...]

    def __call__(self, x: Tensor, kernel: Tensor) -> Tensor:
        if self.widths is not None:
            x = pad(x, self.widths)
        y: Tensor = self.function(x, kernel, None, *self.arguments)
        return y


class Transposed(NamedTuple):
    """A base dilation is the stride of a transposed convolution, which pads ``window - 1`` less its padding.

    ``layout`` makes the kernel that it takes; ``widths`` is what is left to crop or to add where it can't.
    """

    function: Any
    layout: Layout
    widths: Widths | None
    arguments: tuple[Any, ...]

    def __call__(self, x: Tensor, kernel: Tensor) -> Tensor:
        y: Tensor = self.function(x, self.layout.apply(XP, kernel), None, *self.arguments)
        return y if self.widths is None else pad(y, self.widths)


def is_even(axis: WindowDimension) -> bool:
    """Whether torch, which pads evenly and by nothing less than 0, gives the same outputs: a stride may leave some of
    the zeros behind x unread.
    """
    return axis.low >= 0 and (axis.size + 2 * axis.low - axis.window) // axis.stride + 1 == axis.output


def added_zeros(problem: Problem) -> list[bool]:
    """The axes along which x gets its zeros before the call, since torch or oneDNN's fast kernels don't add them."""
    geometry = problem.geometry
    axes = geometry.axes
    added = [not is_even(axis) for axis in axes]
    if not problem.is_on_cpu:
        return added
    plane = axes[-2:]
    added[-1] |= is_padding_refused(geometry)
    if is_stride_refused(geometry):
        added[-len(plane) :] = [True] * len(plane)
    return added


def native_prepare(problem: Problem) -> Convolution | Transposed:
    return transposed_of(problem) if problem.geometry.is_base_dilated else convolution_of(problem)


def transposed_of(problem: Problem) -> Transposed:
    """torch's transposed convolution that is a problem without strides."""
    geometry = problem.geometry
    axes, groups, layout = geometry.axes, geometry.groups, input_kernel_layout(geometry)
    dilation, stride = tuple([axis.window_dilation for axis in axes]), tuple([axis.base_dilation for axis in axes])
    padding = tuple([axis.window - 1 - axis.low for axis in axes])
    more = tuple([axis.high - axis.low for axis in axes])
    if all(0 <= n < axis.base_dilation and axis.low < axis.window for n, axis in zip(more, axes, strict=True)):
        return Transposed(TRANSPOSED[len(axes)], layout, None, (stride, padding, more, groups, dilation))
    widths = tuple((axis.low - axis.window + 1, axis.high - axis.window + 1) for axis in axes)
    nothing = (0,) * len(axes)
    return Transposed(TRANSPOSED[len(axes)], layout, widths, (stride, nothing, nothing, groups, dilation))


def convolution_of(problem: Problem) -> Convolution:
    """torch's convolution that is a problem without base dilation."""
    geometry = problem.geometry
    axes, groups = geometry.axes, geometry.groups
    added = added_zeros(problem)
    widths = tuple((axis.low, axis.high) if own else (0, 0) for axis, own in zip(axes, added, strict=True))
    padding = tuple(0 if own else axis.low for axis, own in zip(axes, added, strict=True))
    edges = widths if any(map(any, widths)) else None
    stride, dilation = (tuple([getattr(axis, step) for axis in axes]) for step in ("stride", "window_dilation"))
    function = volume if is_lone_volume(geometry) else CONVOLUTIONS[len(axes)]
    return Convolution(function, edges, (stride, padding, dilation, groups))


def native_execute(own: Convolution | Transposed, x: Tensor, kernel: Tensor) -> Tensor:
    return own(x, kernel)
