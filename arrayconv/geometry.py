"""What a convolution means: ints only, frozen, hashable, closed under its two transposes.

One axis of a correlation pairs output ``j``, tap ``t`` and input ``i`` whenever

    j * stride + t * window_dilation - low == i * base_dilation                            (*)

and sums ``x[i] * kernel[t]`` over the pairs. (*) is one equation in three unknowns, so the sum may be read
in three ways: given x and kernel it yields y; given y and kernel it yields x; given x and y it yields the
kernel. The second and third readings are the transposes, and both are correlations again. The names are
those of XLA's ``WindowDimension`` (xla/xla_data.proto).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any


def dilated(size: int, dilation: int) -> int:
    """Length of ``size`` elements with ``dilation - 1`` holes between neighbours."""
    return (size - 1) * dilation + 1 if size > 0 else 0


class _Lengths:
    """What follows from an axis, computed when it is made: planning asks for nothing more often.

    Attributes:
        base: length of the input with its base dilation, before padding.
        window: length that the dilated kernel covers.
        padded: length of the dilated and padded input; never below zero.
        output: ``floor((n + p - k' + s) / s)``, or 0 where the window does not fit.
    """

    __slots__ = ("_hash", "base", "output", "padded", "window")
    base: int
    window: int
    padded: int
    output: int
    _hash: int


@dataclass(frozen=True, slots=True)
class WindowDimension(_Lengths):
    """One spatial axis of a correlation; negative ``low`` or ``high`` crops."""

    size: int
    kernel: int
    stride: int = 1
    low: int = 0
    high: int = 0
    window_dilation: int = 1
    base_dilation: int = 1

    def __post_init__(self) -> None:
        put, low, high = object.__setattr__, self.low, self.high
        base, window = dilated(self.size, self.base_dilation), dilated(self.kernel, self.window_dilation)
        padded = base + low + high if base + low + high > 0 else 0
        put(self, "base", base)
        put(self, "window", window)
        put(self, "padded", padded)
        put(self, "output", (padded - window) // self.stride + 1 if padded >= window else 0)
        put(self, "_hash", hash(self._key()))

    def _key(self) -> tuple[int, ...]:
        steps = self.window_dilation, self.base_dilation
        return (self.size, self.kernel, self.stride, self.low, self.high, *steps)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return WindowDimension, self._key()

    def block(self, outputs: range, taps: range) -> tuple[slice, WindowDimension]:
        """The part of x that these outputs need of these taps, and the axis that computes them from it.

        Where they need nothing but padding, the part is one element, which the padding crops.
        """
        first = outputs.start * self.stride + taps.start * self.window_dilation - self.low
        window = dilated(len(taps), self.window_dilation)
        padded = dilated(len(outputs), self.stride) + window - 1
        start = min(max(0, self.size - 1), max(0, -(-first // self.base_dilation)))
        stop = min(self.size, max(start, (first + padded - 1) // self.base_dilation) + 1)
        low = start * self.base_dilation - first
        high = padded - low - dilated(stop - start, self.base_dilation)
        steps = self.window_dilation, self.base_dilation
        return slice(start, stop), WindowDimension(stop - start, len(taps), self.stride, low, high, *steps)

    def input_transpose(self) -> WindowDimension:
        """The axis that maps y back to x: (*) solved for ``i``.

        With ``t = kernel - 1 - u`` (the kernel flipped), (*) reads
        ``i * base_dilation + u * window_dilation - (window - 1 - low) == j * stride``:
        stride and base dilation trade places. ``high`` is what makes the output exactly ``size`` long.
        """
        low = self.window - 1 - self.low
        return WindowDimension(
            size=self.output,
            kernel=self.kernel,
            stride=self.base_dilation,
            low=low,
            high=self.base + self.window - 1 - dilated(self.output, self.stride) - low,
            window_dilation=self.window_dilation,
            base_dilation=self.stride,
        )

    def kernel_transpose(self) -> WindowDimension:
        """The axis that maps (x, y) to the kernel: (*) solved for ``t``.

        y plays the kernel, so stride and window dilation trade places; nothing is flipped.
        """
        return WindowDimension(
            size=self.size,
            kernel=self.output,
            stride=self.window_dilation,
            low=self.low,
            high=self.window - 1 + dilated(self.output, self.stride) - self.base - self.low,
            window_dilation=self.stride,
            base_dilation=self.base_dilation,
        )


class _Shapes:
    """What follows from a geometry, computed when it is made.

    Attributes:
        ndim: number of spatial axes.
        sizes: spatial shape of x.
        window: spatial shape of the kernel, without dilation.
        out: spatial shape of y.
        x_shape: of x, ``(batch, groups * inputs, *sizes)``.
        kernel_shape: ``(groups * outputs, inputs, *window)``.
        y_shape: ``(batch, groups * outputs, *out)``.
        taps: kernel elements of one channel.
        terms: products summed into one output, K in the error bound.
        is_padded: whether x gets zeros, or is cropped.
        is_base_dilated: whether elements of x lie apart, as in a transposed convolution.
    """

    __slots__ = (
        "_hash",
        "is_base_dilated",
        "is_padded",
        "kernel_shape",
        "ndim",
        "out",
        "sizes",
        "taps",
        "terms",
        "window",
        "x_shape",
        "y_shape",
    )
    ndim: int
    sizes: tuple[int, ...]
    window: tuple[int, ...]
    out: tuple[int, ...]
    x_shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    taps: int
    terms: int
    is_padded: bool
    is_base_dilated: bool
    _hash: int


@dataclass(frozen=True, slots=True)
class Geometry(_Shapes):
    """A correlation of ``x (batch, groups * inputs, *sizes)`` with ``kernel (groups * outputs, inputs, *taps)``.

    The result is ``y (batch, groups * outputs, *out)``. ``inputs`` and ``outputs`` are channels per group.
    """

    batch: int
    groups: int
    inputs: int
    outputs: int
    axes: tuple[WindowDimension, ...]

    def __post_init__(self) -> None:
        put, batch, groups, axes = object.__setattr__, self.batch, self.groups, self.axes
        put(self, "ndim", len(axes))
        put(self, "sizes", sizes := tuple([axis.size for axis in axes]))
        put(self, "window", window := tuple([axis.kernel for axis in axes]))
        put(self, "out", out := tuple([axis.output for axis in axes]))
        put(self, "x_shape", (batch, groups * self.inputs, *sizes))
        put(self, "kernel_shape", (groups * self.outputs, self.inputs, *window))
        put(self, "y_shape", (batch, groups * self.outputs, *out))
        put(self, "taps", taps := prod(window))
        put(self, "terms", self.inputs * taps)
        is_padded = is_base_dilated = False
        for axis in axes:
            is_padded = is_padded or axis.low != 0 or axis.high != 0
            is_base_dilated = is_base_dilated or axis.base_dilation > 1
        put(self, "is_padded", is_padded)
        put(self, "is_base_dilated", is_base_dilated)
        put(self, "_hash", hash(self._key()))

    def _key(self) -> tuple[Any, ...]:
        return self.batch, self.groups, self.inputs, self.outputs, self.axes

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return Geometry, self._key()

    @property
    def padded_size(self) -> int:
        """Elements of x with its zeros."""
        return self.batch * self.groups * self.inputs * prod([axis.padded for axis in self.axes])

    @property
    def multiply_adds(self) -> int:
        """Products of the whole call; those with inserted zeros are not counted."""
        zeros = prod([axis.base_dilation for axis in self.axes])
        return prod(self.y_shape) * self.terms // zeros

    def input_transpose(self) -> Geometry:
        """(y, kernel) -> x. The kernel array is flipped and its channels swapped within each group."""
        axes = tuple([axis.input_transpose() for axis in self.axes])
        return Geometry(self.batch, self.groups, self.outputs, self.inputs, axes)

    def kernel_transpose(self) -> Geometry:
        """(x, y) -> kernel, with the batch as the channels that are summed over.

        x is read as ``(inputs, groups * batch, *sizes)``, y as ``(groups * outputs, batch, *out)``, and the
        result comes as ``(inputs, groups * outputs, *window)``.
        """
        axes = tuple([axis.kernel_transpose() for axis in self.axes])
        return Geometry(self.inputs, self.groups, self.batch, self.outputs, axes)


def is_plain(geometry: Geometry) -> bool:
    """Whether the taps of a window lie side by side."""
    return all(axis.window_dilation == 1 or axis.kernel == 1 for axis in geometry.axes)


def is_unpadded_image(geometry: Geometry) -> bool:
    """Two axes of one group, of which the window stays inside of x: what XLA is slow with."""
    is_plain = not geometry.is_padded and not geometry.is_base_dilated
    return geometry.ndim == 2 and geometry.groups == 1 and geometry.taps > 1 and is_plain
