"""torch's transposed convolution by matrices (col2im), whose choice it otherwise leaves to oneDNN.

oneDNN computes channels out in vectors of 16, of which one or three take as long as all. This takes a half to a tenth
of that for few, base dilated or not (256 channels of 112 x 112 to 1, 2 x 2 taps, stride 2: 3.6 ms, and 1.4 so).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from ..program import Problem
from .torch_native import XP, Transposed, native_unsupported, pad, transposed_of
from .torch_values import is_plain

Tensor = torch.Tensor

#: Types that it knows; half types are summed in float32 anyway.
FLOATS = "float32", "float64"


def col2im_unsupported(problem: Problem) -> str | None:
    if problem.geometry.groups > 1:
        return "torch's transposed convolution by matrices takes one group"
    if problem.accumulator not in FLOATS:
        return f"torch's transposed convolution by matrices knows {' and '.join(FLOATS)}"
    if problem.device != "cpu":
        return "torch's transposed convolution by matrices is called on CPUs, and not under vmap"
    return problem.too_large or native_unsupported(problem)


class Col2im(NamedTuple):
    """torch's function, its arguments before and after the bias, and the transposed convolution that it is; ``is_line``
    gives one axis as the second of two, which alone it knows.
    """

    function: Any
    window: tuple[int, ...]
    arguments: tuple[tuple[int, ...], ...]
    own: Transposed
    is_line: bool

    def __call__(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Of arrays that something follows, the function that has all derivatives and batching rules."""
        own = self.own
        if not (is_plain(x) and is_plain(kernel)):
            return own(x, kernel)
        kernel = own.layout.apply(XP, kernel)
        if self.is_line:
            x, kernel = x.unsqueeze(2), kernel.unsqueeze(2)
        y: Tensor = self.function(x, kernel, self.window, None, *self.arguments)
        y = y.squeeze(2) if self.is_line else y
        return y if own.widths is None else pad(y, own.widths)


def col2im_prepare(problem: Problem) -> Col2im:
    """The arguments of `torch_native.transposed_of`, without groups."""
    own, window, is_line = transposed_of(problem), problem.geometry.window, problem.geometry.ndim == 1
    stride, padding, more, _, dilation = own.arguments
    if is_line:
        stride, padding, more, dilation, window = (1, *stride), (0, *padding), (0, *more), (1, *dilation), (1, *window)
    aten = torch.ops.aten
    function = aten.slow_conv_transpose3d if problem.geometry.ndim == 3 else aten.slow_conv_transpose2d
    return Col2im(function, window, (stride, padding, more, dilation), own, is_line)


def col2im_execute(own: Col2im, x: Tensor, kernel: Tensor) -> Tensor:
    return own(x, kernel)
