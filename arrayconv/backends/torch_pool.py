"""torch's own maximum of windows, whose gradient goes to the first of equals and to NaN as ours does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from ..geometry import WindowDimension
from ..shapes import output_size
from .torch_recorded import is_recorded
from .torch_values import is_plain

Tensor = torch.Tensor
Axes = Sequence[WindowDimension]

#: Comparisons up to which a call of torch's, a nanosecond each, is over before slices are cut.
SMALL = 2**14


class Pool(NamedTuple):
    """torch's function, and its arguments after x."""

    function: Any
    arguments: tuple[Any, ...]


def max_windows(fold: Callable[[Any], Tensor], axes: Axes, x: Tensor) -> Tensor:
    """By torch's own function where autograd records x, of which slices would keep a mask each, and for small results;
    else by slices, which are 4 to 20 times faster.
    """
    if torch.compiler.is_compiling():  # it fuses the slices
        return fold(None)
    is_small = prod([axis.output * axis.kernel for axis in axes]) * prod(x.shape[: x.ndim - len(axes)]) <= SMALL
    if x.numel() and x.is_floating_point() and (is_recorded(x, x) or (is_small and is_plain(x))):
        own = find_pool(tuple(axes))
        if own is not None:
            y: Tensor = own.function(x.reshape(-1, *[axis.size for axis in axes]), *own.arguments)
            return y.reshape(*x.shape[: x.ndim - len(axes)], *y.shape[1:])
    return fold(torch.maximum if is_plain(x) else None)


@lru_cache(maxsize=4096)
def find_pool(axes: tuple[WindowDimension, ...]) -> Pool | None:
    """torch pads evenly, at most half a window, and gives as many windows as fit, or one more."""
    functions = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
    if len(axes) not in functions or any(axis.base_dilation > 1 or 2 * axis.low > axis.kernel for axis in axes):
        return None
    for ceil in (False, True):
        if all(axis.output == torch_windows(axis, ceil) for axis in axes):
            names = ("kernel", "stride", "low", "window_dilation")
            return Pool(functions[len(axes)], (*(tuple(getattr(axis, name) for axis in axes) for name in names), ceil))
    return None


def torch_windows(axis: WindowDimension, ceil: bool) -> int:
    """How many windows torch makes of an axis that has ``low`` on both sides; none where not even one fits."""
    padding, dilation = axis.low, axis.window_dilation
    if axis.size + 2 * padding < axis.window:
        return 0
    return output_size(axis.size, axis.kernel, stride=axis.stride, padding=padding, dilation=dilation, ceil=ceil)
