"""Shape arithmetic on ints: how long the output is, which inputs give it, and what an output sees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .arguments import (
    Padding,
    Pairs,
    PerAxis,
    read_flag,
    read_int,
    read_ints,
    read_padding,
    read_pair,
    read_per_axis,
    resolve,
)
from .geometry import WindowDimension, dilated


class Layer(NamedTuple):
    """One link of a chain for `receptive_field`: a convolution or a pooling."""

    window: Sequence[int]
    stride: PerAxis = 1
    padding: Padding = "valid"
    dilation: PerAxis = 1


class ReceptiveField(NamedTuple):
    """Output ``j`` sees ``size`` elements of the input from ``start + j * stride`` on, for each axis."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    start: tuple[int, ...]


def output_size(
    size: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int = 1,
    ceil: bool = False,
) -> int:
    """How many windows fit on one axis: ``o = floor((n + p - k' + s) / s)``.

    n is the size, ``p = low + high`` the total padding (an int pads each side, so ``p = 2 * padding``;
    negative crops), s the stride, and ``k' = dilation * (kernel - 1) + 1`` the length that the kernel covers.
    Windows start at 0, s, 2s, ... of the n + p padded elements. The one at ``m * s`` fits where
    ``m * s + k' <= n + p``, so m runs from 0 to ``floor((n + p - k') / s)``, and with m = 0 there are
    ``floor((n + p - k') / s) + 1``, which is o.

    ``ceil=True`` rounds up, as PyTorch's ``ceil_mode``: one more window, hanging over the end, where elements
    are left over, unless it would start in the high padding, at ``n + low`` or later.

    Raises ValueError for a kernel longer than the padded input (with ``ceil`` too, where PyTorch lets the only
    window hang over), a negative size, or a kernel, stride or dilation below 1.

    >>> output_size(224, 7, stride=2, padding=3)
    112
    >>> output_size(7, 2, stride=2), output_size(7, 2, stride=2, ceil=True)
    (3, 4)
    """
    op = "output_size"
    axis = _read_axis(op, read_int(op, "size", size, 0), kernel, stride, padding, dilation)
    return _count(op, "kernel", axis, read_flag(op, "ceil", ceil))


def output_shape(
    spatial_shape: Sequence[int],
    window: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: Padding = "valid",
    dilation: PerAxis = 1,
    ceil: bool = False,
) -> tuple[int, ...]:
    """`output_size` of every axis, with the padding words of `resolve_padding`.

    Raises ValueError as `output_size`, and where the arguments disagree on the number of axes.

    >>> output_shape((224, 200), (7, 7), stride=2, padding="same")
    (112, 100)
    """
    op = "output_shape"
    axes = _read_axes(op, spatial_shape, window, stride, padding, dilation)
    return _count_all(op, axes, read_flag(op, "ceil", ceil))


def input_sizes(
    output: int, kernel: int, *, stride: int = 1, padding: int | tuple[int, int] = 0, dilation: int = 1
) -> range:
    """Every input size >= 1 whose `output_size` is ``output``: at most ``stride`` of them, none if padding gives more.

    ``o = floor((n + p - k' + s) / s)`` holds where ``o * s <= n + p - k' + s < (o + 1) * s``,
    which is ``n = (o - 1) * s + k' - p + r`` for a remainder r in ``0, ..., s - 1``.

    Raises ValueError for an output, kernel, stride or dilation below 1.

    >>> input_sizes(112, 7, stride=2, padding=3)
    range(223, 225)
    >>> len(input_sizes(1, 3, padding=3))
    0
    """
    op = "input_sizes"
    output = read_int(op, "output", output, 1)
    axis = _read_axis(op, 0, kernel, stride, padding, dilation)
    first = _least_size(axis, output)
    return range(max(1, first), max(1, first + axis.stride))


def transposed_size(
    size: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int = 1,
    output_padding: int = 0,
) -> int:
    """The inverse of `output_size`: ``n = (o - 1) * s + k' - p + output_padding``, with ``o = size``.

    `output_size` maps ``stride`` neighbouring sizes to one; ``output_padding`` in ``0, ..., stride - 1``
    chooses among them. As in PyTorch, it may also be below the dilation; from the stride on, the size that it gives
    has another `output_size`.

    Raises ValueError for a larger output padding, for a size, kernel, stride or dilation below 1, and
    where the padding trims more elements than there are.

    >>> transposed_size(112, 7, stride=2, padding=3), transposed_size(112, 7, stride=2, padding=3, output_padding=1)
    (223, 224)
    """
    op = "transposed_size"
    size = read_int(op, "size", size, 1)
    axis = _read_axis(op, 0, kernel, stride, padding, dilation)
    output_padding = read_int(op, "output_padding", output_padding, 0)
    if output_padding >= max(axis.stride, axis.window_dilation):
        raise ValueError(
            f"{op}: output_padding={output_padding} must be < stride={axis.stride} "
            f"or < dilation={axis.window_dilation}; pass a smaller output_padding"
        )
    result = _least_size(axis, size) + output_padding
    if result < 0:
        trimmed = axis.low + axis.high
        raise ValueError(
            f"{op}: padding=({axis.low}, {axis.high}) trims {trimmed} elements of {result + trimmed}; pass less padding"
        )
    return result


def resolve_padding(
    padding: Padding,
    spatial_shape: Sequence[int],
    window: Sequence[int],
    *,
    stride: PerAxis = 1,
    dilation: PerAxis = 1,
) -> Pairs:
    """Padding as numbers, one ``(low, high)`` pair an axis.

    An int pads each side of each axis; a sequence holds one int or one pair an axis, negative crops. The words::

        valid       (0, 0)
        same        output ceil(n / s), with t = max(0, (ceil(n / s) - 1) * s + k' - n) as (t // 2, t - t // 2)
        same_lower  the same with the odd element in front, (t - t // 2, t // 2)
        full        (k' - 1, k' - 1)
        causal      (k' - 1, 0)

    "same" is that of TensorFlow, XLA and ONNX (SAME_UPPER); "same_lower" that of NumPy and SciPy with an even kernel.
    Raises ValueError for another word and where the arguments disagree on the number of axes.

    >>> resolve_padding("same", (6, 8), (3, 4)), resolve_padding("same_lower", (6, 8), (3, 4))
    (((1, 1), (1, 2)), ((1, 1), (2, 1)))
    >>> resolve_padding("causal", (9,), (3,), dilation=2)
    ((4, 0),)
    """
    axes = _read_axes("resolve_padding", spatial_shape, window, stride, padding, dilation)
    return tuple((axis.low, axis.high) for axis in axes)


def receptive_field(layers: Iterable[Layer], *, spatial_shape: Sequence[int] | None = None) -> ReceptiveField:
    """The part of the input that each output of a chain of layers depends on, first layer first.

    Along each axis output j sees the input elements ``start + j * stride, ..., start + j * stride + size - 1``; those
    below 0 or beyond the input are padding. Neighbours in a layer's input stand J input elements apart, J being the
    product of the strides before it, so a layer adds ``J * (k' - 1)`` to the size and subtracts ``J * low`` from the
    start (Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill, 2019).

    With a stride, "same" and "same_lower" pad by what the size leaves over; where that moves the start, they need
    ``spatial_shape``, the shape of the chain's input. Given it, every layer is checked to fit.
    Raises ValueError for an empty chain, layers of different rank, and a word that needs ``spatial_shape``.

    >>> receptive_field([Layer((7, 7), stride=2, padding=3), Layer((3, 3), stride=2, padding=1)])
    ReceptiveField(size=(11, 11), stride=(4, 4), start=(-5, -5))
    """
    op = "receptive_field"
    chain = _read_chain(op, layers)
    ndim = len(chain[0].window)
    size, stride, start = (1,) * ndim, (1,) * ndim, (0,) * ndim
    for i, layer in enumerate(chain):
        where = f"{op}: layers[{i}]"
        if spatial_shape is None:
            axes = _size_free_axes(where, layer)
        else:
            axes = _read_axes(where, spatial_shape, *layer)
            spatial_shape = _count_all(where, axes)
        size = tuple(seen + jump * (axis.window - 1) for seen, jump, axis in zip(size, stride, axes, strict=True))
        start = tuple(first - jump * axis.low for first, jump, axis in zip(start, stride, axes, strict=True))
        stride = tuple(jump * axis.stride for jump, axis in zip(stride, axes, strict=True))
    return ReceptiveField(size, stride, start)


def _read_axis(
    op: str, size: int, kernel: int, stride: int, padding: int | tuple[int, int], dilation: int
) -> WindowDimension:
    low, high = read_pair(op, "padding", padding)
    return WindowDimension(
        size=size,
        kernel=read_int(op, "kernel", kernel, 1),
        stride=read_int(op, "stride", stride, 1),
        low=low,
        high=high,
        window_dilation=read_int(op, "dilation", dilation, 1),
    )


def _read_axes(
    op: str, spatial_shape: Sequence[int], window: Sequence[int], stride: PerAxis, padding: Padding, dilation: PerAxis
) -> tuple[WindowDimension, ...]:
    sizes = read_ints(op, "spatial_shape", spatial_shape, 0)
    kernels = read_ints(op, "window", window, 1)
    if len(sizes) != len(kernels):
        raise ValueError(
            f"{op}: window={kernels} has {len(kernels)} entries, spatial_shape={sizes} has {len(sizes)}; "
            "pass one of each for every spatial axis"
        )
    strides = read_per_axis(op, "stride", stride, len(sizes), 1)
    dilations = read_per_axis(op, "dilation", dilation, len(sizes), 1)
    covered = [dilated(kernel, dilation) for kernel, dilation in zip(kernels, dilations, strict=True)]
    pairs = resolve(read_padding(op, padding, len(sizes)), sizes, covered, strides)
    return tuple(
        WindowDimension(size, kernel, stride, low, high, window_dilation=dilation)
        for size, kernel, stride, (low, high), dilation in zip(sizes, kernels, strides, pairs, dilations, strict=True)
    )


def _read_chain(op: str, layers: Iterable[Layer]) -> tuple[Layer, ...]:
    if not isinstance(layers, Iterable):
        raise TypeError(f"{op}: layers must be a sequence of Layers, got {layers!r}; write [Layer(window), ...]")
    chain = tuple(layers)
    if not chain:
        raise ValueError(f"{op}: layers=() is empty, a chain has at least one layer; pass [Layer(window), ...]")
    for i, layer in enumerate(chain):
        if not isinstance(layer, Layer):
            raise TypeError(f"{op}: layers[{i}]={layer!r} is not a Layer; write [Layer(window, stride, ...), ...]")
    windows = [read_ints(f"{op}: layers[{i}]", "window", layer.window, 1) for i, layer in enumerate(chain)]
    for i, window in enumerate(windows):
        if len(window) != len(windows[0]):
            raise ValueError(
                f"{op}: layers[{i}].window={window} and layers[0].window={windows[0]} must have one entry "
                "for each of the same spatial axes; write a 1 where a layer leaves an axis alone"
            )
    return tuple(layer._replace(window=window) for layer, window in zip(chain, windows, strict=True))


def _size_free_axes(op: str, layer: Layer) -> tuple[WindowDimension, ...]:
    """The layer's axes where the low padding is the same for every size; ValueError where it isn't.

    With a stride, "same" pads ``max(0, k' - r)``, where r in ``1, ..., s`` is what the size leaves over for the last
    window. Sizes 1 and s have the extreme remainders, so equal low paddings there are equal at every size.
    """
    most = _read_axes(op, (1,) * len(layer.window), *layer)
    least = _read_axes(op, tuple(axis.stride for axis in most), *layer)
    if any(a.low != b.low for a, b in zip(most, least, strict=True)):
        raise ValueError(
            f"{op}: padding={layer.padding!r} with stride={layer.stride} depends on the size; pass spatial_shape"
        )
    return most


def _count(op: str, name: str, axis: WindowDimension, ceil: bool = False) -> int:
    """Outputs of the axis, at least one."""
    if axis.window > axis.padded:
        raise ValueError(
            f"{op}: {name}={axis.kernel} is longer than the padded input: with dilation={axis.window_dilation} it "
            f"covers {axis.window} elements of {axis.padded} (size {axis.size}, padding ({axis.low}, {axis.high})); "
            f"pass a smaller {name} or more padding"
        )
    left_over = (axis.padded - axis.window) % axis.stride
    last = axis.size + axis.low + min(axis.high, 0)  # torch drops a window that would start in the high padding
    overhangs = ceil and left_over > 0 and axis.output * axis.stride < last
    return axis.output + overhangs


def _count_all(op: str, axes: Sequence[WindowDimension], ceil: bool = False) -> tuple[int, ...]:
    return tuple(_count(op, f"window[{i}]", axis, ceil) for i, axis in enumerate(axes))


def _least_size(axis: WindowDimension, output: int) -> int:
    """The least input size with this many outputs: ``(o - 1) * s + k' - p``, below 0 where padding gives more."""
    return dilated(output, axis.stride) - 1 + axis.window - axis.low - axis.high
