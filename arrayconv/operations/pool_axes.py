"""What a pooling means along each axis: ints only, checked once for equal shapes and options."""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

from ..arguments import Pairs, read_ints, read_padding, read_per_axis, resolve
from ..boundary import Run
from ..geometry import WindowDimension, dilated
from ..shapes import output_size

#: A number for each window along an axis, as ``(number, how many windows in a row)``.
Counts = tuple[tuple[int, int], ...]


class Pooling(NamedTuple):
    """A checked call: what negative padding crops, then the axes, which pad so that the last window just fits.

    They are the last axes of x; channels at the end are one more, with a window of one. ``inside`` and ``elements``
    say how much of each window lies in the padded input and in the input.
    """

    crops: Pairs
    axes: tuple[WindowDimension, ...]
    inside: tuple[Counts, ...]
    elements: tuple[Counts, ...]

    @property
    def restored(self) -> Pairs:
        """The padding that undoes the crops."""
        return tuple((-low, -high) for low, high in self.crops)

    @property
    def transposed(self) -> tuple[WindowDimension, ...]:
        """The axes of the transposed sum: a sum of windows again, over the spread-out cotangent."""
        return tuple(axis.input_transpose() for axis in self.axes)


@lru_cache(maxsize=4096)
def read_pooling(
    op: str, shape: tuple[int, ...], window: Any, stride: Any, padding: Any, dilation: Any, ceil: bool, channels: str
) -> Pooling:
    """Options checked against the shape of x."""
    kernels = read_ints(op, "window", window, 1)
    ndim = len(kernels)
    if not 1 <= ndim < len(shape):
        raise ValueError(
            f"{op}: window={kernels} must have one entry for each spatial axis, and x a channel axis beside them, "
            f"got x of shape {shape}; x[None] adds a channel axis in front"
        )
    sizes = shape[-ndim:] if channels == "first" else shape[-ndim - 1 : -1]
    strides = kernels if stride is None else read_per_axis(op, "stride", stride, ndim, 1)
    dilations = read_per_axis(op, "dilation", dilation, ndim, 1)
    covered = tuple(dilated(k, d) for k, d in zip(kernels, dilations, strict=True))
    pairs = resolve(read_padding(op, padding, ndim), sizes, covered, strides)
    asked = [
        WindowDimension(n, k, s, low, high, d)
        for n, k, s, (low, high), d in zip(sizes, kernels, strides, pairs, dilations, strict=True)
    ]
    crops = tuple((min(low, 0), min(high, 0)) for low, high in pairs)
    axes, inside, elements = zip(*(read_axis(op, i, axis, ceil) for i, axis in enumerate(asked)), strict=True)
    if channels == "first":
        return Pooling(crops, axes, inside, elements)
    one = ((1, shape[-1]),)
    return Pooling((*crops, (0, 0)), (*axes, WindowDimension(shape[-1], 1)), (*inside, one), (*elements, one))


def read_axis(op: str, i: int, asked: WindowDimension, ceil: bool) -> tuple[WindowDimension, Counts, Counts]:
    """The axis after its crops, padded to the end of the last window, and the counts of `Pooling`."""
    where = f"(size {asked.size}, padding {(asked.low, asked.high)})"
    if asked.window > asked.padded:
        raise ValueError(
            f"{op}: window[{i}]={asked.kernel} is longer than the padded input: with "
            f"dilation={asked.window_dilation} it covers {asked.window} elements of {asked.padded} {where}; pass a "
            f"smaller window or more padding"
        )
    size = max(0, asked.size + min(asked.low, 0) + min(asked.high, 0))
    low, high, dilation = max(asked.low, 0), max(asked.high, 0), asked.window_dilation
    out = output_size(size, asked.kernel, stride=asked.stride, padding=(low, high), dilation=dilation, ceil=ceil)
    needed = dilated(out, asked.stride) + asked.window - 1
    axis = WindowDimension(size, asked.kernel, asked.stride, low, needed - size - low, dilation)
    elements = window_counts(axis, low, low + size)
    if any(count == 0 for count, _ in elements):
        raise ValueError(
            f"{op}: a window along spatial axis {i} would hold nothing but padding {where}; pad less or take a longer "
            f"window than {asked.kernel}"
        )
    return axis, window_counts(axis, 0, low + size + high), elements


def window_counts(axis: WindowDimension, start: int, stop: int) -> Counts:
    """How many places of each window lie in ``start, ..., stop - 1`` of the padded axis."""
    stride, dilation, out = axis.stride, axis.window_dilation, axis.output

    def count(j: int) -> int:
        first = max(0, -((j * stride - start) // dilation))
        last = min(axis.kernel - 1, (stop - 1 - j * stride) // dilation)
        return max(0, last - first + 1)

    first = min(out, -(-start // stride))  # windows first, ..., last - 1 lie inside as a whole
    last = max(first, min(out, (stop - axis.window) // stride + 1))
    runs = [*((count(j), 1) for j in range(first)), (axis.kernel, last - first)]
    runs += ((count(j), 1) for j in range(last, out))
    merged = groupby((run for run in runs if run[1]), key=lambda run: run[0])
    return tuple((number, sum(length for _, length in group)) for number, group in merged)


def nearest(axis: WindowDimension) -> tuple[Run, ...]:
    """Padding by which no maximum changes: each window reads there its own first or last element once more.

    A window that reads place i < 0 also reads ``i % dilation``, the first of its places that holds an element. So
    neither a smallest value nor a mask is needed, and the gradient of a tie with padding reaches an element.
    """
    n, d, low, high = axis.size, axis.window_dilation, axis.low, axis.high
    below = [(min(i % d, n - 1), 1, 1) for i in range(-low, 0)] if d > 1 else [(0, low, 0)]
    above = [(max(n - d + i % d, 0), 1, 1) for i in range(high)] if d > 1 else [(n - 1, high, 0)]
    return tuple(run for run in (*below, (0, n + min(high, 0), 1), *above) if run[1] > 0)
